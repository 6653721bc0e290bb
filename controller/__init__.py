"""The engine: queue, intake, passes, journal, store, sources. It knows no HTTP route and no vendor.

Rooms within: `sources` (where specs come from), `passes` (one pass over one tester), `store` (what must not be forgotten),
`telling` (what people outside are told), `boards` (what windows show), `checkup` (may we do what we must?), `replicas`
(several controllers on one store).
"""
