"""Every fact has an age (law 11): when it was last seen to be so, and no commit for it (law 8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from controller.passes.outcomes import Kind, StepOutcome, in_sync
from controller.queries import KnownFacts, Queries, TesterDetail
from controller.records import Condition, PutTester, Status
from controller.sightings import Sightings
from controller.store import Store
from reconcilers.actions import Finding
from reconcilers.contract import TesterView
from reconcilers.errors import Transient
from reconcilers.facts import Facts, StepFacts
from reconcilers.looks import TesterLooks
from tests.controller.fakes import FLEET, START, FakeStep, ManualClock, Outside, Rig, Seen, a_tester, record_of, rig

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LISTING_MAY_BE = FLEET.spec.timing.look_age


class ListedStep(FakeStep):
    """Sees its thing in a listing that all testers share."""

    tells = True

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen | None:
        async def ask() -> None: ...

        looks._saw(await looks.shared.read("listing", looks.newer_than, ask, looks.max_age))
        return await super().observe(tester, looks)

    def learn(self, observed: Seen, facts: Facts) -> StepFacts | None:
        return super().learn(observed, facts) if self.tells else None


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    gate = FakeStep("sign_in_gate", outside, leaves="access", fixed_name="gate")
    gate.protected = True
    steps = [ListedStep("machine", outside), FakeStep("gateway", outside, needs=("machine",)), gate]
    made = rig(store, clock, steps, outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    await made.until_quiet()
    return made


async def told(one: Rig) -> TesterDetail:
    detail = await Queries(one.store, one.engine.sightings).tester("alice")
    assert detail is not None
    return detail


async def facts(one: Rig, step: str = "machine") -> KnownFacts:
    return next(known for known in (await told(one)).facts if known.facts.step == step)


async def test_what_is_as_it_was_is_seen_anew_without_a_commit(one: Rig) -> None:
    before, commits = await facts(one), one.store.commits
    for _ in range(3):
        one.clock.pass_by(10 * MINUTE)
        await one.run_pass()
        now = await facts(one)
        assert (now.changed_at, now.seen_at) == (before.changed_at, one.clock.now())
        detail = await told(one)
        assert detail.seen_at == dict.fromkeys((c.type for c in detail.conditions), one.clock.now())
        assert detail.summary.seen_at == one.clock.now()
        assert detail.summary.since is not None
        assert detail.summary.since < one.clock.now()
    assert one.store.commits == commits


async def test_it_is_as_old_as_the_look_that_it_rests_on(one: Rig) -> None:
    one.clock.pass_by(10 * MINUTE)
    await one.run_pass()
    taken = one.clock.now()
    one.clock.pass_by(LISTING_MAY_BE - SECOND)
    await one.run_pass()
    assert (await facts(one)).seen_at == taken, "the listing was not read again"
    assert (await facts(one, "gateway")).seen_at == one.clock.now(), "that was asked without a cache"
    detail = await told(one)
    assert (detail.seen_at["Machine"], detail.seen_at["Gateway"]) == (taken, one.clock.now())
    assert detail.summary.seen_at == taken, "Ready is as old as the oldest thing that it rests on"


async def test_while_nobody_can_look_the_facts_grow_old_and_the_failure_does_not(one: Rig) -> None:
    seen = (await facts(one)).seen_at
    one.clock.pass_by(10 * MINUTE)
    one.steps["machine"].error = Transient("502", system="the grid")
    await one.run_pass()
    assert (await facts(one)).seen_at == seen
    failed_at = one.clock.now()
    assert (await told(one)).seen_at["Machine"] == failed_at
    one.clock.pass_by(SECOND)  # its next try is not due: the gate alone is looked at
    await one.run_pass()
    detail = await told(one)
    assert detail.seen_at["Machine"] == failed_at
    assert detail.seen_at["SignInGate"] == detail.seen_at["SignInProtected"] == one.clock.now()
    assert detail.summary.seen_at == detail.seen_at["Ready"] == failed_at, "of the cause, which it names"


async def test_what_a_look_does_not_tell_was_not_seen(one: Rig) -> None:
    seen = (await facts(one)).seen_at
    step = one.steps["machine"]
    assert isinstance(step, ListedStep)
    step.tells = False
    one.clock.pass_by(10 * MINUTE)
    await one.run_pass()
    assert (await facts(one)).seen_at == seen
    assert (await told(one)).seen_at["Machine"] == one.clock.now()


async def test_what_was_not_looked_at_again_after_a_write_was_not_seen_after_it(one: Rig) -> None:
    known = (await facts(one)).seen_at
    (name,) = [name for name in one.outside.things if name.startswith("machine")]
    one.outside.things[name]["value"] = "drifted"

    async def cut_off_after_the_write() -> None:
        if "change " + name in one.outside.calls:
            raise Transient("502", system="the grid")

    one.steps["machine"].on_observe = cut_off_after_the_write
    one.clock.pass_by(10 * MINUTE)
    await one.run_pass()
    assert "change " + name in one.outside.calls
    assert (await facts(one)).seen_at == known


async def test_who_reads_the_books_alone_does_not_know(one: Rig) -> None:
    detail = await Queries(one.store).tester("alice")
    assert detail is not None
    assert set(detail.seen_at.values()) == {known.seen_at for known in detail.facts} == {None}
    assert detail.summary.seen_at is None
    assert all(known.changed_at <= one.clock.now() for known in detail.facts)


async def test_after_a_restart_nothing_is_known_until_it_was_looked_at(one: Rig) -> None:
    again = rig(one.store, one.clock, list(one.steps.values()), one.outside)
    await again.engine.adopt(FLEET)
    assert (await facts(again)).seen_at is None
    assert (await told(again)).summary.seen_at is None
    again.steps["gateway"].error = Transient("502", system="the grid")
    one.clock.pass_by(MINUTE)
    await again.run_pass()
    assert (await facts(again)).seen_at == one.clock.now()
    assert (await facts(again, "gateway")).seen_at is None


async def test_a_tester_that_is_no_more_leaves_nothing_behind(one: Rig) -> None:
    await one.store.write(PutTester(record_of(a_tester("alice"), removed_at=one.clock.now())))
    for _ in range(6):
        one.clock.pass_by(MINUTE)
        if await one.run_pass() is None:
            break
    assert await one.store.tester("alice") is None
    known = {"Machine": condition(START)}
    assert one.engine.sightings.of_conditions("alice", known) == {"Machine": None}
    assert one.engine.sightings.of_facts("alice", "machine", START) is None


def condition(since: datetime, kind: str = "Machine", reason: str = "InSync", message: str = "") -> Condition:
    return Condition("alice", kind, Status.TRUE, reason, message, 1, since)


def seen_at(sightings: Sightings, *known: Condition) -> dict[str, datetime | None]:
    return sightings.of_conditions("alice", {one.type: one for one in known})


def outcome(step: str, at: datetime | None, *findings: Finding) -> StepOutcome:
    return StepOutcome(step, Kind.IN_SYNC, "InSync", "", seen_at=at, findings=findings, learnt=True)


def test_what_was_written_down_after_the_pass_was_seen_then() -> None:
    sightings = Sightings()
    sightings.note("alice", [outcome("machine", START - SECOND)], START)
    assert sightings.of_facts("alice", "machine", START) == START - SECOND
    assert sightings.of_facts("alice", "machine", START + MINUTE) == START + MINUTE, "an operation's answer"
    assert seen_at(sightings, condition(START + MINUTE)) == {"Machine": START + MINUTE}


def test_what_a_pass_leaves_alone_is_as_old_as_the_rest_before_it() -> None:
    sightings, rested = Sightings(), START + MINUTE
    parts = [condition(START), condition(START, "Gateway")]
    sightings.rests("alice", START, START, (frozenset({"Machine"}), frozenset()))
    assert seen_at(sightings, *parts) == {"Machine": START, "Gateway": None}, "as when it came to rest, before a start"
    sightings.note("alice", [outcome("machine", START), outcome("gateway", START)], START)
    for _ in range(2):
        seen = tuple(map(frozenset, sightings.kinds("alice")))
        sightings.rests("alice", rested, rested, (seen[0], seen[1]))
        assert seen_at(sightings, *parts) == {"Machine": rested, "Gateway": rested}
    alone = replace(outcome("gateway", None), left_alone=True)
    sightings.note("alice", [outcome("machine", START + 2 * MINUTE), alone], START + 2 * MINUTE)
    assert seen_at(sightings, *parts) == {"Machine": START + 2 * MINUTE, "Gateway": rested}
    assert sightings.of_facts("alice", "gateway", START) == rested


def test_what_follows_from_one_condition_is_as_old_as_that_one() -> None:
    sightings = Sightings()
    sightings.note("alice", [outcome("machine", START - MINUTE), outcome("gateway", START)], START)
    parts = [condition(START), condition(START, "Gateway")]
    for kind in ("Ready", "Stalled"):
        caused = condition(START, kind, "NameTaken", "Gateway: the name is taken")
        assert seen_at(sightings, *parts, caused)[kind] == START
        assert seen_at(sightings, *parts, condition(START, kind))[kind] == START - MINUTE


def test_what_was_not_looked_at_has_no_age_and_ready_has_none_without_a_part_of_it() -> None:
    sightings = Sightings()
    finding = Finding("SignInProtected", True, "Proven", "")
    sightings.note("alice", [outcome("machine", START, finding), in_sync("gateway")], START + SECOND)
    ready = condition(START, "Ready", "Ready", "everything is as the spec says")
    known = [condition(START), condition(START, "Gateway"), condition(START, "SignInProtected"), ready]
    assert seen_at(sightings, *known)["Ready"] == START
    assert seen_at(sightings, *known)["Gateway"] == START + SECOND, "it speaks of the moment at which it was told"
    silent = condition(START, "SignInProtected", "NotLookedAt")
    assert seen_at(sightings, *known, silent) == {
        "Machine": START,
        "Gateway": START + SECOND,
        "SignInProtected": None,
        "Ready": None,
    }
    assert seen_at(sightings, *known, condition(START, "Welcome"))["Ready"] is None
