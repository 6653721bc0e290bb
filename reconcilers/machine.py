"""The tester's VM.

Its identity is daemon *and* id (lesson 9); its name derives from its row, so that it is found again after a lost answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from reconcilers.actions import Action, Disruption, Effect, FieldChange, Finding, Step, Wait
from reconcilers.backends import Backends
from reconcilers.backends.compute import Node, Vm, VmOrder
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.errors import OutsideError
from reconcilers.facts import Facts, MachineFacts, ObjectState, OutsideObject
from reconcilers.installer_key import installer_public_key
from reconcilers.looks import TesterLooks
from reconcilers.placement import Place, choose, daemons_for, grid_node_of
from specs.desired import DesiredTester
from specs.names import vm_name

RUNNING = "running"
FAILED = "failed"
GONE_STATES = frozenset({"gone", "deleted"})
_NEVER_BEGUN = (None, ObjectState.GONE)


@dataclass(frozen=True, slots=True)
class SeenMachine:
    """A VM and the daemon that has it."""

    daemon: str
    vm: Vm

    @property
    def key(self) -> str:
        return f"{self.daemon}/{self.vm.vm_id}"


class MachineReconciler(Base):
    """Keeps one VM. What differs in size is said and never repaired silently: that would cost the tester's data."""

    name = "machine"
    needs: tuple[str, ...] = ("account",)
    makes = True
    leaves = "standing"

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenMachine | None:
        """By id where it is known, else by name at every daemon.

        Raises Blocked NoCapacity, NodeOffline, NodeUnknown for a machine still to be made: before anything is written down.
        """
        row = tester.facts.object
        if row is not None and row.identity.get("vm_id"):
            return await self._by_id(row, looks)
        found = await self._by_name(tester, _row_name(tester), looks)
        if found is None and not tester.facts.leaving and _state(row) in _NEVER_BEGUN:
            await _choose(tester, looks)
        return found

    async def _by_id(self, row: OutsideObject, looks: TesterLooks) -> SeenMachine | None:
        """A listing may omit what is there: only the daemon's own "not found" counts as absence."""
        daemon, vm_id = row.identity["daemon"], row.identity["vm_id"]
        listed = next((vm for vm in await looks.vms(daemon) if vm.vm_id == vm_id), None)
        vm = listed or await self.backends.daemon(daemon).get_vm(vm_id)
        return _present(daemon, vm)

    async def _by_name(self, tester: TesterView, name: str, looks: TesterLooks) -> SeenMachine | None:
        """At every daemon of the fleet: it is not known at which one the lost call was. A daemon that cannot be read
        matters only once a create was begun. Raises what it raised then."""
        unread: OutsideError | None = None
        for daemon in tester.facts.fleet.spec.compute:
            try:
                vms = await looks.vms(daemon.name)
            except OutsideError as error:
                unread = error
                continue
            found = _present(daemon.name, next((vm for vm in vms if vm.name == name), None))
            if found is not None:
                return found
        if unread is not None and _state(tester.facts.object) not in _NEVER_BEGUN:
            raise unread
        return None

    def plan(self, desired: DesiredTester | None, observed: SeenMachine | None, facts: Facts) -> tuple[Step, ...]:
        """Create, wait, or replace a failed one."""
        if desired is None:
            return (
                (_delete(observed, Disruption.REMOVE, "the machine and all data on it are deleted"),)
                if observed
                else ()
            )
        if observed is None:
            return (_create(desired, facts),)
        if observed.vm.state == FAILED:
            return (_delete(observed, Disruption.REBUILD, "it failed to come up and is replaced by a new one"),)
        if observed.vm.state == RUNNING and observed.vm.address:
            return ()
        reason = "WaitingForAddress" if observed.vm.state == RUNNING else "MachineStarting"
        return (
            Wait(
                reason,
                f"machine {observed.vm.name} is {observed.vm.state}"
                + ("" if observed.vm.address else ", without an address yet"),
                facts.fleet.spec.timing.deploy_limit,
                blames=f"compute {observed.daemon}",
            ),
        )

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenMachine | None:
        if action.verb == "delete":
            daemon, vm_id = action.args
            await self.backends.daemon(daemon).delete_vm(vm_id)
            await self.backends.machines.forget(f"{daemon}/{vm_id}")
            return None
        wanted, name = tester.desired.machine, action.args[0]
        place = choose(wanted, tester.facts.fleet.spec.compute, await self._nodes_now(tester))
        await ports.note(f"{name} goes to node {place.daemon}/{place.node_sid}")
        order = VmOrder(
            name=name,
            node_sid=place.node_sid,
            image=wanted.image,
            cpu=wanted.cpu,
            memory_mb=wanted.memory_mb,
            disk_gb=wanted.disk_gb,
            rootfs_gb=wanted.rootfs_gb,
            ssh_keys=(*tester.desired.ssh_keys, installer_public_key(tester.facts)),
        )
        return SeenMachine(place.daemon, await self.backends.daemon(place.daemon).deploy_vm(order))

    async def _nodes_now(self, tester: TesterView) -> dict[str, tuple[Node, ...]]:
        """Fresh from the daemons: a shared look may promise room that is gone."""
        daemons = daemons_for(tester.desired.machine, tester.facts.fleet.spec.compute)
        return await _read_all(daemons, lambda daemon: self.backends.daemon(daemon).list_nodes())

    def learn(self, observed: SeenMachine, facts: Facts) -> MachineFacts | None:
        """Only once it runs and its address is known (lesson 8)."""
        vm = observed.vm
        if vm.state != RUNNING or not vm.address:
            return None
        return MachineFacts(
            daemon=observed.daemon,
            vm_id=vm.vm_id,
            vm_name=vm.name,
            node_sid=vm.node_sid,
            grid_node=grid_node_of(facts.fleet.spec.compute, observed.daemon, vm.node_sid),
            address=vm.address,
        )

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """MachineAsSpecified, as far as the daemon tells sizes."""
        if not isinstance(observed, SeenMachine):
            return ()
        wanted, vm = desired.machine, observed.vm
        sizes = (("memory", vm.memory_mb, wanted.memory_mb, "MiB"), ("disk", vm.disk_gb, wanted.disk_gb, "GiB"))
        differing = [f"{what} is {is_} {unit}, not {want}" for what, is_, want, unit in sizes if is_ and is_ != want]
        if wanted.placement and vm.node_sid and wanted.placement != (observed.daemon, vm.node_sid):
            differing.append(f"it is on node {observed.daemon}/{vm.node_sid}, not {wanted.node}")
        if differing:
            message = f"{'; '.join(differing)}: raise spec.machine.rebuild to have it built anew"
            return (Finding("MachineAsSpecified", False, "RebuildNeeded", message),)
        return (
            Finding(
                "MachineAsSpecified", True, "AsSpecified", f"machine {vm.name} has the size that the spec asks for"
            ),
        )

    def name_for(self, desired: DesiredTester, facts: Facts, incarnation: int, attempt: int) -> str:
        return vm_name(facts.tester, facts.uid, incarnation, attempt)

    def identity(self, observed: SeenMachine) -> dict[str, str]:
        return {"daemon": observed.daemon, "vm_id": observed.vm.vm_id}

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        """At the row's daemon when it is known, else at all. Raises what a daemon that cannot be read raises."""
        row = tester.facts.object
        known = row.identity.get("daemon") if row else None
        daemons = [known] if known else [daemon.name for daemon in tester.facts.fleet.spec.compute]
        return frozenset([vm.name for daemon in daemons for vm in await looks.vms(daemon)])


async def _choose(tester: TesterView, looks: TesterLooks) -> Place:
    wanted, fleet = tester.desired.machine, tester.facts.fleet.spec.compute
    return choose(wanted, fleet, await _read_all(daemons_for(wanted, fleet), looks.nodes))


async def _read_all(
    daemons: Iterable[str], read: Callable[[str], Awaitable[tuple[Node, ...]]]
) -> dict[str, tuple[Node, ...]]:
    """What can be read; one dead daemon does not hold up the others (law 6). Raises when none can be."""
    nodes: dict[str, tuple[Node, ...]] = {}
    failed: OutsideError | None = None
    for daemon in daemons:
        try:
            nodes[daemon] = await read(daemon)
        except OutsideError as error:
            failed = error
    if failed is not None and not nodes:
        raise failed
    return nodes


def _row_name(tester: TesterView) -> str:
    row = tester.facts.object
    return row.name if row else vm_name(tester.facts.tester, tester.facts.uid)


def _state(row: OutsideObject | None) -> ObjectState | None:
    return row.state if row else None


def _present(daemon: str, vm: Vm | None) -> SeenMachine | None:
    return SeenMachine(daemon, vm) if vm is not None and vm.state not in GONE_STATES else None


def _create(desired: DesiredTester, facts: Facts) -> Action:
    wanted = desired.machine
    name = facts.object.name if facts.object else vm_name(facts.tester, facts.uid)
    return Action(
        "create",
        f"machine {name}",
        Effect.CREATE,
        changes=(
            FieldChange("name", None, name),
            FieldChange("node", None, wanted.node),
            FieldChange("memory", None, f"{wanted.memory_mb} MiB"),
            FieldChange("cpu", None, str(wanted.cpu)),
            FieldChange("disk", None, f"{wanted.disk_gb} GiB"),
            FieldChange("rootfs", None, f"{wanted.rootfs_gb} GiB"),
            FieldChange("image", None, wanted.image),
        ),
        args=(name,),
        reason="MachineCreated",
        limit=facts.fleet.spec.timing.deploy_limit,
    )


def _delete(observed: SeenMachine, disruption: Disruption, consequence: str) -> Action:
    return Action(
        "delete",
        f"machine {observed.vm.name}",
        Effect.DELETE,
        disruption=disruption,
        consequences=(consequence,),
        args=(observed.daemon, observed.vm.vm_id),
        reason="MachineDeleted",
    )
