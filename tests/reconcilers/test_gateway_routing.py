"""When a gateway that leads nowhere is made anew."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from reconcilers.backends.compute import Gateway
from reconcilers.backends.outside import ProbeAnswer
from reconcilers.contract import TesterView
from reconcilers.facts import Facts, GatewayFacts, ObjectState, SignInGateFacts
from reconcilers.gateway import GatewayReconciler, SeenGateway
from reconcilers.gateway_routing import UNROUTED
from reconcilers.proof import HEALTH_PATH
from tests.reconcilers.data import ADDRESS, FQDN, NOW, a_row, a_tester, brief, some_facts

MINUTE = timedelta(minutes=1)
NAME = "alicex7k2p9"
DELETE = [f"delete gateway {NAME}"]


class Looks:
    """A daemon's listing, what the public name answers, and how many of the fleet's names answer nothing."""

    def __init__(self, state: str, status: int | None, fleet: int) -> None:
        self.state, self.status, self.fleet = state, status, fleet
        self.asked: list[tuple[str, ...]] = []

    def now(self) -> object:
        return NOW

    async def gateways(self, daemon: str) -> tuple[Gateway, ...]:
        return (Gateway("3", NAME, FQDN, (f"http://[{ADDRESS}]:9988",), self.state),)

    def unshared(self) -> None: ...

    async def outside(self, fqdn: str, paths: tuple[str, ...]) -> dict[str, ProbeAnswer]:
        self.asked.append(paths)
        return {path: ProbeAnswer(self.status) for path in paths}

    async def unrouted(self) -> int:
        return self.fleet


def facts(minutes: int, gateway: str = "3", before: int = 0, machine: str = "gent/12") -> Facts:
    gone = [
        a_row("gateway", incarnation=number, state=ObjectState.GONE, identity={UNROUTED: machine})
        for number in range(1, before + 1)
    ]
    gate = SignInGateFacts(unrouted=gateway, unrouted_since=NOW - minutes * MINUTE)
    known = GatewayFacts(daemon="gent", gateway_id="3", gateway_name=NAME, fqdn=FQDN)
    row = a_row("gateway", name=NAME, incarnation=before + 1, identity={"daemon": "gent", "gateway_id": "3"})
    return replace(some_facts(gate, known, object=row), earlier=tuple(gone))


COURSES: dict[str, tuple[Facts, Looks, list[str], str]] = {
    "not for long": (facts(19), Looks("running", 502, 1), [], "GridRouting"),
    "for long": (facts(20), Looks("running", 502, 1), DELETE, "GridRouting"),
    "for long, no answer at all": (facts(20), Looks("running", None, 1), DELETE, "GridRouting"),
    "failed, not for long": (facts(4), Looks("failed", 502, 1), [], "GridRouting"),
    "failed, for long": (facts(5), Looks("failed", 502, 1), DELETE, "GridRouting"),
    "it was another one": (facts(90, gateway="2"), Looks("failed", 502, 1), [], ""),
    "it answers again": (facts(90), Looks("failed", 302, 1), [], ""),
    "two of the fleet": (facts(90), Looks("failed", 502, 2), DELETE, "GridRouting"),
    "more of the fleet than may be": (facts(90), Looks("failed", 502, 3), [], "TooManyUnrouted"),
    "the second, not for long": (facts(39, before=1), Looks("running", 502, 1), [], "GridRouting"),
    "the second": (facts(40, before=1), Looks("running", 502, 1), DELETE, "GridRouting"),
    "the first of its machine": (
        facts(20, before=3, machine="gent/11"),
        Looks("running", 502, 1),
        DELETE,
        "GridRouting",
    ),
    "the clock was set back": (facts(-90), Looks("failed", 502, 1), [], "GridRouting"),
}


@pytest.mark.parametrize("name", COURSES)
async def test_when_it_is_made_anew(name: str) -> None:
    known, looks, planned, reason = COURSES[name]
    step = GatewayReconciler(None)  # type: ignore[arg-type]
    seen = await step.observe(TesterView(a_tester(), known), looks)  # type: ignore[arg-type]
    assert isinstance(seen, SeenGateway)
    assert brief(step.plan(a_tester(), seen, known)) == planned
    told = {finding.type: finding.reason for finding in step.findings(a_tester(), seen, known)}
    assert told.get("GatewayAnswers", "") == reason
    assert looks.asked in ([], [(HEALTH_PATH,)])
