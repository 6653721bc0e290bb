"""The gate around its table: when the outside is asked, what is learnt from it, what is said about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from reconcilers.actions import Finding
from reconcilers.backends import Backends
from reconcilers.backends.compute import Gateway
from reconcilers.backends.machine import MachineAddress, MachineLook
from reconcilers.backends.probes import Probe, ProbeAnswer
from reconcilers.contract import TesterView
from reconcilers.door import SeenDoor, proof_digest, wanted_values
from reconcilers.errors import Blocked, Transient, Unreachable
from reconcilers.facts import Facts, SignInGateFacts, StepFacts
from reconcilers.listener import LISTENER_KEY, LISTENER_ON
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import machine_query
from reconcilers.proof import SideProof, Verdict, demands, outside_demands
from reconcilers.sign_in_gate import SignInGateReconciler, outside_interval
from specs.desired import DesiredTester
from tests.reconcilers.data import CLIENT_ID, FORGE, FQDN, NOW, a_fleet, a_look, a_tester, brief, some_facts

DESIRED = a_tester()
FACTS = some_facts()
DIGEST = proof_digest(DESIRED, FACTS)
ASKED = outside_demands(FQDN, DESIRED)
EVERY = tuple(each.path for each in ASKED)
AUTHORIZE = f"{FORGE}/login/oauth/authorize"
ASKS = ProbeAnswer(302, f"{AUTHORIZE}?client_id={CLIENT_ID}")
SERVES, SILENT, BAD_GATEWAY = ProbeAnswer(200), ProbeAnswer(None, error="refused"), ProbeAnswer(502)
VALUES = {key: value for key, value in wanted_values(DESIRED, FACTS).items() if value is not None}
ON = {**VALUES, LISTENER_KEY: LISTENER_ON}
PROVEN = SignInGateFacts(proven=DIGEST, public=True, listening=True, checked_at=NOW)


class FakeForge:
    def authorize_url(self) -> str:
        return AUTHORIZE


class World:
    """What a look at the machine and at the public address brings, and what was asked from outside."""

    def __init__(
        self, look: MachineLook | Exception, outside: Mapping[str, ProbeAnswer] | None = None, at: datetime = NOW
    ):
        self.look, self.answers, self.at = look, outside, at
        self.machine_at = at
        self.asked: list[tuple[str, ...]] = []
        self.query: object = None
        self.gateway_listed = True

    def now(self) -> datetime:
        return self.at

    async def machine(self, address: MachineAddress) -> MachineLook:
        if isinstance(self.look, Exception):
            raise self.look
        return self.look

    async def outside(self, fqdn: str, paths: tuple[str, ...]) -> dict[str, ProbeAnswer]:
        self.asked.append(paths)
        return {path: (self.answers or {}).get(path, good(path)) for path in paths}

    async def gateways(self, daemon: str) -> tuple[Gateway, ...]:
        return (Gateway("3", "alicex7k2p9"),) if self.gateway_listed else ()


def good(path: str) -> ProbeAnswer:
    return SERVES if path in ("/health", "/oauth/callback") else ASKS


def probes(desired: DesiredTester = DESIRED, **sides: ProbeAnswer) -> dict[Probe, ProbeAnswer]:
    """As it should be, but for a side that gives one answer to everything."""
    return {each: sides.get(each.side, good(each.path)) for each in machine_query(desired, FACTS).probes}


def machine(**changes: Any) -> MachineLook:
    return a_look(**{"secrets": ON, "probes": probes(), **changes})


async def see(world: World, *more: StepFacts, **fields: Any) -> SeenDoor:
    looks: TesterLooks = world  # type: ignore[assignment]
    found = await STEP.observe(TesterView(DESIRED, some_facts(*more, **fields)), looks)
    assert found is not None
    return found


STEP = SignInGateReconciler(Backends(FakeForge(), {}, None, None))  # type: ignore[arg-type]
LATER = NOW + outside_interval(FACTS)
DUE: Mapping[str, tuple[World, SignInGateFacts, list[tuple[str, ...]]]] = {
    "nothing yet, the listener off": (
        World(machine(secrets=VALUES, probes=probes(inner=SILENT))),
        SignInGateFacts(),
        [],
    ),
    "just opened": (World(machine()), SignInGateFacts(listening=True), [EVERY]),
    "proven a moment ago": (World(machine()), PROVEN, []),
    "proven, almost due": (World(machine(), at=LATER - timedelta(seconds=1)), PROVEN, []),
    "proven long ago: one path": (World(machine(), at=LATER), PROVEN, [EVERY[:1]]),
    "proven before the clock was set back": (
        World(machine()),
        PROVEN.model_copy(update={"checked_at": NOW + timedelta(days=1)}),
        [EVERY[:1]],
    ),
    "the next one": (World(machine(), at=LATER), PROVEN.model_copy(update={"checked_path": 3}), [EVERY[3:4]]),
    "proven for something else": (World(machine()), PROVEN.model_copy(update={"proven": "other"}), [EVERY]),
    "proven, in disorder": (World(machine(secrets={LISTENER_KEY: LISTENER_ON})), PROVEN, [EVERY]),
    "proven, not restarted": (World(machine(stale=frozenset({"hero_proxy"}))), PROVEN, [EVERY]),
    "dead from outside the last time": (World(machine()), PROVEN.model_copy(update={"public": False}), [EVERY]),
    "set off, still listening": (World(machine(secrets=VALUES)), PROVEN, [EVERY]),
    "out of reach": (World(Unreachable("nobody", system="machine")), PROVEN, [EVERY]),
    "login refused": (World(Transient("refused", system="machine")), PROVEN, [EVERY]),
    "another host key": (World(Blocked("other", system="machine")), PROVEN, [EVERY]),
    "the supervisor is dead": (World(machine(supervisor_up=False)), PROVEN, [EVERY]),
}


@pytest.mark.parametrize("name", DUE)
async def test_when_the_outside_is_asked(name: str) -> None:
    world, gate, expected = DUE[name]
    world.asked.clear()
    seen = await see(world, gate)
    assert world.asked == expected
    assert seen.whole == (expected == [EVERY])
    assert (seen.outside is None) == (expected == [])


async def test_the_long_round_visits_every_path_and_begins_again() -> None:
    gate, visited = PROVEN, []
    for turn in range(len(EVERY) + 1):
        world = World(machine(), at=NOW + (turn + 1) * timedelta(hours=1))
        seen = await see(world, gate)
        visited += world.asked
        gate = STEP.learn(seen, some_facts(gate))
    assert visited == [*((path,) for path in EVERY), EVERY[:1]]
    assert gate.proven == DIGEST


def test_testers_are_not_all_asked_at_once() -> None:
    every = a_fleet().spec.timing.outside_proof_every
    spans = {outside_interval(some_facts(uid=uid)) for uid in ("a00000", "b11111", "c22222")}
    assert len(spans) == 3
    assert all(every * 5 / 6 <= span <= every * 7 / 6 for span in spans)


async def test_a_door_in_order_is_seen_so() -> None:
    seen = await see(World(machine()), SignInGateFacts())
    assert seen.kept
    assert seen.listening
    assert {seen.loopback.verdict, seen.inner.verdict} == {Verdict.PROTECTED}
    assert STEP.plan(DESIRED, seen, some_facts()) == ()
    assert STEP.learn(seen, some_facts()) == SignInGateFacts(
        proven=DIGEST, public=True, listening=True, checked_at=NOW, checked_path=0
    )


async def test_where_there_is_nothing_that_could_have_a_door_nothing_is_seen() -> None:
    looks: TesterLooks = World(machine())  # type: ignore[assignment]
    bare = some_facts(without=("gateway",), leaving=True)
    assert await STEP.observe(TesterView(DESIRED, bare), looks) is None
    assert STEP.plan(None, None, bare) == ()


async def test_leaving_out_of_reach_ends_when_the_gateway_is_seen_to_be_gone() -> None:
    world = World(Unreachable("nobody", system="machine"))
    there = await see(world, PROVEN, leaving=True)
    world.gateway_listed = False
    gone = await see(world, PROVEN, leaving=True)
    given = some_facts(PROVEN, leaving=True)
    assert brief(STEP.plan(None, there, given)) == ["cut_gateway gateway alicex7k2p9"]
    assert STEP.plan(None, gone, given) == ()


async def test_a_door_that_was_never_ours_needs_nothing_on_removal() -> None:
    """The machine never came so far, and is out of reach."""
    given = some_facts(without=("sign_in_gate",), leaving=True)
    seen = await see(World(Unreachable("nobody", system="machine")), without=("sign_in_gate",), leaving=True)
    assert STEP.plan(None, seen, given) == ()


# ------------------------------------------------------------------ learn

GOOD = SideProof(Verdict.PROTECTED, alive=True)
OPEN = SideProof(Verdict.OPEN, alive=True, example="/ answered 200")
DEAD = SideProof(Verdict.UNPROVEN, alive=False, example="/ did not answer")
ILL = SideProof(Verdict.UNPROVEN, alive=True, example="/status answered 404")
FINE = SeenDoor(NOW, True, DIGEST, ON, (), False, GOOD, GOOD, kept=True, looked_at=NOW)
SHUT = replace(FINE, values=VALUES, inner=DEAD)
AGO = NOW - timedelta(minutes=1)
OPENED = SignInGateFacts(listening=True, opened_at=AGO)


def learnt(seen: SeenDoor, before: SignInGateFacts, **fields: Any) -> SignInGateFacts:
    return STEP.learn(seen, some_facts(before, **fields))


def changed(seen: SeenDoor, before: SignInGateFacts, **fields: Any) -> dict[str, Any]:
    """Only what a look changes in the facts."""
    after = learnt(seen, before, **fields)
    return {name: value for name, value in after if value != getattr(before, name)}


REPORT = {"fleet": a_fleet(safety={"innerProof": "report"})}
UNROUTED: dict[str, Any] = {"unrouted": "3", "unrouted_since": AGO}
FINE_OUTSIDE = replace(FINE, outside=GOOD)
LEARNING: Mapping[str, tuple[SeenDoor, SignInGateFacts, dict[str, Any], dict[str, Any]]] = {
    "settled means quiet": (FINE, PROVEN, {}, {}),
    "opened": (replace(FINE, inner=DEAD), SignInGateFacts(), {}, {"listening": True, "opened_at": NOW}),
    "still not proven": (FINE, OPENED, {}, {}),
    "proven": (
        replace(FINE, outside=GOOD, whole=True),
        OPENED.model_copy(update={"shuts": 2, "shut_at": AGO, "trouble": "GridRouting"}),
        {},
        {
            "proven": DIGEST,
            "opened_at": None,
            "shuts": 0,
            "shut_at": None,
            "trouble": "",
            "public": True,
            "checked_at": NOW,
        },
    ),
    "one path proves nothing new": (replace(FINE, outside=GOOD), OPENED, {}, {"public": True, "checked_at": NOW}),
    "not proven in disorder": (
        replace(FINE, outside=GOOD, whole=True, kept=False),
        OPENED,
        {},
        {"public": True, "checked_at": NOW},
    ),
    "not proven before the restart": (
        replace(FINE, outside=GOOD, whole=True, stale=True),
        OPENED,
        {},
        {"public": True, "checked_at": NOW},
    ),
    "inner open is only reported": (
        replace(FINE, outside=GOOD, whole=True, inner=OPEN),
        OPENED,
        REPORT,
        {"proven": DIGEST, "opened_at": None, "public": True, "checked_at": NOW},
    ),
    "seen open inside": (
        replace(FINE, inner=OPEN),
        PROVEN,
        {},
        {"proven": "", "opened_at": NOW, "let_in": "over the inner network / answered 200"},
    ),
    "seen open outside": (
        replace(FINE, outside=OPEN),
        PROVEN,
        {},
        {"proven": "", "opened_at": NOW, "let_in": "from outside / answered 200"},
    ),
    "seen open once, and not proven since": (FINE, OPENED.model_copy(update={"let_in": "from outside"}), {}, {}),
    "seen open once, and proven again": (
        replace(FINE, outside=GOOD, whole=True),
        PROVEN.model_copy(update={"proven": "", "let_in": "from outside"}),
        {},
        {"proven": DIGEST, "let_in": ""},
    ),
    "drifted": (replace(FINE, kept=False), PROVEN, {}, {"proven": "", "opened_at": NOW}),
    "another address": (replace(FINE, digest="other"), PROVEN, {}, {"proven": "", "opened_at": NOW}),
    "a missing answer inside does not undo a proof": (replace(FINE, loopback=DEAD, inner=DEAD), PROVEN, {}, {}),
    "not found, where sign-in is due": (
        replace(FINE, loopback=ILL),
        PROVEN,
        {},
        {"proven": "", "opened_at": NOW},
    ),
    "not found from outside": (
        replace(FINE, outside=ILL),
        PROVEN,
        {},
        {"proven": "", "opened_at": NOW},
    ),
    "not found inside, which is only reported": (replace(FINE, inner=ILL), PROVEN, REPORT, {}),
    "dead from outside: the grid": (
        replace(FINE, outside=DEAD),
        PROVEN,
        {},
        {"public": False, "trouble": "GridRouting", "unrouted": "3", "unrouted_since": NOW},
    ),
    "still dead from outside": (
        replace(FINE, outside=DEAD),
        PROVEN.model_copy(update={"public": False, "trouble": "GridRouting", **UNROUTED}),
        {},
        {},
    ),
    "dead from outside, as another gateway was": (
        replace(FINE, outside=DEAD),
        PROVEN.model_copy(update={"public": False, "trouble": "GridRouting", **UNROUTED, "unrouted": "2"}),
        {},
        {"unrouted": "3", "unrouted_since": NOW},
    ),
    "dead from outside, seen so after now: the clock was set back": (
        replace(FINE, outside=DEAD),
        PROVEN.model_copy(
            update={"public": False, "trouble": "GridRouting", **UNROUTED, "unrouted_since": NOW + (NOW - AGO)}
        ),
        {},
        {"unrouted_since": NOW},
    ),
    "alive again": (FINE_OUTSIDE, PROVEN.model_copy(update=UNROUTED), {}, {"unrouted": "", "unrouted_since": None}),
    "not asked": (FINE, PROVEN.model_copy(update=UNROUTED), {}, {}),
    "dead on both sides": (
        replace(FINE, outside=DEAD, inner=DEAD),
        PROVEN,
        {},
        {"public": False, "trouble": "NoAnswer"},
    ),
    "shut": (SHUT, OPENED, {}, {"listening": False, "opened_at": None, "shuts": 1, "shut_at": NOW}),
    "shut again": (
        SHUT,
        OPENED.model_copy(update={"shuts": 1}),
        {},
        {"listening": False, "opened_at": None, "shuts": 2, "shut_at": NOW},
    ),
    "still shut": (SHUT, SignInGateFacts(shuts=1, shut_at=AGO), {}, {}),
    "out of reach: nothing is known anew": (replace(FINE, controllable=False), PROVEN, {}, {}),
    "out of reach and open": (
        replace(FINE, controllable=False, outside=OPEN),
        PROVEN,
        {},
        {"proven": "", "let_in": "from outside / answered 200"},
    ),
    "cut, back and shut": (SHUT, SignInGateFacts(cut=True), {}, {"cut": False}),
    "cut, and seen shut before": (SHUT, SignInGateFacts(cut=True, cut_at=NOW), {}, {}),
    "cut, and seen shut since": (SHUT, SignInGateFacts(cut=True, cut_at=AGO), {}, {"cut": False}),
    "cut, back and listening": (FINE, SignInGateFacts(cut=True, listening=True, opened_at=AGO), {}, {}),
    "cut, back and not restarted": (replace(SHUT, stale=True), SignInGateFacts(cut=True), {}, {}),
    "cut, out of reach": (replace(SHUT, controllable=False), SignInGateFacts(cut=True), {}, {}),
}


@pytest.mark.parametrize("name", LEARNING)
def test_what_is_learnt(name: str) -> None:
    seen, before, fields, expected = LEARNING[name]
    assert changed(seen, before, **fields) == expected


# ------------------------------------------------------------------ findings

SAID: Mapping[str, tuple[SeenDoor, SignInGateFacts, tuple[bool | None, str], tuple[bool | None, str]]] = {
    "proven": (FINE, PROVEN, (True, "Proven"), (True, "Answers")),
    "just proven": (replace(FINE, outside=GOOD, whole=True), OPENED, (True, "Proven"), (True, "Answers")),
    "not proven yet": (FINE, OPENED, (None, "Proving"), (None, "NotAsked")),
    "shut": (SHUT, SignInGateFacts(), (None, "DoorShut"), (False, "DoorShut")),
    "shut because it was open": (SHUT, SignInGateFacts(let_in="inside"), (False, "SeenOpen"), (False, "DoorShut")),
    "open": (replace(FINE, inner=OPEN), PROVEN, (False, "SeenOpen"), (True, "Answers")),
    "open from outside": (replace(FINE, outside=OPEN), PROVEN, (False, "SeenOpen"), (True, "Answers")),
    "proven, the way to it broken": (replace(FINE, outside=DEAD), PROVEN, (True, "Proven"), (False, "GridRouting")),
    "known to be broken, and shut for it": (
        SHUT,
        SignInGateFacts(public=False, trouble="GridRouting", shuts=1, shut_at=AGO),
        (None, "DoorShut"),
        (False, "GridRouting"),
    ),
    "silent on both sides": (
        replace(FINE, outside=DEAD, inner=DEAD, loopback=DEAD),
        PROVEN,
        (None, "Proving"),
        (None, "NoAnswer"),
    ),
    "out of reach": (
        SeenDoor(NOW, False, DIGEST, outside=DEAD),
        PROVEN,
        (None, "MachineOutOfReach"),
        (None, "NoAnswer"),
    ),
    "cut": (
        SeenDoor(NOW, False, DIGEST, outside=DEAD),
        SignInGateFacts(cut=True),
        (None, "DoorCut"),
        (None, "NoAnswer"),
    ),
}


def said(seen: SeenDoor, gate: SignInGateFacts, given: Facts | None = None) -> dict[str, Finding]:
    found = STEP.findings(DESIRED, seen, given or some_facts(gate))
    return {each.type: each for each in found}


@pytest.mark.parametrize("name", SAID)
def test_what_is_said(name: str) -> None:
    seen, gate, protected, public = SAID[name]
    found = said(seen, gate)
    assert (found["SignInProtected"].status, found["SignInProtected"].reason) == protected
    assert (found["PublicReachable"].status, found["PublicReachable"].reason) == public


@pytest.mark.parametrize(("inner", "status"), [(GOOD, True), (OPEN, False), (DEAD, None)])
def test_the_inner_side_is_said_also_when_it_is_only_reported(inner: SideProof, status: bool | None) -> None:
    given = some_facts(PROVEN, **REPORT)
    found = said(replace(FINE, inner=inner), PROVEN, given)
    assert found["InnerProtected"].status is status
    assert found["SignInProtected"].status is True


def test_every_question_of_the_machine_is_answered_by_its_own_side() -> None:
    asked = demands(FQDN, DESIRED)
    assert len({(each.host, each.path) for each in asked}) == len(asked)


@pytest.mark.parametrize("gone", ["machine", "gateway", "sign_in_app"])
async def test_what_was_forgotten_meanwhile_ends_the_turn_and_plans_nothing(gone: str) -> None:
    """Another step's turn found its object gone; a plan for a new machine would be wrong here."""
    with pytest.raises(Transient) as caught:
        await see(World(machine()), without=(gone,))
    assert caught.value.reason == "FactsForgotten"
