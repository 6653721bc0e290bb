"""Lessons 7 to 11: ids, addresses, slow networks, and calls without an answer, when machines are made."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from examples.simulator.records import Vm
from tests.lessons.conftest import LEAN, SELDOM, asked, doctor, fault, told
from tests.worlds.loop import in_virtual_time, run
from tests.worlds.rig import Rig, world


def vms(w: Rig) -> dict[str, Vm]:
    """By daemon/sid."""
    return {f"{name}/{sid}": vm for name, one in w.world.state.daemons.items() for sid, vm in one.vms.items()}


def the_vm(w: Rig) -> Vm:
    (found,) = vms(w).values()
    return found


def orders(w: Rig) -> int:
    """How many machines were ordered."""
    return len([entry for entry in w.writes() if "deploy_vm" in entry.what])


async def condition_is(w: Rig, name: str, which: str, what: str, within: timedelta = timedelta(hours=1)) -> None:
    """Until a condition has this status or this reason."""

    async def holds() -> bool:
        found = (await w.conditions(name)).get(which)
        return found is not None and what in (found.status, found.reason)

    await w.until(holds, f"{which} of {name}: {what}", within)


def at(node: str) -> dict[str, Any]:
    return {"machine": {"node": node, "keepAfterRemoval": "0s"}}


# ------------------------------------------------------------------ 7: two kinds of node ids


@in_virtual_time
async def test_lesson_07_the_daemon_gets_its_own_node_id_and_the_gateway_the_grids(tmp_path: Path) -> None:
    async with world(tmp_path, {"alice": at("compute1/0002")}, fleet=LEAN) as w:
        await condition_is(w, "alice", "Gateway", "True")
        ((_, gateway),) = w.world.grid.gateways()
        assert (the_vm(w).node_sid, gateway.node_sid) == ("0002", "3")
        assert not [line for line in await told(w) if "node_sid" in line or "OutcomeUnknown" in line]
        w.world.state.daemons["compute1"].nodes[1].grid_node = "33"
        (nodes,) = [each for each in await doctor(w) if each.what == "nodes of the Fleet"]
        assert nodes.detail == "0002 is the grid's node 33, not 3"


# ------------------------------------------------------------------ 8: what a create returned


@in_virtual_time
async def test_lesson_08_an_address_that_comes_late_is_waited_for_and_used(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.until(lambda: vms(w), "a VM")
        vm = the_vm(w)
        vm.address_at += 120
        vm.reachable_at = vm.address_at
        await condition_is(w, "alice", "Machine", "WaitingForAddress")
        assert "without an address yet" in (await w.conditions("alice"))["Machine"].message
        await w.run_for(timedelta(seconds=60))
        assert w.books()["gateways"] == 0
        await condition_is(w, "alice", "Gateway", "True")
        ((_, gateway),) = w.world.grid.gateways()
        assert gateway.backends == [f"http://[{vm.mycelium_ip}]:9988"]
        facts = {each["step"]: each["values"] for each in (await asked(w, "/api/v1/testers/alice"))["facts"]}
        assert facts["machine"]["address"] == vm.mycelium_ip
        assert orders(w) == 1


@in_virtual_time
async def test_lesson_08_a_machine_that_no_listing_shows_is_not_forgotten(tmp_path: Path) -> None:
    """The controller dies right after the answer: nothing but what it wrote down then leads to the machine."""
    omits = fault("compute", "list_vms", "listing_omits", "alice*", times=None)
    async with world(tmp_path, ["alice"], faults=[omits], fleet=LEAN) as w:
        await w.until(lambda: orders(w) == 1, "the daemon's answer")
        await w.restart()
        await condition_is(w, "alice", "MachineAccess", "True")
        await w.run_for(timedelta(minutes=8))  # longer than an unknown create is waited for
        assert (orders(w), len(vms(w))) == (1, 1)


@in_virtual_time
async def test_lesson_08_an_address_told_for_two_machines_is_believed_for_none(tmp_path: Path) -> None:
    """What is one tester's would be written on the other's machine, and both public names would lead there."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await condition_is(w, "alice", "MachineAccess", "True")
        first = the_vm(w)
        w.write("carol")
        await w.until(lambda: len(vms(w)) == 2, "a second VM")
        (second,) = [vm for vm in vms(w).values() if vm is not first]
        its_own, second.mycelium_ip = second.mycelium_ip, first.mycelium_ip
        await condition_is(w, "carol", "Machine", "AddressTwice")
        told_carol = (await w.conditions("carol"))["Machine"].message
        assert f"{first.mycelium_ip}, for {second.name} and {first.name}" in told_carol
        await w.run_for(timedelta(seconds=90))
        assert len(list(w.world.grid.gateways())) == 1
        assert (await w.conditions("alice"))["MachineAccess"].status == "True", "what was known is still so"
        second.mycelium_ip = its_own
        await condition_is(w, "carol", "MachineAccess", "True")
        await condition_is(w, "carol", "Gateway", "True")
        pointing = {gateway.backends[0] for _, gateway in w.world.grid.gateways()}
        assert pointing == {f"http://[{vm.mycelium_ip}]:9988" for vm in vms(w).values()}
        assert orders(w) == 2


# ------------------------------------------------------------------ 9: an id is a daemon's


@in_virtual_time
async def test_lesson_09_the_same_id_at_two_daemons_is_two_machines(tmp_path: Path) -> None:
    testers = {"alice": at("compute1/0001"), "carol": at("compute2/0001")}
    async with world(tmp_path, testers, fleet=LEAN, daemons=2) as w:
        for name in testers:
            await condition_is(w, name, "Gateway", "True")
            await condition_is(w, name, "MachineAccess", "True")
        assert {key: vm.name.split("_")[0] for key, vm in vms(w).items()} == {
            "compute1/0001": "alice",
            "compute2/0001": "carol",
        }
        pointing = {gateway.name[:5]: gateway.backends[0] for _, gateway in w.world.grid.gateways()}
        assert pointing == {vm.name[:5]: f"http://[{vm.mycelium_ip}]:9988" for vm in vms(w).values()}
        w.remove("carol")
        await w.gone("carol", within=timedelta(minutes=30))
        assert list(vms(w)) == ["compute1/0001"]
        assert the_vm(w).name.startswith("alice")


# ------------------------------------------------------------------ 10: nobody answers yet


@in_virtual_time
async def test_lesson_10_a_machine_that_is_slow_to_answer_is_waited_for_and_everybody_sees_it(tmp_path: Path) -> None:
    slow = fault("compute", "deploy_vm", "slow_network", seconds=900)
    async with world(tmp_path, ["alice"], faults=[slow], fleet=LEAN) as w:
        await condition_is(w, "alice", "MachineAccess", "WaitingForNetwork")
        await w.run_for(timedelta(minutes=12))
        shown = (await asked(w, "/api/v1/testers/alice"))["tester"]
        assert (shown["phase"], shown["reason"]) == ("Waiting", "WaitingForNetwork")
        assert shown["blames"] == "the grid's network"
        limit = datetime.fromisoformat(shown["until"]) - datetime.fromisoformat(shown["since"])
        assert limit == timedelta(minutes=20)
        await condition_is(w, "alice", "MachineAccess", "True")
        assert (orders(w), len(vms(w))) == (1, 1)


@in_virtual_time
async def test_lesson_10_a_machine_that_never_answers_is_built_anew(tmp_path: Path) -> None:
    dead = fault("compute", "deploy_vm", "never_reachable")
    async with world(
        tmp_path, ["alice"], faults=[dead], fleet={**LEAN, "timing": {**SELDOM, "reachableLimit": "8m"}}
    ) as w:
        await w.until(lambda: vms(w), "a VM")
        first = the_vm(w).name
        await condition_is(w, "alice", "MachineAccess", "WaitingForNetwork")
        await w.run_for(timedelta(minutes=6))
        assert the_vm(w).name == first, "not yet"
        await condition_is(w, "alice", "MachineAccess", "True")
        assert the_vm(w).name != first
        assert orders(w) == 2
        assert [line for line in await told(w, "alice") if line.startswith("NeverReachable:") and first in line]


@in_virtual_time
async def test_lesson_10_it_is_not_built_anew_for_ever(tmp_path: Path) -> None:
    dead = fault("compute", "deploy_vm", "never_reachable", times=None)
    hasty = {**LEAN, "timing": {**SELDOM, "reachableLimit": "3m"}, "safety": {"maxRebuilds": 1}}
    async with world(tmp_path, ["alice"], faults=[dead], fleet=hasty) as w:
        await condition_is(w, "alice", "Machine", "NeverReachable")
        await w.run_for(timedelta(minutes=8))
        machine = (await w.conditions("alice"))["Machine"]
        assert machine.reason == "NeverReachable"
        assert "spec.machine.rebuild" in machine.message
        assert (orders(w), len(vms(w))) == (2, 1)


# ------------------------------------------------------------------ 11: no answer is no failure

KINDS = {
    "timeout_after_effect": 1,
    "error_reported_though_created": 1,
    "cut_mid_answer": 1,
    "http_502": 1,
    "timeout_before": 1,
    "deploy_rolls_back": 2,
}
"""What happens to the order, and how many machines the daemon has begun in the end."""


@pytest.mark.parametrize("kind", KINDS)
def test_lesson_11_an_order_without_an_answer_ends_with_one_machine(tmp_path: Path, kind: str) -> None:
    async def life() -> None:
        spoilt = fault("compute", "deploy_vm", kind)
        async with world(tmp_path, ["alice"], faults=[spoilt], fleet=LEAN) as w:
            await condition_is(w, "alice", "Machine", "OutcomeUnknown")
            await condition_is(w, "alice", "Machine", "True")
            assert (w.world.state.daemons["compute1"].next_vm - 1, len(vms(w))) == (KINDS[kind], 1)
            lines = [line for line in await told(w, "alice") if "machine alice_" in line]
            assert [line for line in lines if line.startswith("OutcomeUnknown: create")]
            assert not [line for line in lines if line.startswith("ActionFailed")]

    run(life())


@in_virtual_time
async def test_lesson_11_what_a_listing_does_not_show_yet_is_not_built_twice(tmp_path: Path) -> None:
    """The answer is lost, and so is, for minutes, every sight of the machine."""
    lost = [
        fault("compute", "deploy_vm", "cut_mid_answer"),
        fault("compute", "list_vms", "listing_lags", times=None, seconds=240),
    ]
    async with world(tmp_path, ["alice"], faults=lost, fleet=LEAN) as w:
        await w.until(lambda: vms(w), "a VM")
        await w.run_for(timedelta(minutes=2))
        assert "its absence proves nothing" in (await w.conditions("alice"))["Machine"].message
        await condition_is(w, "alice", "Machine", "True")
        assert (orders(w), len(vms(w))) == (1, 1)
        assert [line for line in await told(w, "alice") if line.startswith("FoundAfterAll")]
