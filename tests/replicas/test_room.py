"""Two replicas at the last free room: it is promised once, and who has none waits for it, and gets it when it is free again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from controller.replicas.shares import shard_of
from tests.lessons.conftest import LEAN
from tests.replicas.team import Team, lived, team

pytestmark = pytest.mark.on_a_file  # which stands for a server whose locks are make-believe
ONE_MACHINE = 8_192  # MB
HOUR = timedelta(hours=1)


def leave_room_for_one(w: Team) -> None:
    for name, daemon in w.world.state.daemons.items():
        for number, node in enumerate(daemon.nodes):
            w.world.drift.use_capacity(name, node.sid, memory_mb=node.memory_mb_total - ONE_MACHINE * (number == 0))


def one_of_each(w: Team) -> list[str]:
    """Names of testers, one for each replica to look after."""
    names = [f"t{number}" for number in range(64)]
    return [next(name for name in names if shard_of(name) in one.shards) for one in w.replicas]


def orders(w: Team) -> list[int]:
    """What became of each order of a machine."""
    return [entry.status for entry in w.writes() if "deploy_vm" in entry.what]


def test_the_last_room_is_promised_once_and_who_has_none_gets_it_when_it_is_free(tmp_path: Path) -> None:
    async def life() -> None:
        async with team(tmp_path, [], count=2, fleet=LEAN) as w:
            await w.until(lambda: w.is_shared, "shared", timedelta(minutes=1))
            leave_room_for_one(w)
            names = one_of_each(w)
            for name in names:
                w.write(name)

            async def reasons() -> list[str]:
                found = [(await w.conditions(name)).get("Machine") for name in names]
                return sorted(condition.reason if condition is not None else "" for condition in found)

            async def is_judged() -> bool:
                return await reasons() == ["InSync", "NoCapacity"]

            await w.until(is_judged, "one has it, the other waits", HOUR)
            await w.run_for(HOUR)
            assert await is_judged()
            assert len(orders(w)) == w.books()["vms"] == 1, "nobody ordered what there was no room for"
            print([await w.conditions(name) for name in names], w.books())
            first = next(name for name in names if (await w.conditions(name))["Machine"].reason == "InSync")
            (other,) = set(names) - {first}
            w.remove(first)
            await w.ready(other, within=HOUR)
            assert len(orders(w)) == 2

    lived(life())
