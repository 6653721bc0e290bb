"""What became of a revision, as a table of who stands where; and that an intake writes it down."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.intake import Revision, take_in
from controller.records import (
    Commit,
    Condition,
    Phase,
    PutCondition,
    PutRevision,
    PutSource,
    PutTester,
    RevisionRecord,
    RevisionState,
    SourceState,
    Status,
    TesterRecord,
)
from controller.revisions import FAILING_FOR, judged, newest_judged, revision_had
from controller.store import Store
from specs.desired import DesiredTester
from specs.loading import load_folder
from specs.tester import Paused
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import NOON, a_tester
from tests.controller.test_intake import fleet, write_tester

RECORD = RevisionRecord("abc", "git https://forge.test/fleet.git main", NOON)
SOURCE = SourceState(RECORD.source, "abc", NOON, True)
A_DAY = timedelta(days=1)
SINCE = NOON - timedelta(hours=2)


def at_rest(name: str, phase: Phase, observed: int = 1) -> TesterRecord:
    return replace(a_tester(name=name), phase=phase, generation=1, observed_generation=observed)


def why(name: str, message: str, since: timedelta = timedelta(hours=2)) -> Condition:
    return Condition(name, "Ready", Status.FALSE, "Waiting", message, 1, NOON - since)


def paused(name: str, phase: Phase, until: timedelta, **more: Any) -> TesterRecord:
    record = at_rest(name, phase)
    pause = Paused(reason="demo", by="mik", until=(NOON + until).date())
    return replace(record, desired=record.desired.model_copy(update={"paused": pause}), **more)


ALICE, BOB = at_rest("alice", Phase.READY), at_rest("bob", Phase.READY)


STANDINGS: list[tuple[list[TesterRecord], RevisionState, str]] = [
    ([], RevisionState.SUCCESS, "0/0 testers ready"),
    ([ALICE, BOB], RevisionState.SUCCESS, "2/2 testers ready"),
    ([ALICE, at_rest("bob", Phase.READY, observed=0)], RevisionState.PENDING, "1/2 testers ready"),
    ([ALICE, at_rest("bob", Phase.WAITING)], RevisionState.PENDING, "1/2 testers ready"),
    ([ALICE, at_rest("bob", Phase.REMOVING)], RevisionState.PENDING, "1/2 testers ready"),
    ([ALICE, paused("bob", Phase.PAUSED, A_DAY)], RevisionState.SUCCESS, "1/1 testers ready"),
    ([ALICE, paused("bob", Phase.PENDING, A_DAY)], RevisionState.SUCCESS, "1/1 testers ready"),
    ([ALICE, paused("bob", Phase.STALLED, A_DAY)], RevisionState.SUCCESS, "1/1 testers ready"),
    ([ALICE, paused("bob", Phase.PAUSED, -A_DAY)], RevisionState.PENDING, "1/2 testers ready"),
    ([ALICE, at_rest("bob", Phase.PAUSED, observed=0)], RevisionState.PENDING, "1/2 testers ready"),
    ([ALICE, paused("bob", Phase.PAUSED, A_DAY, removed_at=NOON)], RevisionState.PENDING, "1/2 testers ready"),
    ([ALICE, at_rest("bob", Phase.EXPIRED)], RevisionState.SUCCESS, "1/1 testers ready"),
    ([ALICE, at_rest("bob", Phase.STALLED)], RevisionState.FAILURE, "1/2 testers ready; bob: no room"),
    ([ALICE, at_rest("bob", Phase.FAILING)], RevisionState.FAILURE, "1/2 testers ready; bob: no room"),
]


@pytest.mark.parametrize(("testers", "state", "text"), STANDINGS)
def test_a_revision_is_as_far_as_its_testers(testers: list[TesterRecord], state: RevisionState, text: str) -> None:
    found = judged(RECORD, SOURCE, testers, {"bob": why("bob", "no room")}, NOON)
    assert (found.state, found.text) == (state, text)


@pytest.mark.parametrize(("testers", "state", "text"), STANDINGS)
async def test_the_books_tell_as_much_without_what_is_wanted_of_everybody(
    store: Store, testers: list[TesterRecord], state: RevisionState, text: str
) -> None:
    named = [replace(each, uid=each.name, desired=with_words(each.desired)) for each in testers]
    await store.write(PutSource(SOURCE), PutRevision(RECORD), *(PutTester(each) for each in named))
    await store.write(PutCondition(why("bob", "no room")))
    (found,) = await newest_judged(store, 5, NOON)
    assert (found.state, found.text) == (state, text)


def with_words(desired: DesiredTester) -> DesiredTester:
    """Who only writes of a pause has none."""
    account = desired.account.model_copy(update={"full_name": 'Alice "paused":{'})
    return desired.model_copy(update={"account": account})


def test_what_fails_may_mend_itself_first() -> None:
    testers = [ALICE, at_rest("bob", Phase.FAILING)]
    short, long = FAILING_FOR - timedelta(seconds=1), FAILING_FOR
    assert judged(RECORD, SOURCE, testers, {"bob": why("bob", "x", short)}, NOON).state is RevisionState.PENDING
    assert judged(RECORD, SOURCE, testers, {"bob": why("bob", "x", long)}, NOON).state is RevisionState.FAILURE


def test_the_first_of_many_are_named() -> None:
    stuck = [at_rest(name, Phase.STALLED) for name in ("amy", "ben", "cid", "dan", "eve")]
    found = judged(RECORD, SOURCE, stuck, {}, NOON)
    assert found.text == (
        "0/5 testers ready; amy: not looked at yet; ben: not looked at yet; cid: not looked at yet (and 2 more)"
    )


def test_a_broken_file_or_a_brake_is_a_failure_whoever_is_ready() -> None:
    broken = replace(RECORD, errors=("bob.yaml:3:1: bad",))
    assert judged(broken, SOURCE, [ALICE], {}, NOON).text == "bob.yaml:3:1: bad"
    held = judged(RECORD, replace(SOURCE, held=("alice", "bob")), [ALICE, BOB], {}, NOON)
    assert (held.state, held.text) == (RevisionState.FAILURE, "2 removals are held back (TooManyRemovals)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "fleet"
    found.mkdir()
    fleet(found)
    write_tester(found, "alice")
    return found


async def take(folder: Path, store: Store, clock: ManualClock, sha: str, *, rewrites: str = "") -> None:
    loaded = load_folder(folder, clock.now().date(), frozenset(r.name for r in await store.testers()))
    commit = Commit(sha, "Mik", f"change {sha}", NOON)
    await take_in(Revision("git", sha, loaded, commit, rewrites), store, clock, random.Random(1))


async def test_an_intake_writes_down_whose_revision_it_was_and_whom_it_changed(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    await take(folder, store, clock, "one")
    write_tester(folder, "bob")
    clock.pass_by(timedelta(minutes=1))
    await take(folder, store, clock, "two")
    two, one = await store.revisions()
    assert (one.revision, one.author, one.subject, one.changed) == ("one", "Mik", "change one", ("alice",))
    assert (two.revision, two.changed, two.committed_at) == ("two", ("bob",), NOON)


async def test_the_same_revision_again_writes_nothing_and_one_that_comes_back_is_the_newest(
    folder: Path, store: Store, clock: ManualClock
) -> None:
    await take(folder, store, clock, "one")
    commits = store.commits
    await take(folder, store, clock, "one")
    assert store.commits == commits
    clock.pass_by(timedelta(minutes=1))
    await take(folder, store, clock, "two")
    clock.pass_by(timedelta(minutes=1))
    await take(folder, store, clock, "one", rewrites="two")
    assert [each.revision for each in await store.revisions()] == ["one", "two"]
    assert [event.message for event in await store.events("") if event.reason == "SourceRewritten"] == [
        "history was rewritten: one does not follow two"
    ]


async def test_only_the_newest_revisions_are_kept(store: Store) -> None:
    from controller.records import PutRevision
    from controller.store.tables import MOST_REVISIONS

    records = [
        replace(RECORD, revision=f"{number}", read_at=NOON + timedelta(minutes=number))
        for number in range(MOST_REVISIONS + 3)
    ]
    await store.write(*map(PutRevision, records))
    kept = await store.revisions(limit=1000)
    assert kept == tuple(reversed(records))[:MOST_REVISIONS]


@pytest.mark.parametrize(
    ("generation", "observed", "had"),
    [
        (3, 3, "r3"),  # it is as it should be
        (3, 2, "r2"),
        (3, 1, "r1"),
        (3, 0, ""),  # never looked at
        (9, 1, ""),  # longer ago than is known
    ],
)
def test_the_revision_that_a_tester_has(generation: int, observed: int, had: str) -> None:
    def brought(revision: str, *changed: str) -> RevisionRecord:
        return replace(RECORD, revision=revision, changed=changed)

    newest = [brought("r4", "bob"), brought("r3", "alice"), brought("r2", "bob", "alice"), brought("r1", "alice")]
    record = replace(a_tester(name="alice"), generation=generation, observed_generation=observed, revision="r3")
    assert revision_had(record, newest) == had
