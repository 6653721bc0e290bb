"""On which node a machine goes. Pure: wishes and node listings in, one node out, or a refusal that says what is missing.

Capacity is disk *and* memory (lesson 41); a disk lies in one pool, so that the largest pool counts and not their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reconcilers.backends.compute import Node
from reconcilers.errors import Blocked
from specs.desired import DesiredMachine
from specs.fleet import ComputeDaemon, GridNode, NodeSid


@dataclass(frozen=True, slots=True)
class Place:
    """A node, under both of its ids (lesson 7)."""

    daemon: str
    node_sid: NodeSid
    grid_node: GridNode


@dataclass(frozen=True, slots=True)
class _Candidate:
    place: Place
    node: Node

    def lacks(self, wanted: DesiredMachine) -> tuple[int, int]:
        """Missing memory in MiB and missing disk in GiB; zeros: it fits."""
        disk = wanted.disk_gb + wanted.rootfs_gb - max(self.node.disk_pools_free_gb, default=0)
        return max(0, wanted.memory_mb - self.node.memory_free_mb), max(0, disk)

    @property
    def room(self) -> tuple[int, int]:
        return self.node.memory_free_mb, max(self.node.disk_pools_free_gb, default=0)


def daemons_for(wanted: DesiredMachine, fleet: Sequence[ComputeDaemon]) -> tuple[str, ...]:
    """The daemons whose nodes come into question."""
    return (wanted.placement[0],) if wanted.placement else tuple(daemon.name for daemon in fleet)


def choose(wanted: DesiredMachine, fleet: Sequence[ComputeDaemon], nodes: Mapping[str, Sequence[Node]]) -> Place:
    """The node with the most free memory among those that fit; the fleet's order decides between equals.

    Raises Blocked NodeUnknown, NodeOffline or NoCapacity, before anything is made (lessons 41, 42).
    """
    candidates = _candidates(wanted, fleet, nodes)
    if not candidates:
        raise _blocked(wanted, "NodeUnknown", "no daemon lists such a node: name one that the fleet has, or `auto`")
    online = [each for each in candidates if each.node.online]
    if not online:
        which = ", ".join(f"{each.place.daemon}/{each.place.node_sid}" for each in candidates)
        raise _blocked(
            wanted, "NodeOffline", f"offline: {which}; bring it back, or choose another node in spec.machine.node"
        )
    fitting = [each for each in online if each.lacks(wanted) == (0, 0)]
    if not fitting:
        raise _blocked(wanted, "NoCapacity", _shortage(wanted, online))
    return max(fitting, key=lambda each: each.room).place


def grid_node_of(fleet: Sequence[ComputeDaemon], daemon: str, sid: str) -> GridNode:
    """The grid's id of a daemon's node; of its first node when that one is not known. "" when the daemon is not."""
    for each in fleet:
        if each.name == daemon:
            named = next((node for node in each.nodes if node.sid == sid), each.nodes[0])
            return named.grid_node
    return GridNode("")


def _candidates(
    wanted: DesiredMachine, fleet: Sequence[ComputeDaemon], nodes: Mapping[str, Sequence[Node]]
) -> list[_Candidate]:
    """Nodes that the fleet names *and* their daemon lists, pinned one only if one is pinned."""
    found = []
    for daemon in fleet:
        listed = {node.sid: node for node in nodes.get(daemon.name, ())}
        for named in daemon.nodes:
            pinned_elsewhere = wanted.placement is not None and wanted.placement != (daemon.name, named.sid)
            if named.sid in listed and not pinned_elsewhere:
                found.append(_Candidate(Place(daemon.name, named.sid, named.grid_node), listed[named.sid]))
    return found


def _shortage(wanted: DesiredMachine, online: Sequence[_Candidate]) -> str:
    nearest = min(online, key=lambda each: each.lacks(wanted))
    memory, disk = nearest.lacks(wanted)
    lacking = [f"{memory} MiB of memory"] * bool(memory) + [f"{disk} GiB of disk in one pool"] * bool(disk)
    return (
        f"no node has room for {wanted.memory_mb} MiB and {wanted.disk_gb + wanted.rootfs_gb} GiB: "
        f"the nearest, {nearest.place.daemon}/{nearest.place.node_sid}, lacks {' and '.join(lacking)}; "
        "remove a tester, add a node, or ask for less"
    )


def _blocked(wanted: DesiredMachine, reason: str, message: str) -> Blocked:
    return Blocked(f"node {wanted.node}: {message}", system="compute", reason=reason)
