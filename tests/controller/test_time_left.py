"""Estimates through the engine: what three cold runs teach the fourth, and that a quiet tester stays quiet."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.estimates import Estimate, Outlook, Span
from controller.queries import Queries
from controller.records import Phase
from controller.store import Store
from controller.store.reading import CREATE
from reconcilers.actions import Wait
from reconcilers.errors import Blocked, Transient
from reconcilers.facts import Facts
from reconcilers.machine_plans import build
from tests.controller.fakes import FLEET, GRACE, FakeStep, ManualClock, Outside, Rig, a_tester, rig

LONG = timedelta(minutes=30)
NETWORK = Wait("NoAddressYet", "it finds its network", limit=LONG, blames="the grid")
CHAIN = Wait("SlowChain", "the gateway is being written to the chain", limit=LONG, blames="the grid")


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    gate = FakeStep("sign_in_gate", outside, needs=("machine",), leaves="access")
    gate.protected = True
    steps = [FakeStep("machine", outside), FakeStep("gateway", outside, needs=("machine",)), gate]
    made = rig(store, clock, steps, outside)
    await made.engine.adopt(FLEET)
    return made


async def begin(one: Rig, name: str) -> None:
    """A new tester's first pass: its machine and its gateway take their time."""
    one.steps["machine"].wait, one.steps["gateway"].wait = NETWORK, CHAIN
    await one.add(a_tester(name), added_at=one.clock.now(), changed_at=one.clock.now())
    await one.run_pass(name)


async def comes(one: Rig, step: str, name: str, after: float) -> None:
    one.clock.pass_by(seconds(after))
    one.steps[step].wait = None
    await one.run_pass(name)


async def cold_run(one: Rig, name: str, machine: float, gateway: float) -> None:
    await begin(one, name)
    await comes(one, "machine", name, machine)
    await comes(one, "gateway", name, gateway)


async def estimate_of(one: Rig, name: str) -> Estimate | None:
    detail = await Queries(one.store).tester(name)
    assert detail is not None
    assert detail.summary in await Queries(one.store).testers()
    return detail.estimate


async def learn(one: Rig) -> None:
    for name, machine, gateway in (("ann", 60, 30), ("bob", 80, 40), ("cid", 100, 50)):
        await cold_run(one, name, machine, gateway)


async def test_three_cold_runs_give_the_fourth_an_estimate(one: Rig) -> None:
    await cold_run(one, "ann", 60, 30)
    await begin(one, "bob")
    unknown = await estimate_of(one, "bob")
    assert unknown is not None
    assert (unknown.outlook, unknown.runs) == (Outlook.UNKNOWN, 1)
    await comes(one, "machine", "bob", 80)
    await comes(one, "gateway", "bob", 40)
    await cold_run(one, "cid", 100, 50)
    assert [run.milestones for run in await one.store.runs()] == [
        {"Machine": 100, "Gateway": 150},
        {"Machine": 80, "Gateway": 120},
        {"Machine": 60, "Gateway": 90},
    ]

    await begin(one, "alice")
    one.clock.pass_by(seconds(20))
    told = await estimate_of(one, "alice")
    assert told is not None
    assert (told.outlook, told.after, told.left) == (Outlook.KNOWN, "", Span(seconds(70), seconds(130)))
    assert told.wait is not None
    assert (told.wait.type, told.wait.reason) == ("Machine", "NoAddressYet")
    assert told.wait.usual == Span(seconds(60), seconds(100))

    await comes(one, "machine", "alice", 50)
    told = await estimate_of(one, "alice")
    assert told is not None
    assert (told.after, told.left) == ("Machine", Span(seconds(30), seconds(50)))
    assert told.wait is not None
    assert told.wait.type == "Gateway"

    one.clock.pass_by(seconds(60))
    late = await estimate_of(one, "alice")
    assert late is not None
    assert (late.outlook, late.left, late.over) == (Outlook.SLOWER, None, seconds(10))

    await comes(one, "gateway", "alice", 0)
    assert await estimate_of(one, "alice") is None
    assert len(await one.store.runs()) == 4


async def test_a_settled_tester_writes_nothing_and_a_repair_teaches_nothing(one: Rig) -> None:
    await learn(one)
    await one.until_quiet("cid")
    commits = one.store.commits
    await one.run_pass("cid")
    assert one.store.commits == commits
    one.steps["gateway"].error = Transient("no route", system="the grid")
    await one.run_pass("cid")
    assert await estimate_of(one, "cid") is None
    one.steps["gateway"].error, one.steps["gateway"].wait = None, CHAIN
    one.clock.pass_by(timedelta(hours=1))
    await one.run_pass("cid")
    assert await estimate_of(one, "cid") is None  # it waits, and nobody knows how long repairs take
    await comes(one, "gateway", "cid", 10)
    assert await one.condition("Ready", "cid") == ("True", "Ready")
    assert len(await one.store.runs()) == 3


async def test_looking_at_an_estimate_writes_nothing_and_no_condition_holds_one(one: Rig) -> None:
    await learn(one)
    await begin(one, "alice")
    commits, before = one.store.commits, await one.store.conditions("alice")
    one.clock.pass_by(seconds(10))
    assert await estimate_of(one, "alice") is not None
    await one.run_pass("alice")  # it still waits: time alone is nothing to write down
    assert one.store.commits == commits
    assert await one.store.conditions("alice") == before


async def test_a_machine_made_anew_is_a_run_of_its_own(one: Rig) -> None:
    await learn(one)
    await one.until_quiet("cid")
    one.clock.pass_by(timedelta(days=3))
    del one.outside.things["machine-cid-1-1"]
    await one.run_pass("cid")
    assert await estimate_of(one, "cid") is None  # the listing may lag: nothing is made yet
    one.clock.pass_by(GRACE)
    one.steps["machine"].wait = NETWORK
    await one.run_pass("cid")
    assert "machine-cid-2-1" in one.outside.things
    told = await estimate_of(one, "cid")
    assert told is not None
    assert (told.since, told.left) == (one.clock.now(), Span(seconds(90), seconds(150)))
    await comes(one, "machine", "cid", 45)
    await one.run_pass("cid")
    newest, *_ = await one.store.runs()
    assert (newest.tester, newest.ready, newest.milestones) == ("cid", 45, {"Machine": 45})


async def test_who_stood_still_for_a_person_is_not_learnt_from(one: Rig) -> None:
    await learn(one)
    one.steps["machine"].error = Blocked("no room", system="the grid", reason="NoCapacity")
    await one.add(a_tester("alice"), added_at=one.clock.now(), changed_at=one.clock.now())
    await one.run_pass()
    assert await estimate_of(one, "alice") is None
    one.clock.pass_by(timedelta(days=2))
    one.steps["machine"].error, one.steps["machine"].wait = None, NETWORK
    await one.run_pass()
    record = await one.store.tester("alice")
    assert record is not None
    assert record.phase is Phase.WAITING
    told = await estimate_of(one, "alice")
    assert told is not None
    assert told.left == Span(seconds(90), seconds(150))
    await comes(one, "machine", "alice", 70)
    assert await one.condition("Ready") == ("True", "Ready")
    assert len(await one.store.runs()) == 3


def test_the_books_tell_a_machine_that_is_made_by_its_verb() -> None:
    assert build(a_tester("alice"), Facts(tester="alice", uid="x7k2p9", fleet=FLEET, steps={})).verb == CREATE
