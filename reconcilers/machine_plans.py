"""What is done about a VM, in values: build it, build it anew, give it up, take it away. Pure."""

from __future__ import annotations

from datetime import timedelta

from reconcilers.actions import Action, Disruption, Effect, FieldChange
from reconcilers.errors import Blocked
from reconcilers.facts import Facts
from reconcilers.machine_row import GIVEN_UP, SeenMachine, differences, was_reached
from specs.desired import DesiredTester
from specs.names import vm_name


def build(desired: DesiredTester, facts: Facts) -> Action:
    """Where it goes is decided when it is done: by then the room may be another tester's."""
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


def rebuild(desired: DesiredTester, observed: SeenMachine, facts: Facts) -> Action:
    """The spec's counter was raised: somebody has accepted the loss."""
    counter = FieldChange("rebuild", str(observed.rebuild), str(desired.machine.rebuild))
    if desired.address == "auto":
        address = "the public address changes: the new machine gets one of its own"
    else:
        address = f"the public address {desired.address} is away until the new machine has it"
    return _delete(
        observed,
        facts,
        Disruption.REBUILD,
        ("the machine and all data on it are lost; a new one is built", address, "the account stays as it is"),
        changes=(counter, *differences(desired.machine, observed)),
        reason="MachineRebuilt",
    )


def replace_unreached(observed: SeenMachine, facts: Facts, *, failed: bool) -> Action:
    """A machine on which nobody has ever been: nothing is lost with it.

    Raises Blocked MachineFailed for one that was in use, NeverReachable when enough of them were built.
    """
    name, most = observed.vm.name, facts.fleet.spec.safety.max_rebuilds
    if was_reached(observed, facts):
        raise Blocked(
            f"machine {name} on {observed.node} has failed after it was in use: an admin sees what can be saved, "
            "and raises spec.machine.rebuild to have it built anew",
            system=f"compute {observed.daemon}",
            reason="MachineFailed",
        )
    built = len(observed.predecessors) + 1
    limit = _minutes(facts.fleet.spec.timing.reachable_limit)
    why = "failed to come up" if failed else f"was never reachable in {limit}"
    if built > most:
        before = f", nor were those before it (on {', '.join(observed.predecessors)})" if observed.predecessors else ""
        raise Blocked(
            f"machine {name} on node {observed.node} {why}{before}: {most} rebuilds are allowed (safety.maxRebuilds) and "
            f"{built - 1} were made; an admin looks at the node or names another one in spec.machine.node, and raises "
            "spec.machine.rebuild",
            system=f"compute {observed.daemon}",
            reason="NeverReachable",
        )
    return _delete(
        observed,
        facts,
        Disruption.REBUILD,
        (f"it {why} and is replaced by a new one (rebuild {built} of {most}); nobody has ever been on it",),
        marks=((GIVEN_UP, "yes"),),
        reason="MachineDeleted" if failed else "NeverReachable",
    )


def deletion(observed: SeenMachine, facts: Facts) -> Action:
    """Its tester leaves."""
    return _delete(observed, facts, Disruption.REMOVE, ("the machine and all data on it are deleted",))


def _delete(
    observed: SeenMachine,
    facts: Facts,
    disruption: Disruption,
    consequences: tuple[str, ...],
    *,
    changes: tuple[FieldChange, ...] = (),
    marks: tuple[tuple[str, str], ...] = (),
    reason: str = "MachineDeleted",
) -> Action:
    return Action(
        "delete",
        f"machine {observed.vm.name}",
        Effect.DELETE,
        changes=changes,
        disruption=disruption,
        consequences=consequences,
        args=(observed.daemon, observed.vm.vm_id),
        limit=facts.fleet.spec.timing.deploy_limit,
        marks=marks,
        reason=reason,
    )


def _minutes(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    return f"{seconds // 60} min" if seconds >= 120 else f"{seconds} s"
