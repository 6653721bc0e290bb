"""A machine that must be built anew: asked for, never reached, failed, or where the fleet no longer looks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from reconcilers.actions import Action, Disruption, Effect
from reconcilers.backends import Backends
from reconcilers.backends.compute import Gateway, Node, Vm, VmOrder
from reconcilers.backends.machine import MachineLook
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, OutsideError, Transient, Unreachable
from reconcilers.facts import Facts, ObjectState, OutsideObject, Promise
from reconcilers.gateway import GatewayReconciler, SeenGateway
from reconcilers.looks import TesterLooks
from reconcilers.machine import MachineReconciler
from reconcilers.machine_row import SeenMachine, differences, order_of
from reconcilers.placement import Place
from reconcilers.secret import Secret
from specs.desired import DesiredTester
from specs.fleet import GridNode, NodeSid
from tests.reconcilers.data import ADDRESS, FQDN, NOW, a_fleet, a_row, a_tester, actions, brief, some_facts

NAME = "alice_x7k2p9_1_1"
GIB = 1024
LIMIT = a_fleet().spec.timing.reachable_limit
ORDER = order_of(Place("gent", NodeSid("0001"), GridNode("2")), a_tester().machine)
KEPT = {**ORDER, "vm_id": "12"}


def vm(state: str = "running", address: str = ADDRESS, **fields: Any) -> Vm:
    return Vm(
        **{"vm_id": "12", "name": NAME, "state": state, "address": address, "node_sid": NodeSid("0001"), **fields}
    )


def seen(machine: Vm | None = None, **kept: str) -> SeenMachine:
    return SeenMachine("gent", machine or vm(), NOW, {**KEPT, **kept})


def known(*, reached: bool = True, age: timedelta = timedelta(0), row: Mapping[str, Any] | None = None) -> Facts:
    fields = {"name": NAME, "identity": KEPT, "since": NOW - age, **(row or {})}
    return some_facts(without=() if reached else ("machine_access",), object=a_row("machine", **fields))


def planned(observed: SeenMachine, facts: Facts, desired: DesiredTester | None = None) -> Any:
    return MachineReconciler(None).plan(desired or a_tester(), observed, facts)  # type: ignore[arg-type]


def planned_leaving(observed: SeenMachine, facts: Facts) -> Any:
    return MachineReconciler(None).plan(None, observed, facts)  # type: ignore[arg-type]


# ---------------------------------------------------------------- asked for


def test_raising_the_counter_rebuilds_and_says_what_that_costs() -> None:
    desired = a_tester(machine={"rebuild": 1, "memory": "16GiB"})
    (action,) = actions(planned(seen(), known(), desired))
    assert (action.effect, action.disruption, action.args) == (Effect.DELETE, Disruption.REBUILD, ("gent", "12"))
    assert [(each.path, each.before, each.after) for each in action.changes] == [
        ("rebuild", "0", "1"),
        ("memory", "8192 MiB", "16384 MiB"),
    ]
    words = "; ".join(action.consequences)
    assert "all data on it are lost" in words
    assert "public address changes" in words


def test_a_custom_address_comes_back() -> None:
    (action,) = actions(planned(seen(), known(), a_tester(machine={"rebuild": 1}, address="alices")))
    assert "alices is away until the new machine has it" in "; ".join(action.consequences)


COUNTERS = {
    "as it was": ("0", 0, False),
    "raised": ("0", 1, True),
    "raised twice": ("1", 3, True),
    "built for it": ("3", 3, False),
    "lowered": ("3", 1, False),
}


@pytest.mark.parametrize("name", COUNTERS)
def test_a_machine_is_built_once_for_each_value_of_the_counter(name: str) -> None:
    made_for, asked, expected = COUNTERS[name]
    plan = planned(seen(rebuild=made_for), known(), a_tester(machine={"rebuild": asked}))
    assert brief(plan) == ([f"delete machine {NAME}"] if expected else [])


def test_a_difference_alone_is_said_and_costs_nothing() -> None:
    desired = a_tester(
        machine={"memory": "16GiB", "disk": "80GiB", "image": "Ubuntu 22.04", "cpu": 8, "rootfs": "20GiB"}
    )
    assert planned(seen(), known(), desired) == ()
    (finding,) = MachineReconciler(None).findings(desired, seen(), known())  # type: ignore[arg-type]
    assert (finding.type, finding.status, finding.reason) == ("MachineAsSpecified", False, "RebuildNeeded")
    for words in (
        "memory is 8192 MiB",
        "disk is 50 GiB",
        "image is Ubuntu 24.04",
        "cpu is 4",
        "raise spec.machine.rebuild",
    ):
        assert words in finding.message


DIFFERENCES: dict[str, tuple[dict[str, Any], Vm, dict[str, str], list[str]]] = {
    "none": ({}, vm(), KEPT, []),
    "the daemon's word goes before our order": ({}, vm(memory_mb=4 * GIB, disk_gb=50), KEPT, ["memory"]),
    "nobody tells": ({"memory": "16GiB", "image": "Ubuntu 22.04"}, vm(), {}, []),
    "another node": ({"node": "gent/0002"}, vm(), KEPT, ["node"]),
    "another node, which only the row knows": ({"node": "gent/0002"}, vm(node_sid=NodeSid("")), KEPT, ["node"]),
    "a node that nobody knows": ({"node": "gent/0002"}, vm(node_sid=NodeSid("")), {}, []),
    "the node that it is on": ({"node": "gent/0001"}, vm(), KEPT, []),
    "another image": ({"image": "Ubuntu 22.04"}, vm(), KEPT, ["image"]),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_what_only_a_new_machine_puts_right(name: str) -> None:
    spec, machine, kept, expected = DIFFERENCES[name]
    found = differences(a_tester(machine=spec).machine, SeenMachine("gent", machine, NOW, kept))
    assert [each.path for each in found] == expected


# ---------------------------------------------------------------- never reached, failed

NEVER: dict[str, tuple[Vm, bool, timedelta, str, list[str] | str]] = {
    "not for long": (vm(), False, LIMIT - timedelta(seconds=1), "", []),
    "for too long": (vm(), False, LIMIT, "", [f"delete machine {NAME}"]),
    "reached once: never by itself": (vm(), True, LIMIT * 9, "", []),
    "for too long without an address": (vm("running", ""), False, LIMIT, "", [f"delete machine {NAME}"]),
    "for too long not even running": (vm("starting", ""), False, LIMIT, "", [f"delete machine {NAME}"]),
    "the second one": (vm(), False, LIMIT, "gent/0001", [f"delete machine {NAME}"]),
    "the third one": (vm(), False, LIMIT, "gent/0001 york/0001", "NeverReachable"),
    "the third one has time as well": (vm(), False, timedelta(0), "gent/0001 york/0001", []),
    "the third one was reached after all": (vm(), True, LIMIT, "gent/0001 york/0001", []),
    "failed": (vm("failed", ""), False, timedelta(0), "", [f"delete machine {NAME}"]),
    "the third one failed": (vm("failed", ""), False, timedelta(0), "gent/0001 york/0001", "NeverReachable"),
    "failed after it was in use: never by itself": (vm("failed"), True, timedelta(0), "", "MachineFailed"),
}


@pytest.mark.parametrize("name", NEVER)
def test_lesson_10_a_machine_that_never_becomes_reachable(name: str) -> None:
    machine, reached, age, before, expected = NEVER[name]
    observed = seen(machine, **({"never_reached": before} if before else {}))
    if isinstance(expected, list):
        assert brief(planned(observed, known(reached=reached, age=age))) == expected
        return
    with pytest.raises(Blocked) as caught:
        planned(observed, known(reached=reached, age=age))
    assert caught.value.reason == expected
    if expected == "NeverReachable":
        for words in ("gent/0001", "york/0001", "2 rebuilds are allowed"):
            assert words in caught.value.message


def test_no_rebuild_by_itself_when_the_fleet_allows_none() -> None:
    facts = known(reached=False, age=LIMIT)
    strict = Facts(facts.tester, facts.uid, a_fleet(safety={"maxRebuilds": 0}), facts.steps, facts.object)
    with pytest.raises(Blocked) as caught:
        planned(seen(), strict)
    assert caught.value.reason == "NeverReachable"


def test_asked_for_goes_before_never_reached() -> None:
    """Whoever raises the counter starts the count anew."""
    desired = a_tester(machine={"rebuild": 1})
    (action,) = actions(planned(seen(never_reached="gent/0001 york/0001"), known(reached=False, age=LIMIT), desired))
    assert action.reason == "MachineRebuilt"


# ---------------------------------------------------------------- observing


class Daemon:
    def __init__(self, *vms: Vm, nodes: tuple[Node, ...] = ()) -> None:
        self.held, self.nodes = list(vms), nodes
        self.ordered: list[VmOrder] = []

    async def list_nodes(self) -> tuple[Node, ...]:
        return self.nodes

    async def get_vm(self, vm_id: str) -> Vm | None:
        return next((each for each in self.held if each.vm_id == vm_id), None)

    async def delete_vm(self, vm_id: str) -> None:
        self.held = [each for each in self.held if each.vm_id != vm_id]

    async def deploy_vm(self, order: VmOrder) -> Vm:
        self.ordered.append(order)
        return vm("provisioning", "", vm_id="13", name=order.name, node_sid=order.node_sid)


class Outside:
    """Daemons, machines, Forge and the looks at them."""

    def __init__(self, gent: Daemon, answers: OutsideError | None = None, keys: tuple[str, ...] = ()) -> None:
        self.gent, self.answers, self.held_keys = gent, answers, keys
        self.url = "https://forge.example.org"
        self.placed: dict[str, str] = {}
        self.query: object = None

    def now(self) -> Any:
        return NOW

    async def promises(self) -> tuple[Promise, ...]:
        return ()

    async def vms(self, daemon: str) -> tuple[Vm, ...]:
        return tuple(self.gent.held) if daemon == "gent" else ()

    async def nodes(self, daemon: str) -> tuple[Node, ...]:
        return self.gent.nodes if daemon == "gent" else ()

    async def machine(self, address: object) -> MachineLook:
        if self.answers is not None:
            raise self.answers
        return MachineLook(host_key="ssh-ed25519 HOST")

    async def forget(self, key: str) -> None: ...

    async def keys(self, login: str) -> tuple[str, ...]:
        return self.held_keys

    async def place(self, identity: dict[str, str]) -> None:
        self.placed = identity

    def placing(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def note(self, text: str) -> None: ...

    def step(self) -> MachineReconciler:
        daemons = {"gent": self.gent, "york": Daemon()}
        return MachineReconciler(Backends(self, daemons, self, None))  # type: ignore[arg-type]


async def look(outside: Outside, facts: Facts, desired: DesiredTester | None = None) -> SeenMachine | None:
    looks: TesterLooks = outside  # type: ignore[assignment]
    return await outside.step().observe(TesterView(desired or a_tester(), facts), looks)


ROOMY = (Node(NodeSid("0001"), GridNode("2"), True, 64 * GIB, (500,)),)
FULL = (Node(NodeSid("0001"), GridNode("2"), True, 0, (0,)),)


async def test_the_row_keeps_the_order_and_says_what_it_was_made_for() -> None:
    marked = {**KEPT, "keptFrom": "the engine's mark, which it takes out itself"}
    found = await look(Outside(Daemon(vm())), known(row={"identity": marked}))
    assert found is not None
    assert MachineReconciler(None).identity(found) == KEPT  # type: ignore[arg-type]

    bare = await look(
        Outside(Daemon(vm())),
        known(row={"identity": {"daemon": "gent", "vm_id": "12"}}),
        a_tester(machine={"rebuild": 4}),
    )
    assert bare is not None
    assert bare.identity == {"daemon": "gent", "vm_id": "12", "rebuild": "4"}, "data is not lost on a guess"


async def test_a_rebuild_that_would_find_no_room_does_not_destroy_what_there_is() -> None:
    """The room of the old machine counts, and no more than that."""
    same = a_tester(machine={"rebuild": 1})
    assert await look(Outside(Daemon(vm(), nodes=FULL)), known(), same) is not None
    for spec in ({"memory": "16GiB"}, {"disk": "90GiB"}, {"node": "gent/0002"}):
        with pytest.raises(Blocked) as caught:
            await look(Outside(Daemon(vm(), nodes=FULL)), known(), a_tester(machine={"rebuild": 1, **spec}))
        assert caught.value.reason in ("NoCapacity", "NodeUnknown")


ASKED: dict[str, tuple[OutsideError | None, bool]] = {
    "nobody there": (Unreachable("nobody", system="machine"), True),
    "it answers": (None, False),
    "it refuses our key": (Transient("refused", system="machine", reason="LoginRefused"), False),
}


@pytest.mark.parametrize("name", ASKED)
async def test_before_a_machine_is_given_up_it_is_asked_itself(name: str) -> None:
    """The controller may have been off all the while."""
    answers, given_up = ASKED[name]
    facts = known(reached=False, age=LIMIT)
    found = await look(Outside(Daemon(vm()), answers), facts)
    assert found is not None
    assert bool(planned(found, facts)) is given_up


TWO_NODES = (*ROOMY, Node(NodeSid("0002"), GridNode("7"), True, 32 * GIB, (500,)))


def gone(incarnation: int, **identity: str) -> OutsideObject:
    """An earlier machine of alice's, built on gent/0001 and closed."""
    return a_row("machine", ObjectState.GONE, name=f"n{incarnation}", incarnation=incarnation, identity=identity)


GIVEN = {**KEPT, "given_up": "yes"}
BEFORE: dict[str, tuple[tuple[OutsideObject, ...], int, tuple[str, ...]]] = {
    "nothing": ((), 0, ()),
    "one that was never reached": ((gone(1, **GIVEN),), 0, ("gent/0001",)),
    "the second one in a row": (
        (gone(1, **GIVEN), gone(2, **GIVEN, never_reached="york/0001")),
        0,
        ("york/0001", "gent/0001"),
    ),
    "one for an earlier value of the counter": ((gone(1, **GIVEN),), 1, ()),
    "one that was in use and disappeared": ((gone(1, **GIVEN), gone(2, **KEPT, never_reached="")), 0, ()),
    "one that disappeared before anybody knew": (
        (gone(1, **GIVEN), gone(2, **KEPT, never_reached="york/0001")),
        0,
        ("york/0001",),
    ),
    "one that never came to be": ((gone(1, **GIVEN), gone(2, **ORDER, refused="never seen")), 0, ("gent/0001",)),
    "one whose place was never chosen": ((gone(1, **GIVEN), gone(2)), 0, ("gent/0001",)),
    "one of whose row nothing is told": ((gone(1, daemon="gent", vm_id="9"),), 0, ()),
}


@pytest.mark.parametrize("name", BEFORE)
async def test_how_often_it_was_built_is_told_by_the_rows(name: str, installer_key: tuple[Secret, str]) -> None:
    """A reconciler that has just been started knows it as well as one that saw it all."""
    earlier, counter, expected = BEFORE[name]
    outside, desired = Outside(Daemon(vm(), nodes=TWO_NODES)), a_tester(machine={"rebuild": counter})
    facts = some_facts(
        without=("machine", "machine_access"),
        object=a_row("machine", ObjectState.GONE, name="alice_x7k2p9_9_1", incarnation=9),
        secrets={"env:INSTALLER_KEY": installer_key[0]},
        earlier=earlier,
    )
    (create,) = actions(outside.step().plan(desired, None, facts))
    made = await outside.step().apply(create, TesterView(desired, facts), outside)  # type: ignore[arg-type]
    assert made is not None
    assert made.predecessors == expected
    assert outside.placed.get("never_reached", "") == " ".join(expected)
    assert outside.placed["node_sid"] == ("0002" if "gent/0001" in expected else "0001"), (
        "another node, if there is one"
    )


async def test_who_gives_a_machine_up_writes_that_down_with_the_intent() -> None:
    (given_up,) = actions(planned(seen(), known(reached=False, age=LIMIT)))
    assert given_up.marks == (("given_up", "yes"),)
    for delete in (planned(seen(), known(), a_tester(machine={"rebuild": 1})), planned_leaving(seen(), known())):
        assert actions(delete)[0].marks == ()


async def test_once_it_was_reached_what_went_before_counts_for_nothing() -> None:
    row = {"identity": {**KEPT, "never_reached": "york/0001", "given_up": "yes"}}
    found = await look(Outside(Daemon(vm())), known(row=row))
    assert found is not None
    assert found.predecessors == ()
    assert MachineReconciler(None).identity(found) == {**KEPT, "never_reached": "", "given_up": ""}  # type: ignore[arg-type]
    still = await look(Outside(Daemon(vm())), known(reached=False, row=row))
    assert still is not None
    assert still.predecessors == ("york/0001",)


async def test_a_lost_create_is_looked_for_where_it_was_ordered() -> None:
    """The other daemon need not even answer."""
    row = {"state": ObjectState.INTENDED, "identity": ORDER}
    found = await look(Outside(Daemon(vm())), known(row=row))
    assert found is not None
    assert found.identity == {**ORDER, "vm_id": "12"}


LEFT: dict[str, tuple[dict[str, str], dict[str, Any], ObjectState, bool, str]] = {
    "its daemon": ({**KEPT, "daemon": "lyon"}, {}, ObjectState.EXISTING, False, "lyon"),
    "its daemon, and the tester leaves": ({**KEPT, "daemon": "lyon"}, {}, ObjectState.EXISTING, True, "lyon"),
    "the daemon of a lost create": ({**ORDER, "daemon": "lyon"}, {}, ObjectState.LOST, False, "lyon"),
    "its node": (KEPT, {"node_sid": NodeSid("0009")}, ObjectState.EXISTING, False, "gent/0009"),
}


@pytest.mark.parametrize("name", LEFT)
async def test_what_left_the_fleet_while_in_use_is_named(name: str) -> None:
    identity, machine, state, leaving, words = LEFT[name]
    facts = some_facts(object=a_row("machine", state, name=NAME, identity=identity), leaving=leaving)
    with pytest.raises(Blocked, match=words) as caught:
        await look(Outside(Daemon(vm(**machine))), facts)
    assert caught.value.reason == "DaemonInUse"
    assert NAME in caught.value.message
    assert "alice" in caught.value.message


async def test_a_machine_on_a_node_that_left_can_still_go() -> None:
    gone = Daemon(vm(node_sid=NodeSid("0009")), nodes=ROOMY)
    leaving = some_facts(object=a_row("machine", name=NAME, identity=KEPT), leaving=True)
    assert await look(Outside(gone), leaving) is not None
    assert await look(Outside(gone), known(), a_tester(machine={"rebuild": 1})) is not None, (
        "to be built anew elsewhere"
    )


async def test_no_machine_without_the_key_that_is_asked_for(installer_key: tuple[Secret, str]) -> None:
    desired = a_tester(keys={"ssh": "required"})
    fresh = some_facts(
        without=("machine",),
        object=a_row("machine", ObjectState.GONE, name=NAME),
        secrets={"env:INSTALLER_KEY": installer_key[0]},
    )
    keyless = Outside(Daemon(nodes=ROOMY))
    with pytest.raises(Blocked) as caught:
        await look(keyless, fresh, desired)
    assert caught.value.reason == "SshKeyRequired"
    assert "https://forge.example.org/user/settings/keys" in caught.value.message
    assert "testerctl reveal" not in caught.value.message
    (create,) = actions(keyless.step().plan(desired, None, fresh))
    with pytest.raises(Blocked):
        await keyless.step().apply(create, TesterView(desired, fresh), keyless)  # type: ignore[arg-type]
    assert not keyless.placed

    bare = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG90aGVyb3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90"
    keyed = Outside(Daemon(nodes=ROOMY), keys=(f"{bare} alice, at home", "ssh-dss AAAA old"))
    await keyed.step().apply(create, TesterView(desired, fresh), keyed)  # type: ignore[arg-type]
    (order,) = keyed.gent.ordered
    assert order.ssh_keys == (*desired.ssh_keys, f"{bare} Alice-B", installer_key[1])


async def test_who_has_no_password_yet_is_to_be_told_it() -> None:
    """The welcome mail only follows the machine."""
    fresh = some_facts(
        without=("machine",),
        object=a_row("machine", ObjectState.GONE, name=NAME),
        secrets={"alice/one_time_password": Secret("x")},
    )
    with pytest.raises(Blocked, match="testerctl reveal alice"):
        await look(Outside(Daemon(nodes=ROOMY)), fresh, a_tester(keys={"ssh": "required"}))


# ---------------------------------------------------------------- the gateway follows

OURS = f"http://[{ADDRESS}]:9988"


def gateway(identity: dict[str, str]) -> Facts:
    return some_facts(object=a_row("gateway", name="alicex7k2p9", identity=identity))


MADE_FOR = {
    "this machine": ("gent/12", []),
    "nobody knows": ("", []),
    "the one before, which had the same address": ("gent/11", ["delete gateway alicex7k2p9"]),
    "one of another daemon with the same id": ("york/12", ["delete gateway alicex7k2p9"]),
}


@pytest.mark.parametrize("name", MADE_FOR)
def test_lesson_14_a_gateway_is_for_one_machine(name: str) -> None:
    machine, expected = MADE_FOR[name]
    observed = SeenGateway("gent", Gateway("3", "alicex7k2p9", FQDN, (OURS,)), FQDN, machine=machine)
    plan = GatewayReconciler(None).plan(a_tester(), observed, gateway({}))  # type: ignore[arg-type]
    assert brief(plan) == expected
    assert all(isinstance(each, Action) and each.disruption is Disruption.REBUILD for each in plan)


async def test_the_row_of_a_gateway_says_for_which_machine_it_was_made() -> None:
    class Looks:
        async def gateways(self, daemon: str) -> tuple[Gateway, ...]:
            return (Gateway("3", "alicex7k2p9", FQDN, (OURS,)),)

    step = GatewayReconciler(None)  # type: ignore[arg-type]
    looks: TesterLooks = Looks()  # type: ignore[assignment]
    found = await step.observe(TesterView(a_tester(), gateway({})), looks)
    assert found is not None
    assert step.identity(found)["machine"] == "gent/12"
    old = await step.observe(TesterView(a_tester(), gateway({"machine": "gent/11"})), looks)
    assert old is not None
    assert step.identity(old)["machine"] == "gent/11"


async def test_a_gateway_at_a_daemon_that_left_the_fleet_is_named() -> None:
    looks: TesterLooks = None  # type: ignore[assignment] - nobody is asked
    facts = gateway({"daemon": "lyon", "gateway_id": "3"})
    with pytest.raises(Blocked, match="gateway alicex7k2p9 of alice") as caught:
        await GatewayReconciler(None).observe(TesterView(a_tester(), facts), looks)  # type: ignore[arg-type]
    assert caught.value.reason == "DaemonInUse"
