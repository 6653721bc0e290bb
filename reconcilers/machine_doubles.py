"""Machines beside the one in use, of the very same name: told, and taken away when that is due. Pure."""

from __future__ import annotations

from datetime import datetime

from reconcilers.actions import Action
from reconcilers.facts import Double, Facts, MachineFacts
from reconcilers.machine_row import SeenMachine
from reconcilers.quarantine import Found, doubles_of, is_due, is_proven


def told_of(observed: SeenMachine, facts: Facts) -> tuple[Double, ...]:
    """What the facts are to say of them."""
    known = facts.get(MachineFacts)
    before = known.doubles if known is not None else ()
    if observed.at is None:  # seen in a create's answer, which tells of one only
        return before
    found = (Found(vm.vm_id, observed.daemon, vm.name, vm.created_at) for vm in observed.twins)
    return doubles_of(found, before, observed.at, facts, _in_use(observed))


def _in_use(observed: SeenMachine) -> datetime | None:
    """When its daemon made the one in use, if its row tells that it is this very one."""
    return observed.vm.created_at if observed.kept.get("vm_id") == observed.vm.vm_id else None


def doubles_away(observed: SeenMachine, facts: Facts) -> tuple[Action, ...]:
    """Those that are proven ours: after the grace while their tester stays, at once when it leaves."""
    if observed.at is None:
        return ()
    if facts.leaving:
        due = {vm.vm_id for vm in observed.twins if is_proven(vm.created_at, facts.object, _in_use(observed))}
    else:
        known, grace = facts.get(MachineFacts), facts.fleet.spec.timing.listing_grace
        due = {each.id for each in (known.doubles if known else ()) if is_due(each, observed.at, grace)}
    return tuple(
        Action(
            "delete_double",
            f"machine {vm.name} ({observed.daemon}/{vm.vm_id})",
            consequences=("another machine of the same name is in use, and stays",),
            args=(observed.daemon, vm.vm_id),
            reason="DoubleDeleted",
            limit=facts.fleet.spec.timing.deploy_limit,
        )
        for vm in observed.twins
        if vm.vm_id in due
    )
