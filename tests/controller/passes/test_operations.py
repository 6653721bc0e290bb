"""Calls of minutes beside the passes: the Fleet changes, the tester is read just before they end, the store fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from controller.passes.operations import Operation, Operations
from controller.records import Change, Outcome, PutJournal
from controller.store import Store, StoreError
from reconcilers.actions import Action
from reconcilers.errors import NameTaken
from reconcilers.facts import ObjectState
from reconcilers.secret import Secret
from tests.controller.fakes import (
    FLEET,
    OTHER_FLEET,
    START,
    FakeStep,
    ManualClock,
    Outside,
    Rig,
    a_tester,
    rig,
)

LIMIT = timedelta(minutes=5)


class Held:
    """An operation that was begun and ends when the test says so."""

    def __init__(self, one: Rig, error: Exception | None = None) -> None:
        self.begun, self.end = asyncio.Event(), asyncio.Event()
        self.error = error
        one.outside.before.append(self.hold)

    async def hold(self, action: Action) -> None:
        self.begun.set()
        await self.end.wait()
        if self.error is not None:
            raise self.error


async def started(store: Store, clock: ManualClock, **more: Any) -> Rig:
    outside = Outside()
    made = rig(store, clock, [FakeStep("machine", outside, limit=LIMIT, **more)], outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    return made


async def ended(one: Rig) -> None:
    for operation in one.engine.operations.of("alice"):
        assert operation.task is not None
        await operation.task


async def test_a_new_fleet_does_not_close_the_clients_of_an_operation(store: Store, clock: ManualClock) -> None:
    one = await started(store, clock)
    held = Held(one)
    await one.engine.look("alice")
    await held.begun.wait()
    await one.engine.adopt(OTHER_FLEET)
    assert one.closed == []
    held.end.set()
    await ended(one)
    assert one.closed == ["sandbox"]
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.EXISTING)]


async def test_books_that_were_read_before_an_operation_ended_are_not_acted_upon(
    store: Store, clock: ManualClock
) -> None:
    one = await started(store, clock, fixed_name="cloud")
    held = Held(one, NameTaken("it is a stranger's", system="the grid"))
    await one.engine.look("alice")
    await held.begun.wait()
    one.outside.things["cloud"] = {"value": "right", "id": "of a stranger"}

    class EndsMeanwhile:
        async def resolve(self, refs: Iterable[str]) -> dict[str, Secret]:
            held.end.set()
            await ended(one)
            return {}

    references: Any = EndsMeanwhile()
    one.engine.references = references
    await one.engine.look("alice")
    assert await one.rows("machine") == [("cloud", ObjectState.GONE)]
    assert one.engine.queue.depth() == 1  # it was woken, and looks again with new books


async def test_a_store_that_fails_at_the_end_leaves_an_open_entry_and_a_row_that_is_found(
    store: Store, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    one = await started(store, clock)

    async def full(moment: str, changes: tuple[Change, ...]) -> None:
        if any(isinstance(c, PutJournal) and c.entry.outcome is not Outcome.BEGUN for c in changes):
            raise StoreError("the disk is full")

    store.hooks.append(full)
    held = Held(one)
    await one.engine.look("alice")
    held.end.set()
    await ended(one)
    store.hooks.clear()
    assert "machine-alice-1-1" in caplog.text
    assert [entry.outcome for entry in await store.unfinished()] == [Outcome.BEGUN]
    await one.until_quiet()
    assert one.outside.calls == ["create machine-alice-1-1"]
    assert await one.rows("machine") == [("machine-alice-1-1", ObjectState.EXISTING)]


async def test_the_end_of_an_operation_wakes_its_tester_whatever_it_was() -> None:
    woken: list[str] = []
    operations = Operations(woken.append)

    async def broken() -> None:
        raise RuntimeError("no")

    operation = Operation("alice", "machine", "create it", START, LIMIT)
    operations.start(operation, broken)
    assert operation.task is not None
    await operation.task
    assert woken == ["alice"]
    assert operations.of("alice") == []
    assert operations.take_failed("alice", "machine") == []


async def test_an_operation_that_is_cut_off_before_its_first_step_can_write_down_that_it_has_ended() -> None:
    woken: list[str] = []
    written: list[str] = []
    operations = Operations(woken.append)
    operation = Operation("alice", "machine", "create it", START, LIMIT)

    async def call() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            written.append(operation.cut)

    operations.start(operation, call)
    await operations.cut_off([operation], "the tester leaves")
    assert written == ["the tester leaves"]
    assert operations.of("alice") == []
    assert woken == ["alice"]
