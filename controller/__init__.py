"""The engine: queue, intake, passes, journal, store, sources. It knows no HTTP route and no vendor."""
