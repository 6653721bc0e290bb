"""How often somebody may try to sign in: each place by itself, and all together. Memory is bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final

from starlette.requests import Request

from reconcilers.clock import Clock

SPAN: Final = timedelta(minutes=1)
MOST: Final = 20
MOST_OF_ALL: Final = 300
PLACES_KEPT: Final = 10_000
EVERYBODY: Final = ""


@dataclass
class Allowance:
    """So many tries in a minute."""

    clock: Clock
    most: int = MOST
    most_of_all: int = MOST_OF_ALL
    _seen: OrderedDict[str, tuple[datetime, int]] = field(default_factory=OrderedDict)

    def takes(self, place: str) -> bool:
        """Whether one more try from a place is allowed; it is counted when it is. One place cannot use up what all have."""
        return self._counted(place, self.most) and self._counted(EVERYBODY, self.most_of_all)

    def _counted(self, place: str, most: int) -> bool:
        now = self.clock.now()
        began, count = self._seen.pop(place, (now, 0))
        if now - began >= SPAN:
            began, count = now, 0
        fits = count < most
        self._seen[place] = (began, count + fits)
        if len(self._seen) > PLACES_KEPT:
            self._seen.popitem(last=False)
        return fits


def place_of(request: Request, behind_a_proxy: bool) -> str:
    """Where a request comes from: an address, of IPv6 its network. `behind_a_proxy`: what a proxy on this machine added last
    to `X-Forwarded-For` counts; whoever reaches us past it could write there what they like, and is limited with all others."""
    peer = request.client.host if request.client is not None else ""
    if behind_a_proxy and _is_here(peer):
        peer = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip() or peer
    try:
        found = ip_address(peer)
    except ValueError:
        return "unknown"
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


def _is_here(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return False
