"""The queue: keyed, deduplicating, delayed, prioritised, ageing; and nobody is worked on twice at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from controller.queue import Queue, Urgency
from tests.controller.fakes import ManualClock

SECOND = timedelta(seconds=1)


@pytest.fixture
def queue(clock: ManualClock) -> Queue:
    return Queue(clock)


async def drain(queue: Queue) -> list[str]:
    found = []
    while queue.depth():
        name = await queue.get()
        found.append(name)
        queue.done(name)
    return found


async def test_a_name_stands_in_it_once(queue: Queue) -> None:
    for _ in range(3):
        queue.add("alice")
    assert await drain(queue) == ["alice"]


async def test_added_again_it_keeps_the_earliest_time(queue: Queue, clock: ManualClock) -> None:
    queue.add("alice", SECOND * 5, Urgency.RESYNC)
    queue.add("alice", SECOND * 60, Urgency.RESYNC)
    clock.pass_by(SECOND * 5)
    assert await drain(queue) == ["alice"]
    clock.pass_by(SECOND * 60)
    assert await drain(queue) == []


async def test_nothing_is_handed_out_before_it_is_due(queue: Queue, clock: ManualClock) -> None:
    queue.add("alice", SECOND * 5)
    clock.pass_by(SECOND * 4)
    assert queue.depth() == 0
    clock.pass_by(SECOND)
    assert queue.depth() == 1


async def test_a_change_comes_before_a_failure_and_that_before_a_resync(queue: Queue) -> None:
    queue.add("resync", urgency=Urgency.RESYNC)
    queue.add("failing", urgency=Urgency.FAILING)
    queue.add("changed", urgency=Urgency.CHANGED)
    assert await drain(queue) == ["changed", "failing", "resync"]


async def test_who_has_waited_long_comes_after_three_fresh_changes(queue: Queue, clock: ManualClock) -> None:
    """So that thousands who have do not keep an edit waiting, and edits without end keep nobody from being looked at."""
    for name in ("r1", "r2", "r3"):
        queue.add(name, urgency=Urgency.RESYNC)
    clock.pass_by(SECOND * 61)
    for name in ("c1", "c2", "c3", "c4", "c5"):
        queue.add(name, urgency=Urgency.CHANGED)
    assert await drain(queue) == ["c1", "c2", "c3", "r1", "c4", "c5", "r2", "r3"]


async def test_who_has_waited_long_comes_before_others_that_are_more_urgent(queue: Queue, clock: ManualClock) -> None:
    queue.add("resync", urgency=Urgency.RESYNC)
    clock.pass_by(SECOND * 61)
    queue.add("failing", urgency=Urgency.FAILING)
    assert await drain(queue) == ["resync", "failing"]


async def test_places_are_kept_for_changes(queue: Queue) -> None:
    queue.others_at_once = 2
    for name in ("r1", "r2", "r3"):
        queue.add(name, urgency=Urgency.RESYNC)
    assert [await queue.get(), await queue.get()] == ["r1", "r2"]
    getting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    assert not getting.done()
    queue.add("changed")
    assert await getting == "changed"
    getting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    assert not getting.done()
    queue.done("changed")
    await asyncio.sleep(0)
    assert not getting.done(), "it had none of the others' places"
    queue.done("r2")
    assert await getting == "r3"


async def test_a_change_makes_a_waiting_resync_urgent(queue: Queue) -> None:
    queue.add("alice", urgency=Urgency.RESYNC)
    queue.add("bob", urgency=Urgency.FAILING)
    queue.add("alice", urgency=Urgency.CHANGED)
    assert await drain(queue) == ["alice", "bob"]


async def test_what_is_being_worked_on_waits_for_its_end(queue: Queue) -> None:
    queue.add("alice")
    assert await queue.get() == "alice"
    queue.add("alice")
    assert queue.depth() == 0
    assert queue.working == {"alice"}
    queue.done("alice")
    assert await drain(queue) == ["alice"]


async def test_what_is_changed_while_it_is_worked_on_is_in_haste_from_then_on(queue: Queue) -> None:
    for name in ("alice", "bob"):
        queue.add(name, urgency=Urgency.RESYNC)
        assert await queue.get() == name
    queue.add("alice", urgency=Urgency.FAILING)
    assert not queue.haste_of("alice").first
    queue.add("alice")
    assert [queue.haste_of(name).first for name in ("alice", "bob")] == [True, False]
    queue.done("alice")
    assert await queue.get() == "alice"
    assert queue.haste_of("alice").first


async def test_get_waits_for_the_next_name(queue: Queue) -> None:
    getting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    assert not getting.done()
    queue.add("alice")
    assert await getting == "alice"


async def test_get_waits_no_longer_than_until_who_comes_first(queue: Queue, clock: ManualClock) -> None:
    queue.add("alice", SECOND * 500)
    getting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("bob", SECOND * 600)
    await asyncio.sleep(0)
    assert not getting.done()
    clock.pass_by(SECOND * 501)
    queue.add("carol", SECOND * 600)
    assert await getting == "alice", "whoever is added, it is seen what time it is"
    getting = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    queue.add("dora")
    assert await getting == "dora"


async def test_who_was_due_before_those_who_are_there_comes_before_them(queue: Queue, clock: ManualClock) -> None:
    queue.add("alice")
    assert await queue.get() == "alice"
    clock.pass_by(SECOND)
    queue.add("alice", urgency=Urgency.FAILING)
    for name in ("bob", "carol"):
        clock.pass_by(SECOND)
        queue.add(name, urgency=Urgency.FAILING)
    queue.done("alice")
    queue.add("dora", urgency=Urgency.FAILING)
    assert await drain(queue) == ["alice", "bob", "carol", "dora"]


async def test_a_discarded_name_is_not_handed_out_and_not_queued_again(queue: Queue) -> None:
    queue.add("alice")
    queue.add("bob")
    queue.discard("bob")
    assert await queue.get() == "alice"
    queue.add("alice")
    queue.discard("alice")
    queue.done("alice")
    assert await drain(queue) == []


async def test_a_clock_that_is_set_back_makes_nobody_wait_longer(queue: Queue, clock: ManualClock) -> None:
    queue.add("working")
    assert await queue.get() == "working"
    queue.add("working", SECOND * 20)
    queue.add("alice", SECOND * 10)
    queue.add("due")
    clock.pass_by(SECOND * 5)
    assert queue.depth() == 1
    clock.pass_by(timedelta(days=-1))
    assert queue.depth() == 1
    clock.pass_by(SECOND * 5)
    assert await drain(queue) == ["due", "alice"]
    queue.done("working")
    clock.pass_by(SECOND * 10)
    assert await drain(queue) == ["working"]


async def test_a_clock_that_is_put_forward_makes_everybody_due(queue: Queue, clock: ManualClock) -> None:
    queue.add("alice", timedelta(hours=5))
    clock.pass_by(timedelta(days=1))
    assert await drain(queue) == ["alice"]


async def test_nobody_is_handed_out_twice_at_once(queue: Queue) -> None:
    queue.add("alice")
    assert await queue.get() == "alice"
    queue.add("alice")
    assert queue.depth() == 0
    queue.done("alice")
    assert queue.depth() == 1


async def test_it_tells_how_it_stands(queue: Queue, clock: ManualClock) -> None:
    for name in ("alice", "bob", "carol"):
        queue.add(name)
    queue.add("later", SECOND * 500)
    clock.pass_by(SECOND * 10)
    assert (queue.standing().due, queue.standing().oldest_due) == (3, SECOND * 10)
    assert (queue.standing().handed_out, queue.standing().longest) == (SECOND * 10, None)
    assert await queue.get() == "alice"
    clock.pass_by(SECOND * 5)
    assert await queue.get() == "bob"
    clock.pass_by(SECOND)
    now = queue.standing()
    assert (now.due, now.oldest_due, now.later, now.working) == (1, SECOND * 16, 1, 2)
    assert (now.handed_out, now.longest) == (SECOND, ("alice", SECOND * 6))
    queue.done("alice")
    assert queue.standing().longest == ("bob", SECOND)


async def test_a_clock_that_is_set_back_makes_nothing_younger_than_new(queue: Queue, clock: ManualClock) -> None:
    queue.add("alice")
    queue.add("bob")
    await queue.get()
    clock.pass_by(SECOND * -3600)
    now = queue.standing()
    assert (now.due, now.oldest_due, now.handed_out, now.longest) == (1, SECOND * 0, SECOND * 0, ("alice", SECOND * 0))
