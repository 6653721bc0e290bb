"""Lessons 41, 42 and 44: hosts that are full, hosts that are off, and several of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from controller.records import Phase
from examples.simulator.invariants import accepting
from tests.lessons.conftest import LEAN, WITH_ENGINES, asked, fault, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

HOUR = timedelta(hours=1)
NODES = ("0001", "0002")
ONE_NODE = ("0001",)
ALL_MEMORY = 98_304  # MB, of a node
ONE_MACHINE = 8_192
OVERSTATED = "capacity_overstated"


def use_memory(w: Rig, daemon: str, free_mb: int, nodes: tuple[str, ...] = NODES) -> None:
    """Others leave so much on each of these nodes."""
    for sid in nodes:
        w.world.drift.use_capacity(daemon, sid, memory_mb=ALL_MEMORY - free_mb)


def set_online(w: Rig, online: bool) -> None:
    for sid in NODES:
        w.world.drift.set_node_online("compute1", sid, online)


def orders(w: Rig) -> list[str]:
    """What daemons were asked to make or delete."""
    return [entry.what.removeprefix("/rpc ") for entry in w.writes() if entry.what.startswith("/rpc ")]


async def waits_because(w: Rig, name: str, reason: str) -> Any:
    """Until the tester's machine waits for this reason; the condition."""
    seen: list[Any] = []

    async def holds() -> bool:
        seen.append((await w.conditions(name)).get("Machine"))
        return seen[-1] is not None and bool(seen[-1].reason == reason)

    await w.until(holds, f"{name} waits: {reason}", within=HOUR)
    return seen[-1]


async def nothing_half_built(w: Rig, name: str, reason: str) -> None:
    """An hour later it still waits for a person, nothing of it stands anywhere, and nobody was written to."""
    await w.run_for(HOUR)
    conditions = await w.conditions(name)
    assert (conditions["Machine"].reason, conditions["Machine"].blames) == (reason, "an admin")
    assert conditions["Stalled"].status == "True"
    assert not [vm for one in w.world.state.daemons.values() for vm in one.vms.values() if vm.name.startswith(name)]
    assert not [gateway for _, gateway in w.world.grid.gateways() if gateway.name.startswith(name)]
    assert not [app for app in w.world.state.forge.apps if name in app.name]
    assert not [mail for mail in w.world.mailbox if name in mail.to[0]]
    assert (name in w.books()["accounts"], accepting(w.world, name)) == (False, []), "not even the account, or a token"
    plan = (await asked(w, f"/api/v1/testers/{name}/plan"))["steps"]
    assert [each["step"] for each in plan if each["error"]] == ["machine"]
    notes = {each["note"] for each in plan if not each["error"]}
    assert notes == {"waits for machine: nothing is begun before all of it can be"}


# ------------------------------------------------------------------ 41: full


@in_virtual_time
async def test_lesson_41_disk_in_two_halves_is_not_room_for_one_disk(tmp_path: Path) -> None:
    """There is room for it in the sum of all pools, and plenty of memory."""
    async with world(tmp_path, [], fleet=LEAN) as w:
        for sid in NODES:
            w.world.drift.fragment_pools("compute1", sid, free_gb=40)
        w.write("alice")
        condition = await waits_because(w, "alice", "NoCapacity")
        assert "lacks 20 GiB of disk in one pool" in condition.message
        await nothing_half_built(w, "alice", "NoCapacity")
        assert orders(w) == []
        w.world.drift.use_capacity("compute1", "0002")
        await w.ready("alice", within=HOUR)


@in_virtual_time
async def test_lesson_41_what_is_promised_is_not_promised_twice(tmp_path: Path) -> None:
    """Both come at once, and the readout goes on showing room for one while the first machine is being made."""
    async with world(tmp_path, [], fleet=LEAN) as w:
        use_memory(w, "compute1", 0)
        use_memory(w, "compute1", ONE_MACHINE + 1_024, ONE_NODE)
        w.write("alice")
        w.write("carol")
        ready: list[str] = []

        async def one_is_ready() -> bool:
            ready.extend(each.name for each in await w.store.testers() if each.phase is Phase.READY)
            return bool(ready)

        await w.until(one_is_ready, "whoever was first is Ready")
        (has,) = ready
        (other,) = {"alice", "carol"} - {has}
        condition = await waits_because(w, other, "NoCapacity")
        assert "compute1/0001, lacks 7 GiB of memory" in condition.message
        assert orders(w).count("deploy_vm") == 1
        await nothing_half_built(w, other, "NoCapacity")
        w.remove(has)
        await w.ready(other, within=HOUR)
        assert orders(w).count("deploy_vm") == 2


@in_virtual_time
async def test_lesson_41_a_readout_that_says_too_much_leaves_nothing_half_built(tmp_path: Path) -> None:
    """The daemon refuses what its own list had room for."""
    async with world(tmp_path, [], fleet=LEAN, faults=[fault("compute", "list_nodes", OVERSTATED, times=None)]) as w:
        use_memory(w, "compute1", 0)
        w.write("alice")
        await waits_because(w, "alice", "OutcomeUnknown")
        await w.run_for(timedelta(minutes=10))
        assert (w.books()["vms"], w.books()["gateways"], w.books()["apps"]) == (0, 0, [])
        assert any("not enough memory" in each for each in await told(w, "alice"))
        use_memory(w, "compute1", ONE_MACHINE)
        await w.ready("alice", within=HOUR)
        assert w.books()["vms"] == 1


# ------------------------------------------------------------------ 42: off


@in_virtual_time
async def test_lesson_42_a_host_that_is_off_is_refused_before_the_first_action(tmp_path: Path) -> None:
    """It would take the order all the same, and keep a contract that nothing comes of."""
    async with world(
        tmp_path, [], fleet=WITH_ENGINES, faults=[fault("compute", "deploy_vm", "stuck_contract", times=None)]
    ) as w:
        set_online(w, False)
        w.write("alice")
        condition = await waits_because(w, "alice", "NodeOffline")
        assert "compute1/0001, compute1/0002" in condition.message
        await nothing_half_built(w, "alice", "NodeOffline")
        assert orders(w) == []
        set_online(w, True)
        await w.ready("alice", within=HOUR)
        assert orders(w) == ["deploy_vm", "deploy_webgateway"]


@in_virtual_time
async def test_lesson_42_the_host_that_a_spec_names_is_not_taken_while_it_is_off(tmp_path: Path) -> None:
    """Whoever leaves the choice to us goes to the one that runs."""
    pinned = {"machine": {"node": "compute1/0001", "keepAfterRemoval": "0s"}}
    async with world(tmp_path, [], fleet=LEAN) as w:
        w.world.drift.set_node_online("compute1", "0001", online=False)
        w.write("alice", **pinned)
        w.write("carol")
        await waits_because(w, "alice", "NodeOffline")
        await w.ready("carol")
        assert [each["node_sid"] for each in w.books()["daemons"]["compute1"]["vms"]] == ["0002"]


# ------------------------------------------------------------------ 44: several


@in_virtual_time
async def test_lesson_44_one_full_host_is_no_obstacle_while_another_has_room(tmp_path: Path) -> None:
    """Of four hosts at two daemons two have room, one machine each."""
    async with world(tmp_path, [], fleet=LEAN, daemons=2) as w:
        for daemon, node in (("compute1", "0002"), ("compute2", "0001")):
            use_memory(w, daemon, 0)
            use_memory(w, daemon, ONE_MACHINE, (node,))
        w.write("alice")
        w.write("carol")
        await w.ready("alice", "carol")
        daemons = w.books()["daemons"]
        assert {name: [vm["node_sid"] for vm in one["vms"]] for name, one in daemons.items()} == {
            "compute1": ["0002"],
            "compute2": ["0001"],
        }
        shown = {each["name"]: each["node"] for each in (await asked(w, "/api/v1/testers"))["items"]}
        assert sorted(shown.values()) == ["compute1/0002", "compute2/0001"]
        for name, node in shown.items():
            domain = {"compute1": "gent1.grid.test", "compute2": "gent2.grid.test"}[node.partition("/")[0]]
            assert w.fqdn(name).endswith(domain), "the gateway is made where the machine is"
            assert (await w.sign_in(name, name))[0] == 200
        w.write("dora")
        condition = await waits_because(w, "dora", "NoCapacity")
        assert "lacks 8 GiB of memory" in condition.message
