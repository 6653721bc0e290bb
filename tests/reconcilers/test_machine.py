"""The VM and its place: tables of what is listed and what follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from reconcilers.actions import Disruption, Effect, Wait
from reconcilers.backends import Backends
from reconcilers.backends.compute import Node, Vm, VmOrder
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, Transient
from reconcilers.facts import Facts, MachineFacts, ObjectState, Promise
from reconcilers.looks import TesterLooks
from reconcilers.machine import MachineReconciler, SeenMachine
from reconcilers.placement import choose
from specs.desired import DesiredMachine
from specs.fleet import GridNode, NodeSid
from tests.reconcilers.data import ADDRESS, NOW, a_fleet, a_row, a_tester, actions, brief, some_facts

NAME = "alice_x7k2p9_1_1"
GIB = 1024


def vm(state: str = "running", address: str = ADDRESS, **fields: Any) -> Vm:
    return Vm(
        **{"vm_id": "12", "name": NAME, "state": state, "address": address, "node_sid": NodeSid("0001"), **fields}
    )


def node(sid: str, memory_gib: int = 64, *pools: int, online: bool = True) -> Node:
    return Node(NodeSid(sid), GridNode("9"), online, memory_gib * GIB, pools or (500,))


ROOMY = {"gent": [node("0001"), node("0002")], "york": [node("0001", 32)]}


class FakeDaemon:
    def __init__(
        self, vms: Sequence[Vm] = (), nodes: Sequence[Node] = (), hidden: Sequence[Vm] = (), down: bool = False
    ):
        self.vms, self.nodes, self.hidden, self.down = vms, nodes, hidden, down
        self.ordered: list[VmOrder] = []
        self.deleted: list[str] = []

    async def list_vms(self) -> tuple[Vm, ...]:
        if self.down:
            raise Transient("502", system="compute")
        return tuple(self.vms)

    async def get_vm(self, vm_id: str) -> Vm | None:
        return next((each for each in (*self.vms, *self.hidden) if each.vm_id == vm_id), None)

    async def list_nodes(self) -> tuple[Node, ...]:
        if self.down:
            raise Transient("502", system="compute")
        return tuple(self.nodes)

    async def deploy_vm(self, order: VmOrder) -> Vm:
        self.ordered.append(order)
        return vm("provisioning", "")

    async def delete_vm(self, vm_id: str) -> None:
        self.deleted.append(vm_id)


class FakeMachines:
    def __init__(self) -> None:
        self.forgotten: list[str] = []

    async def forget(self, key: str) -> None:
        self.forgotten.append(key)


class FakeLooks:
    def __init__(self, daemons: dict[str, FakeDaemon], *promised: Promise) -> None:
        self.daemons = daemons
        self.promised = promised

    def now(self) -> datetime:
        return NOW

    def unshared(self) -> None: ...

    async def promises(self) -> tuple[Promise, ...]:
        return self.promised

    async def vms(self, daemon: str) -> tuple[Vm, ...]:
        return await self.daemons[daemon].list_vms()

    async def nodes(self, daemon: str) -> tuple[Node, ...]:
        return await self.daemons[daemon].list_nodes()


class Quiet:
    async def seal(self, name: str, value: object) -> None: ...

    async def record(self, facts: object) -> None: ...

    async def note(self, text: str) -> None: ...

    async def erase(self, name: str) -> None: ...

    async def place(self, identity: dict[str, str]) -> None: ...

    def placing(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def promises(self) -> tuple[Promise, ...]:
        return ()


def world(gent: FakeDaemon | None = None, york: FakeDaemon | None = None) -> dict[str, FakeDaemon]:
    return {"gent": gent or FakeDaemon(nodes=ROOMY["gent"]), "york": york or FakeDaemon(nodes=ROOMY["york"])}


def step(daemons: dict[str, FakeDaemon] | None = None, machines: FakeMachines | None = None) -> MachineReconciler:
    return MachineReconciler(Backends(None, daemons or world(), machines or FakeMachines(), None))  # type: ignore[arg-type]


async def seen(daemons: dict[str, FakeDaemon], facts: Facts, **spec: Any) -> SeenMachine | None:
    looks: TesterLooks = FakeLooks(daemons)  # type: ignore[assignment]
    return await step(daemons).observe(TesterView(a_tester(machine=spec), facts), looks)


def known(state: ObjectState = ObjectState.EXISTING) -> Facts:
    return some_facts(object=a_row("machine", state, name=NAME, identity={"daemon": "gent", "vm_id": "12"}))


def never_reached(state: ObjectState = ObjectState.EXISTING) -> Facts:
    return some_facts(without=("machine_access",), object=known(state).object)


def begun(state: ObjectState = ObjectState.INTENDED, **fields: Any) -> Facts:
    return some_facts(without=("machine",), object=a_row("machine", state, name=NAME), **fields)


PLANS = {
    "absent": (None, [f"create machine {NAME}"]),
    "provisioning": (vm("provisioning", ""), ["wait MachineStarting"]),
    "starting, its address known": (vm("starting"), ["wait MachineStarting"]),
    "running, no address yet": (vm("running", ""), ["wait WaitingForAddress"]),
    "running": (vm(), []),
    "failed": (vm("failed"), [f"delete machine {NAME}"]),
    "something new": (vm("paused"), ["wait MachineStarting"]),
    "of another size": (vm(memory_mb=4 * GIB), []),
}


@pytest.mark.parametrize("name", PLANS)
def test_what_is_done_about_a_machine(name: str) -> None:
    there, expected = PLANS[name]
    observed = SeenMachine("gent", there) if there else None
    assert brief(step().plan(a_tester(), observed, begun())) == expected


TOLD_FOR: dict[str, tuple[Vm, Facts, list[str], bool]] = {
    "nobody else": (vm(vm_id="13", address="4bb::2", name="bob_1"), begun(), [], True),
    "another one as well": (vm(vm_id="13", name="bob_1"), begun(), ["wait AddressTwice"], False),
    "another one that is gone": (vm("deleted", vm_id="13", name="bob_1"), begun(), [], True),
    "another one, and it was ours before": (vm(vm_id="13", name="bob_1"), known(), [], True),
    "another one, and ours had another before": (
        vm(vm_id="13", name="bob_1"),
        some_facts(known().need(MachineFacts).model_copy(update={"address": "4bb::2"})),
        ["wait AddressTwice"],
        False,
    ),
    "another one, and it was our last machine's": (
        vm(vm_id="13", name="bob_1"),
        some_facts(known().need(MachineFacts).model_copy(update={"vm_id": "11"})),
        ["wait AddressTwice"],
        False,
    ),
}


@pytest.mark.parametrize("name", TOLD_FOR)
async def test_an_address_is_learnt_only_while_it_is_told_for_one_machine(name: str) -> None:
    other, facts, expected, learnt = TOLD_FOR[name]
    ours = replace(facts, object=known().object)
    observed = await seen(world(FakeDaemon([vm(), other], nodes=ROOMY["gent"])), ours)
    assert observed is not None
    assert brief(step().plan(a_tester(), observed, ours)) == expected
    assert (step().learn(observed, ours) is not None) is learnt


@pytest.mark.parametrize(
    ("york", "waits"),
    [
        (FakeDaemon([vm(vm_id="12", name="bob_1")]), "for alice_x7k2p9_1_1 and york/bob_1"),
        (FakeDaemon([vm(vm_id="12")]), ""),  # one machine, told by two: they are one daemon
        (FakeDaemon([vm("deleted", vm_id="13", name="bob_1")]), ""),
        (FakeDaemon([vm(vm_id="13", name="bob_1")], down=True), ""),  # who does not answer holds up nobody
    ],
    ids=["another machine", "the same", "one that is gone", "no answer"],
)
async def test_an_address_that_another_daemon_tells_as_well_is_not_learnt(york: FakeDaemon, waits: str) -> None:
    ours = replace(begun(), object=known().object)
    observed = await seen(world(FakeDaemon([vm()], nodes=ROOMY["gent"]), york), ours)
    assert observed is not None
    told = [one.message for one in step().plan(a_tester(), observed, ours) if isinstance(one, Wait)]
    assert [waits in one for one in told] == [True] * bool(waits)
    assert (step().learn(observed, ours) is None) is bool(waits)


class Hanging(FakeDaemon):
    """Takes every question and answers none."""

    async def list_vms(self) -> tuple[Vm, ...]:
        return await asyncio.Future()


async def test_a_daemon_that_hangs_delays_nobody_at_another_one_and_is_asked_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reconcilers.machine.PATIENCE", 0.001)
    ours, daemons = replace(begun(), object=known().object), world(FakeDaemon([vm()]), Hanging())
    async with asyncio.timeout(20):
        first = await seen(daemons, ours)
    assert first is not None
    recorded = step().learn(first, ours)
    assert recorded is not None
    assert recorded.unasked == ("york",)
    later = replace(ours, steps={**ours.steps, "machine": recorded})
    monkeypatch.undo()
    daemons["york"] = FakeDaemon([vm(vm_id="13", name="bob_1")])
    told = await seen(daemons, later)
    assert told is not None
    assert brief(step().plan(a_tester(), told, later)) == ["wait AddressTwice"]
    daemons["york"] = FakeDaemon()
    alone = await seen(daemons, later)
    assert alone is not None
    assert step().plan(a_tester(), alone, later) == ()
    assert step().learn(alone, later) == recorded.model_copy(update={"unasked": ()})


async def test_who_was_not_compared_with_all_is_never_at_rest() -> None:
    ours, daemons = replace(begun(), object=known().object), world(FakeDaemon([vm()]), FakeDaemon(down=True))
    said: list[str] = []

    class Noted(FakeLooks):
        def unshared(self) -> None:
            said.append("unshared")

    looks: TesterLooks = Noted(daemons)  # type: ignore[assignment]
    await step(daemons).observe(TesterView(a_tester(), ours), looks)
    assert said == ["unshared"]


def test_an_address_in_the_answer_to_a_create_is_compared_with_the_others_first() -> None:
    assert step().learn(SeenMachine("gent", vm(), alike=None), begun()) is None


def test_a_deploy_is_an_operation_with_the_daemons_limit_and_tells_its_size() -> None:
    (action,) = actions(step().plan(a_tester(), None, begun()))
    assert action.effect is Effect.CREATE
    assert action.limit == a_fleet().spec.timing.deploy_limit
    assert {each.path: each.after for each in action.changes} == {
        "name": NAME,
        "node": "auto",
        "memory": "8192 MiB",
        "cpu": "4",
        "disk": "50 GiB",
        "rootfs": "10 GiB",
        "image": "Ubuntu 24.04",
    }


def test_waiting_blames_the_daemon_and_has_its_limit() -> None:
    (wait,) = step().plan(a_tester(), SeenMachine("gent", vm("provisioning", "")), begun())
    assert isinstance(wait, Wait)
    assert (wait.blames, wait.limit) == ("compute gent", a_fleet().spec.timing.deploy_limit)


def test_a_failed_machine_is_replaced_and_a_removed_one_goes() -> None:
    (replaced,) = actions(step().plan(a_tester(), SeenMachine("gent", vm("failed")), never_reached()))
    (removed,) = actions(step().plan(None, SeenMachine("gent", vm("provisioning", "")), known()))
    assert (replaced.effect, replaced.disruption) == (Effect.DELETE, Disruption.REBUILD)
    assert (removed.effect, removed.disruption, removed.args) == (Effect.DELETE, Disruption.REMOVE, ("gent", "12"))
    assert replaced.limit == removed.limit == a_fleet().spec.timing.deploy_limit  # it may take minutes: an operation
    assert step().plan(None, None, known()) == ()


async def test_a_listing_that_omits_a_machine_does_not_make_it_absent() -> None:
    assert await seen(world(FakeDaemon(hidden=[vm()])), known()) == SeenMachine("gent", vm())
    assert await seen(world(FakeDaemon(vms=[vm("gone")])), known()) is None
    assert await seen(world(FakeDaemon()), known()) is None


async def test_a_machine_is_its_daemon_and_its_id() -> None:
    """York gave out the same id."""
    daemons = world(FakeDaemon(), FakeDaemon(vms=[vm(name="somebody_elses")]))
    assert await seen(daemons, known()) is None


async def test_a_lost_create_is_looked_for_at_every_daemon() -> None:
    daemons = world(FakeDaemon(), FakeDaemon(vms=[vm()]))
    assert await seen(daemons, begun()) == SeenMachine("york", vm())


async def test_a_daemon_that_cannot_be_read_leaves_a_begun_create_open() -> None:
    daemons = world(FakeDaemon(down=True), FakeDaemon(nodes=ROOMY["york"]))
    with pytest.raises(Transient):
        await seen(daemons, begun())
    assert await seen(daemons, begun(ObjectState.GONE)) is None, "nothing was begun, so York's room is enough"


FULL = {"gent": [node("0001", 4), node("0002", 64, 40, 40)], "york": [node("0001", 2)]}
CHOICES: dict[str, tuple[dict[str, Any], dict[str, list[Node]], tuple[str, str, str]]] = {
    "the most free memory": ({}, ROOMY, ("gent", "0001", "2")),
    "the one that fits": ({}, {**FULL, "york": [node("0001", 16)]}, ("york", "0001", "11")),
    "the one that is online": ({}, {"gent": [node("0001", online=False), node("0002")]}, ("gent", "0002", "7")),
    "pinned": ({"node": "york/0001"}, ROOMY, ("york", "0001", "11")),
    "exactly enough": ({}, {"gent": [node("0002", 8, 60)]}, ("gent", "0002", "7")),
    "not one that the fleet does not name": ({}, {"gent": [node("0009", 900), node("0001")]}, ("gent", "0001", "2")),
}
REFUSALS: dict[str, tuple[dict[str, Any], dict[str, list[Node]], str, str]] = {
    "no memory": ({}, {"gent": [node("0001", 4)]}, "NoCapacity", "4 GiB of memory"),
    "no single pool": ({}, {"gent": [node("0001", 64, 40, 40)]}, "NoCapacity", "20 GiB of disk in one pool"),
    "pinned and full": ({"node": "gent/0001"}, FULL, "NoCapacity", "gent/0001"),
    "pinned and offline": ({"node": "gent/0001"}, {"gent": [node("0001", online=False)]}, "NodeOffline", "gent/0001"),
    "all offline": ({}, {"gent": [node("0001", online=False)]}, "NodeOffline", "gent/0001"),
    "pinned and not listed": ({"node": "gent/0002"}, {"gent": [node("0001")]}, "NodeUnknown", "gent/0002"),
}


def wanted(spec: dict[str, Any]) -> DesiredMachine:
    return a_tester(machine=spec).machine


@pytest.mark.parametrize("name", CHOICES)
def test_where_a_machine_goes(name: str) -> None:
    spec, nodes, expected = CHOICES[name]
    place = choose(wanted(spec), a_fleet().spec.compute, nodes)
    assert (place.daemon, place.node_sid, place.grid_node) == expected


@pytest.mark.parametrize("name", REFUSALS)
async def test_where_none_goes_is_said_before_anything_is_made(name: str) -> None:
    spec, nodes, reason, words = REFUSALS[name]
    daemons = {each: FakeDaemon(nodes=nodes.get(each, [])) for each in ("gent", "york")}
    with pytest.raises(Blocked, match=words) as caught:
        await seen(daemons, begun(ObjectState.GONE), **spec)
    assert caught.value.reason == reason


async def test_a_full_host_does_not_hide_a_machine_or_its_loss() -> None:
    full = FakeDaemon(vms=[vm()], nodes=FULL["gent"])
    assert await seen(world(full, FakeDaemon()), known()) == SeenMachine("gent", vm())
    assert await seen(world(FakeDaemon(nodes=FULL["gent"]), FakeDaemon()), known()) is None


async def test_the_order_bears_all_keys_and_the_daemons_own_node_id(installer_key: tuple[str, str]) -> None:
    private, public = installer_key
    daemons = world()
    facts = begun(secrets={"env:INSTALLER_KEY": private})
    desired = a_tester()
    (action,) = actions(step().plan(desired, None, facts))
    made = await step(daemons).apply(action, TesterView(desired, facts), Quiet())
    (order,) = daemons["gent"].ordered
    assert order.node_sid == "0001"
    assert order.ssh_keys == (*desired.ssh_keys, public)
    assert made == SeenMachine("gent", vm("provisioning", ""), alike=None)
    assert step().learn(made, facts) is None, "its address is not known yet"


async def test_daemons_are_asked_for_their_nodes_before_others_have_to_wait(installer_key: tuple[str, str]) -> None:
    """One that hangs holds up nobody who is given a place meanwhile."""
    order: list[str] = []

    class Asked(FakeDaemon):
        async def list_nodes(self) -> tuple[Node, ...]:
            order.append("asked")
            return await super().list_nodes()

    class Placing(Quiet):
        @asynccontextmanager
        async def placing(self) -> AsyncIterator[None]:  # type: ignore[override]
            order.append("placing")
            yield
            order.append("placed")

    daemons = world(Asked(nodes=ROOMY["gent"]), Asked(nodes=ROOMY["york"]))
    facts = begun(secrets={"env:INSTALLER_KEY": installer_key[0]})
    (action,) = actions(step().plan(a_tester(), None, facts))
    await step(daemons).apply(action, TesterView(a_tester(), facts), Placing())
    assert order == ["asked", "asked", "placing", "placed"]


async def test_a_deleted_machine_loses_its_connection() -> None:
    daemons, machines = world(), FakeMachines()
    (action,) = actions(step().plan(None, SeenMachine("gent", vm()), known()))
    await step(daemons, machines).apply(action, TesterView(a_tester(), known()), Quiet())
    assert (daemons["gent"].deleted, machines.forgotten) == (["12"], ["gent/12"])


def test_what_is_learnt_of_a_running_machine() -> None:
    learnt = step().learn(SeenMachine("gent", vm(node_sid=NodeSid("0002"))), begun())
    assert learnt == MachineFacts(
        daemon="gent", vm_id="12", vm_name=NAME, node_sid="0002", grid_node="7", address=ADDRESS
    )


FINDINGS = {
    "as specified": (vm(memory_mb=8 * GIB, disk_gb=50), {}, True),
    "the daemon tells no sizes": (vm(), {}, True),
    "less memory": (vm(memory_mb=4 * GIB, disk_gb=50), {}, False),
    "another disk": (vm(memory_mb=8 * GIB, disk_gb=20), {}, False),
    "another node": (vm(), {"node": "gent/0002"}, False),
    "another daemon": (vm(), {"node": "york/0001"}, False),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_a_difference_in_size_is_said_and_not_repaired(name: str) -> None:
    there, spec, expected = FINDINGS[name]
    (finding,) = step().findings(a_tester(machine=spec), SeenMachine("gent", there), known())
    assert finding.status is expected
    assert finding.reason == ("AsSpecified" if expected else "RebuildNeeded")
