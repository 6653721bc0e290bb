"""Three real replicas under faults, on a real PostgreSQL: killed, stopped, cut off, and the server itself started again.

Every tester is made once and comes up, nobody is forgotten, and no call is begun by a replica that the database has taken the
tester from. `REPLICA_TESTERS=200` is the size of the issue; some of them show the same in a minute or two.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url

from controller.replicas.shares import Rhythm
from tests.e2e.rig import FEW
from tests.postgres import Postgres
from tests.replicas.fleet import Replicas, replicas_of
from tests.replicas.relay import Relay, relay

TESTERS = int(os.environ.get("REPLICA_TESTERS", "12"))
LIMIT = 180 + 30.0 * TESTERS
RHYTHM = Rhythm(lease=timedelta(seconds=8), margin=timedelta(seconds=2))  # six processes and a world on a core or two
AT_LEISURE = {"resync": "20s", "poll": "500ms", "lookAge": "1s"}
LONGER = RHYTHM.lease.total_seconds() + 3
CREATES = ("/api/v1/admin/users", "/api/v1/user/applications/oauth2", "deploy_vm", "deploy_webgateway")


def made(fleet: Replicas) -> Counter[str]:
    """How many of each kind the world has had made, from the beginning on."""
    done = [
        entry for entry in fleet.world.log.writes() if entry.status < 300 and entry.method not in ("PATCH", "DELETE")
    ]
    return Counter(kind for entry in done for kind in CREATES if kind in f"{entry.method} {entry.what}")


async def a_moment(fleet: Replicas, chance: random.Random) -> None:
    """Until some more calls have been made: whatever befalls somebody next, it is in the middle of something."""
    before, wanted = len(fleet.world.log), chance.randint(5, 40)
    try:
        async with asyncio.timeout(10):
            while len(fleet.world.log) < before + wanted:  # noqa: ASYNC110 - it is about other processes
                await asyncio.sleep(0.02)
    except TimeoutError:
        return


async def all_befalls_them(fleet: Replicas, postgres: Postgres, cut: Relay, url: str) -> None:
    chance = random.Random(TESTERS)
    first, second, far = fleet.all
    await a_moment(fleet, chance)
    first.send(signal.SIGKILL)
    await a_moment(fleet, chance)
    third = await fleet.begin()
    await a_moment(fleet, chance)
    second.send(signal.SIGSTOP)
    await asyncio.sleep(LONGER)
    second.send(signal.SIGCONT)
    await a_moment(fleet, chance)
    cut.open.clear()
    await asyncio.sleep(LONGER)
    cut.open.set()
    await a_moment(fleet, chance)
    await asyncio.to_thread(postgres.restart)
    await a_moment(fleet, chance)
    third.send(signal.SIGSTOP)  # for less than the lease: it goes on as before
    await asyncio.sleep(2)
    third.send(signal.SIGCONT)
    await a_moment(fleet, chance)
    for one in (second, third):
        one.send(signal.SIGTERM)
    await fleet.begin()
    await fleet.begin(url)
    assert far.process


@pytest.mark.long
@pytest.mark.timeout(LIMIT + 300)
async def test_whatever_befalls_replicas_every_tester_is_made_once_and_kept(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    names = [f"t{number}" for number in range(TESTERS)]
    async with relay(own_postgres.socket) as cut:
        url = make_url(own_postgres.uri)
        far = url.set(host="127.0.0.1", port=cut.port, query={}).render_as_string(hide_password=False)
        async with replicas_of(
            tmp_path, own_postgres.uri, {name: {} for name in names}, RHYTHM, timing=AT_LEISURE, **FEW
        ) as fleet:
            for where in ("", "", far):
                await fleet.begin(where)
            await fleet.shared_by(3)
            await all_befalls_them(fleet, own_postgres, cut, far)
            await fleet.ready(names, LIMIT)
            await fleet.shared_by(3)
            assert await fleet.begun_too_late() == []
            books = fleet.world.books()
            assert sorted(books["made_accounts"]) == sorted(names)
            assert (books["vms"], books["gateways"], len(books["apps"])) == (TESTERS,) * 3
            assert made(fleet) == dict.fromkeys(CREATES, TESTERS)
            assert books["violations"] == []
            assert await fleet.looked_at_again() == set()
