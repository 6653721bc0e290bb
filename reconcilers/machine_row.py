"""A VM as it is seen, and what its row remembers of how it was ordered. Pure.

The daemon tells neither image nor processors, and nothing at all of a machine whose call was lost; and only the row knows
for which `rebuild` of the spec it was made. So the order is kept in the row's identity, before the call (law 2). Other keys
there are the engine's: it keeps them, and takes its marks out again, without our telling them back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconcilers.actions import FieldChange
from reconcilers.backends.compute import Vm
from reconcilers.facts import Facts, MachineAccessFacts, MachineFacts
from reconcilers.placement import NodeKey, Place, Room, disk_of
from specs.desired import DesiredMachine

REBUILD = "rebuild"
NEVER_REACHED = "never_reached"  # the nodes of the machines right before it on which nobody ever was
GIVEN_UP = "given_up"  # nobody ever was on this one either: it was deleted for that
_ORDERED = frozenset(
    {"node_sid", "memory_mb", "disk_gb", "rootfs_gb", "cpu", "image", REBUILD, NEVER_REACHED, GIVEN_UP}
)


@dataclass(frozen=True, slots=True)
class SeenMachine:
    """A VM and the daemon that has it.

    at      when it was looked at
    kept    the identity of its row, completed; whatever else the engine holds there included
    twins   other VMs of its name at the same daemon
    alike   other VMs of which the daemons tell the same address; None: not asked
    unasked daemons that have not answered whether they have one
    """

    daemon: str
    vm: Vm
    at: datetime | None = field(default=None, compare=False)
    kept: Mapping[str, str] = field(default_factory=dict, compare=False)
    twins: tuple[Vm, ...] = ()
    alike: tuple[str, ...] | None = ()
    unasked: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.daemon}/{self.vm.vm_id}"

    @property
    def node(self) -> str:
        """`gent/0001`; only the daemon while the node is not known."""
        sid = self.vm.node_sid or self.kept.get("node_sid", "")
        return f"{self.daemon}/{sid}" if sid else self.daemon

    @property
    def rebuild(self) -> int:
        """The spec's counter that it was made for."""
        return _number(self.kept, REBUILD)

    @property
    def predecessors(self) -> tuple[str, ...]:
        """The nodes of the machines right before this one that were never reached, one each."""
        return tuple(self.kept.get(NEVER_REACHED, "").split())

    @property
    def identity(self) -> dict[str, str]:
        """Only what is ours: the engine lays it over what it holds itself."""
        ours = {key: value for key, value in self.kept.items() if key in _ORDERED}
        return {**ours, "daemon": self.daemon, "vm_id": self.vm.vm_id}

    @property
    def room(self) -> Room | None:
        """What becomes free when it goes, as far as it is known."""
        daemon, _, sid = self.node.partition("/")
        memory = self.vm.memory_mb or _number(self.kept, "memory_mb")
        return Room((daemon, sid), memory, _number(self.kept, "disk_gb")) if sid else None


def promise_of(place: Place, wanted: DesiredMachine) -> dict[str, str]:
    """What is given away, written down before the call. `disk_gb` is all of the disk, data and root, as a pool sees it."""
    return {
        "daemon": place.daemon,
        "node_sid": place.node_sid,
        "memory_mb": str(wanted.memory_mb),
        "disk_gb": str(disk_of(wanted)),
    }


def order_of(place: Place, wanted: DesiredMachine, never_reached: tuple[str, ...] = ()) -> dict[str, str]:
    """The promise, and what else must be known of the order later on."""
    order = {
        **promise_of(place, wanted),
        "rootfs_gb": str(wanted.rootfs_gb),
        "cpu": str(wanted.cpu),
        "image": wanted.image,
        REBUILD: str(wanted.rebuild),
    }
    return {**order, NEVER_REACHED: " ".join(never_reached)} if never_reached else order


def never_reached_before(facts: Facts, wanted: DesiredMachine) -> tuple[str, ...]:
    """The nodes of the machines right before the row's that were given up without ever having been reached, oldest first.

    From the rows alone, which a restart does not lose: the newest machine that there was has its predecessors', and says
    itself how it ended. Raising `rebuild` begins anew.
    """
    for row in reversed(facts.earlier):
        told = row.identity
        if "vm_id" not in told:
            continue  # it never came to be
        if told.get(REBUILD) != str(wanted.rebuild):
            return ()
        before = tuple(told.get(NEVER_REACHED, "").split())
        return (*before, f"{told['daemon']}/{told.get('node_sid', '')}") if told.get(GIVEN_UP) else before
    return ()


def reached(kept: Mapping[str, str]) -> dict[str, str]:
    """The identity of a machine on which somebody was: what went before it counts for nothing from now on."""
    return {key: "" if key in (NEVER_REACHED, GIVEN_UP) else value for key, value in kept.items()}


def completed(kept: Mapping[str, str], wanted: DesiredMachine) -> dict[str, str]:
    """A row that does not say for which `rebuild` it was made counts as made for the present one: data is not lost on a guess."""
    return {REBUILD: str(wanted.rebuild), **kept}


def differences(wanted: DesiredMachine, observed: SeenMachine) -> tuple[FieldChange, ...]:
    """What only a new machine could put right. What nobody tells is not said to differ."""
    vm, kept = observed.vm, observed.kept
    rootfs = _number(kept, "rootfs_gb")
    disk = vm.disk_gb or max(0, _number(kept, "disk_gb") - rootfs)
    sizes = (
        ("memory", vm.memory_mb or _number(kept, "memory_mb"), wanted.memory_mb, "MiB"),
        ("cpu", _number(kept, "cpu"), wanted.cpu, "processors"),
        ("disk", disk, wanted.disk_gb, "GiB"),
        ("rootfs", rootfs, wanted.rootfs_gb, "GiB"),
    )
    found = [
        FieldChange(what, f"{is_} {unit}", f"{want} {unit}") for what, is_, want, unit in sizes if is_ not in (0, want)
    ]
    image = kept.get("image", "")
    if image and image != wanted.image:
        found.append(FieldChange("image", image, wanted.image))
    if wanted.placement and "/" in observed.node and observed.node != wanted.node:
        found.append(FieldChange("node", observed.node, wanted.node))
    return tuple(found)


def was_reached(observed: SeenMachine, facts: Facts) -> bool:
    """Whether somebody has been on this very machine: then there may be data on it."""
    machine = facts.get(MachineFacts)
    return machine is not None and machine.key == observed.key and facts.get(MachineAccessFacts) is not None


def unreached_for(observed: SeenMachine, facts: Facts) -> timedelta:
    """For how long a machine that was never reached has been there; zero for one that was, or whose row does not say."""
    since = facts.object.since if facts.object else None
    if since is None or observed.at is None or was_reached(observed, facts):
        return timedelta(0)
    return observed.at - since


def nodes_of(names: tuple[str, ...]) -> frozenset[NodeKey]:
    """`gent/0001` → (gent, 0001)."""
    return frozenset((daemon, sid) for daemon, _, sid in (name.partition("/") for name in names))


def _number(kept: Mapping[str, str], key: str) -> int:
    text = kept.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else 0
