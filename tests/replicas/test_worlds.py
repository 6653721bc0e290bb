"""Whole replicas in virtual time: shared, taken over, stopped, cut off; the world notes each call that was begun too late."""

from __future__ import annotations

import os
import random
import sqlite3
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from tests.lessons.conftest import LEAN
from tests.replicas.team import Team, lived, team

pytestmark = pytest.mark.on_a_file  # which stands for a server whose locks are make-believe
CREATES = ("/api/v1/admin/users", "/oauth2", "deploy_vm", "deploy_webgateway")


def creates(w: Team) -> Counter[str]:
    return Counter(
        kind
        for entry in w.writes()
        for kind in CREATES
        if kind in entry.what and entry.status < 300 and entry.method == "POST"
    )


@pytest.mark.long
def test_three_share_the_testers_and_each_is_made_once(tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(6)]

    async def life() -> None:
        async with team(tmp_path, names, fleet=LEAN) as w:
            await w.until(lambda: w.is_shared, "shared", timedelta(minutes=1))
            await w.ready(*names, within=timedelta(minutes=20))
            assert creates(w) == dict.fromkeys(CREATES, 6)
            w.replicas[0].kill()
            await w.until(lambda: w.is_shared, "shared by two", timedelta(seconds=10))
            w.edit("t3", allowlist=["bob"])
            await w.ready(*names, within=timedelta(minutes=5))

    lived(life())


LEASE = timedelta(seconds=5)
SEEDS = range(int(os.environ.get("REPLICA_SEEDS", "3")))
TESTERS = int(os.environ.get("REPLICA_TESTERS", "20"))


async def something_befalls_somebody(w: Team, chance: random.Random) -> None:
    """One fault, for as long as it takes, and its end."""
    one = chance.choice(w.living)
    long = timedelta(seconds=chance.choice((1, 3, 4.5, 5.5, 8, 20)))
    match chance.randrange(5):
        case 0:
            one.kill()
            await w.run_for(long)
            await w.begin()
        case 1:
            one.pause()
            await w.run_for(long)
            one.go_on()
        case 2:
            one.cut_off()
            await w.run_for(long)
            one.mend()
        case 3:
            w.server.up = False
            w.server.restart()
            await w.run_for(long)
            w.server.up = True
        case _:
            await one.stop()
            await w.begin()
    await w.run_for(timedelta(seconds=chance.uniform(0, 20)))


async def all_is_well(w: Team, names: list[str]) -> None:
    """In the end everybody is Ready, was made once, and is looked after by somebody; no call was begun too late."""
    await w.until(lambda: w.is_shared, "shared by all", timedelta(minutes=2))
    await w.ready(*names, within=timedelta(hours=2))
    books = w.books()
    assert (books["vms"], books["gateways"], len(books["apps"])) == (len(names),) * 3
    assert sorted(books["made_accounts"]) == sorted(names)
    assert creates(w) == dict.fromkeys(CREATES, len(names))
    assert w.too_late == []
    assert await w.store.unfinished() == ()
    for name in names:
        w.edit(name, allowlist=["bob"])
    await w.ready(*names, within=timedelta(minutes=30))


@pytest.mark.parametrize("seed", [pytest.param(0), *(pytest.param(seed + 1, marks=pytest.mark.long) for seed in SEEDS)])
def test_whatever_befalls_replicas_every_tester_is_made_once_and_kept(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    names = [f"t{number}" for number in range(TESTERS if seed else 1)]

    async def life() -> None:
        async with team(tmp_path, names, seed=seed, fleet=LEAN) as w:
            await w.run_for(timedelta(seconds=chance.uniform(2, 30)))
            for _ in range(12 if seed else 5):
                await something_befalls_somebody(w, chance)
            await all_is_well(w, names)

    lived(life())


EXPANDED = """
UPDATE alembic_version SET version_num = '9999';
ALTER TABLE testers ADD COLUMN mood VARCHAR;
ALTER TABLE conditions ADD COLUMN colour VARCHAR NOT NULL DEFAULT 'grey';
CREATE TABLE moods (name VARCHAR PRIMARY KEY);
"""
"""What the first replica of a newer program does to the tables."""


@pytest.mark.long
def test_replicas_are_upgraded_one_by_one_and_an_old_one_may_start_again(tmp_path: Path) -> None:
    names = ["t0", "t1", "t2"]

    async def life() -> None:
        async with team(tmp_path, names, count=2, fleet=LEAN) as w:
            await w.run_for(timedelta(seconds=40))
            with sqlite3.connect(w.places.state / "controller.db") as books:
                books.executescript(EXPANDED)
            first, second = w.replicas
            first.kill()
            third = await w.begin()  # in these tests a newer program is the same one: it finds its own tables, and more
            await w.ready(*names, within=timedelta(minutes=20))
            await second.stop()
            await w.until(lambda: third.shards == frozenset(range(64)), "all at the new one", timedelta(seconds=10))
            w.edit("t1", allowlist=["bob"])
            await w.ready(*names, within=timedelta(minutes=5))
            assert creates(w) == dict.fromkeys(CREATES, 3)

    lived(life())
