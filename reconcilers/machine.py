"""The tester's VM.

Its identity is daemon *and* id (lesson 9); its name derives from its row, so that it is found again after a lost answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from reconcilers.account_keys import account_keys, key_required
from reconcilers.actions import Action, Finding, Step, Wait
from reconcilers.backends import Backends
from reconcilers.backends.compute import Node, Vm, VmOrder
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.errors import OutsideError, Unreachable
from reconcilers.facts import AccountFacts, Facts, MachineFacts, ObjectState, OutsideObject, Promise
from reconcilers.installer_key import installer_public_key
from reconcilers.listed import under
from reconcilers.listings import GONE_STATES
from reconcilers.looks import TesterLooks
from reconcilers.machine_doubles import doubles_away, told_of
from reconcilers.machine_look import look_at
from reconcilers.machine_plans import build, deletion, rebuild, replace_unreached
from reconcilers.machine_row import (
    SeenMachine,
    completed,
    differences,
    never_reached_before,
    nodes_of,
    order_of,
    reached,
    unreached_for,
    was_reached,
)
from reconcilers.placement import (
    Beside,
    Place,
    Room,
    check_daemon_named,
    check_node_named,
    choose,
    daemons_for,
    disk_of,
    grid_node_of,
    not_shown_yet,
)
from reconcilers.quarantine import finding, is_proven
from specs.desired import DesiredTester
from specs.names import vm_name

RUNNING = "running"
FAILED = "failed"
_NEVER_BEGUN = (None, ObjectState.GONE)
_LEFT = (ObjectState.RETIRING, ObjectState.LOST)
_PRESENT = (ObjectState.INTENDED, ObjectState.EXISTING)

ReadNodes = Callable[[str], Awaitable[tuple[Node, ...]]]
NodesOf = Mapping[str, tuple[Node, ...]]  # by daemon

PATIENCE = 3.0
"""Seconds that a pass waits for another daemon than its machine's own; later passes find the answer."""

NODES_AGE = timedelta(minutes=1)
"""So long before the choice they may have been asked: others may have had to be waited for."""


class MachineReconciler(Base):
    """Keeps one VM. What differs in size is said and never repaired silently: that would cost the tester's data.

    Placing is done by one tester at a time (`Ports.placing`): between choosing a node and writing the promise down nobody
    else may choose.
    """

    name = "machine"
    needs: tuple[str, ...] = ("account",)
    makes = True
    leaves = "standing"

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenMachine | None:
        """By id where it is known, else by name where it was ordered, else by name at every daemon.

        Raises Blocked SshKeyRequired, NoCapacity, NodeOffline, NodeUnknown for a machine still to be made or made anew:
        before anything is written down or lost. Raises Blocked DaemonInUse when the fleet has lost where it is.
        """
        row = tester.facts.object
        found = await self._find(tester, row, looks)
        if found is not None and was_reached(found, tester.facts):
            found = replace(found, kept=reached(found.kept))
        if tester.facts.leaving:
            return found
        if found is None:
            if _state(row) in _NEVER_BEGUN:
                await self._check_buildable(tester, looks, None)
            return None
        if row is None or row.state not in _PRESENT:
            return found
        if found.rebuild < tester.desired.machine.rebuild:
            await self._check_buildable(tester, looks, found.room)
            return found
        found = await _compared(found, tester, looks)
        daemon, _, sid = found.node.partition("/")
        check_node_named(tester.facts.fleet.spec.compute, daemon, sid, _called(tester))
        return await self._asked_once_more(tester, found, looks)

    async def _find(self, tester: TesterView, row: OutsideObject | None, looks: TesterLooks) -> SeenMachine | None:
        kept = completed(row.identity if row else {}, tester.desired.machine)
        ordered_at = kept.get("daemon")
        if ordered_at:
            check_daemon_named(tester.facts.fleet.spec.compute, ordered_at, _called(tester))
        if ordered_at and kept.get("vm_id"):
            place = (ordered_at, await self._by_id(ordered_at, kept["vm_id"], looks))
            if place[1] is None and _state(row) in _LEFT:
                place = (ordered_at, next(iter(await self._twins(row, ordered_at, looks)), None))
        else:
            place = await self._by_name(tester, ordered_at, looks)
        daemon, vm = place
        if vm is None or vm.state in GONE_STATES:
            return None
        twins = [each for each in under(await looks.vms(daemon), "name", vm.name) if each.vm_id != vm.vm_id]
        return SeenMachine(
            daemon, vm, looks.now(), kept, tuple(each for each in twins if each.state not in GONE_STATES)
        )

    async def _twins(self, row: OutsideObject | None, daemon: str, looks: TesterLooks) -> tuple[Vm, ...]:
        """Machines that are proven ours, of the name of one that is gone."""
        name = row.name if row is not None else ""
        found = [vm for vm in under(await looks.vms(daemon), "name", name) if vm.state not in GONE_STATES]
        return tuple(vm for vm in found if is_proven(vm.created_at, row))

    async def _by_id(self, daemon: str, vm_id: str, looks: TesterLooks) -> Vm | None:
        """A listing may omit what is there: only the daemon's own "not found" counts as absence."""
        listed = under(await looks.vms(daemon), "vm_id", vm_id)
        if listed:
            return listed[0]
        looks.unshared()
        return await self.backends.daemon(daemon).get_vm(vm_id)

    async def _by_name(self, tester: TesterView, ordered_at: str | None, looks: TesterLooks) -> tuple[str, Vm | None]:
        """Where it was ordered; where that is not known, at every daemon of the fleet. A daemon that cannot be read
        matters only once a create was begun. Raises what it raised then."""
        name = _row_name(tester)
        daemons = [ordered_at] if ordered_at else [each.name for each in tester.facts.fleet.spec.compute]
        unread: OutsideError | None = None
        for daemon in daemons:
            try:
                vms = await looks.vms(daemon)
            except OutsideError as error:
                unread = error
                continue
            found = next((vm for vm in under(vms, "name", name) if vm.state not in GONE_STATES), None)
            if found is not None:
                return daemon, found
        if unread is not None and _state(tester.facts.object) not in _NEVER_BEGUN:
            raise unread
        return "", None

    async def _asked_once_more(self, tester: TesterView, found: SeenMachine, looks: TesterLooks) -> SeenMachine:
        """Before a machine is given up it is asked itself: nobody may have looked since the controller was started."""
        machine = tester.facts.get(MachineFacts)
        known = machine is not None and machine.key == found.key
        if not known or unreached_for(found, tester.facts) < tester.facts.fleet.spec.timing.reachable_limit:
            return found
        try:
            await look_at(tester, looks)
        except Unreachable:
            return found
        except OutsideError:
            pass  # it answers, if not as it should
        return replace(found, at=None)

    async def foresee(self, tester: TesterView, looks: TesterLooks) -> Promise | None:
        """Raises Blocked NoCapacity, NodeOffline, NodeUnknown."""
        wanted = tester.desired.machine
        place = _choose(tester, await _all_nodes(tester, looks.nodes), await looks.promises())
        size = wanted.memory_mb, disk_of(wanted)
        return Promise(tester.name, place.daemon, place.node_sid, *size, timedelta(0), making=True, foreseen=True)

    def plan(self, desired: DesiredTester | None, observed: SeenMachine | None, facts: Facts) -> tuple[Step, ...]:
        """Create, wait, build anew when that is asked for, or replace one that never came to life.

        Raises Blocked NeverReachable, MachineFailed.
        """
        if desired is None:
            return (*doubles_away(observed, facts), deletion(observed, facts)) if observed else ()
        if observed is None:
            return (build(desired, facts),)
        if observed.rebuild < desired.machine.rebuild:
            return (rebuild(desired, observed, facts),)
        failed = observed.vm.state == FAILED
        if failed or unreached_for(observed, facts) >= facts.fleet.spec.timing.reachable_limit:
            return (replace_unreached(observed, facts, failed=failed),)
        if observed.vm.state == RUNNING and observed.vm.address and not observed.alike:
            return doubles_away(observed, facts)
        return (_coming_up(observed, facts),)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenMachine | None:
        """One call to a daemon. A create first checks again what `observe` did: others may have come between."""
        if action.verb == "create":
            return await self._create(action.args[0], tester, ports)
        daemon, vm_id = action.args
        await self.backends.daemon(daemon).delete_vm(vm_id)
        await self.backends.machines.forget(f"{daemon}/{vm_id}")
        return None

    async def _create(self, name: str, tester: TesterView, ports: Ports) -> SeenMachine:
        wanted = tester.desired.machine
        own_keys = await self._own_keys(tester)
        nodes = await _all_nodes(tester, self._nodes)  # before anybody else has to wait
        async with ports.placing():
            place = _choose(tester, nodes, await ports.promises())
            kept = order_of(place, wanted, never_reached_before(tester.facts, wanted))
            await ports.place(kept)
        await ports.note(f"{name} goes to node {place}")
        order = VmOrder(
            name=name,
            node_sid=place.node_sid,
            image=wanted.image,
            cpu=wanted.cpu,
            memory_mb=wanted.memory_mb,
            disk_gb=wanted.disk_gb,
            rootfs_gb=wanted.rootfs_gb,
            ssh_keys=(*tester.desired.ssh_keys, *own_keys, installer_public_key(tester.facts)),
        )
        vm = await self.backends.daemon(place.daemon).deploy_vm(order)
        return SeenMachine(place.daemon, vm, kept=kept, alike=None)

    async def _check_buildable(self, tester: TesterView, looks: TesterLooks, freed: Room | None) -> None:
        """Raises what stands in the way of a new machine; `freed` is the room of the one that it would replace."""
        await self._own_keys(tester)
        _choose(tester, await _all_nodes(tester, looks.nodes), await looks.promises(), freed)

    async def _nodes(self, daemon: str) -> tuple[Node, ...]:
        """As the daemon tells now."""
        return await self.backends.daemon(daemon).list_nodes()

    async def _own_keys(self, tester: TesterView) -> tuple[str, ...]:
        """The keys that the account has on Forge, for those who must have one. Raises Blocked SshKeyRequired."""
        if not tester.desired.ssh_key_required:
            return ()
        login = tester.facts.need(AccountFacts).account
        keys = await account_keys(self.backends.forge, login)
        if not keys:
            untold = tester.facts.sealed("one_time_password") is not None
            raise key_required(tester.facts.fleet.spec.forge.url, login, tester.name if untold else "")
        return keys

    def learn(self, observed: SeenMachine, facts: Facts) -> MachineFacts | None:
        """Only once it runs and its address is known (lesson 8), and is told of no other machine: what is one tester's would
        be written on another's."""
        vm = observed.vm
        if vm.state != RUNNING or not vm.address or observed.alike != ():
            return None
        return MachineFacts(
            daemon=observed.daemon,
            vm_id=vm.vm_id,
            vm_name=vm.name,
            node_sid=vm.node_sid,
            grid_node=grid_node_of(facts.fleet.spec.compute, observed.daemon, vm.node_sid),
            address=vm.address,
            unasked=observed.unasked,
            doubles=told_of(observed, facts),
        )

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """MachineAsSpecified, as far as the daemon and our own order tell. OneMachine: not so while others stand beside it."""
        if not isinstance(observed, SeenMachine):
            return ()
        beside = finding("OneMachine", told_of(observed, facts), facts)
        differing = [
            f"{each.path} is {each.before}, not {each.after}" for each in differences(desired.machine, observed)
        ]
        if differing:
            message = f"{'; '.join(differing)}: raise spec.machine.rebuild to have it built anew"
            return (Finding("MachineAsSpecified", False, "RebuildNeeded", message), *beside)
        text = f"machine {observed.vm.name} is as the spec asks for"
        return (Finding("MachineAsSpecified", True, "AsSpecified", text), *beside)

    def name_for(self, desired: DesiredTester, facts: Facts, incarnation: int, attempt: int) -> str:
        return vm_name(facts.tester, facts.uid, incarnation, attempt)

    def identity(self, observed: SeenMachine) -> dict[str, str]:
        """Daemon and id, and the order."""
        return observed.identity

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        """At the row's daemon when it is known, else at all. Raises what a daemon that cannot be read raises."""
        row = tester.facts.object
        known = row.identity.get("daemon") if row else None
        daemons = [known] if known else [daemon.name for daemon in tester.facts.fleet.spec.compute]
        return frozenset([vm.name for daemon in daemons for vm in await looks.vms(daemon)])


def _choose(tester: TesterView, nodes: NodesOf, promises: Sequence[Promise], freed: Room | None = None) -> Place:
    """From what the daemons said and what the books have promised now. Raises Blocked."""
    wanted, fleet = tester.desired.machine, tester.facts.fleet.spec
    others = [each for each in promises if not (each.foreseen and each.tester == tester.name)]
    promised = not_shown_yet(others, fleet.timing.capacity_lag + NODES_AGE)
    shunned = nodes_of(never_reached_before(tester.facts, wanted))
    return choose(wanted, fleet.compute, nodes, Beside(promised, freed, shunned))


async def _all_nodes(tester: TesterView, read: ReadNodes) -> NodesOf:
    """What can be read; one dead daemon does not hold up the others (law 6). Raises when none can be."""
    nodes: dict[str, tuple[Node, ...]] = {}
    failed: OutsideError | None = None
    for daemon in daemons_for(tester.desired.machine, tester.facts.fleet.spec.compute):
        try:
            nodes[daemon] = await read(daemon)
        except OutsideError as error:
            failed = error
    if failed is not None and not nodes:
        raise failed
    return nodes


async def _compared(found: SeenMachine, tester: TesterView, looks: TesterLooks) -> SeenMachine:
    """With the other machines of which the daemons tell the same address. Of one that is recorded only those are asked which
    have not answered yet."""
    machine, told = tester.facts.get(MachineFacts), found.vm.address
    recorded = machine is not None and (machine.key, machine.address) == (found.key, told)
    others = [each.name for each in tester.facts.fleet.spec.compute if each.name != found.daemon]
    if machine is not None and recorded:
        others = [daemon for daemon in others if daemon in machine.unasked]
    if not told or (recorded and not others):
        return found
    mine = [] if recorded else under(await looks.vms(found.daemon), "address", told)
    alike = [vm.name for vm in mine if _is_another(vm, found)]
    unasked = []
    for daemon, listed in zip(others, await asyncio.gather(*(_soon(looks, each) for each in others)), strict=True):
        if listed is None:
            unasked.append(daemon)
            continue
        # One of our very name is ours: somebody has given one daemon two names.
        there = [vm for vm in under(listed, "address", told) if _is_another(vm, found) and vm.name != found.vm.name]
        alike += [f"{daemon}/{vm.name}" for vm in there]
    if unasked:
        looks.unshared()  # who is at rest would not ask them again
    return replace(found, alike=tuple(sorted(alike)), unasked=tuple(unasked))


async def _soon(looks: TesterLooks, daemon: str) -> Sequence[Vm] | None:
    """What a daemon lists; None for one that does not answer, or not soon: it holds up nobody at another one."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await looks.vms(daemon)
    except (OutsideError, TimeoutError):
        return None


def _is_another(vm: Vm, found: SeenMachine) -> bool:
    return vm.state not in GONE_STATES and (vm.vm_id, vm.name) != (found.vm.vm_id, found.vm.name)


def _row_name(tester: TesterView) -> str:
    row = tester.facts.object
    return row.name if row else vm_name(tester.facts.tester, tester.facts.uid)


def _called(tester: TesterView) -> str:
    return f"machine {_row_name(tester)} of {tester.name}"


def _state(row: OutsideObject | None) -> ObjectState | None:
    return row.state if row else None


def _coming_up(observed: SeenMachine, facts: Facts) -> Wait:
    vm, system = observed.vm, f"compute {observed.daemon}"
    reason, text = "MachineStarting", f"machine {vm.name} is {vm.state}"
    if vm.state == RUNNING:
        reason = "WaitingForAddress"
    if not vm.address:
        text += ", without an address yet"
    elif observed.alike:
        reason = "AddressTwice"
        text = f"{system} tells one address, {vm.address}, for {vm.name} and {', '.join(observed.alike)}: not believed"
    return Wait(reason, text, facts.fleet.spec.timing.deploy_limit, blames=system)
