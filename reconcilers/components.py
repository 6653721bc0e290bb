"""The chosen components: exact versions, running, answering, working. One that fails fails alone and says why (lesson 35)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reconcilers.actions import Action, Disruption, FieldChange, Finding, Step, Wait
from reconcilers.backends import Backends
from reconcilers.component_findings import component_findings
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.door import open_inside
from reconcilers.facts import ComponentsFacts, Facts
from reconcilers.installs import TO_INSTALL, UNKNOWN_VERSION, Standing, State, can_install, judge, on_channel
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import Seen, look_supervised, machine_address, newest_versions
from reconcilers.repairs import (
    carry_out,
    install_action,
    remember,
    restart_actions,
    second_tries,
    start_actions,
    updates,
    wait_for,
    watched,
)
from specs.catalogue import catalogue
from specs.desired import DesiredComponent, DesiredTester

OTHERS = frozenset({"hero_proc", "hero_router", "hero_proxy"})
"""Kept by the steps `supervisor` and `front_door`."""


class ComponentsReconciler(Base):
    """Installs side by side, starts in the order of needs; removes only what we installed ourselves.

    All installs are begun at once: on the machine they take their turns, as many at a time as the Fleet allows, and each waits
    for what it needs before it starts.
    """

    name = "components"
    needs: tuple[str, ...] = ("supervisor", "settings")

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen:
        """Raises Unreachable, Transient; for what Forge has published never."""
        seen = await look_supervised(tester, looks)
        seen = replace(seen, newest=await newest_versions(tester, looks))
        wanted = tuple(on_channel(each, tester.desired, seen) for each in _wanted(tester.desired))
        return replace(seen, wanted=wanted, authorize_url=self.backends.forge.authorize_url())

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        """Install, start, restart, update, remove; then wait. Goes with the machine. Behind an open door nothing is started.

        What has failed before comes only when nothing else is left to do, because its failure ends this step's turn and
        lengthens the pause before the next.
        """
        if desired is None:
            return ()
        if observed is None:
            return tuple(install_action(State(each, Standing.MISSING)) for each in _wanted(desired))
        return _behind_a_shut_door(_due(desired, observed, facts), desired, observed, facts)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        """Raises Transient InstallFailed after a second start of an install."""
        machines = self.backends.machines
        if action.verb == "remove":
            name = action.args[0]
            await machines.remove_component(machine_address(tester.facts), name, _services_of(name))
            return None
        await carry_out(machines, action, tester, _wanted(tester.desired))
        await remember(action, tester.facts.get(ComponentsFacts) or ComponentsFacts(), ports)
        return None

    def learn(self, observed: Seen, facts: Facts) -> ComponentsFacts:
        """The exact version of every component that is there; unknown is recorded as unknown (lesson 32)."""
        look, known = observed.look, facts.get(ComponentsFacts)
        mine = {name: version for name, version in look.versions.items() if name not in OTHERS}
        services = tuple(service for service in look.health if service not in OTHERS)
        standings = [judge(each, look).standing for each in observed.wanted]
        return ComponentsFacts(
            versions={name: version or UNKNOWN_VERSION for name, version in sorted(mine.items())},
            healthy=bool(standings) and all(standing is Standing.WELL for standing in standings),
            updated=known.updated if known else {},
            **watched(look, observed.at, known, services, observed.wanted),
        )

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """ComponentsHealthy, UpdateAvailable, TestersOwnComponents."""
        if not isinstance(observed, Seen):
            return ()
        return component_findings(desired, observed, _states(desired, observed), facts)


def _due(desired: DesiredTester, observed: Seen, facts: Facts) -> tuple[Step, ...]:
    states = _states(desired, observed)
    ours = facts.get(ComponentsFacts)
    installs = _installs(states, desired)
    newer = updates(states, observed.newest, ours) if desired.updates == "apply" else ()
    actions = (
        *installs,
        *newer,
        *(a for s in states if s.standing is Standing.STOPPED for a in start_actions(s)),
        *(a for s in states if s.standing is Standing.UNWELL for a in restart_actions(s, observed.at, ours)),
        *_removals(desired, observed),
    )
    if actions:
        return _each_once(actions)
    installing = any(state.standing is Standing.INSTALLING for state in states)
    return (() if installing else second_tries(states)) or wait_for(states, desired, facts)


def _behind_a_shut_door(
    steps: tuple[Step, ...], desired: DesiredTester, observed: Seen, facts: Facts
) -> tuple[Step, ...]:
    """What starts something waits while strangers are let in: the gate, which shuts the door, may not have done so yet."""
    starting = any(isinstance(step, Action) and step.verb != "remove" for step in steps)
    where = open_inside(observed.look, observed.at, desired, facts, observed.authorize_url) if starting else ""
    if not where:
        return steps
    wait = Wait(
        "DoorOpen",
        f"a stranger is let in {where}; nothing is started behind the front door until that is shut",
        facts.fleet.spec.timing.proof_limit,
        blames=f"hero_proxy on the machine of {facts.tester}",
    )
    return tuple(step for step in steps if isinstance(step, Action) and step.verb == "remove") or (wait,)


def _wanted(desired: DesiredTester) -> tuple[DesiredComponent, ...]:
    return tuple(component for component in desired.components if component.name not in OTHERS)


def _states(desired: DesiredTester, observed: Seen) -> list[State]:
    return [judge(on_channel(each, desired, observed), observed.look) for each in _wanted(desired)]


def _installs(states: Sequence[State], desired: DesiredTester) -> tuple[Action, ...]:
    """Each unless what it needs has failed: on the machine it is built beside that, and waits for it before it starts."""
    by_name = {state.name: state for state in states}
    ready = [
        state
        for state in states
        if state.standing in TO_INSTALL
        and can_install(state, desired)
        and all(by_name[need].standing is not Standing.FAILED for need in state.component.needs if need in by_name)
    ]
    return tuple(install_action(state) for state in ready)


def _each_once(actions: Sequence[Action]) -> tuple[Action, ...]:
    """What is updated now is not started or restarted as well: its install does that."""
    begun = {service for each in actions if each.verb == "update" for service in _services_of(each.args[0])}
    return tuple(each for each in actions if each.verb not in ("start", "restart") or each.args[0] not in begun)


def _removals(desired: DesiredTester, observed: Seen) -> tuple[Action, ...]:
    """What we installed and the spec no longer names. What testers installed from their cockpit is theirs."""
    kept = {component.name for component in desired.components} | OTHERS
    return tuple(
        Action(
            "remove",
            f"component {name}",
            changes=(FieldChange("installed", "yes", None),),
            disruption=Disruption.REMOVE,
            consequences=(f"{name} is stopped and removed; it is no longer in the spec",),
            args=(name,),
            reason="ComponentRemoved",
        )
        for name in sorted(observed.look.owned_components - kept)
    )


def _services_of(name: str) -> tuple[str, ...]:
    known = catalogue().get(name)
    return known.services if known else (name,)
