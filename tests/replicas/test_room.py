"""Two replicas at the last free room: it is promised once, and who has none waits for it, and gets it when it is free again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controller.replicas.shares import shard_of
from reconcilers.facts import Promise
from tests.lessons.conftest import LEAN
from tests.replicas.team import One, Team, lived, team

pytestmark = pytest.mark.on_a_file  # which stands for a server whose locks are make-believe
ONE_MACHINE = 8_192  # MB
HOUR = timedelta(hours=1)
A_SECOND = timedelta(seconds=1)
A_WHILE = timedelta(minutes=10)


def leave_room_for_one(w: Team) -> None:
    for name, daemon in w.world.state.daemons.items():
        for number, node in enumerate(daemon.nodes):
            w.world.drift.use_capacity(name, node.sid, memory_mb=node.memory_mb_total - ONE_MACHINE * (number == 0))


def tells_late(one: One) -> None:
    """What was promised is told to this replica a second late, so that both choose a place at the same time."""
    world = one.controller.engine.world
    assert world is not None
    promised = world.looks.promised

    async def late() -> tuple[Promise, ...]:
        found = await promised()
        await one.team.run_for(A_SECOND)
        return found

    world.looks.promised = late


def one_of_each(w: Team) -> list[str]:
    """Names of testers, one for each replica to look after."""
    names = [f"t{number}" for number in range(64)]
    return [next(name for name in names if shard_of(name) in one.shards) for one in w.replicas]


def orders(w: Team) -> list[int]:
    """What became of each order of a machine."""
    return [entry.status for entry in w.writes() if "deploy_vm" in entry.what]


def accounts(w: Team) -> list[str]:
    """What was asked for of Forge that makes an account."""
    return [entry.what for entry in w.writes() if "/api/v1/admin/users" in entry.what]


@pytest.mark.long
def test_the_last_room_is_promised_once_and_who_has_none_gets_it_when_it_is_free(tmp_path: Path) -> None:
    async def life() -> None:
        async with team(tmp_path, [], count=2, fleet=LEAN) as w:
            await w.until(lambda: w.is_shared, "shared", timedelta(minutes=1))
            leave_room_for_one(w)
            for one in w.replicas:
                tells_late(one)
            names = one_of_each(w)
            for name in names:
                w.write(name)

            async def by_reason() -> dict[str, str]:
                machines = {name: (await w.conditions(name)).get("Machine") for name in names}
                return {one.reason: name for name, one in machines.items() if one is not None}

            async def is_judged() -> bool:
                return {"InSync", "NoCapacity"} <= set(await by_reason())

            await w.until(is_judged, "one has it, the other waits", HOUR)
            await w.run_for(A_WHILE)
            found = await by_reason()
            first, other = found["InSync"], found["NoCapacity"]
            assert len(orders(w)) == w.books()["vms"] == 1, "nobody ordered what there was no room for"
            assert len(accounts(w)) == 1, "nor was an account made for who waits"
            w.remove(first)
            await w.ready(other, within=HOUR)
            assert len(orders(w)) == 2

    lived(life())
