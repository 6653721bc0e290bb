"""What is learnt of the past: runs, bounded; and since when a tester's machine is being made."""

from __future__ import annotations

from dataclasses import replace

import pytest
from alembic import command
from sqlalchemy import URL, text

from controller.records import AddRun, DropTester, Phase, PutJournal, PutTester, Run, SetStatus
from controller.store import Store, migrations
from controller.store.address import normal
from controller.store.tables import MOST_RUNS
from tests.controller.store.samples import MINUTE, NOON, a_tester, an_entry

RUN = Run("alice", NOON, 150.25, {"Account": 3.5, "Machine": 70})


@pytest.fixture
def address(empty_database_url: str) -> URL:
    return normal(empty_database_url)


async def test_runs_come_back_as_they_were_added_newest_first_and_outlive_their_tester(store: Store) -> None:
    newer = replace(RUN, tester="bob", ready_at=NOON + MINUTE, milestones={})
    await store.write(PutTester(a_tester(removed_at=NOON)), AddRun(RUN), AddRun(newer))
    await store.write(DropTester("alice"))
    assert await store.runs() == (newer, RUN)


async def test_only_the_newest_runs_are_kept(store: Store, any_database_url: str) -> None:
    added = [replace(RUN, ready=float(number)) for number in range(MOST_RUNS + 5)]
    await store.write(*map(AddRun, added[:-3]))
    for run in added[-3:]:
        await store.write(AddRun(run))
    assert await store.runs() == tuple(reversed(added))[:MOST_RUNS]
    with migrations.migrating_engine(normal(any_database_url)).connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM runs")).scalar_one() == MOST_RUNS


async def test_a_status_says_when_it_was_ready_and_an_intake_leaves_that(store: Store) -> None:
    await store.write(PutTester(a_tester()))
    status = SetStatus("alice", Phase.READY, 100, "", 1, None, ready_at=NOON, interrupted_at=NOON + MINUTE)
    await store.write(status, PutTester(a_tester()))
    kept = await store.tester("alice")
    assert kept is not None
    assert (kept.ready_at, kept.interrupted_at) == (NOON, NOON + MINUTE)
    await store.write(PutTester(a_tester(uid="a1b2c3")))
    newcomer = await store.tester("alice")
    assert newcomer is not None
    assert (newcomer.ready_at, newcomer.interrupted_at) == (None, None)


async def test_a_machine_was_begun_with_its_first_create_since_the_tester_was_last_ready(store: Store) -> None:
    create = replace(an_entry(), verb="create")
    before = replace(create, id="namesake", began_at=NOON - MINUTE)
    others = [replace(create, id="e2", step="gateway"), replace(create, id="e3", verb="start")]
    await store.write(PutTester(a_tester()), PutTester(a_tester("bob")), *map(PutJournal, [before, *others]))
    assert await store.begun("machine", ["alice", "bob", "nobody"]) == {}
    first, second = (replace(create, id=f"c{n}", began_at=NOON + n * MINUTE) for n in (1, 2))
    await store.write(PutJournal(second), PutJournal(first))
    assert await store.begun("machine", ["alice", "bob"]) == {"alice": NOON + MINUTE}
    assert await store.begun("machine", ["bob"]) == await store.begun("machine", []) == {}
    ready_at = NOON + 1.5 * MINUTE
    await store.write(SetStatus("alice", Phase.READY, 100, "", 1, None, ready_at=ready_at))
    assert await store.begun("machine", ["alice"]) == {"alice": NOON + 2 * MINUTE}


def test_testers_from_before_the_runs_are_taken_to_have_been_ready(address: URL) -> None:
    """A repair of theirs must not be learnt from; who was never looked at has its first time before it."""
    migrations.upgrade(address)
    engine = migrations.migrating_engine(address)
    settings = migrations.config()
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.downgrade(settings, "0001")
        for name in ("alice", "bob"):
            connection.execute(
                text(
                    "INSERT INTO testers VALUES (:name, 'u', 1, '{}', '', '', 1, '', :at, :at, NULL, '', 0, 'Ready', 0, '', NULL)"
                ),
                {"name": name, "at": "2026-11-20 12:00:00+00:00"},
            )
        for kind, at in (("Ready", "2026-11-20 12:05:00+00:00"), ("Account", "2026-11-20 12:01:00+00:00")):
            connection.execute(
                text("INSERT INTO conditions VALUES ('alice', :kind, 'True', '', '', 1, :at, NULL, '', 0, NULL)"),
                {"kind": kind, "at": at},
            )
    migrations.upgrade(address)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT name, ready_at FROM testers ORDER BY name")).all()
    assert [name for name, _ in found] == ["alice", "bob"]
    assert "12:05" in str(found[0].ready_at)
    assert found[1].ready_at is None
