"""Nodes: what is used by our machines, what is promised and not in the readout yet, and what is free."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from controller.promises import promise_of
from controller.store import Store
from controller.world import World
from reconcilers.backends.compute import Node
from reconcilers.errors import OutsideError
from reconcilers.facts import ObjectState, Promise
from reconcilers.looks import Look
from reconcilers.placement import not_shown_yet
from reconcilers.questions import nodes
from specs.fleet import ComputeDaemon
from specs.fleet import Node as NamedNode

PATIENCE: Final = timedelta(milliseconds=400)
"""So long a page waits for a daemon that is asked for it; what it answers later is there the next time."""

_TAKEN: Final = frozenset({ObjectState.INTENDED, ObjectState.EXISTING, ObjectState.RETIRING})


@dataclass(frozen=True, slots=True)
class Room:
    """Of memory (MiB) or disk (GiB). `free`: None while the daemon has not told or the node is offline; no total then."""

    used: int
    promised: int
    free: int | None

    @property
    def total(self) -> int:
        return self.used + self.promised + (self.free or 0)


@dataclass(frozen=True, slots=True)
class NodeBoard:
    """One node. `online`: None while the daemon has not told; `why` then says why."""

    daemon: str
    sid: str
    grid_node: str
    title: str
    gone: bool
    online: bool | None
    read_at: datetime | None
    why: str
    memory: Room
    disk: Room
    largest_pool: int | None
    testers: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.daemon}/{self.sid}"


@dataclass(frozen=True, slots=True)
class _Told:
    """A daemon's answer."""

    nodes: Mapping[str, Node]
    at: datetime | None
    why: str = ""


async def node_boards(store: Store, world: World | None, now: datetime) -> tuple[NodeBoard, ...]:
    """Of every node that the Fleet names, in its order; none before there is a Fleet. Raises StoreError."""
    if world is None:
        return ()
    rows = await store.objects("machine", _TAKEN)
    promises = [each for row in rows if (each := promise_of(row, now)) is not None]
    daemons = world.fleet.spec.compute
    told = await asyncio.gather(*(_told(world, daemon) for daemon in daemons))
    return tuple(
        _board(daemon, node, answer, promises, world.capacity_lag)
        for daemon, answer in zip(daemons, told, strict=True)
        for node in daemon.nodes
    )


async def _told(world: World, daemon: ComputeDaemon) -> _Told:
    """The shared listing; what was known last while the daemon is silent."""
    if daemon.gone:
        return _Told({}, None, "gone for good, as the Fleet says")
    question = nodes(daemon.name)
    asked = world.looks.listing(question, None, None)
    why = ""
    try:
        look: Look[tuple[Node, ...]] | None = await asyncio.wait_for(asked, PATIENCE.total_seconds())
    except TimeoutError:
        look, why = world.looks.at_hand(question), "the daemon is being asked"
    except OutsideError as error:
        look, why = world.looks.at_hand(question), str(error)
    if look is None:
        return _Told({}, None, why)
    return _Told({node.sid: node for node in look.value}, look.taken_at, why)


def _board(
    daemon: ComputeDaemon, named: NamedNode, told: _Told, promises: Sequence[Promise], lag: timedelta
) -> NodeBoard:
    mine = [each for each in promises if (each.daemon, each.node_sid) == (daemon.name, named.sid)]
    fresh = not_shown_yet(mine, lag)
    node = told.nodes.get(named.sid)
    missing = "the daemon does not list this node" if told.at is not None else ""
    memory = sum(each.memory_mb for each in mine), sum(each.memory_mb for each in fresh)
    disk = sum(each.disk_gb for each in mine), sum(each.disk_gb for each in fresh)
    offering = node if node is not None and node.online else None
    pools = offering.disk_pools_free_gb if offering is not None else ()
    return NodeBoard(
        daemon=daemon.name,
        sid=named.sid,
        grid_node=named.grid_node,
        title=named.name or "",
        gone=daemon.gone or named.gone,
        online=node.online if node is not None else None,
        read_at=told.at if node is not None else None,
        why=told.why or ("" if node is not None else missing),
        memory=_room(*memory, offering.memory_free_mb if offering is not None else None),
        disk=_room(*disk, sum(pools) if offering is not None else None),
        largest_pool=max(pools, default=None),
        testers=_names(mine),
    )


def _room(taken: int, promised: int, told_free: int | None) -> Room:
    """The readout's free room still holds what is promised."""
    return Room(taken - promised, promised, None if told_free is None else max(0, told_free - promised))


def _names(promises: Iterable[Promise]) -> tuple[str, ...]:
    by_tester: dict[str, int] = defaultdict(int)
    for each in promises:
        by_tester[each.tester] += 1
    return tuple(f"{name} ×{count}" if count > 1 else name for name, count in sorted(by_tester.items()))
