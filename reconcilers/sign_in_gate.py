"""Sign-in at the front door: what hero_proxy reads, the domain, the listener, and the proof.

What follows from what was seen is decided in `reconcilers.door_rules`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from reconcilers.actions import Action, Finding, Step
from reconcilers.backends import Backends
from reconcilers.backends.machine import JobState, MachineLook, install_job
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.door import (
    SeenDoor,
    contradicted,
    enforces_inner,
    gate_facts,
    is_kept,
    is_proven,
    proof_digest,
    proven_now,
    seen_open,
    side_of,
    wanted_domain,
    wanted_values,
)
from reconcilers.door_renewal import DoorRenewal, door_renewal, kept_renewal, seen_well_at
from reconcilers.door_rules import plan_door, plan_first, plan_leaving
from reconcilers.errors import OutsideError
from reconcilers.facts import (
    Facts,
    GatewayFacts,
    MachineFacts,
    SignInAppFacts,
    SignInGateFacts,
    StepFacts,
    is_since_cut,
)
from reconcilers.gateway_routing import GRID_ROUTING, seen_by_the_gate
from reconcilers.installs import WAITS_FOR_PLACE, last_line
from reconcilers.intervals import AT_ONCE, outside_interval
from reconcilers.listener import LISTENER_KEY, LISTENER_OFF, LISTENER_ON, PROXY, write_gate_settings
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import look_at, machine_address
from reconcilers.proof import Demand, SideProof, SignIn, Verdict, outside_demands, prove
from specs.desired import DesiredTester
from specs.ownership import GATE_SETTINGS


class SignInGateReconciler(Base):
    """Keeps the door: never open without proof, shut at once when seen open (law 4)."""

    name = "sign_in_gate"
    watches = True
    needs: tuple[str, ...] = ("front_door", "gateway", "sign_in_app")
    leaves = "access"

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    # -------------------------------------------------------------- observe

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenDoor | None:
        """A machine that cannot be looked into is a state: the outside is asked then, as nothing must keep an open door from
        being seen. None: the tester leaves and there is nothing that could have a door; the daemon may raise then."""
        known = all(tester.facts.get(kind) is not None for kind in (MachineFacts, GatewayFacts, SignInAppFacts))
        if tester.facts.leaving and not known:
            return None
        try:
            look = await look_at(tester, looks)
        except OutsideError:
            look = None
        inside = self._inside(tester, looks, look)
        return await self._outside(await self._gateway(inside, tester, looks), tester, looks)

    def _inside(self, tester: TesterView, looks: TesterLooks, look: MachineLook | None) -> SeenDoor:
        desired, facts, authorize_url = tester.desired, tester.facts, self.backends.forge.authorize_url()
        digest = proof_digest(desired, facts)
        if look is None:
            return SeenDoor(looks.now(), controllable=False, digest=digest)
        values = {key: value for key, value in look.secrets.items() if key in GATE_SETTINGS}
        return SeenDoor(
            at=looks.now(),
            controllable=look.supervisor_up,
            digest=digest,
            values=values,
            domains=look.domains,
            stale=PROXY in look.stale,
            installing=_is_being_installed(look),
            loopback=side_of(look, "loopback", desired, facts, authorize_url),
            inner=side_of(look, "inner", desired, facts, authorize_url),
            next_path=gate_facts(facts).checked_path,
            kept=is_kept(desired, facts, values, look.domains),
            looked_at=looks.machine_at,
        )

    async def _gateway(self, door: SeenDoor, tester: TesterView, looks: TesterLooks) -> SeenDoor:
        """Removal is done without the machine only when its gateway is seen to be gone."""
        if door.controllable or not tester.facts.leaving:
            return door
        gateway = tester.facts.need(GatewayFacts)
        listed = await looks.gateways(gateway.daemon)
        return replace(door, gateway_there=any(each.gateway_id == gateway.gateway_id for each in listed))

    async def _outside(self, door: SeenDoor, tester: TesterView, looks: TesterLooks) -> SeenDoor:
        """All paths after a change or while something is odd, else one path at a long interval."""
        facts = tester.facts
        asked = outside_demands(facts.need(GatewayFacts).fqdn, tester.desired)
        chosen = _due(door, asked, facts)
        if not chosen:
            return door
        proof = await self._ask(chosen, facts, looks)
        if proof.verdict is not Verdict.PROTECTED and len(chosen) < len(asked):
            chosen, proof = asked, await self._ask(asked, facts, looks)  # one odd answer is not judged alone
        whole = len(chosen) == len(asked)
        next_path = door.next_path if whole else (door.next_path + 1) % len(asked)
        return replace(door, outside=proof, whole=whole, next_path=next_path)

    async def _ask(self, chosen: tuple[Demand, ...], facts: Facts, looks: TesterLooks) -> SideProof:
        answers = await looks.outside(chosen[0].host, tuple(each.path for each in chosen))
        by_demand = {each: answers[each.path] for each in chosen if each.path in answers}
        return prove(chosen, by_demand, self._sign_in(facts), outside=True)

    def _sign_in(self, facts: Facts) -> SignIn:
        return SignIn(self.backends.forge.authorize_url(), facts.need(SignInAppFacts).client_id)

    # -------------------------------------------------------------- plan, apply

    def plan(self, desired: DesiredTester | None, observed: SeenDoor | None, facts: Facts) -> tuple[Step, ...]:
        """See `reconcilers.door_rules`. On removal the listener goes first; a door that was never ours needs nothing."""
        if desired is None:
            known = facts.get(SignInGateFacts) is not None
            return plan_leaving(observed, facts) if observed and (known or observed.controllable) else ()
        if observed is None:
            return plan_first(desired, facts)
        return plan_door(desired, observed, facts)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenDoor | None:
        """One write. Raises Transient ReadBackMismatch when hero_proxy would read something else (lesson 20)."""
        machines, address = self.backends.machines, machine_address(tester.facts)
        match action.verb:
            case "cut_gateway":
                daemon, gateway_id = action.args
                await self.backends.daemon(daemon).delete_gateway(gateway_id, cut=True)
            case "shut":
                await write_gate_settings(machines, address, {LISTENER_KEY: LISTENER_OFF})
            case "open":
                await write_gate_settings(machines, address, {LISTENER_KEY: LISTENER_ON})
            case "write_sign_in":
                wanted = wanted_values(tester.desired, tester.facts)
                chosen = {
                    key: value for key, value in wanted.items() if "/".join(key) in action.args and value is not None
                }
                await write_gate_settings(machines, address, chosen)
            case "set_domain":
                await machines.set_domain(address, wanted_domain(tester.desired, tester.facts))
            case "remove_domain":
                await machines.remove_domain(address, action.args[0])
            case _:
                await machines.restart_service(address, PROXY)
        return None

    # -------------------------------------------------------------- learn, findings

    def learn(self, observed: SeenDoor, facts: Facts) -> SignInGateFacts:
        """What was proven, since when the door has been open unproven, how often it was shut in a row, who was let in."""
        before = gate_facts(facts)
        enforce = enforces_inner(facts)
        where = seen_open(observed, enforce)
        changes: dict[str, object] = {"let_in": where or before.let_in}
        if observed.outside is not None:
            changes |= _public(observed)
        changes["unrouted"], changes["unrouted_since"] = seen_by_the_gate(
            before,
            facts.need(GatewayFacts).gateway_id,
            observed.at,
            outside=None if observed.outside is None else observed.outside.alive,
            inside=observed.inner.alive,
        )
        if not observed.controllable:
            changes["proven"] = "" if where else before.proven
            return before.model_copy(update=changes)
        proven = _proven(observed, before, enforce)
        changes |= {"proven": proven, "listening": observed.listening}
        changes["opened_at"] = None if proven or not observed.listening else before.opened_at or observed.at
        seen_shut = is_since_cut(observed.looked_at, before) and not observed.listening and not observed.stale
        changes["cut"] = before.cut and not seen_shut
        if proven:
            changes |= {"shuts": 0, "shut_at": None, "let_in": ""}
        elif before.listening and not observed.listening:
            changes |= {"shuts": before.shuts + 1, "shut_at": observed.at}
        return before.model_copy(update=changes)

    def due(self, desired: DesiredTester, facts: Facts) -> datetime:
        return _next_proof(facts)

    def renewal(self, desired: DesiredTester, facts: Facts) -> DoorRenewal | None:
        return door_renewal(desired, facts)

    def renewal_of(self, kept: str, facts: StepFacts, now: datetime) -> DoorRenewal | None:
        return kept_renewal(kept, facts, now)

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """SignInProtected, PublicReachable, InnerProtected."""
        if not isinstance(observed, SeenDoor):
            return ()
        return (_sign_in_protected(observed, facts), _public_reachable(observed, facts), _inner_protected(observed))


def _next_proof(facts: Facts) -> datetime:
    """When one path is looked at from outside again; while not all is well with the door, it is looked at in every pass."""
    well_at = seen_well_at(gate_facts(facts))
    return well_at + outside_interval(facts) if well_at is not None else AT_ONCE


def _is_being_installed(look: MachineLook) -> bool:
    job = look.jobs.get(install_job(PROXY))
    # One that waits for its turn on the machine may do so for long, and replaces nothing yet.
    return job is not None and job.state is JobState.RUNNING and not last_line(job.log).startswith(WAITS_FOR_PLACE)


def _due(door: SeenDoor, asked: tuple[Demand, ...], facts: Facts) -> tuple[Demand, ...]:
    gate = gate_facts(facts)
    if not door.controllable:
        return asked
    if not door.listening:
        return ()
    settled = gate.proven == door.digest and door.set_open and door.kept and not door.stale and gate.public
    if not settled or gate.checked_at is None:
        return asked
    # A moment in the future was written down before the clock was set back.
    if timedelta(0) <= door.at - gate.checked_at < outside_interval(facts):
        return ()
    return (asked[door.next_path % len(asked)],)


def _public(observed: SeenDoor) -> dict[str, object]:
    """What the outside look says of the public address. A shut door says nothing of the way to it."""
    outside = observed.outside
    changes: dict[str, object] = {"checked_at": observed.at, "checked_path": observed.next_path}
    if outside is not None and outside.alive:
        return changes | {"public": True, "trouble": ""}
    return changes | {"public": False, "trouble": GRID_ROUTING if observed.inner.alive else "NoAnswer"}


def _proven(observed: SeenDoor, before: SignInGateFacts, enforce_inner: bool) -> str:
    """A proof stands until what it speaks of changes, or an answer is not what it must be; silence does not undo it."""
    if proven_now(observed, enforce_inner):
        return observed.digest
    unchanged = before.proven == observed.digest and observed.set_open and observed.kept and not observed.stale
    return before.proven if unchanged and not contradicted(observed, enforce_inner) else ""


def _sign_in_protected(observed: SeenDoor, facts: Facts) -> Finding:
    """An open door is shut in the very turn that sees it: that it was open is said until it is proven anew (law 4)."""
    kind, enforce, let_in = "SignInProtected", enforces_inner(facts), gate_facts(facts).let_in
    where = seen_open(observed, enforce)
    if where:
        return Finding(kind, False, "SeenOpen", f"a stranger was let in {where}")
    if gate_facts(facts).cut:
        return Finding(kind, None, "DoorCut", "the gateway was taken away; nobody reaches the machine from outside")
    if not observed.controllable:
        return Finding(kind, None, "MachineOutOfReach", "the door cannot be looked at from inside")
    if not observed.listening and let_in:
        return Finding(kind, False, "SeenOpen", f"a stranger was let in {let_in}; it is shut until it is proven anew")
    if not observed.listening:
        return Finding(kind, None, "DoorShut", "the door is shut: nobody reaches the machine through the gateway")
    if is_proven(observed, facts):
        return Finding(kind, True, "Proven", "every path asks for sign-in, from outside and inside")
    return Finding(kind, None, "Proving", "not every path has been seen to ask for sign-in")


def _public_reachable(observed: SeenDoor, facts: Facts) -> Finding:
    """Says which side is broken (lesson 17)."""
    kind, gate = "PublicReachable", gate_facts(facts)
    public, trouble = gate.public, gate.trouble
    if observed.outside is not None:
        told = _public(observed)
        public, trouble = bool(told["public"]), str(told["trouble"])
    if public and observed.listening:
        return Finding(kind, True, "Answers", "the public address answers")
    if trouble == GRID_ROUTING:
        return Finding(
            kind, False, trouble, "the machine answers inside, and its public address does not: the grid's routing"
        )
    if not observed.listening and observed.controllable:
        return Finding(kind, False, "DoorShut", "the door is shut")
    if public is None:
        return Finding(kind, None, "NotAsked", "the public address was not asked yet")
    return Finding(kind, public or None, "NoAnswer", "neither the public address nor the machine answers")


def _inner_protected(observed: SeenDoor) -> Finding:
    kind, inner = "InnerProtected", observed.inner
    if inner.verdict is Verdict.OPEN:
        return Finding(kind, False, "InnerOpen", f"a stranger on the inner network was let in: {inner.example}")
    if inner.verdict is Verdict.PROTECTED:
        return Finding(kind, True, "Proven", "every path asks for sign-in over the inner network")
    return Finding(kind, None, "NotProven", f"over the inner network {inner.example}" if inner.example else "not asked")
