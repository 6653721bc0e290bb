"""A paused tester is left alone, but for what must not wait: a door that stands open, and its own removal."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from examples.simulator.invariants import open_doors
from tests.lessons.conftest import LEAN
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world
from tests.worlds.test_doors import ungate

SOON = timedelta(minutes=15)


async def is_paused(w: Rig) -> bool:
    (record,) = await w.store.testers()
    return record.phase == "Paused"


@in_virtual_time
async def test_nothing_is_done_but_an_open_door_is_shut_and_a_removal_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        w.edit("alice", paused={"reason": "demo on Friday", "by": "mik"})
        await w.until(lambda: is_paused(w), "the pause")
        since = len(w.world.log)
        w.world.drift.stop_service(w.vm("alice"), "hero_books")
        w.edit("alice", components={"add": ["hero_slides"]}, machine={"rebuild": 1})
        await w.run_for(SOON)
        assert w.writes(since) == []
        await ungate(w)
        await w.until(lambda: not open_doors(w.world), "the door is shut", within=timedelta(seconds=30))
        w.excuse("OpenDoor")
        await w.run_for(timedelta(minutes=1))
        listener, restart = [each.what for each in w.writes(since)]
        assert "HERO_PROXY_SEED_GATEWAY_LISTENER" in listener
        assert restart == "service restart hero_proxy"
        w.remove("alice")
        await w.gone("alice")
        assert (w.books()["vms"], w.books()["gateways"], w.books()["apps"]) == (0, 0, [])
        assert w.books()["disabled_accounts"] == ["alice"]


@in_virtual_time
async def test_who_is_paused_while_her_machine_goes_is_not_looked_for_at_its_old_address(tmp_path: Path) -> None:
    """Put back and paused while the removal waits for the grid: no other machine is made until the pause is over."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        w.remove("alice")
        deleted = "/rpc delete_webgateway"
        await w.until(lambda: [one for one in w.world.log if one.what == deleted], "what she has is being deleted")
        w.write("alice", paused={"reason": "demo on Friday", "by": "mik"})
        await w.until(lambda: is_paused(w), "the pause")
        await w.run_for(2 * SOON)
        said = await w.conditions("alice")
        assert (said["MachineAccess"].reason, said["Stalled"].status) == ("WaitsForStep", "False")
        since, commits = len(w.world.log), w.store.commits
        await w.run_for(2 * SOON)
        assert (w.writes(since), w.store.commits) == ([], commits)
        w.write("alice")
        await w.ready("alice")
