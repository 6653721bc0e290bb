"""The tester's token at every shared engine: registered, proven, rotated, and in the end revoked everywhere (lesson 38).

Each engine stands for itself: one that cannot be reached is named and tried again, and holds up no other. What follows
from what was seen is in `reconcilers.engine_rules`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime

from reconcilers.actions import Action, Finding, Step
from reconcilers.backends import Backends
from reconcilers.backends.engines import REFUSED, EngineProof, EngineTenants
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.engine_findings import findings_of
from reconcilers.engine_rules import (
    IN,
    RESTART_PATIENCE,
    UP,
    SeenEngine,
    SeenEngines,
    learnt,
    plan_engines,
    plan_first,
    plan_leaving,
    proof_is_due,
    rotation_is_due,
    without,
)
from reconcilers.engine_tokens import engine_facts, new_token, sealed_token, tenant_of
from reconcilers.errors import OutsideError
from reconcilers.facts import EngineAccessFacts, Facts
from reconcilers.intervals import AT_ONCE, outside_interval
from reconcilers.looks import TesterLooks
from specs.desired import DesiredTester


class EngineAccessReconciler(Base):
    """Keeps one token per engine. The list of an engine has one writer: its client."""

    name = "engine_access"
    needs: tuple[str, ...] = ()
    leaves = "access"

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    # -------------------------------------------------------------- observe

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenEngines:
        """All engines at once. One that cannot be looked at is a state, so that the others are still cared for."""
        at = looks.now()
        wanted = () if tester.facts.leaving else tuple(each.name for each in tester.desired.engines)
        known = engine_facts(tester.facts).engines
        listed = tuple(self.backends.engines) if tester.facts.leaving else ()
        names = tuple(dict.fromkeys((*wanted, *known, *listed)))
        seen = await asyncio.gather(*(self._look(name, name in wanted, tester, looks) for name in names))
        return SeenEngines(at, tuple(seen))

    async def _look(self, name: str, wanted: bool, tester: TesterView, looks: TesterLooks) -> SeenEngine:
        try:
            listed = await looks.tenants(name, tenant_of(tester.facts))
        except OutsideError as error:
            return SeenEngine(name, wanted, error=error, left=name not in self.backends.engines)
        tenant = tenant_of(tester.facts)
        seen = SeenEngine(name, wanted, listed.hashes.get(tenant), listed.restart_due)
        return await self._prove(seen, listed, tester, looks)

    async def _prove(
        self, seen: SeenEngine, listed: EngineTenants, tester: TesterView, looks: TesterLooks
    ) -> SeenEngine:
        """Ask the engine itself, when it is time, under the names of the neighbours that come next in its list."""
        token = tester.facts.sealed(sealed_token(seen.name))
        if token is None or not proof_is_due(seen, looks.now(), tester.facts):
            return seen
        client, tenant = self.backends.engine(seen.name), tenant_of(tester.facts)
        silence = await looks.engine_silence(seen.name)
        if silence:
            return replace(seen, silence=silence)
        others = sorted(each for each in listed.hashes if each != tenant)
        following = [each for each in others if each > tenant] + [each for each in others if each < tenant]
        return seen.asked(await client.prove(tenant, token, following))

    # -------------------------------------------------------------- plan, apply

    def plan(self, desired: DesiredTester | None, observed: SeenEngines | None, facts: Facts) -> tuple[Step, ...]:
        """See `reconcilers.engine_rules`. Raises Blocked, Throttled or Transient when only engines are left that cannot be
        looked at or misbehave."""
        if desired is None:
            return plan_leaving(observed, facts) if observed is not None else ()
        if observed is None:
            return plan_first(desired, facts)
        return plan_engines(desired, observed, facts)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenEngines | None:
        """One write at one engine."""
        name = action.args[0]
        match action.verb:
            case "register":
                await self._register(name, tester, ports)
            case "revoke":
                known = engine_facts(tester.facts)
                client = self.backends.engine(name)
                await ports.record(known.model_copy(update={"changed": {**known.changed, name: client.now()}}))
                await client.revoke(tenant_of(tester.facts))
            case "restart":
                await self._restart(action, tester, ports)
            case _:
                await ports.erase(sealed_token(name))
                await ports.record(without(engine_facts(tester.facts), name))
        return None

    async def _register(self, name: str, tester: TesterView, ports: Ports) -> None:
        """The token is sealed, and that it may be registered is written down, before the engine hears of it (laws 2, 3)."""
        facts, known = tester.facts, engine_facts(tester.facts)
        token = facts.sealed(sealed_token(name))
        counter = known.rotations.get(name, tester.desired.engine_rotation)
        if token is None or rotation_is_due(name, tester.desired, facts):
            token, counter = new_token(), tester.desired.engine_rotation
            await ports.seal(sealed_token(name), token)
        client = self.backends.engine(name)
        begun = without(known, name).model_copy(
            update={
                "engines": tuple(sorted({*known.engines, name})),
                "rotations": {**known.rotations, name: counter},
                "changed": {**known.changed, name: client.now()},
                "troubled": known.troubled,
            }
        )
        await ports.record(begun)
        try:
            await client.register(tenant_of(facts), token)
        except OutsideError:
            last = (*(each for each in known.troubled if each != name), name)
            await ports.record(begun.model_copy(update={"troubled": last}))
            raise

    async def _restart(self, action: Action, tester: TesterView, ports: Ports) -> None:
        """Another tester's restart may have helped already: everybody at this engine notices one."""
        name, purpose, at = action.args
        client, facts = self.backends.engine(name), tester.facts
        known, token = engine_facts(facts), facts.sealed(sealed_token(name))
        if token is not None and not (await client.look()).restart_due:
            proof = await client.prove(tenant_of(facts), token)
            if _needs_no_restart(proof, purpose):
                return
        if purpose == UP and client.restarted_within(RESTART_PATIENCE):
            await ports.record(known.model_copy(update={"changed": {**known.changed, name: client.now()}}))
            return  # for somebody else: it may be starting
        restarted = {**known.restarted, name: datetime.fromisoformat(at)}
        await ports.record(known.model_copy(update={"restarted": restarted}))
        await client.restart()

    # -------------------------------------------------------------- learn, findings

    def learn(self, observed: SeenEngines, facts: Facts) -> EngineAccessFacts:
        return learnt(observed, facts)

    def due(self, desired: DesiredTester, facts: Facts) -> datetime | None:
        """When the first of the proofs is."""
        known = engine_facts(facts)
        if known.restarted or known.changed or known.troubled:
            return AT_ONCE
        proofs = [known.proven.get(each.name) for each in desired.engines]
        return min((AT_ONCE if at is None else at + outside_interval(facts) for at in proofs), default=None)

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """EngineAccessProven, EngineTokensRevoked."""
        return findings_of(observed, facts) if isinstance(observed, SeenEngines) else ()


def _needs_no_restart(proof: EngineProof, purpose: str) -> bool:
    """Somebody else's has helped meanwhile, or nothing can be told."""
    if purpose == UP:
        return proof.admits or proof.own_token in REFUSED
    return bool(proof.error) or proof.admits == (purpose == IN)
