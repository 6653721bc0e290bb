"""A shared engine that our own restart leaves dead while its supervisor says that it runs: nobody else looks after it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from examples.simulator.invariants import accepting
from tests.lessons.conftest import WITH_ENGINES, fault, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

LIES = fault("machine", "service start", "supervisor_lies", "hero_voice")
"""The next start of it kills it, and is told as done."""
SOON = timedelta(minutes=25)


def alive(w: Rig) -> bool:
    return w.world.admin.alive("hero_voice")


async def brought_back(w: Rig) -> list[str]:
    return [each for each in await told(w) if each.startswith("EngineRestarted") and "no answer since our own" in each]


@in_virtual_time
async def test_it_is_restarted_for_whoever_comes_and_whoever_leaves(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=WITH_ENGINES, faults=[LIES]) as w:
        await w.until(lambda: not alive(w), "our restart kills it", within=SOON)
        await w.ready("alice", within=SOON)
        assert len(await brought_back(w)) == 1
        w.world.drift.add_fault(**LIES)
        w.remove("alice")
        await w.until(lambda: not alive(w), "so does that of a revocation", within=SOON)
        await w.gone("alice", within=timedelta(hours=1))
        assert alive(w)
        assert accepting(w.world, "alice") == []
