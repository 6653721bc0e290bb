"""Passes as a whole: the graph, secrets that reach their users at once, pause, backoff, quiet, and what people read."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controller.passes.acting import Draining
from controller.passes.converging import Pass
from controller.passes.outcomes import Kind, StepOutcome, in_sync
from controller.records import Change, Outcome, PutCondition, PutTester, SetStatus, Severity
from controller.store import Store, StoreError
from reconcilers.actions import Action, Step, Wait
from reconcilers.backends.haste import HASTE, Haste
from reconcilers.errors import Blocked, OutcomeUnknown, Rejected, Transient
from reconcilers.facts import Facts
from tests.controller.fakes import (
    FLEET,
    FakeStep,
    ManualClock,
    Outside,
    Rig,
    RotatingStep,
    a_tester,
    failing,
    record_of,
    rig,
)

POLL = FLEET.spec.timing.poll


def gate_of(outside: Outside) -> FakeStep:
    gate = FakeStep("sign_in_gate", outside, needs=("gateway", "sign_in_app"), leaves="access", fixed_name="gate-alice")
    gate.watches = True
    gate.protected = True

    def wanted(facts: Facts) -> str:
        secret = facts.sealed("client_secret")
        return secret.text() if secret else "none"

    gate.wanted = wanted
    return gate


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    steps = [
        FakeStep("account", outside, leaves="access", fixed_name="Alice"),
        FakeStep("machine", outside, needs=("account",)),
        FakeStep("gateway", outside, needs=("machine",)),
        RotatingStep("sign_in_app", outside, needs=("gateway",), leaves="access"),
        gate_of(outside),
    ]
    made = rig(store, clock, steps, outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    return made


async def a_pass(one: Rig) -> Pass:
    books, world = await one.store.books("alice"), one.engine._world
    assert books is not None
    assert world is not None
    return Pass(books, {}, world, one.engine._bench, ())


async def test_a_cold_tester_converges_in_one_pass_along_the_graph(one: Rig) -> None:
    await one.run_pass()
    assert one.outside.calls == [
        "create Alice",
        "create machine-alice-1-1",
        "create gateway-alice-1-1",
        "create sign_in_app-alice-1-1",
        "create gate-alice",
    ]
    assert await one.condition("Ready") == ("True", "Ready")
    record = await one.store.tester("alice")
    assert record is not None
    assert (record.phase, record.progress, record.observed_generation) == ("Ready", 100, 1)


async def test_settled_means_quiet(one: Rig) -> None:
    await one.until_quiet()
    commits, calls = one.store.commits, list(one.outside.calls)
    for _ in range(5):
        one.clock.pass_by(timedelta(minutes=10))
        wait = await one.run_pass()
        assert wait is not None
        assert timedelta(minutes=8) <= wait <= timedelta(minutes=12)
    assert (one.store.commits, one.outside.calls) == (commits, calls)


async def test_a_rotated_secret_reaches_its_user_in_the_same_pass(one: Rig) -> None:
    await one.until_quiet()
    one.outside.things["sign_in_app-alice-1-1"]["value"] = "https://elsewhere"
    one.outside.calls.clear()
    await one.run_pass()
    assert one.outside.calls == ["rotate sign_in_app-alice-1-1", "change gate-alice"]
    app = one.outside.things["sign_in_app-alice-1-1"]
    assert one.outside.things["gate-alice"]["value"] == app["secret"]


async def test_a_rotation_whose_answer_was_lost_is_rotated_again(one: Rig) -> None:
    await one.until_quiet()
    one.outside.things["sign_in_app-alice-1-1"]["value"] = "https://elsewhere"
    one.outside.after.append(failing(OutcomeUnknown("cut", system="Forge")))
    one.outside.calls.clear()
    await one.run_pass()
    assert await one.store.sealed("alice/client_secret") is None
    one.clock.pass_by(POLL)
    await one.until_quiet()
    assert one.outside.calls.count("rotate sign_in_app-alice-1-1") == 2
    assert one.outside.things["gate-alice"]["value"] == one.outside.things["sign_in_app-alice-1-1"]["secret"]


async def test_nothing_is_rotated_while_the_machine_is_not_in_sync(one: Rig) -> None:
    await one.until_quiet()
    one.outside.things["sign_in_app-alice-1-1"]["value"] = "https://elsewhere"
    one.steps["machine"].error = Transient("no route", system="the grid")
    one.outside.calls.clear()
    await one.run_pass()
    assert one.outside.calls == []
    assert await one.condition("SignInApp") == ("False", "WaitsForStep")


async def test_a_failing_step_does_not_hold_up_those_whose_facts_are_known(one: Rig) -> None:
    await one.until_quiet()
    one.steps["account"].error = Transient("Forge is down", system="Forge")
    one.outside.things["gateway-alice-1-1"]["value"] = "wrong"
    one.outside.calls.clear()
    await one.run_pass()
    assert one.outside.calls == ["change gateway-alice-1-1"]
    assert await one.condition("Account") == ("False", "Transient")
    assert await one.condition("Gateway") == ("True", "InSync")


async def test_a_failing_step_is_left_alone_until_its_next_try_longer_and_longer(one: Rig) -> None:
    account = one.steps["account"]
    account.error = Transient("Forge is down", system="Forge")
    waits = []
    for _ in range(5):
        wait = await one.run_pass()
        assert wait is not None
        waits.append(wait)
        turns = account.turns
        one.clock.pass_by(wait / 2)
        await one.run_pass()
        assert account.turns == turns
        one.clock.pass_by(wait)
    assert all(later > earlier * 1.1 for earlier, later in itertools.pairwise(waits))
    assert await one.condition("Machine") == ("Unknown", "WaitsForStep")


async def test_a_changed_spec_ends_the_backoff(one: Rig) -> None:
    one.steps["account"].error = Transient("Forge is down", system="Forge")
    for _ in range(4):
        wait = await one.run_pass()
        one.clock.pass_by(wait or POLL)
    turns = one.steps["account"].turns
    await one.store.write(PutTester(record_of(a_tester("alice", allowlist=["bob"]), generation=2)))
    await one.run_pass()
    assert one.steps["account"].turns == turns + 1


async def test_the_door_is_watched_whatever_its_backoff(one: Rig) -> None:
    await one.until_quiet()
    gate = one.steps["sign_in_gate"]
    gate.error = Transient("no answer", system="the machine")
    await one.run_pass()
    turns = gate.turns
    await one.run_pass()
    assert gate.turns == turns + 1


async def test_ready_needs_the_proof_of_the_door(one: Rig) -> None:
    one.steps["sign_in_gate"].protected = False
    await one.until_quiet()
    assert await one.condition("Ready") == ("False", "Probed")
    one.steps["sign_in_gate"].protected = None
    await one.run_pass()
    assert await one.condition("Ready") == ("False", "Unproven")


async def test_a_paused_tester_is_watched_and_not_changed(one: Rig) -> None:
    await one.until_quiet()
    pause = {"reason": "demo on Friday", "by": "mik", "until": "2026-12-05"}
    await one.store.write(PutTester(record_of(a_tester("alice", paused=pause), generation=2)))
    one.outside.things["gateway-alice-1-1"]["value"] = "wrong"
    one.outside.calls.clear()
    await one.run_pass()
    assert one.outside.calls == []
    record = await one.store.tester("alice")
    assert record is not None
    assert record.phase == "Paused"
    assert await one.condition("Gateway") == ("Unknown", "Paused")
    one.clock.pass_by(timedelta(days=16))
    await one.run_pass()
    assert one.outside.calls == ["change gateway-alice-1-1"]


async def test_a_wait_that_takes_longer_than_its_limit_is_said_and_stalls(one: Rig) -> None:
    one.steps["machine"].wait = Wait("Starting", "it is starting", timedelta(minutes=5), "the grid")
    await one.run_pass()
    assert await one.condition("Machine") == ("False", "Starting")
    assert (await one.condition("Stalled"))[0] == "False"
    one.clock.pass_by(timedelta(minutes=6))
    await one.run_pass()
    assert await one.condition("Stalled") == ("True", "Starting")
    (machine,) = [c for c in await one.store.conditions("alice") if c.type == "Machine"]
    assert "longer than the 5 min" in machine.message


@pytest.mark.parametrize(
    ("error", "phase"),
    [
        (Blocked("an admin must act", system="Forge"), "Stalled"),
        (Rejected("no such image", system="the grid"), "Stalled"),
        (Transient("busy", system="the grid"), "Failing"),
        (OutcomeUnknown("cut", system="the grid"), "Failing"),
    ],
)
async def test_each_error_means_one_thing(one: Rig, error: Exception, phase: str) -> None:
    one.steps["machine"].error = error
    await one.run_pass()
    record = await one.store.tester("alice")
    assert record is not None
    assert record.phase == phase
    assert record.progress == 20


async def test_a_mistake_of_ours_is_an_unknown_and_its_text_is_not_told(one: Rig) -> None:
    one.outside.before.append(failing(RuntimeError("the password is hunter2")))
    await one.run_pass()
    told = [event.message for event in await one.store.events("alice")]
    assert any("RuntimeError" in text for text in told)
    assert not any("hunter2" in text for text in told)


async def test_actions_that_do_not_help_are_not_repeated_for_ever(one: Rig) -> None:
    await one.until_quiet()

    async def undo(action: Action) -> None:
        one.outside.things["gateway-alice-1-1"]["value"] = "wrong"

    one.outside.things["gateway-alice-1-1"]["value"] = "wrong"
    one.outside.after.extend([undo] * 20)
    one.outside.calls.clear()
    await one.run_pass()
    assert len(one.outside.calls) == 1
    assert await one.condition("Gateway") == ("False", "NotConverging")


async def test_drift_is_told_with_what_was_found_and_what_was_done(one: Rig) -> None:
    await one.until_quiet()
    one.outside.things["gateway-alice-1-1"]["value"] = "wrong"
    await one.run_pass()
    (event,) = [e for e in await one.store.events("alice") if e.reason == "DriftRepaired"]
    assert event.message == "drift: change gateway-alice-1-1 (value: wrong → right)"


async def test_what_could_not_wait_goes_first_and_is_a_warning_that_says_why(
    one: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    HASTE.set(haste := Haste())
    await one.until_quiet()
    gateway = one.steps["gateway"]
    plan = gateway.plan

    def at_once(*given: Any) -> tuple[Step, ...]:
        return tuple(
            replace(each, urgent=True, why="seen open") if isinstance(each, Action) else each for each in plan(*given)
        )

    monkeypatch.setattr(gateway, "plan", at_once)
    before = haste.first
    one.outside.things["gateway-alice-1-1"]["value"] = "wrong"
    await one.run_pass()
    assert (before, haste.first) == (False, True)
    (event,) = [e for e in await one.store.events("alice") if e.reason == "DriftRepaired"]
    assert event.message == "drift: change gateway-alice-1-1 (value: wrong → right): seen open"
    assert event.severity is Severity.WARNING


async def test_a_stopping_controller_begins_no_new_action(one: Rig) -> None:
    one.outside.before.append(failing(Transient("busy", system="Forge")))
    await one.engine.stop()
    with pytest.raises(Draining):
        await one.run_pass()
    assert one.outside.calls == []


async def test_a_stopping_controller_sees_the_calls_of_other_steps_to_their_end(
    store: Store, clock: ManualClock
) -> None:
    """Only what does not end in seconds is cut off, and unknown then."""
    outside, called, go_on = Outside(), asyncio.Event(), asyncio.Event()
    gateway = FakeStep("gateway", outside, fixed_name="cloud")
    one = rig(store, clock, [FakeStep("account", outside, fixed_name="Alice"), gateway], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))

    async def slow(action: Action) -> None:
        called.set()
        await go_on.wait()

    async def the_process_is_to_stop() -> None:
        await called.wait()
        await one.engine.stop()

    outside.before.append(slow)
    gateway.on_observe = the_process_is_to_stop
    running = asyncio.create_task(one.run_pass())
    await called.wait()
    for _ in range(50):
        await asyncio.sleep(0)
    assert not running.done()
    go_on.set()
    with pytest.raises(Draining):
        await running
    assert outside.calls == ["create Alice"]
    assert [entry.outcome for entry in await store.journal("alice")] == [Outcome.DONE]


async def test_a_tester_that_only_waits_writes_nothing(one: Rig) -> None:
    one.steps["machine"].wait = Wait("Starting", "it is starting", timedelta(minutes=5), "the grid")
    await one.run_pass()
    await one.run_pass()
    commits = one.store.commits
    for _ in range(5):
        one.clock.pass_by(POLL)
        await one.run_pass()
    assert one.store.commits == commits


async def test_a_tester_that_is_blocked_writes_nothing_until_something_changes(one: Rig) -> None:
    one.steps["gateway"].error = Blocked("an admin must act", system="the grid")
    for _ in range(3):
        await one.run_pass()
        one.clock.pass_by(timedelta(minutes=1))
    commits = one.store.commits
    for _ in range(5):
        one.clock.pass_by(timedelta(minutes=1))
        await one.run_pass()
    assert one.store.commits == commits


async def test_who_asks_how_a_step_ended_is_told_once_the_books_say_it(
    one: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it begins for that reason stands in the books behind the reason, also when the telling waits for another one."""
    running = await a_pass(one)
    go_on, written = asyncio.Event(), list[Change]()

    async def slow(*changes: Change) -> None:
        await go_on.wait()
        written.extend(changes)

    monkeypatch.setattr(one.store, "write", slow)
    for step in ("account", "machine"):
        running.turns.begin(step)
    ended = [
        asyncio.create_task(running.came_to(running.world.step(step), in_sync(step))) for step in ("account", "machine")
    ]
    asked = asyncio.create_task(running.outcome_of("machine"))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not asked.done()
    go_on.set()
    told = await asked
    assert told is not None
    assert told.kind is Kind.IN_SYNC
    assert [each.condition.type for each in written if isinstance(each, PutCondition)] == ["Account", "Machine"]
    assert [each.progress for each in written if isinstance(each, SetStatus)] == [20, 40]
    await asyncio.gather(*ended)


async def test_what_the_books_could_not_be_told_nobody_leans_on(one: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    running = await a_pass(one)

    async def refused(*changes: Change) -> None:
        await asyncio.sleep(0)
        if changes:
            raise StoreError("the disk is full")

    monkeypatch.setattr(one.store, "write", refused)
    running.turns.begin("account")
    asked = asyncio.create_task(running.outcome_of("account"))
    await asyncio.sleep(0)
    with pytest.raises(StoreError):
        await running.came_to(running.world.step("account"), in_sync("account"))
    with pytest.raises(StoreError):
        await asked


async def test_nobody_waits_for_a_turn_that_cannot_come(one: Rig) -> None:
    running = await a_pass(one)
    async with asyncio.timeout(20):
        assert await running.outcome_of("machine") is None, "the account's facts are not known"
    running.turns.begin("account")
    asked = asyncio.create_task(running.outcome_of("account"))
    await asyncio.sleep(0)
    assert not asked.done()
    await running.is_outdated()
    async with asyncio.timeout(20):
        assert await asked is None, "the spec has changed"


async def test_of_several_turns_each_is_told_and_the_last_one_holds(one: Rig) -> None:
    await one.until_quiet()
    running = await a_pass(one)
    account = running.world.step("account")
    before = await one.condition("Account")
    fails = StepOutcome("account", Kind.FAILING, "Transient", "busy", "Forge", did=1)
    for outcome, condition in (*[(fails, ("False", "Transient"))] * 2, (in_sync("account", did=2), before)):
        running.turns.begin("account")
        asked = asyncio.create_task(running.outcome_of("account"))
        await asyncio.sleep(0)
        assert not asked.done()
        await running.came_to(account, outcome)
        assert await one.condition("Account") == condition
        assert await asked is running.outcomes["account"]
        assert running.told["Account"].failures == (outcome is fails), "a pass is one try"
    assert (await one.told())[:2] == ["InSync", "Transient"]
    assert running.outcomes["account"].did == 4
