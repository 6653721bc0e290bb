"""A verdict on a revision is told once, again when it changes, later when it could not be, a few times when it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from controller.records import (
    Phase,
    PutRevision,
    PutSource,
    PutTester,
    RevisionRecord,
    RevisionState,
    SetStatus,
    SourceState,
)
from controller.store import Store
from controller.telling.publishing import COUNTS_EVERY, RETRY, Publisher
from reconcilers.errors import OutsideError, Rejected, Transient
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import NOON, a_tester

SECOND = timedelta(seconds=1)


@dataclass
class Forge:
    """Remembers what it was told; `fails` is raised instead."""

    told: list[tuple[str, str, str]] = field(default_factory=list)
    fails: OutsideError | None = None
    asked: int = 0
    meanwhile: Callable[[], Awaitable[None]] | None = None  # happens while it is told something

    async def tell(self, record: RevisionRecord) -> bool:
        self.asked += 1
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.fails is not None:
            raise self.fails
        self.told.append((record.revision, str(record.state), record.text))
        return True


@pytest.fixture
def forge() -> Forge:
    return Forge()


@pytest.fixture
async def publisher(store: Store, clock: ManualClock, forge: Forge) -> Publisher:
    await in_force(store, "one", NOON)
    await store.write(PutTester(a_tester()))
    return Publisher(store, clock, forge.tell)


async def in_force(store: Store, revision: str, read_at: object) -> None:
    source = SourceState("git", revision, NOON, True)
    await store.write(PutSource(source), PutRevision(RevisionRecord(revision, "git", read_at)))  # type: ignore[arg-type]


async def comes_to(store: Store, phase: Phase) -> None:
    record = a_tester()
    await store.write(SetStatus(record.name, phase, 100, "", record.generation, None))


async def test_pending_then_success_each_told_once(store: Store, publisher: Publisher, forge: Forge) -> None:
    await publisher.look()
    await publisher.look()
    await comes_to(store, Phase.READY)
    await publisher.look()
    await publisher.look()
    assert forge.told == [("one", "pending", "0/1 testers ready"), ("one", "success", "1/1 testers ready")]
    assert (await store.revisions())[0].state is RevisionState.SUCCESS


async def test_what_happens_while_forge_is_told_something_is_told_next(
    store: Store, publisher: Publisher, forge: Forge
) -> None:
    """Forge takes its time to hear of `pending`; the last tester is Ready meanwhile, and nothing is written after that."""

    async def ready() -> None:
        forge.meanwhile = None
        await comes_to(store, Phase.READY)

    forge.meanwhile = ready
    for _ in range(3):
        await publisher.look()
    assert forge.told == [("one", "pending", "0/1 testers ready"), ("one", "success", "1/1 testers ready")]


async def test_nothing_is_asked_or_written_while_nothing_happens(
    store: Store, publisher: Publisher, forge: Forge
) -> None:
    await publisher.look()
    commits, asked = store.commits, forge.asked
    for _ in range(5):
        await publisher.look()
    assert (store.commits, forge.asked) == (commits, asked)


async def test_what_was_told_before_a_restart_is_not_told_again(
    store: Store, publisher: Publisher, forge: Forge, clock: ManualClock
) -> None:
    await publisher.look()
    await Publisher(store, clock, forge.tell).look()
    assert len(forge.told) == 1


async def test_who_cannot_be_told_now_is_told_later(
    store: Store, publisher: Publisher, forge: Forge, clock: ManualClock
) -> None:
    forge.fails = Transient("it is down", system="forge")
    await publisher.look()
    await comes_to(store, Phase.READY)
    await publisher.look()
    assert forge.asked == 1  # not at every change while it is down
    forge.fails = None
    clock.pass_by(RETRY)
    await publisher.look()
    assert forge.told == [("one", "success", "1/1 testers ready")]


async def test_a_refused_verdict_is_offered_a_few_times_more_and_the_next_one_at_once(
    store: Store, publisher: Publisher, forge: Forge, clock: ManualClock
) -> None:
    """Forge may know a commit a little later than its repository does; one that it never knows is given up."""
    forge.fails = Rejected("no such commit", system="forge", reason="CommitUnknown")
    asked = []
    for minute in range(60):
        before = forge.asked
        await publisher.look()
        asked += [minute] * (forge.asked - before)
        clock.pass_by(RETRY)
    assert asked == [0, 1, 3, 7, 15]
    await store.write(PutTester(replace(a_tester(), name="bob", uid="b0b000")))
    forge.fails = None
    await publisher.look()
    assert forge.told == [("one", "pending", "0/2 testers ready")]


async def test_a_commit_that_forge_comes_to_know_gets_its_verdict(
    publisher: Publisher, forge: Forge, clock: ManualClock
) -> None:
    forge.fails = Rejected("no such commit", system="forge", reason="CommitUnknown")
    await publisher.look()
    forge.fails = None
    await publisher.look()
    assert forge.told == []
    clock.pass_by(RETRY)
    await publisher.look()
    assert forge.told == [("one", "pending", "0/1 testers ready")]


async def test_a_newer_revision_ends_the_older_ones_wait(store: Store, publisher: Publisher, forge: Forge) -> None:
    await publisher.look()
    await in_force(store, "two", NOON + SECOND)
    await publisher.look()
    assert forge.told[1:] == [
        ("one", "warning", "superseded by two: 0/1 testers ready"),
        ("two", "pending", "0/1 testers ready"),
    ]
    await comes_to(store, Phase.READY)
    await publisher.look()
    assert forge.told[3:] == [("two", "success", "1/1 testers ready")]


async def test_counts_are_told_now_and_then_and_the_end_at_once(
    store: Store, publisher: Publisher, forge: Forge, clock: ManualClock
) -> None:
    others = [replace(a_tester(), name=name, uid=f"{name}00") for name in ("bob", "carol")]
    await store.write(*(PutTester(each) for each in others))
    await publisher.look()
    for each in others:
        await store.write(SetStatus(each.name, Phase.READY, 100, "", each.generation, None))
        await publisher.look()
    assert [text for _, _, text in forge.told] == ["0/3 testers ready"]
    clock.pass_by(COUNTS_EVERY)
    await publisher.look()
    assert [text for _, _, text in forge.told][1:] == ["2/3 testers ready"]
    await comes_to(store, Phase.READY)
    await publisher.look()
    assert forge.told[2:] == [("one", "success", "3/3 testers ready")]
