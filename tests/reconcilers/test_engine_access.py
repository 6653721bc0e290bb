"""The tester's tokens at the shared engines: tables of what is seen and what follows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from reconcilers.backends.engines import ASKED_TO_SLOW_DOWN, EngineProof, EngineTenants, token_hash
from reconcilers.contract import TesterView
from reconcilers.engine_access import EngineAccessReconciler
from reconcilers.engine_rules import LATER_PATIENCE, RESTART_PATIENCE, SeenEngine, SeenEngines, proof_is_due
from reconcilers.errors import Blocked, OutsideError, Throttled, Transient, Unreachable
from reconcilers.facts import EngineAccessFacts, Facts
from reconcilers.intervals import outside_interval
from reconcilers.secret import HIDDEN, Secret
from tests.reconcilers.data import NOW, SECRETS, a_fleet, a_tester, actions, brief, some_facts

STEP = EngineAccessReconciler(None)  # type: ignore[arg-type]
TENANT = "alicex7k2p9"
TOKEN = Secret("token-of-alice-0123456789")
HELD = token_hash(TOKEN)
ENGINES = [
    {
        "name": name,
        "url": "http://[400:9::1]:9801",
        "urlSetting": f"HERO_{name.upper()}_URL",
        "tokenSetting": f"SHARED_{name.upper()}_TOKEN",
        "registry": {"host": "400:9::1", "context": name, "service": f"hero_{name}"},
    }
    for name in ("embedder", "voice")
]
FLEET = a_fleet(engines=ENGINES)
ALICE = a_tester(FLEET)
ROTATED = a_tester(FLEET, keys={"rotateEngineTokens": 1})
KNOWN = EngineAccessFacts(
    tenant=TENANT,
    engines=("embedder", "voice"),
    rotations={"embedder": 0, "voice": 0},
    proven={"embedder": NOW, "voice": NOW},
)
GOOD, OWN_REFUSED = EngineProof(401, 401, 403, 200), EngineProof(401, 401, 403, 401)
OPEN, SILENT = EngineProof(200, 401, 403, 200), EngineProof(None, None, None, None, "nobody answers")
DOWN = Unreachable("nobody answers", system="machine of engine voice")


def facts(known: EngineAccessFacts | None = KNOWN, *, sealed: tuple[str, ...] = ("embedder", "voice")) -> Facts:
    secrets = {**SECRETS, **{f"alice/engine_{name}": TOKEN for name in sealed}}
    return some_facts(*(() if known is None else (known,)), fleet=FLEET, secrets=secrets)


def at(name: str, registered: str | None = HELD, **fields: Any) -> SeenEngine:
    return SeenEngine(name, **{"wanted": True, "registered": registered, **fields})


def seen(*engines: SeenEngine) -> SeenEngines:
    return SeenEngines(NOW, engines)


def unproven(**changes: Any) -> EngineAccessFacts:
    return KNOWN.model_copy(update={"proven": {"embedder": NOW}, **changes})


REGISTER, REGISTER_BOTH = (
    [f"register tenant {TENANT} at engine voice"],
    [f"register tenant {TENANT} at engine embedder", f"register tenant {TENANT} at engine voice"],
)
FINE = at("embedder")
CASES: Mapping[str, tuple[SeenEngine, EngineAccessFacts, list[str]]] = {
    "in order": (at("voice"), KNOWN, []),
    "missing in the list": (at("voice", None), KNOWN, REGISTER),
    "another token": (at("voice", "0" * 64), KNOWN, REGISTER),
    "something that is none of ours to understand": (at("voice", ""), KNOWN, REGISTER),
    "not restarted since": (at("voice", restart_due=True), KNOWN, REGISTER),
    "proven just now": (at("voice", proof=GOOD), unproven(), []),
    "not asked yet": (at("voice"), unproven(), ["wait ProvingEngines"]),
    "it starts": (at("voice", proof=SILENT, silence="nobody answers"), unproven(), ["wait ProvingEngines"]),
    "silent, and proven before": (at("voice", proof=SILENT, silence="nobody answers"), KNOWN, []),
    "dead since we had it restart": (
        at("voice", proof=SILENT, silence="nobody answers"),
        unproven(changed={"voice": NOW - RESTART_PATIENCE}),
        ["restart engine voice"],
    ),
    "dead, and not for long": (
        at("voice", proof=SILENT, silence="nobody answers"),
        unproven(changed={"voice": NOW - RESTART_PATIENCE / 2}),
        ["wait ProvingEngines"],
    ),
    "dead, and restarted for that": (
        at("voice", proof=SILENT, silence="nobody answers"),
        unproven(changed={"voice": NOW - LATER_PATIENCE}, restarted={"voice": NOW - LATER_PATIENCE / 2}),
        ["wait ProvingEngines"],
    ),
    "dead, and restarted for that long ago": (
        at("voice", proof=SILENT, silence="nobody answers"),
        unproven(changed={"voice": NOW - 2 * LATER_PATIENCE}, restarted={"voice": NOW - LATER_PATIENCE}),
        ["restart engine voice"],
    ),
    "it only asks us to slow down": (
        at("voice", silence=ASKED_TO_SLOW_DOWN),
        unproven(changed={"voice": NOW - LATER_PATIENCE}),
        ["wait ProvingEngines"],
    ),
    "dead, and proven before": (
        at("voice", proof=SILENT, silence="nobody answers"),
        KNOWN,
        [],
    ),
    "it has not read its list": (at("voice", proof=OWN_REFUSED), unproven(), ["restart engine voice"]),
    "no longer wanted": (at("voice", wanted=False), KNOWN, [f"revoke tenant {TENANT} at engine voice"]),
    "no longer wanted, revoked, still taken": (
        at("voice", None, wanted=False, proof=GOOD),
        KNOWN,
        ["restart engine voice"],
    ),
    "no longer wanted, and refused": (
        at("voice", None, wanted=False, proof=OWN_REFUSED),
        KNOWN,
        ["erase token for engine voice"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_engine(name: str) -> None:
    engine, known, expected = CASES[name]
    found, before = seen(FINE, engine), facts(known)
    learnt = STEP.learn(found, before)
    assert brief(STEP.plan(ALICE, found, facts(learnt))) == expected


@pytest.mark.parametrize(
    ("engine", "kind", "reason"),
    [
        (at("voice", None, error=DOWN), Transient, "EngineUnreachable"),
        (at("voice", None, error=Throttled("slow", system="machines")), Throttled, "Throttled"),
        (
            at("voice", None, error=Blocked("no JSON", system="engine voice", reason="TenantsUnreadable")),
            Blocked,
            "TenantsUnreadable",
        ),
        (at("voice", proof=OPEN), Blocked, "EngineOpen"),
    ],
)
def test_what_cannot_be_helped_is_said_and_named(engine: SeenEngine, kind: type[OutsideError], reason: str) -> None:
    with pytest.raises(kind) as caught:
        STEP.plan(ALICE, seen(FINE, engine), facts())
    assert caught.value.reason == reason
    assert "voice" in caught.value.message or kind is Throttled


def test_one_engine_that_is_down_holds_up_only_itself() -> None:
    found = seen(at("embedder", None), at("voice", None, error=DOWN))
    nothing = facts(None, sealed=())
    learnt = STEP.learn(found, nothing)
    assert learnt == EngineAccessFacts(tenant=TENANT), "the machine's settings need not wait"
    assert brief(STEP.plan(ALICE, found, nothing)) == [f"register tenant {TENANT} at engine embedder"]
    (finding,) = STEP.findings(ALICE, found, nothing)
    assert (finding.type, finding.status, finding.reason) == ("EngineAccessProven", None, "EngineUnreachable")
    assert "voice" in finding.message


def test_an_engine_that_failed_comes_last() -> None:
    found = seen(at("embedder", None), at("voice", None))
    assert brief(STEP.plan(ALICE, found, facts(None, sealed=()))) == REGISTER_BOTH
    troubled = EngineAccessFacts(tenant=TENANT, troubled=("embedder",))
    assert brief(STEP.plan(ALICE, found, facts(troubled, sealed=()))) == REGISTER_BOTH[::-1]
    assert STEP.learn(seen(FINE), facts(troubled)).troubled == ()


def test_a_raised_counter_makes_new_tokens_and_says_what_restarts() -> None:
    plan = actions(STEP.plan(ROTATED, seen(FINE, at("voice")), facts()))
    assert brief(tuple(plan)) == REGISTER_BOTH
    assert {each.reason for each in plan} == {"TokenRotated"}
    assert "hero_indexer restarts if it runs" in plan[0].consequences
    assert plan[0].changes[0].after == HIDDEN
    once = KNOWN.model_copy(update={"rotations": {"embedder": 1, "voice": 0}})
    assert brief(STEP.plan(ROTATED, seen(FINE, at("voice")), facts(once))) == REGISTER
    assert STEP.learn(seen(FINE, at("voice")), facts(once)).rotation == 0
    assert STEP.plan(ALICE, seen(FINE, at("voice")), facts(once)) == (), "a lower counter asks for nothing"


def test_an_engine_is_restarted_once_in_a_while_only() -> None:
    refusing = seen(FINE, at("voice", proof=OWN_REFUSED))
    for since, expected in ((RESTART_PATIENCE, ["restart engine voice"]), (RESTART_PATIENCE / 2, None)):
        known = facts(unproven(restarted={"voice": NOW - since}))
        if expected is None:
            with pytest.raises(Transient, match="refuses a token"):
                STEP.plan(ALICE, refusing, known)
        else:
            assert brief(STEP.plan(ALICE, refusing, known)) == expected


def test_what_we_changed_is_remembered_until_it_answers() -> None:
    known = unproven(changed={"voice": NOW}, restarted={"voice": NOW})
    silent = STEP.learn(seen(FINE, at("voice", proof=SILENT, silence="nobody answers")), facts(known))
    assert (silent.changed, silent.restarted) == ({"voice": NOW}, {"voice": NOW})
    answers = STEP.learn(seen(FINE, at("voice", proof=GOOD)), facts(known))
    assert (answers.changed, answers.restarted) == ({}, {})


class Engine:
    """What a restart needs of an engine's client."""

    def __init__(self, answers: EngineProof, *, lately: bool) -> None:
        self.answers, self.lately, self.restarts = answers, lately, 0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=1)

    def restarted_within(self, span: timedelta) -> bool:
        return self.lately

    async def look(self) -> EngineTenants:
        return EngineTenants({}, restart_due=False)

    async def prove(self, tenant: str, token: Secret) -> EngineProof:
        return self.answers

    async def restart(self) -> None:
        self.restarts += 1


@pytest.mark.parametrize(
    ("answers", "lately", "restarts", "since"),
    [
        (SILENT, False, 1, NOW - RESTART_PATIENCE),
        (SILENT, True, 0, NOW + timedelta(seconds=1)),  # for another tester: this one's patience begins anew
        (GOOD, False, 0, NOW - RESTART_PATIENCE),
        (OWN_REFUSED, False, 0, NOW - RESTART_PATIENCE),  # whatever is wrong with it, it lives
    ],
)
async def test_a_dead_engine_is_restarted_once_for_all_who_wait(
    answers: EngineProof, lately: bool, restarts: int, since: datetime
) -> None:
    engine = Engine(answers, lately=lately)
    known = unproven(changed={"voice": NOW - RESTART_PATIENCE})
    (action,) = actions(STEP.plan(ALICE, seen(FINE, at("voice", silence="nobody answers")), facts(known)))
    recorded: list[Any] = []

    async def record(told: Any) -> None:
        recorded.append(told)

    step = EngineAccessReconciler(SimpleNamespace(engine=lambda name: engine))  # type: ignore[arg-type]
    await step.apply(action, TesterView(ALICE, facts(known)), SimpleNamespace(record=record))
    assert engine.restarts == restarts
    last = recorded[-1] if recorded else known
    assert (last.changed["voice"], "voice" in last.restarted) == (since, bool(restarts))


PROOFS: Mapping[str, tuple[EngineProof | None, dict[str, Any], bool, str]] = {
    "proven": (GOOD, {}, True, "Proven"),
    "not asked this time": (None, {}, True, "Proven"),
    "silence does not undo it": (SILENT, {}, True, "Proven"),
    "a stranger is let in": (OPEN, {}, False, "EngineOpen"),
    "a neighbour's name is": (EngineProof(401, 401, 200, 200), {}, False, "EngineOpen"),
    "a wrong token is": (EngineProof(401, 200, 403, 200), {}, False, "EngineOpen"),
    "we are refused": (OWN_REFUSED, {}, False, "TokenRefused"),
    "out of the list": (None, {"registered": None}, False, "Proving"),
    "to be restarted": (None, {"restart_due": True}, False, "Proving"),
    "a broken engine": (EngineProof(500, 500, 500, 500), {}, True, "Proven"),
}


@pytest.mark.parametrize("name", PROOFS)
def test_lesson_38_what_a_proof_is_worth(name: str) -> None:
    proof, fields, stands, reason = PROOFS[name]
    found = seen(FINE, at("voice", **{"proof": proof, **fields}))
    learnt = STEP.learn(found, facts())
    assert ("voice" in learnt.proven) is stands
    (finding,) = STEP.findings(ALICE, found, facts(learnt))
    assert finding.reason == reason
    assert (finding.status is True) == (reason == "Proven")


def test_it_is_proven_anew_after_a_change_and_then_at_a_long_interval() -> None:
    assert not proof_is_due(FINE, NOW, facts())
    assert proof_is_due(FINE, NOW + outside_interval(facts()), facts())
    assert proof_is_due(at("voice"), NOW, facts(unproven()))
    assert not proof_is_due(at("voice", restart_due=True), NOW, facts(unproven()))


def test_settled_means_quiet() -> None:
    once = STEP.learn(seen(FINE, at("voice")), facts())
    assert STEP.learn(SeenEngines(NOW + timedelta(hours=1), (FINE, at("voice"))), facts(once)) == once


def test_nothing_to_do_without_engines() -> None:
    bare = some_facts()
    assert STEP.plan(a_tester(), seen(), bare) == ()
    assert STEP.learn(seen(), bare) == EngineAccessFacts(tenant=TENANT)
    assert STEP.findings(a_tester(), seen(), bare) == ()
    assert STEP.plan(None, seen(), bare) == ()


def test_a_preview_shows_every_engine() -> None:
    assert brief(STEP.plan(ALICE, None, facts(None, sealed=()))) == REGISTER_BOTH


LEAVING: Mapping[str, tuple[SeenEngine, list[str]]] = {
    "registered": (at("voice", wanted=False), [f"revoke tenant {TENANT} at engine voice"]),
    "revoked, not restarted": (at("voice", None, wanted=False, restart_due=True), ["restart engine voice"]),
    "revoked, and still taken": (at("voice", None, wanted=False, proof=GOOD), ["restart engine voice"]),
    "revoked, and refused": (at("voice", None, wanted=False, proof=OWN_REFUSED), ["erase token for engine voice"]),
    "revoked, and dead since": (at("voice", None, wanted=False, silence="nobody answers"), ["restart engine voice"]),
}
GONE = KNOWN.model_copy(update={"engines": ("voice",), "changed": {"voice": NOW - RESTART_PATIENCE}})


@pytest.mark.parametrize("name", LEAVING)
def test_leaving(name: str) -> None:
    engine, expected = LEAVING[name]
    assert brief(STEP.plan(None, seen(engine), facts(GONE, sealed=("voice",)))) == expected


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        (at("voice", None, wanted=False, error=DOWN), Transient),
        (at("voice", None, wanted=False, silence="nobody answers"), Transient),
        (
            at(
                "voice",
                None,
                wanted=False,
                left=True,
                error=Blocked("put it back", system="engine voice", reason="EngineUnknown"),
            ),
            Blocked,
        ),
    ],
)
def test_an_engine_out_of_reach_keeps_the_removal_open_and_the_others_go_on(
    engine: SeenEngine, kind: type[OutsideError]
) -> None:
    with pytest.raises(kind, match="voice"):
        STEP.plan(None, seen(engine), facts(GONE.model_copy(update={"changed": {}}), sealed=("voice",)))
    both = seen(engine, at("embedder", wanted=False))
    assert brief(STEP.plan(None, both, facts())) == [f"revoke tenant {TENANT} at engine embedder"]


def test_an_engine_that_was_never_ours_keeps_nothing_open() -> None:
    nowhere = facts(EngineAccessFacts(tenant=TENANT), sealed=())
    assert STEP.plan(None, seen(at("voice", None, wanted=False, error=DOWN)), nowhere) == ()


def test_an_engine_that_left_the_fleet_is_named_while_tokens_are_registered() -> None:
    unknown = Blocked("put it back", system="engine voice", reason="EngineUnknown")
    found = seen(FINE, at("voice", None, wanted=False, left=True, error=unknown))
    learnt = STEP.learn(found, facts())
    assert "voice" in learnt.engines
    assert STEP.plan(ALICE, found, facts(learnt)) == ()
    findings = {each.type: each for each in STEP.findings(ALICE, found, facts(learnt))}
    assert findings["EngineTokensRevoked"].status is False
    assert "voice" in findings["EngineTokensRevoked"].message
