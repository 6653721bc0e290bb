"""Where a machine goes when room is promised, freed, shunned or fought over: tables, and two testers at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reconcilers.backends import Backends
from reconcilers.backends.compute import Node, Vm, VmOrder
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, OutcomeUnknown, Unreachable
from reconcilers.facts import AccountFacts, Facts, ObjectState, Promise
from reconcilers.looks import TesterLooks
from reconcilers.machine import MachineReconciler
from reconcilers.placement import Beside, Room, check_daemon_named, check_node_named, choose, not_shown_yet
from reconcilers.secret import Secret
from specs.fleet import GridNode, NodeSid
from tests.reconcilers.data import NOW, UID, a_fleet, a_row, a_tester

GIB = 1024
LAG = timedelta(seconds=120)
FLEET = a_fleet().spec.compute


def node(sid: str, memory_gib: int = 64, *pools: int, online: bool = True) -> Node:
    return Node(NodeSid(sid), GridNode("9"), online, memory_gib * GIB, pools or (500,))


def room(where: str, memory_gib: int = 8, disk_gb: int = 60, whose: str = "bob") -> Room:
    daemon, _, sid = where.partition("/")
    return Room((daemon, sid), memory_gib * GIB, disk_gb, whose)


TWO = {"gent": [node("0001", 24), node("0002", 20)]}
CHOICES: dict[str, tuple[dict[str, list[Node]], Beside, str]] = {
    "nothing is promised": (TWO, Beside(), "gent/0001"),
    "a promise makes the other one the freer": (TWO, Beside((room("gent/0001"),)), "gent/0002"),
    "a promise at another daemon's node of the same id": (TWO, Beside((room("york/0001"),)), "gent/0001"),
    "promises add up": (TWO, Beside((room("gent/0001"), room("gent/0001"), room("gent/0001"))), "gent/0002"),
    "a promised disk": ({"gent": [node("0001", 64, 100), node("0002", 20)]}, Beside((room("gent/0001"),)), "gent/0002"),
    "a promise fits beside it in one of two pools": (
        {"gent": [node("0001", 64, 100, 100), node("0002", 20)]},
        Beside((room("gent/0001"),)),
        "gent/0001",
    ),
    "two promises may take both pools": (
        {"gent": [node("0001", 64, 100, 100), node("0002", 20)]},
        Beside((room("gent/0001"), room("gent/0001"))),
        "gent/0002",
    ),
    "the room of the one that it replaces": (
        {"gent": [node("0001", 0, 0)]},
        Beside(freed=room("gent/0001")),
        "gent/0001",
    ),
    "freed elsewhere is not freed here": (
        {"gent": [node("0001", 4), node("0002", 8)]},
        Beside(freed=room("york/0001")),
        "gent/0002",
    ),
    "not where it was never reached": (TWO, Beside(shunned=frozenset({("gent", "0001")})), "gent/0002"),
    "where it was never reached, if there is nothing else": (
        {"gent": [node("0001", 24), node("0002", 4)]},
        Beside(shunned=frozenset({("gent", "0001")})),
        "gent/0001",
    ),
    "another daemon has more": ({**TWO, "york": [node("0001", 32)]}, Beside(), "york/0001"),
    "a daemon with less, as the other is promised away": (
        {"gent": [node("0001", 10)], "york": [node("0001", 9)]},
        Beside((room("gent/0001"),)),
        "york/0001",
    ),
}


@pytest.mark.parametrize("name", CHOICES)
def test_lesson_41_where_a_machine_goes_beside_what_is_promised(name: str) -> None:
    nodes, beside, expected = CHOICES[name]
    assert str(choose(a_tester().machine, FLEET, nodes, beside)) == expected


SHORT: dict[str, tuple[dict[str, list[Node]], Beside, tuple[str, ...]]] = {
    "memory is promised": (
        {"gent": [node("0001", 12)]},
        Beside((room("gent/0001"),)),
        ("lacks 4 GiB of memory", "gent/0001", "bob"),
    ),
    "disk is promised": (
        {"gent": [node("0001", 64, 100)]},
        Beside((room("gent/0001"),)),
        ("20 GiB of disk in one", "bob"),
    ),
    "the nearest of all daemons": (
        {"gent": [node("0001", 2)], "york": [node("0001", 7)]},
        Beside(),
        ("york/0001", "lacks 1 GiB of memory"),
    ),
    "the pool of the one that it replaces is not known": (
        {"gent": [node("0001", 64, 0, 30)]},
        Beside(freed=room("gent/0001", disk_gb=40)),
        ("20 GiB of disk in one pool",),
    ),
}


@pytest.mark.parametrize("name", SHORT)
def test_what_is_missing_is_said_and_where(name: str) -> None:
    nodes, beside, words = SHORT[name]
    with pytest.raises(Blocked) as caught:
        choose(a_tester().machine, FLEET, nodes, beside)
    assert caught.value.reason == "NoCapacity"
    assert all(each in caught.value.message for each in words), caught.value.message


AGES = {"just now": (0, True), "nearly shown": (119, True), "shown": (120, False), "long ago": (9999, False)}


@pytest.mark.parametrize("name", AGES)
def test_a_promise_counts_until_the_readout_is_believed(name: str) -> None:
    age, counts = AGES[name]
    promise = Promise("bob", "gent", "0001", 8 * GIB, 60, timedelta(seconds=age))
    assert bool(not_shown_yet((promise,), LAG)) is counts
    making = replace(promise, making=True)
    assert not_shown_yet((making,), LAG) == (room("gent/0001"),), "it may still wait for its turn"


def test_a_daemon_or_node_that_left_the_fleet_is_named_with_what_is_there() -> None:
    check_daemon_named(FLEET, "gent", "machine x")
    check_node_named(FLEET, "gent", "0002", "machine x")
    for check in (
        lambda: check_daemon_named(FLEET, "lyon", "machine x"),
        lambda: check_node_named(FLEET, "york", "0002", "machine x"),
    ):
        with pytest.raises(Blocked, match="machine x") as caught:
            check()
        assert caught.value.reason == "DaemonInUse"


class SlowDaemon:
    """Its readout never shows anything; its deploys end when they are let."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes
        self.ordered: list[VmOrder] = []
        self.go = asyncio.Event()
        self.fails: Exception | None = None

    async def list_vms(self) -> tuple[Vm, ...]:
        return ()

    async def list_nodes(self) -> tuple[Node, ...]:
        await asyncio.sleep(0)  # others get their turn between the question and its answer
        return self.nodes

    async def deploy_vm(self, order: VmOrder) -> Vm:
        self.ordered.append(order)
        await self.go.wait()
        if self.fails:
            raise self.fails
        return Vm(str(len(self.ordered)), order.name, "provisioning", "", order.node_sid)


class Books:
    """The rows' places, as the engine keeps them; also every tester's ports and looks."""

    def __init__(self) -> None:
        self.places: dict[str, dict[str, str]] = {}
        self.making: set[str] = set()
        self.age = timedelta(0)
        self.placing = asyncio.Lock()

    def now(self) -> Any:
        return NOW

    async def promises(self) -> tuple[Promise, ...]:
        return tuple(
            Promise(
                who,
                at["daemon"],
                at["node_sid"],
                int(at["memory_mb"]),
                int(at["disk_gb"]),
                self.age,
                who in self.making,
            )
            for who, at in self.places.items()
        )

    def ports(self, tester: str) -> Any:
        return Ports(self, tester)


class Ports:
    def __init__(self, books: Books, tester: str) -> None:
        self.books, self.tester = books, tester

    async def place(self, identity: dict[str, str]) -> None:
        await asyncio.sleep(0)
        self.books.places[self.tester] = identity
        self.books.making.add(self.tester)

    def placing(self) -> asyncio.Lock:
        return self.books.placing

    async def promises(self) -> tuple[Promise, ...]:
        return await self.books.promises()

    async def note(self, text: str) -> None: ...


class Looks(Books):
    def __init__(self, books: Books, daemon: SlowDaemon) -> None:
        self.places, self.making, self.age, self.daemon = books.places, books.making, books.age, daemon

    async def vms(self, name: str) -> tuple[Vm, ...]:
        return ()

    async def nodes(self, name: str) -> tuple[Node, ...]:
        return await self.daemon.list_nodes() if name == "gent" else ()


def view(name: str, key: Secret) -> TesterView:
    desired = a_tester().model_copy(update={"name": name})
    row = a_row("machine", ObjectState.GONE, tester=name, name=f"{name}_1")
    steps = {"account": AccountFacts(account=name)}
    return TesterView(desired, Facts(name, UID, a_fleet(), steps, row, {"env:INSTALLER_KEY": key}))


@pytest.fixture
def rivals(installer_key: tuple[Secret, str]) -> tuple[SlowDaemon, Books, Any]:
    """One host with room for one machine, and `order(name)`, which looks and then builds, each with a reconciler of its own,
    as after a change of the Fleet."""
    daemon, books = SlowDaemon(node("0001", 12)), Books()
    none = SlowDaemon()
    backends = Backends(None, {"gent": daemon, "york": none}, None, None)  # type: ignore[arg-type, dict-item]

    async def order(name: str) -> Any:
        step = MachineReconciler(backends)
        tester = view(name, installer_key[0])
        looks: TesterLooks = Looks(books, daemon)  # type: ignore[assignment]
        assert await step.observe(tester, looks) is None
        (create,) = step.plan(tester.desired, None, tester.facts)
        made = await step.apply(create, tester, books.ports(name))
        books.making.discard(name)
        return made

    return daemon, books, order


async def test_two_testers_at_once_do_not_get_the_same_room(rivals: tuple[SlowDaemon, Books, Any]) -> None:
    """The readout lags: it shows room for both until long after."""
    daemon, books, order = rivals
    daemon.go.set()
    made, refused = await asyncio.gather(order("alice"), order("bob"), return_exceptions=True)
    assert made.vm.name == "alice_1"
    assert isinstance(refused, Blocked)
    assert refused.reason == "NoCapacity"
    assert "alice" in refused.message
    assert [each.name for each in daemon.ordered] == ["alice_1"], "nothing of the other one is half-built"
    assert set(books.places) == {"alice"}


async def test_the_place_is_written_down_before_the_call(rivals: tuple[SlowDaemon, Books, Any]) -> None:
    daemon, books, order = rivals
    building = asyncio.create_task(order("alice"))
    while not daemon.ordered:  # noqa: ASYNC110 - the fake tells nobody
        await asyncio.sleep(0)
    assert books.places["alice"] == {
        "daemon": "gent",
        "node_sid": "0001",
        "memory_mb": "8192",
        "disk_gb": "60",
        "rootfs_gb": "10",
        "cpu": "4",
        "image": "Ubuntu 24.04",
        "rebuild": "0",
    }
    books.age = timedelta(hours=1)
    with pytest.raises(Blocked, match="alice"):
        await order("bob")  # however long the first call has been waiting for its turn
    daemon.go.set()
    made = await building
    assert made.identity == {**books.places["alice"], "vm_id": "1"}
    assert str((await order("bob")).vm.name) == "bob_1", "by now the readout is believed"


@pytest.mark.parametrize("failure", [OutcomeUnknown("504", system="compute"), Unreachable("nobody", system="compute")])
async def test_a_call_that_failed_holds_nothing_back_by_itself(
    rivals: tuple[SlowDaemon, Books, Any], failure: Exception
) -> None:
    daemon, books, order = rivals
    daemon.go.set()
    daemon.fails = failure
    with pytest.raises(type(failure)):
        await order("alice")
    books.places.clear()  # what the engine does for a definite no, and after the limit of an unknown end
    daemon.fails = None
    assert (await order("bob")).vm.name == "bob_1"
