"""A gateway that leads nowhere: when it is made anew, and when that would help nobody. Pure.

The grid's word does not count: what it calls failed may well lead to the machine (lesson 12), and what it calls running may
lead nowhere (lesson 17). What counts is that the machine answers inside while its public name does not: the gate sees that
and remembers since when. One that the grid calls failed, too, is given as long as making one may take; any other one as
long as a machine may be unreachable, for routing often mends itself; each next one for the same machine twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from reconcilers.actions import Finding
from reconcilers.backends.compute import Gateway
from reconcilers.facts import Facts, MachineFacts, SignInGateFacts

UNROUTED = "unrouted"
"""In a row's identity: it was deleted because it led nowhere; the machine that it was to lead to."""
GRID_ROUTING = "GridRouting"
"""The reason of conditions: the machine answers inside, its public name does not."""
FAILED = "failed"  # the grid's word (P)
ANSWERS = "GatewayAnswers"
MOST_DOUBLINGS = 6


@dataclass(frozen=True, slots=True)
class Dead:
    """A gateway that leads nowhere. `limit`: for how long it may; `fleet`: how many of the fleet's do, itself included."""

    since: datetime
    age: timedelta
    limit: timedelta
    fleet: int = 0

    @property
    def is_due(self) -> bool:
        return self.age >= self.limit


def dead_since(gateway: Gateway, facts: Facts) -> datetime | None:
    """None while it leads to the machine, or while that is not known."""
    gate = facts.get(SignInGateFacts)
    return gate.unrouted_since if gate is not None and gate.unrouted == gateway.gateway_id else None


def limit_of(gateway: Gateway, facts: Facts) -> timedelta:
    """For how long it may lead nowhere."""
    timing, machine = facts.fleet.spec.timing, facts.need(MachineFacts).key
    usual = timing.gateway_limit if gateway.state == FAILED else timing.reachable_limit
    before = sum(row.identity.get(UNROUTED) == machine for row in facts.earlier)
    growth: int = 2 ** min(before, MOST_DOUBLINGS)
    return usual * growth


def seen_by_the_gate(
    before: SignInGateFacts, gateway_id: str, at: datetime, *, outside: bool | None, inside: bool
) -> tuple[str, datetime | None]:
    """Which gateway leads nowhere, and since when: "" for none. `outside`: whether the public name answered; None: it was
    not asked, as while the door is shut. `inside`: whether the machine answers where the gateway reaches it."""
    known = before.unrouted_since if before.unrouted == gateway_id else None
    if outside is None:
        return (gateway_id, known) if known is not None else ("", None)
    if outside or not inside:
        return "", None
    return gateway_id, at if known is None else min(known, at)  # a later one was written before the clock was set back


def is_braked(one: Dead, facts: Facts) -> bool:
    """So many at once are no matter of their gateways: the grid's routing, or our own way out (law 1)."""
    return one.fleet > facts.fleet.spec.safety.max_lost


def in_words(one: Dead, gateway: Gateway) -> str:
    called = f", and the grid calls it {gateway.state}" if gateway.state == FAILED else ""
    return f"the machine answers, and its public name has not since {one.since:%H:%M} UTC{called}"


def findings(one: Dead, gateway: Gateway, facts: Facts) -> tuple[Finding, ...]:
    """GatewayAnswers, as long as it does not."""
    text, minutes = in_words(one, gateway), one.limit // timedelta(minutes=1)
    if one.is_due and is_braked(one, facts):
        most = facts.fleet.spec.safety.max_lost
        text += f"; more than safety.maxLost ({most}) are like this at once, so that it is not its gateway: none is made anew"
        return (Finding(ANSWERS, False, "TooManyUnrouted", text),)
    return (Finding(ANSWERS, False, GRID_ROUTING, f"{text}; it is made anew after {minutes} min"),)
