"""The names in the bulk listings that passes have read: for questions that are worth no call of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reconcilers import questions
from reconcilers.looks import Looks
from specs.fleet import Fleet

GONE_STATES = frozenset({"gone", "deleted"})  # of a VM that is still listed

MACHINE, GATEWAY, APP, TENANT = "machine", "gateway", "OAuth app", "tenant"


@dataclass(frozen=True, slots=True)
class Listing:
    """Of one kind, at one daemon, engine or Forge."""

    what: str
    where: str
    names: frozenset[str]
    taken_at: datetime

    @property
    def place(self) -> tuple[str, str]:
        return self.what, self.where


def listings_of(looks: Looks, fleet: Fleet) -> tuple[Listing, ...]:
    """Those that are at hand; nobody is asked."""
    found = []
    for (what, where), question in _questions(fleet).items():
        look = looks.at_hand(question)
        if look is not None:
            found.append(Listing(what, where, frozenset(_NAMES[what](look.value)), look.taken_at))
    return tuple(found)


def listed_here(fleet: Fleet) -> frozenset[tuple[str, str]]:
    """All listings that this fleet's passes read: kind and place."""
    return frozenset(_questions(fleet))


def _questions(fleet: Fleet) -> Mapping[tuple[str, str], str]:
    """As `TesterLooks` puts them."""
    spec = fleet.spec
    return {
        **{(MACHINE, each.name): questions.vms(each.name) for each in spec.compute},
        **{(GATEWAY, each.name): questions.gateways(each.name) for each in spec.compute},
        (APP, "Forge"): questions.OAUTH_APPS,
        **{(TENANT, each.name): questions.tenants(each.name) for each in spec.engines},
    }


_NAMES: Mapping[str, Callable[[Any], Iterable[str]]] = {
    MACHINE: lambda vms: (vm.name for vm in vms if vm.state not in GONE_STATES),
    GATEWAY: lambda gateways: (gateway.name for gateway in gateways),
    APP: lambda apps: (app.name for app in apps),
    TENANT: lambda tenants: tenants.hashes,
}
