"""On which node a machine goes. Pure: wishes, listings and promises in, one node out, or a refusal that says what is missing.

Capacity is disk *and* memory, minus what is promised already (lesson 41); a disk lies in one pool, so that the largest pool
counts and not their sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from reconcilers.backends.compute import Node
from reconcilers.errors import Blocked
from reconcilers.facts import Promise
from specs.desired import DesiredMachine
from specs.fleet import ComputeDaemon, GridNode, NodeSid

NodeKey = tuple[str, str]  # daemon, the daemon's own id of the node


@dataclass(frozen=True, slots=True)
class Place:
    """A node, under both of its ids (lesson 7)."""

    daemon: str
    node_sid: NodeSid
    grid_node: GridNode

    def __str__(self) -> str:
        return f"{self.daemon}/{self.node_sid}"


@dataclass(frozen=True, slots=True)
class Room:
    """Room on one node that the listing does not speak of. disk_gb is all of a machine's disk: data and root."""

    node: NodeKey
    memory_mb: int
    disk_gb: int
    whose: str = ""


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known beside the listings.

    promised  given away, and not in the readout yet
    freed     what goes before the new machine comes: the one that it replaces
    shunned   nodes on which this tester's machine was never reached: taken only when there is no other
    """

    promised: tuple[Room, ...] = ()
    freed: Room | None = None
    shunned: frozenset[NodeKey] = field(default_factory=frozenset)


NOTHING = Beside()


@dataclass(frozen=True, slots=True)
class _Candidate:
    place: Place
    online: bool
    memory_mb: int
    disk_gb: int  # the largest pool
    promised_to: tuple[str, ...]

    def lacks(self, wanted: DesiredMachine) -> tuple[int, int]:
        """Missing memory in MiB and missing disk in GiB; zeros: it fits."""
        return max(0, wanted.memory_mb - self.memory_mb), max(0, disk_of(wanted) - self.disk_gb)

    @property
    def key(self) -> NodeKey:
        return self.place.daemon, self.place.node_sid


def disk_of(wanted: DesiredMachine) -> int:
    """All of a machine's disk, in GiB: both parts lie in the same pool."""
    return wanted.disk_gb + wanted.rootfs_gb


def daemons_for(wanted: DesiredMachine, fleet: Sequence[ComputeDaemon]) -> tuple[str, ...]:
    """The daemons whose nodes come into question."""
    return (wanted.placement[0],) if wanted.placement else tuple(daemon.name for daemon in fleet)


def not_shown_yet(promises: Iterable[Promise], lag: timedelta) -> tuple[Room, ...]:
    """The promises that a node's readout need not show yet: younger than `lag`, or of a create that is not answered.

    All others are in the readout, and would be counted twice.
    """
    return tuple(
        Room((each.daemon, each.node_sid), each.memory_mb, each.disk_gb, each.tester)
        for each in promises
        if each.age < lag or each.making
    )


def choose(
    wanted: DesiredMachine,
    fleet: Sequence[ComputeDaemon],
    nodes: Mapping[str, Sequence[Node]],
    beside: Beside = NOTHING,
) -> Place:
    """The node with the most free memory among those that fit; the fleet's order decides between equals.

    Raises Blocked NodeUnknown, NodeOffline or NoCapacity, before anything is made (lessons 41, 42).
    """
    candidates = _candidates(wanted, fleet, nodes, beside)
    if not candidates:
        raise _blocked(wanted, "NodeUnknown", "no daemon lists such a node: name one that the fleet has, or `auto`")
    online = [each for each in candidates if each.online]
    if not online:
        which = ", ".join(str(each.place) for each in candidates)
        raise _blocked(
            wanted, "NodeOffline", f"offline: {which}; bring it back, or choose another node in spec.machine.node"
        )
    fitting = [each for each in online if each.lacks(wanted) == (0, 0)]
    if not fitting:
        raise _blocked(wanted, "NoCapacity", _shortage(wanted, online))
    return max(fitting, key=lambda each: (each.key not in beside.shunned, each.memory_mb, each.disk_gb)).place


def grid_node_of(fleet: Sequence[ComputeDaemon], daemon: str, sid: str) -> GridNode:
    """The grid's id of a daemon's node; of its first node when that one is not known. "" when there is none, or no daemon."""
    nodes = next((each.nodes for each in fleet if each.name == daemon), ())
    named = [node for node in nodes if node.sid == sid] or nodes
    return named[0].grid_node if named else GridNode("")


def check_daemon_named(fleet: Sequence[ComputeDaemon], daemon: str, what: str) -> None:
    """Raises Blocked DaemonInUse when the fleet does not name the daemon any more at which `what` still is."""
    if all(each.name != daemon for each in fleet):
        raise Blocked(
            f"the fleet names no daemon {daemon} any more, and {what} is still there: put it back under spec.compute "
            "until nothing is left at it, with gone: true if it is gone for good",
            system=f"compute {daemon}",
            reason="DaemonInUse",
        )


def check_node_named(fleet: Sequence[ComputeDaemon], daemon: str, sid: str, what: str) -> None:
    """Raises Blocked DaemonInUse when the daemon is named and the node, on which `what` runs, is not any more."""
    named = next((each.nodes for each in fleet if each.name == daemon), ())
    if sid and named and all(node.sid != sid for node in named):
        raise Blocked(
            f"the fleet names no node {daemon}/{sid} any more, and {what} still runs on it: put it back under "
            "spec.compute, with gone: true if it is gone for good, or raise spec.machine.rebuild to have the machine built "
            "anew elsewhere",
            system=f"compute {daemon}",
            reason="DaemonInUse",
        )


def _candidates(
    wanted: DesiredMachine, fleet: Sequence[ComputeDaemon], nodes: Mapping[str, Sequence[Node]], beside: Beside
) -> list[_Candidate]:
    """Nodes that the fleet names *and* their daemon lists, pinned one only if one is pinned."""
    found = []
    for daemon in fleet:
        listed = {node.sid: node for node in nodes.get(daemon.name, ())}
        for named in daemon.nodes:
            pinned_elsewhere = wanted.placement is not None and wanted.placement != (daemon.name, named.sid)
            if named.sid in listed and not pinned_elsewhere:
                place = Place(daemon.name, named.sid, named.grid_node)
                found.append(_candidate(place, listed[named.sid], beside))
    return found


def _candidate(place: Place, node: Node, beside: Beside) -> _Candidate:
    key = (place.daemon, place.node_sid)
    promised = [room for room in beside.promised if room.node == key]
    freed = beside.freed if beside.freed is not None and beside.freed.node == key else None
    memory = node.memory_free_mb - sum(room.memory_mb for room in promised) + (freed.memory_mb if freed else 0)
    disk = largest_pool(node.disk_pools_free_gb, [room.disk_gb for room in promised], freed.disk_gb if freed else 0)
    return _Candidate(place, node.online, memory, disk, tuple(sorted({room.whose for room in promised if room.whose})))


def largest_pool(pools: Sequence[int], promised: Sequence[int], freed: int) -> int:
    """What one pool surely has: nobody knows into which pool a disk goes or in which one it was, so the worst is assumed."""
    left = list(pools) or [0]
    for disk in sorted(promised, reverse=True):
        left[left.index(max(left))] -= disk
    return max(max(left), min(left) + freed)


def _shortage(wanted: DesiredMachine, online: Sequence[_Candidate]) -> str:
    nearest = min(online, key=lambda each: each.lacks(wanted))
    memory, disk = nearest.lacks(wanted)
    lacking = [f"{_in_words(memory)} of memory"] * bool(memory) + [f"{disk} GiB of disk in one pool"] * bool(disk)
    promised = f", after what is promised to {', '.join(nearest.promised_to)}" if nearest.promised_to else ""
    return (
        f"no node has room for {_in_words(wanted.memory_mb)} of memory and {disk_of(wanted)} GiB of disk: "
        f"the nearest, {nearest.place}, lacks {' and '.join(lacking)}{promised}; "
        "remove a tester, add a node, or ask for less"
    )


def _in_words(mib: int) -> str:
    """As specs write it: `8 GiB`, `512 MiB`."""
    return f"{mib / 1024:g} GiB" if mib % 512 == 0 else f"{mib} MiB"


def _blocked(wanted: DesiredMachine, reason: str, message: str) -> Blocked:
    return Blocked(f"node {wanted.node}: {message}", system="compute", reason=reason)
