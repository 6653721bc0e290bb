"""Where an address of the make-believe network leads to: the same for the SOCKS5 proxy and for worlds without sockets."""

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from examples.simulator.machine import Machine
from examples.simulator.world import DOOR, World

SSH, HTTPS = 22, 443
GIVES_UP = 3.0
"""Simulated seconds until an address that leads nowhere is reported as unreachable."""


@dataclass(frozen=True)
class Inner:
    """A port of a machine that takes connections."""

    machine: Machine
    port: int


Way = Inner | Literal["outside", "refused", "unreachable"]
"""`outside`: a public name on the grid, behind its gateway."""


def way_to(world: World, host: str, port: int) -> Way:
    """From an address as anybody on the overlay or on the internet writes it."""
    if not _is_ipv6(host):
        if world.grid.gateway(host) is None:
            return "unreachable"
        return "outside" if port == HTTPS else "refused"
    machine = world.reachable_at(host)
    if machine is None:
        return "unreachable"
    return Inner(machine, port) if port == SSH or listens(world, machine, port) else "refused"


def listens(world: World, machine: Machine, port: int) -> bool:
    """Whether somebody listens on this port of a machine: its front door, or one of the shared engines."""
    if port == DOOR:
        return machine.door.listens("inner")
    engine = world.engines.at(port) if machine is world.admin else None
    return engine is not None and world.engines.listens(engine)


@lru_cache(maxsize=1024)
def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
