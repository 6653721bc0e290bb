"""The grid beneath all daemons: gateway names are unique on all of it, Mycelium addresses lead to machines."""

import ipaddress
from collections.abc import Iterator
from functools import lru_cache

from examples.simulator.records import ComputeState, Gateway, Vm


class Grid:
    """Looks across the books of all daemons; holds nothing itself."""

    def __init__(self, daemons: dict[str, ComputeState]) -> None:
        self._daemons = daemons

    def taken(self, name: str) -> bool:
        """A taken name is refused even to its owner (P)."""
        return any(gateway.name == name for _, gateway in self.gateways())

    def gateways(self) -> Iterator[tuple[ComputeState, Gateway]]:
        for state in self._daemons.values():
            for gateway in state.gateways.values():
                yield state, gateway

    def gateway(self, fqdn: str) -> Gateway | None:
        wanted = fqdn.lower().rstrip(".")
        return next((gateway for _, gateway in self.gateways() if gateway.fqdn == wanted), None)

    def vm_at(self, address: str) -> tuple[ComputeState, Vm] | None:
        wanted = _usual(address)
        if wanted is None:
            return None
        rows = ((state, vm) for state in self._daemons.values() for vm in state.vms.values())
        return next((row for row in rows if row[1].mycelium_ip == wanted), None)


@lru_cache(4096)
def _usual(address: str) -> str | None:
    """An IPv6 address in its usual spelling."""
    try:
        return str(ipaddress.IPv6Address(address.strip("[]")))
    except ValueError:
        return None
