"""An install that ends between bringing a version and restarting what runs: the version of before must not go on running."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from examples.simulator.records import Installed
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

LEAST = {"componentSets": {"demo": ["hero_books"]}, "engines": []}
HOURS = timedelta(hours=3)


def row_of(w: Rig, component: str) -> Installed:
    return w.world.machine_named(w.vm("alice")).state.components[component]


async def broken_off(w: Rig, component: str) -> None:
    """The machine kills its jobs as soon as the new version lies there."""
    await w.until(lambda: row_of(w, component).version != row_of(w, component).running, "a version that does not run")
    w.yard.named(w.vm("alice")).kill_jobs()


@pytest.mark.parametrize("component", ["hero_books", "hero_proxy"])
@pytest.mark.parametrize("is_pinned", [False, True])
@in_virtual_time
async def test_what_was_brought_runs_in_the_end(tmp_path: Path, component: str, is_pinned: bool) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAST) as w:
        await w.ready("alice")
        w.world.drift.publish(component, "v9.9.9")
        if is_pinned:
            w.edit("alice", version={"pin": {component: "v9.9.9"}})
        await broken_off(w, component)
        await w.until(lambda: row_of(w, component).running == "v9.9.9", "the new version runs", HOURS)
        await w.ready("alice", within=HOURS)
