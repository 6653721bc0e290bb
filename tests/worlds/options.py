"""What opens clients upon a world without sockets."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from functools import cache

from reconcilers.backends.limits import CallHook
from reconcilers.backends.opening import Options
from tests.worlds.ground import Yard
from tests.worlds.machine import WorldMachines
from tests.worlds.wire import WorldTransport


def options_of(yard: Yard, transport: WorldTransport, hooks: Sequence[CallHook] = ()) -> Options:
    """For `open_backends`: every system at the transport, every machine in the yard."""
    world = yard.world
    names = ["forge", "outside", "mail", *(f"compute {name}" for name in world.daemons)]
    names += [f"engine {engine.name}" for engine in world.state.engines]
    return Options(
        hooks=hooks,
        transports=dict.fromkeys(names, transport),
        machines=lambda key, gate, places: WorldMachines(yard, key, gate, places),
        trust=_trust,
    )


@cache
def _trust() -> ssl.SSLContext:
    """One for all worlds: nobody shows a certificate there, and reading the system's takes as long as a tester's spec."""
    return ssl.create_default_context()
