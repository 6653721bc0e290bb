"""The engine as a whole: start, stop, a Fleet that changes, a store that fails. One pass at a time for each tester."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.in_use import last_good_fleet
from controller.intake import Revision
from controller.places import Places
from controller.queue import Urgency
from controller.records import Change, Outcome, PutCondition, PutFleet, PutJournal, SetStatus
from controller.running import Controller
from controller.store import Store, StoreError
from reconcilers.actions import Action
from reconcilers.backends.haste import HASTE
from reconcilers.backends.limits import Call, Gate
from reconcilers.clock import SystemClock
from reconcilers.errors import Blocked
from reconcilers.secret import Secret
from specs.fleet import Fleet
from specs.loading import Loaded, LoadedTester
from tests.controller.fakes import (
    FLEET,
    OTHER_FLEET,
    FakeStep,
    ManualClock,
    Outside,
    Rig,
    a_tester,
    failing,
    rig,
    until,
)


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    return rig(store, clock, [FakeStep("machine", outside)], outside)


@asynccontextmanager
async def running(one: Rig) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.ensure_future(one.engine.run())
    try:
        yield task
    finally:
        await one.engine.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def a_revision(*names: str, fleet: Fleet | None = FLEET) -> Revision:
    testers = {}
    for name in names:
        desired = a_tester(name)
        document: Any = None  # nobody but the loader looks at it
        testers[name] = LoadedTester(document, desired, f"{name}.yaml", 1, f"digest of {name}")
    return Revision("folder", f"r{'-'.join(names)}", Loaded(testers, fleet, (), {}, {}, readable=True))


async def test_what_a_revision_brings_is_made_and_stop_leaves_nothing_open(one: Rig) -> None:
    async with running(one):
        await one.engine.take_in(a_revision("alice", "bob"))
        await until(lambda: len(one.outside.things) == 2)
    assert set(one.outside.things) == {"machine-alice-1-1", "machine-bob-1-1"}
    assert await one.store.unfinished() == ()
    assert one.closed == ["sandbox"]


async def test_a_tester_has_one_pass_at_a_time_however_often_it_is_queued(one: Rig) -> None:
    at_once, most = 0, 0

    async def look() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        one.engine.queue.add("alice")
        for _ in range(5):
            await asyncio.sleep(0)
        at_once -= 1

    one.steps["machine"].on_observe = look
    async with running(one):
        await one.engine.take_in(a_revision("alice"))
        await until(lambda: one.engine.passes >= 5)
    assert most == 1


async def test_resyncs_begin_one_in_a_turn_of_the_loop_and_a_change_at_once(
    one: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds that begin at once would all have their work done before the next thing is heard of."""
    turn, begun = 0, dict[str, int]()

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def look(name: str) -> timedelta:
        begun[name] = turn
        return timedelta(hours=1)

    monkeypatch.setattr(one.engine, "look", look)
    counting = asyncio.ensure_future(count())
    async with running(one):
        await one.engine.adopt(FLEET)
        for number in range(40):
            one.engine.queue.add(f"r{number}", timedelta(0), Urgency.RESYNC)
        await until(lambda: bool(begun))
        for name in ("c0", "c1"):
            one.engine.queue.add(name)
        await until(lambda: len(begun) == 42)
    counting.cancel()
    resyncs = [at for name, at in begun.items() if name.startswith("r")]
    assert len(set(resyncs)) == 40
    assert begun["c0"] == begun["c1"]


async def test_after_stop_no_pass_is_begun(one: Rig) -> None:
    async with running(one) as task:
        await one.engine.take_in(a_revision("alice"))
        await until(lambda: one.engine.passes >= 1)
        await one.engine.stop()
        turns = one.steps["machine"].turns
        one.engine.queue.add("alice")
        await asyncio.wait([task], timeout=20)
        assert task.done()
        assert one.steps["machine"].turns == turns


async def test_a_call_that_hangs_at_the_end_is_cut_off_and_unknown(one: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.engine.DRAIN", timedelta(milliseconds=50))
    begun = asyncio.Event()

    async def hang(action: Action) -> None:
        begun.set()
        await asyncio.Event().wait()

    one.outside.before.append(hang)
    async with running(one):
        await one.engine.take_in(a_revision("alice"))
        await begun.wait()
        async with asyncio.timeout(20):
            await one.engine.stop()
    assert [entry.outcome for entry in await one.store.journal("alice")] == [Outcome.UNKNOWN]


async def test_a_crash_between_intent_and_answer_is_recovered_as_unknown(
    one: Rig, store: Store, clock: ManualClock
) -> None:
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))

    async def crash(moment: str, changes: tuple[Change, ...]) -> None:
        if any(isinstance(c, PutJournal) and c.entry.outcome is not Outcome.BEGUN for c in changes):
            raise StoreError("the process is gone")

    store.hooks.append(crash)
    with pytest.raises(StoreError):
        await one.run_pass()
    store.hooks.clear()
    again = rig(store, clock, list(one.steps.values()), one.outside)
    async with running(again):
        await until(lambda: len(again.engine.queue) > 0)
        assert await store.unfinished() == ()
    assert "OutcomeUnknown" in await one.told()
    assert one.outside.calls == ["create machine-alice-1-1"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Blocked("no token", system="secrets"), "no token"),
        (ValueError("hunter2 is no header"), "internal error (ValueError); the log has it"),
    ],
)
async def test_a_fleet_that_cannot_be_used_is_said_and_the_one_before_stays(
    one: Rig, caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    await one.engine.adopt(FLEET)
    world = one.engine.world

    def refuse(fleet: Fleet, secrets: dict[str, Secret]) -> Any:
        raise error

    one.engine._open_world = refuse
    await one.engine.adopt(OTHER_FLEET)
    await one.engine.adopt(OTHER_FLEET)
    assert one.engine.world is world
    assert [event.reason for event in await one.store.events("")] == ["FleetUnusable"]
    assert said in one.engine.world_error
    assert "hunter2" not in caplog.text + one.engine.world_error


async def test_the_old_clients_are_closed_when_the_last_pass_has_left_them(one: Rig) -> None:
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))

    async def change() -> None:
        await one.engine.adopt(OTHER_FLEET)
        assert one.closed == []

    one.steps["machine"].on_observe = change
    await one.run_pass()
    assert one.closed == ["sandbox"]


async def test_a_new_fleet_at_the_start_is_not_replaced_by_the_last_one(
    one: Rig, store: Store, clock: ManualClock
) -> None:
    await store.write(PutFleet(FLEET.model_dump_json(by_alias=True), "r0"))
    reading, go_on = asyncio.Event(), asyncio.Event()
    fleet_of = store.fleet

    async def slow() -> tuple[str, str] | None:
        known = await fleet_of()
        reading.set()
        await go_on.wait()
        return known

    store.fleet = slow  # type: ignore[method-assign]
    async with running(one):
        await reading.wait()
        store.fleet = fleet_of  # type: ignore[method-assign]
        taking = asyncio.ensure_future(one.engine.take_in(a_revision("alice", fleet=OTHER_FLEET)))
        await until(lambda: taking.done() or one.engine._adopting.locked())
        go_on.set()
        await taking
        await until(lambda: len(one.outside.things) == 1)
        assert one.engine.world is not None
        assert one.engine.world.fleet == OTHER_FLEET


async def test_a_last_fleet_that_is_not_understood_any_more_does_not_end_the_controller(one: Rig) -> None:
    await one.store.write(PutFleet('{"kind": "of old"}', "r0"))
    assert await last_good_fleet(one.store) is None


async def test_who_was_taken_in_is_looked_at_though_the_fleet_could_not_be_taken(one: Rig) -> None:
    class Broken:
        async def resolve(self, refs: object) -> dict[str, Secret]:
            raise StoreError("the disk is full")

    references: Any = Broken()
    one.engine.references = references
    with pytest.raises(StoreError):
        await one.engine.take_in(a_revision("alice"))
    assert one.engine.queue.depth() == 1


async def test_a_store_that_fails_in_a_pass_is_said_at_the_tester_and_the_pass_comes_again(one: Rig) -> None:
    async def full(moment: str, changes: tuple[Change, ...]) -> None:
        if any(isinstance(change, (PutCondition, SetStatus)) for change in changes):
            raise StoreError("The disk is full")

    one.store.hooks.append(full)
    async with running(one):
        await one.engine.take_in(a_revision("alice"))
        await until(lambda: one.engine.passes >= 1)
        one.store.hooks.clear()
        (event,) = [e for e in await one.store.events("alice") if e.reason == "StoreError"]
        assert "The disk is full" in event.message
        one.clock.pass_by(timedelta(minutes=1))
        one.engine.queue.add("alice")
        await until(lambda: one.engine.passes >= 2)
    assert await one.condition("Machine") == ("True", "InSync")
    assert one.outside.calls == ["create machine-alice-1-1"]


async def test_a_pass_that_breaks_comes_again_later_and_later(one: Rig) -> None:
    one.outside.before.extend([failing(asyncio.InvalidStateError("hunter2"))])
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    wait = await one.run_pass()
    assert wait is not None
    assert wait > timedelta(0)
    assert "hunter2" not in str(await one.store.events("alice"))


def failing_once(read: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    fails = [True]

    async def sometimes() -> Any:
        if fails:
            fails.pop()
            raise StoreError("locked")
        return await read()

    return sometimes


async def test_a_store_that_cannot_be_read_for_a_moment_does_not_end_the_controller(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.running.STORE_RETRY", timedelta(milliseconds=10))
    folder = tmp_path / "fleet"
    folder.mkdir()
    (folder / "x.yaml").write_text("kind: [")
    controller = Controller(Places(folder, tmp_path), store, SystemClock())
    taken: list[Revision] = []
    controller.listeners.append(lambda revision, _: taken.append(revision))
    for read in ("names", "heads"):
        monkeypatch.setattr(store, read, failing_once(getattr(store, read)))
    following = asyncio.ensure_future(controller._follow_source())
    await until(lambda: bool(taken) or following.done())
    assert taken
    assert not controller.stop.is_set()
    controller.stop.set()
    async with asyncio.timeout(20):
        await following


async def test_who_is_most_urgent_is_decided_when_a_pass_can_begin(one: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.engine.AT_ONCE", 1)
    await one.engine.adopt(FLEET)
    order: list[str] = []
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def noted(name: str) -> timedelta | None:
        order.append(name)
        begun.set()
        await go_on.wait()
        return None

    monkeypatch.setattr(one.engine, "look", noted)
    monkeypatch.setattr(one.engine, "look_at_first", _nobody)
    async with running(one), asyncio.timeout(20):
        one.engine.queue.add("alice")
        await begun.wait()
        one.engine.queue.add("bob", urgency=Urgency.RESYNC)
        for _ in range(10):
            await asyncio.sleep(0)  # all slots are busy
        assert one.engine.queue.working == {"alice"}
        one.engine.queue.add("carol", urgency=Urgency.CHANGED)
        go_on.set()
        await until(lambda: len(order) == 3)
    assert order == ["alice", "carol", "bob"]


async def test_what_a_change_asks_for_goes_first_at_the_gates_and_has_places_of_its_own(
    one: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.engine.AT_ONCE", 4)
    monkeypatch.setattr("controller.engine.FOR_CHANGES", 2)
    await one.engine.adopt(FLEET)
    first: dict[str, bool] = {}
    go_on = asyncio.Event()

    async def noted(name: str) -> timedelta | None:
        first[name] = HASTE.get().first
        await go_on.wait()
        return None

    monkeypatch.setattr(one.engine, "look", noted)
    monkeypatch.setattr(one.engine, "look_at_first", _nobody)
    async with running(one), asyncio.timeout(20):
        for number in range(3):
            one.engine.queue.add(f"r{number}", urgency=Urgency.RESYNC)
        await until(lambda: len(first) == 2)
        one.engine.queue.add("changed")
        await until(lambda: "changed" in first)
        assert len(first) == 3
        go_on.set()
        await until(lambda: len(first) == 4)
    assert {name for name, goes in first.items() if goes} == {"changed"}


async def test_who_is_changed_while_its_look_waits_at_a_gate_goes_first_there_and_is_looked_at_again_at_once(
    one: Rig, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one.engine.adopt(FLEET)
    gate, called = Gate("machines", clock, in_flight=1, per_second=1000), list[str]()
    answers = asyncio.Semaphore(0)
    names = [f"r{number}" for number in range(6)]

    async def look(name: str) -> timedelta:
        async with gate.passing(Call("machines", "look", writing=False)):
            called.append(name)
            await answers.acquire()
        return timedelta(hours=1)

    monkeypatch.setattr(one.engine, "look", look)
    monkeypatch.setattr(one.engine, "look_at_first", _nobody)
    async with running(one), asyncio.timeout(20):
        for name in names:
            one.engine.queue.add(name, urgency=Urgency.RESYNC)
        await until(lambda: one.engine.queue.working == set(names))
        assert called == ["r0"]
        one.engine.queue.add("r4")
        for number in range(7):
            await until(lambda: len(called) == number + 1)  # noqa: B023 - until is awaited here
            answers.release()
        await until(lambda: one.engine.passes == 7)
    assert called == ["r0", "r4", "r1", "r4", "r2", "r3", "r5"], "r1 had the place as r4's pass had ended"


async def _nobody(*_: object) -> None:
    pass


async def test_who_is_taken_away_as_its_pass_is_about_to_begin_is_looked_at_when_it_comes_back(
    one: Rig, store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that was stopped wakes up: passes are begun in the very turn of the loop in which it hears what it has lost."""
    queue = one.engine.queue
    handed_out = queue.urgency_of

    def lost_as_well(name: str) -> Urgency | None:
        asyncio.get_running_loop().call_soon(one.engine.drop, lambda each: True)
        return handed_out(name)

    monkeypatch.setattr(queue, "urgency_of", lost_as_well)
    async with running(one):
        await one.engine.take_in(a_revision("alice"))
        await until(lambda: not one.engine._tasks and "alice" not in queue)
        assert one.engine.passes == 0
        monkeypatch.setattr(queue, "urgency_of", handed_out)
        queue.add("alice")
        await until(lambda: one.engine.passes == 1)
