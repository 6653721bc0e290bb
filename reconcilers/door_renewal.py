"""The look from outside at a settled door, each half hour: one path, and nothing else.

A whole turn of the gate reads the books and the machine's answer again, to find both as they were: that is known already
when everything else was just compared. What is odd is not judged here: a whole pass follows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

from reconcilers.door import gate_facts, proof_digest
from reconcilers.facts import Facts, GatewayFacts, SignInAppFacts, SignInGateFacts, StepFacts
from reconcilers.intervals import outside_interval
from reconcilers.looks import Looks
from reconcilers.proof import Demand, Expect, SignIn, Verdict, outside_demands, prove
from specs.desired import DesiredTester

Paths = tuple[tuple[str, Expect], ...]


@dataclass(frozen=True, slots=True)
class DoorRenewal:
    """`facts`: as they are known, of a door that is proven, open and well. `paths` are asked in turn."""

    facts: SignInGateFacts
    fqdn: str
    client_id: str
    paths: Paths
    every: timedelta
    due: datetime

    def kept(self) -> str:
        """As `Renewal.kept`."""
        return json.dumps([self.fqdn, self.client_id, self.paths, self.every.total_seconds()])

    async def renewed(self, looks: Looks) -> DoorRenewal | None:
        """As `Renewal.renewed`: the path that comes next."""
        at, number = looks.clock.now(), self.facts.checked_path % len(self.paths)
        path, expect = self.paths[number]
        demand = Demand(self.fqdn, path, expect)
        answers = await looks.backends.outside.probe(self.fqdn, (path,))
        sign_in = SignIn(looks.backends.forge.authorize_url(), self.client_id)
        proof = prove((demand,), {demand: answers[path]}, sign_in, outside=True)
        if proof.verdict is not Verdict.PROTECTED or not proof.alive:
            return None
        hours = {"checked_at": at, "checked_path": (number + 1) % len(self.paths)}
        return replace(self, facts=self.facts.model_copy(update=hours), due=at + self.every)


def door_renewal(desired: DesiredTester, facts: Facts) -> DoorRenewal | None:
    """Of a door with which all is well; None: it is looked at in every pass."""
    gate, gateway, app = gate_facts(facts), facts.get(GatewayFacts), facts.get(SignInAppFacts)
    well_at = seen_well_at(gate)
    if gateway is None or app is None or well_at is None:
        return None
    if gate.proven != proof_digest(desired, facts):
        return None
    every = outside_interval(facts)
    paths = _alike(tuple((each.path, each.expect) for each in outside_demands(gateway.fqdn, desired)))
    return DoorRenewal(gate, gateway.fqdn, app.client_id, paths, every, well_at + every)


def kept_renewal(kept: str, facts: StepFacts, now: datetime) -> DoorRenewal | None:
    """As it was, by the hours of now. None: the door is not well, or its hour was written down before the clock was set back."""
    if not isinstance(facts, SignInGateFacts):
        return None
    well_at = seen_well_at(facts)
    if well_at is None or well_at > now:
        return None
    fqdn, client_id, told, seconds = json.loads(kept)
    paths, every = _alike(tuple((path, Expect(expect)) for path, expect in told)), timedelta(seconds=seconds)
    return DoorRenewal(facts, fqdn, client_id, paths, every, well_at + every)


def seen_well_at(gate: SignInGateFacts) -> datetime | None:
    """The last look from outside at a door that is proven and open. None: it is not, or something is odd with it."""
    seen = gate.proven and gate.public and gate.listening
    return gate.checked_at if seen and not (gate.let_in or gate.cut or gate.unrouted) else None


@lru_cache(maxsize=64)
def _alike(paths: Paths) -> Paths:
    """Most testers have the same: one value for all."""
    return paths
