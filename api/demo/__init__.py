"""The demo: a make-believe world beside a real controller. It knows the simulator by its addresses only, never by its code."""
