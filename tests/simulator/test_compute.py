"""hero_compute in virtual time: how long things take, what is seen meanwhile, whose ids are whose."""

import asyncio
import ipaddress
from typing import TYPE_CHECKING, Any

import pytest

from examples.simulator.records import Fault
from examples.simulator.server import COMPUTE_SECRET
from examples.simulator.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulator.conftest import Town, TownOf, Virtually


def test_a_vm_comes_up_within_a_minute_and_finds_its_network_later(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        clock, began = town.world.clock, town.world.clock.now()
        deploying = asyncio.create_task(town.deploy())
        seen = []
        while not deploying.done():
            listed = await town.rpc("list_vms", secret=COMPUTE_SECRET)
            seen += [vm["state"] for vm in listed]
            await clock.sleep(1)
        assert list(dict.fromkeys(seen)) == ["provisioning", "starting"]
        assert (await deploying)["state"] == "running"
        assert 55 <= clock.now() - began <= 62
        address = town.world.machine_named("alice_1").state.mycelium_ip
        assert ipaddress.ip_address(address) in ipaddress.ip_network("400::/7")
        assert town.world.reachable_at(address) is None
        await clock.sleep(60)
        while town.world.reachable_at(address) is None:
            await clock.sleep(1)
        assert clock.now() - began <= 61 + 181

    virtually(scenario())


def test_the_address_may_be_empty_at_first(virtually: "Virtually", town: "Town") -> None:
    async def scenario() -> None:
        vms = [await town.deploy(f"vm_{number}", memory_mb=512, disk_gb=5) for number in range(8)]
        late = [vm for vm in vms if vm["mycelium_ip"] == ""]
        assert late
        await town.world.clock.sleep(10)
        assert (await town.rpc("get_vm", sid=late[0]["sid"], secret=COMPUTE_SECRET))["mycelium_ip"]

    virtually(scenario())


def test_a_caller_who_gives_up_leaves_a_vm_behind(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await town.deploy()
        await town.world.clock.sleep(60)
        assert [vm["state"] for vm in await town.rpc("list_vms", secret=COMPUTE_SECRET)] == ["running"]

    virtually(scenario())


def test_two_daemons_give_out_the_same_id_but_gateway_names_are_unique_on_the_grid(
    virtually: "Virtually", town_of: "TownOf"
) -> None:
    async def scenario() -> None:
        town = town_of(World(speed=1.0, daemons=2))
        one, two = await town.deploy("a_1"), await town.deploy("b_1", "compute2")
        assert one["sid"] == two["sid"]
        gateway: dict[str, Any] = {"name": "same", "backends": ["http://[400::1]:9988"], "secret": COMPUTE_SECRET}
        assert (await town.rpc("deploy_webgateway", node_sid="2", **gateway))["fqdn"] == "same.gent1.grid.test"
        refused = await town.rpc("deploy_webgateway", "compute2", node_sid="4", **gateway)
        assert "NameExists" in refused
        held = await town.rpc("list_webgateways", secret=COMPUTE_SECRET)
        await town.rpc("delete_webgateway", sid=held[0]["sid"], secret=COMPUTE_SECRET)
        assert "fqdn" in await town.rpc("deploy_webgateway", "compute2", node_sid="4", **gateway)

    virtually(scenario())


def test_disk_counts_per_pool_and_memory_per_node(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        await town.deploy("a", disk_gb=640)
        await town.deploy("b", disk_gb=240)
        assert "no disk pool" in await town.rpc("deploy_vm", **{**VM, "name": "c", "disk_gb": 60})
        assert "not enough memory" in await town.rpc(
            "deploy_vm", **{**VM, "name": "c", "disk_gb": 1, "memory_mb": 98_304}
        )
        await town.world.clock.sleep(60)
        node = (await town.rpc("list_nodes"))[0]
        assert [pool["gb_used"] for pool in node["disk_pools"]] == [650, 250]
        assert node["memory_mb_used"] == 2 * 8192

    virtually(scenario())


VM: dict[str, Any] = {
    "name": "x",
    "node_sid": "0001",
    "image": "Ubuntu 24.04",
    "cpu": 2,
    "memory_mb": 8192,
    "disk_gb": 50,
    "rootfs_gb": 10,
    "ssh_keys": [],
    "secret": COMPUTE_SECRET,
}


def test_keys_are_split_on_newlines_and_commas(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        await town.deploy(ssh_keys=["ssh-ed25519 AAAA one\nssh-ed25519 BBBB two,ssh-ed25519 CCCC three"])
        assert [line.split()[-1] for line in town.world.drift.authorized_keys("alice_1")] == ["one", "two", "three"]

    virtually(scenario())


def test_a_machine_that_never_finds_its_network(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        town.world.faults.add(Fault(system="compute", method="deploy_vm", kind="never_reachable"))
        addresses = []
        for name in ("a", "b"):
            await town.deploy(name)
            addresses.append(town.world.machine_named(name).state.mycelium_ip)
        await town.world.clock.sleep(86_400)
        assert [town.world.reachable_at(address) is None for address in addresses] == [True, False]

    virtually(scenario())


def test_deploying_goes_on_after_a_restart_of_the_world(
    virtually: "Virtually", town_of: "TownOf", tmp_path: "Path"
) -> None:
    async def scenario() -> None:
        town = town_of(World(speed=1.0, state_dir=tmp_path))
        deploying = asyncio.create_task(town.deploy())
        await town.world.clock.sleep(30)
        deploying.cancel()
        again = town_of(World(speed=1.0, state_dir=tmp_path))
        vm = (await again.rpc("list_vms", secret=COMPUTE_SECRET))[0]
        assert vm["state"] in ("provisioning", "starting")
        await again.world.clock.sleep(61)
        assert (await again.rpc("get_vm", sid=vm["sid"], secret=COMPUTE_SECRET))["state"] == "running"
        assert "alice_1" in {machine.name for machine in again.world.machines.values()}

    virtually(scenario())


async def readout(town: "Town") -> tuple[int, list[int]]:
    node = (await town.rpc("list_nodes"))[0]
    return node["memory_mb_used"], [pool["gb_used"] for pool in node["disk_pools"]]


def test_the_readout_lags(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        clock, began = town.world.clock, town.world.clock.now()
        deploying = asyncio.create_task(town.deploy())
        await clock.sleep(14)
        assert await readout(town) == (0, [0, 0])
        while await readout(town) == (0, [0, 0]):
            await clock.sleep(1)
        assert clock.now() - began <= 61
        vm = await deploying
        await town.rpc("delete_vm", sid=vm["sid"], secret=COMPUTE_SECRET)
        began = clock.now()
        assert await readout(town) == (8192, [60, 0])
        while await readout(town) != (0, [0, 0]):
            await clock.sleep(1)
        assert 14 <= clock.now() - began <= 61

    virtually(scenario())


def test_lesson_41_no_disk_spans_two_pools_and_a_readout_may_lie(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        town.world.drift.fragment_pools("compute1", "0001", free_gb=40)
        assert await readout(town) == (0, [660, 260])
        refused = await town.rpc("deploy_vm", **VM)
        assert refused.startswith("-32000 ")
        assert "does not fit" in refused
        assert await town.rpc("list_vms", secret=COMPUTE_SECRET) == []
        assert (await town.deploy(disk_gb=30))["state"] == "running"
        lie = Fault(system="compute", method="list_nodes", kind="capacity_overstated", target="0001", times=None)
        town.world.faults.add(lie)
        assert await readout(town) == (0, [0, 0])
        town.world.drift.use_capacity("compute1", "0002", memory_mb=98_304)
        assert "does not fit" in await town.rpc("deploy_vm", **{**VM, "node_sid": "0002"})

    virtually(scenario())


def test_a_dead_node_looks_up_for_long(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.machine()
        clock, address = town.world.clock, machine.state.mycelium_ip
        town.world.drift.kill_node("compute1", "0001")
        assert town.world.reachable_at(address) is None
        assert (await town.rpc("list_nodes"))[0]["online"]
        began = clock.now()
        assert (await town.rpc("deploy_vm", **VM)).startswith("-32000 ")
        assert clock.now() - began == pytest.approx(300)
        listed = await town.rpc("list_vms", secret=COMPUTE_SECRET)
        assert [(vm["name"], vm["state"]) for vm in listed] == [("alice_1", "running"), ("x", "failed")]
        await clock.sleep(80 * 60)
        assert not (await town.rpc("list_nodes"))[0]["online"]
        assert "is offline" in await town.rpc("deploy_vm", **VM)
        town.world.drift.kill_node("compute1", "0001", dead=False)
        assert town.world.reachable_at(address) is machine

    virtually(scenario())


def test_lesson_42_an_offline_node_takes_its_vms_along(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.machine()
        town.world.drift.set_node_online("compute1", "0001", False)
        assert town.world.reachable_at(machine.state.mycelium_ip) is None
        assert "is offline" in await town.rpc("deploy_vm", **VM)
        town.world.faults.add(Fault(system="compute", method="deploy_vm", kind="stuck_contract", target="x*"))
        assert "failed" in await town.rpc("deploy_vm", **VM)
        assert [vm["state"] for vm in await town.rpc("list_vms", secret=COMPUTE_SECRET)] == ["running", "failed"]

    virtually(scenario())


def test_trouble_by_the_prefix_of_a_vms_name(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        clock, compute = town.world.clock, town.world.daemons["compute1"]
        for kind, target in (("never_reachable", "alice*"), ("slow_network", "bob*"), ("deploy_rolls_back", "carol*")):
            town.world.faults.add(Fault(system="compute", method="deploy_vm", kind=kind, target=target, times=None))
        for name in ("alice_1", "alice_2", "bob_1", "dave_1"):
            await town.deploy(name)
        assert "rolled back" in str(await town.deploy("carol_1"))
        await clock.sleep(200)
        up = {vm.name: compute.reachable(vm) for vm in compute.state.vms.values()}
        assert up == {"alice_1": False, "alice_2": False, "bob_1": False, "dave_1": True}
        await clock.sleep(900)
        assert [vm.name for vm in compute.state.vms.values() if compute.reachable(vm)] == ["bob_1", "dave_1"]
        town.world.drift.fail_vm("dave_1")
        assert [vm["state"] for vm in await town.rpc("list_vms", secret=COMPUTE_SECRET)][-1] == "failed"

    virtually(scenario())


def test_a_daemon_that_lacks_a_method(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        town.world.faults.add(Fault(system="compute", method="list_nodes", kind="method_missing", times=None))
        assert "Method not found" in await town.rpc("list_nodes")

    virtually(scenario())


def test_an_address_is_given_again_once_and_never_to_two_at_once(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        for name in ("a", "b"):
            await town.deploy(name)
        lost = town.world.machine_named("b").state.mycelium_ip
        for name in ("a", "b"):
            town.world.drift.delete_vm(name)
        town.world.faults.add(Fault(system="compute", method="deploy_vm", kind="address_reused", times=None))
        addresses = []
        for name in ("c", "d"):
            await town.deploy(name)
            addresses.append(town.world.machine_named(name).state.mycelium_ip)
        assert addresses[0] == lost
        assert addresses[1] != lost

    virtually(scenario())
