"""What follows from what was seen at the shared engines. Pure.

An engine counts when three things hold: our token stands in its list, it has been restarted since, and it was seen to
refuse a stranger, a wrong token and ours under a neighbour's name, and to let us in (lesson 38). On removal the reverse:
not in its list, restarted since, and our token seen to be refused; then the token is erased.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NoReturn

from reconcilers.actions import Action, FieldChange, Step, Wait, secret_change
from reconcilers.backends.engines import ASKED_TO_SLOW_DOWN, REFUSED, EngineProof, token_hash
from reconcilers.engine_tokens import engine_facts, sealed_token, tenant_of
from reconcilers.errors import Blocked, OutsideError, Throttled, Transient, Unreachable
from reconcilers.facts import EngineAccessFacts, Facts
from reconcilers.intervals import outside_interval
from reconcilers.secret import HIDDEN
from specs.desired import DesiredTester

RESTART_PATIENCE = timedelta(minutes=10)  # between two restarts of an engine for one tester: everybody notices each
LATER_PATIENCE = timedelta(hours=1)  # with one that a restart did not bring back
SYSTEM = "shared engines"
IN, OUT, UP = "in", "out", "up"  # what a restart is for: that the token is taken, that it is not, or any answer at all


class Verdict(StrEnum):
    """What an engine's answers to a proof come to."""

    PROVEN = "proven"  # strangers are refused, we are let in
    OPEN = "open"  # somebody is let in who should not be
    REFUSED = "refused"  # strangers are refused, and so are we
    SILENT = "silent"  # no answer, or none that says either


@dataclass(frozen=True, slots=True)
class SeenEngine:
    """One engine.

    wanted       the spec asks for a token there
    registered   the hash that stands in its list for us; None: no entry
    restart_due  it has yet to read its list
    proof        its answers, None: it was not asked, or gives nobody an answer
    silence      why it gave no answer
    error        why it could not be looked at: then nothing else is known
    left         the Fleet no longer names it
    """

    name: str
    wanted: bool
    registered: str | None = None
    restart_due: bool = False
    proof: EngineProof | None = None
    silence: str = ""
    error: OutsideError | None = field(default=None, compare=False)
    left: bool = False

    @property
    def verdict(self) -> Verdict | None:
        """None: it was not asked."""
        if self.proof is None:
            return Verdict.SILENT if self.silence else None
        if self.proof.leaks:
            return Verdict.OPEN
        if self.proof.refuses and self.proof.admits:
            return Verdict.PROVEN
        return Verdict.REFUSED if self.proof.own_token in REFUSED else Verdict.SILENT

    def asked(self, proof: EngineProof) -> SeenEngine:
        return replace(self, proof=proof, silence=proof.error)


@dataclass(frozen=True, slots=True)
class SeenEngines:
    """All engines at a moment (UTC, by our clock)."""

    at: datetime
    engines: tuple[SeenEngine, ...] = ()


# ------------------------------------------------------------------ what holds


def is_registered(seen: SeenEngine, facts: Facts) -> bool:
    """Our present token stands in its list, and it has read it."""
    token = facts.sealed(sealed_token(seen.name))
    return token is not None and seen.registered == token_hash(token) and not seen.restart_due


def rotation_is_due(name: str, desired: DesiredTester, facts: Facts) -> bool:
    """The spec's counter is higher than that of the present token."""
    made_for = engine_facts(facts).rotations.get(name)
    return made_for is not None and desired.engine_rotation > made_for


def may_be_registered(name: str, facts: Facts) -> bool:
    """Something of ours is, or may be, at this engine: until its token is seen to be refused and erased."""
    return name in engine_facts(facts).engines or facts.sealed(sealed_token(name)) is not None


def proof_is_due(seen: SeenEngine, at: datetime, facts: Facts) -> bool:
    """Wanted: after every change, then at a long interval. To go: as soon as it is out of the list."""
    if not seen.wanted:
        return seen.registered is None and not seen.restart_due
    last = engine_facts(facts).proven.get(seen.name)
    return is_registered(seen, facts) and (last is None or at - last >= outside_interval(facts))


def learnt(observed: SeenEngines, facts: Facts) -> EngineAccessFacts:
    """A proof stands until the list, or an answer, says otherwise; silence does not undo it."""
    known = engine_facts(facts)
    engines, proven, restarted, changed = (
        set(known.engines),
        dict(known.proven),
        dict(known.restarted),
        dict(known.changed),
    )
    troubled = set(known.troubled)
    for seen in observed.engines:
        if seen.error is not None:
            continue
        if seen.registered is not None:
            engines.add(seen.name)
        elif not seen.restart_due and not facts.sealed(sealed_token(seen.name)):
            engines.discard(seen.name)
        if not is_registered(seen, facts) or seen.verdict in (Verdict.OPEN, Verdict.REFUSED):
            proven.pop(seen.name, None)
        elif seen.verdict is Verdict.PROVEN:
            proven[seen.name] = observed.at
            restarted.pop(seen.name, None)
            changed.pop(seen.name, None)
        if is_registered(seen, facts):
            troubled.discard(seen.name)
    wanted = [seen.name for seen in observed.engines if seen.wanted]
    return EngineAccessFacts(
        tenant=tenant_of(facts),
        engines=tuple(sorted(engines)),
        rotation=min((known.rotations.get(name, 0) for name in wanted), default=0),
        rotations=known.rotations,
        proven=proven,
        restarted=restarted,
        changed=changed,
        troubled=tuple(each for each in known.troubled if each in troubled),
    )


def without(known: EngineAccessFacts, name: str) -> EngineAccessFacts:
    """Nothing is known any more of the tester at this engine."""
    return known.model_copy(
        update={
            "engines": tuple(each for each in known.engines if each != name),
            "rotations": {each: counter for each, counter in known.rotations.items() if each != name},
            "proven": {each: when for each, when in known.proven.items() if each != name},
            "restarted": {each: when for each, when in known.restarted.items() if each != name},
            "changed": {each: when for each, when in known.changed.items() if each != name},
            "troubled": tuple(each for each in known.troubled if each != name),
        }
    )


# ------------------------------------------------------------------ plans


def plan_first(desired: DesiredTester, facts: Facts) -> tuple[Step, ...]:
    """For previews: a token at every engine."""
    return tuple(_register(SeenEngine(each.name, wanted=True), desired, facts) for each in desired.engines)


def plan_engines(desired: DesiredTester, observed: SeenEngines, facts: Facts) -> tuple[Step, ...]:
    """Actions wherever something can be done, those that failed before last; then waits; then the troubles."""
    troubled = engine_facts(facts).troubled
    ordered = sorted(observed.engines, key=lambda seen: troubled.index(seen.name) + 1 if seen.name in troubled else 0)
    actions = [action for seen in ordered for action in _keep(seen, desired, observed.at, facts)]
    if actions:
        return tuple(actions)
    wanted = [seen for seen in ordered if seen.wanted]
    unproven = [seen for seen in wanted if _waits_for_proof(seen, facts)]
    if unproven:
        return (_wait_for(unproven, facts),)
    _tell_troubles([trouble for seen in wanted if (trouble := _trouble(seen)) is not None])
    return ()


def plan_leaving(observed: SeenEngines, facts: Facts) -> tuple[Step, ...]:
    """Revoke everywhere, see the token refused, erase it. What cannot be reached keeps the removal open, and is named."""
    actions = [action for seen in observed.engines for action in _take_away(seen, observed.at, facts)]
    if actions:
        return tuple(actions)
    left = [seen for seen in observed.engines if may_be_registered(seen.name, facts)]
    _tell_troubles([_trouble_leaving(seen) for seen in left])
    return ()


def _keep(seen: SeenEngine, desired: DesiredTester, at: datetime, facts: Facts) -> tuple[Action, ...]:
    if not seen.wanted:
        return _take_away(seen, at, facts)
    if seen.error is not None:
        return ()
    if not is_registered(seen, facts) or rotation_is_due(seen.name, desired, facts):
        return (_register(seen, desired, facts),)
    if seen.verdict is Verdict.REFUSED:
        return _restart(seen, IN, "it refuses a token that stands in its list", at, facts)
    return _restart_dead(seen, at, facts)


def _take_away(seen: SeenEngine, at: datetime, facts: Facts) -> tuple[Action, ...]:
    if seen.error is not None:
        return ()
    if seen.registered is not None:
        return (_revoke(seen, facts),)
    if not may_be_registered(seen.name, facts):
        return ()
    if seen.restart_due:
        return _restart(seen, OUT, "it has yet to read that the token is revoked", at, facts)
    if seen.proof is not None and seen.proof.admits:
        return _restart(seen, OUT, "it goes on accepting a revoked token", at, facts)
    if facts.sealed(sealed_token(seen.name)) is None or (seen.proof and seen.proof.own_token in REFUSED):
        return (_erase(seen),)
    return _restart_dead(seen, at, facts)


def _waits_for_proof(seen: SeenEngine, facts: Facts) -> bool:
    proven = seen.name in engine_facts(facts).proven
    return seen.error is None and not proven and seen.verdict in (None, Verdict.SILENT)


def _wait_for(unproven: list[SeenEngine], facts: Facts) -> Wait:
    words = "; ".join(f"{seen.name} ({seen.silence or 'it gives no clear answer'})" for seen in unproven)
    return Wait(
        "ProvingEngines",
        f"the token is registered and not seen to be taken yet: {words}",
        facts.fleet.spec.timing.proof_limit,
        blames=", ".join(f"engine {seen.name}" for seen in unproven),
    )


def _trouble(seen: SeenEngine) -> OutsideError | None:
    """What is wrong at an engine about which nothing can be done now."""
    system = f"engine {seen.name}"
    if seen.error is not None:
        return seen.error
    if seen.verdict is Verdict.OPEN:
        return Blocked(
            f"it lets strangers in ({answers_of(seen)}): an admin mends it", system=system, reason="EngineOpen"
        )
    if seen.verdict is Verdict.REFUSED:
        return Transient("it refuses a token that stands in its list", system=system, reason="TokenRefused")
    return None


def _trouble_leaving(seen: SeenEngine) -> OutsideError:
    system = f"engine {seen.name}"
    if seen.error is not None:
        return seen.error
    if seen.proof is not None and seen.proof.admits:
        text = "it goes on accepting the revoked token, a restart notwithstanding: an admin mends it"
        return Blocked(text, system=system, reason="EngineOpen")
    text = f"the token is revoked, and not seen to be refused yet ({seen.silence or 'no clear answer'})"
    return Transient(text, system=system, reason="EngineSilent")


def answers_of(seen: SeenEngine) -> str:
    """In words: who was answered how."""
    proof = seen.proof
    if proof is None:
        return seen.silence
    asked = {
        "without a token": proof.no_token,
        "a wrong one": proof.wrong_token,
        "under a neighbour's name": proof.foreign_token,
        "ours": proof.own_token,
    }
    return ", ".join(f"{what} {status or 'no answer'}" for what, status in asked.items())


def _tell_troubles(troubles: Iterable[OutsideError]) -> None:
    found = list(troubles)
    if found:
        _raise(found)


def _raise(troubles: list[OutsideError]) -> NoReturn:
    """The gravest one's kind, in the words of all."""
    text = "; ".join(f"{each.system}: {each.message}" for each in troubles)
    gravest = next((each for each in troubles if isinstance(each, Blocked)), troubles[0])
    if isinstance(gravest, Blocked):
        raise Blocked(text, system=SYSTEM, reason=gravest.reason)
    if isinstance(gravest, Throttled):
        raise Throttled(text, system=SYSTEM, retry_after=gravest.retry_after)
    reason = "EngineUnreachable" if isinstance(gravest, Unreachable) else gravest.reason
    raise Transient(text, system=SYSTEM, reason=reason)


# ------------------------------------------------------------------ the actions


def _register(seen: SeenEngine, desired: DesiredTester, facts: Facts) -> Action:
    rotates = rotation_is_due(seen.name, desired, facts)
    readers = next((each.readers for each in desired.engines if each.name == seen.name), ())
    told: tuple[str, ...] = (f"engine {seen.name} restarts and reads its list",)
    if rotates:
        told += ("the machine gets a new token", *(f"{reader} restarts if it runs" for reader in readers))
    return Action(
        "register",
        f"tenant {tenant_of(facts)} at engine {seen.name}",
        changes=(secret_change(f"engines.{seen.name}.token", known=seen.registered is not None),),
        consequences=told,
        args=(seen.name,),
        reason="TokenRotated" if rotates else "TokenRegistered",
    )


def _revoke(seen: SeenEngine, facts: Facts) -> Action:
    return Action(
        "revoke",
        f"tenant {tenant_of(facts)} at engine {seen.name}",
        changes=(FieldChange(f"engines.{seen.name}.token", HIDDEN, None),),
        consequences=(f"engine {seen.name} restarts and reads its list",),
        args=(seen.name,),
        reason="TokenRevoked",
    )


def _restart(seen: SeenEngine, purpose: str, why: str, at: datetime, facts: Facts) -> tuple[Action, ...]:
    last = engine_facts(facts).restarted.get(seen.name)
    if last is not None and at - last < RESTART_PATIENCE:
        return ()
    return (_restart_action(seen, purpose, why, at),)


def _restart_action(seen: SeenEngine, purpose: str, why: str, at: datetime) -> Action:
    return Action(
        "restart",
        f"engine {seen.name}",
        consequences=("everybody who uses it notices",),
        why=why,
        args=(seen.name, purpose, at.isoformat()),
        reason="EngineRestarted",
    )


def _restart_dead(seen: SeenEngine, at: datetime, facts: Facts) -> tuple[Action, ...]:
    """An engine that our own restart has left without an answer, whatever its supervisor says: nobody else looks after it."""
    known = engine_facts(facts)
    begun = known.changed.get(seen.name)
    if seen.verdict is not Verdict.SILENT or seen.silence == ASKED_TO_SLOW_DOWN or begun is None:
        return ()
    again = known.restarted.get(seen.name)
    if at - max(begun, again or begun) < (RESTART_PATIENCE if again is None else LATER_PATIENCE):
        return ()
    return (_restart_action(seen, UP, "it has given no answer since our own restart", at),)


def _erase(seen: SeenEngine) -> Action:
    return Action(
        "erase",
        f"token for engine {seen.name}",
        changes=(FieldChange(f"engines.{seen.name}.token", HIDDEN, None),),
        args=(seen.name,),
        reason="TokenErased",
    )
