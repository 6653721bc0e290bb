"""The chosen components: exact versions, running, answering. One that fails fails alone and says why (lesson 35)."""

from __future__ import annotations

from collections.abc import Sequence

from reconcilers.actions import Action, Disruption, FieldChange, Finding, Step
from reconcilers.backends import Backends
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.facts import ComponentsFacts, Facts
from reconcilers.installs import SETTLED, UNKNOWN_VERSION, Standing, State, judge
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import Seen, look_supervised, machine_address
from reconcilers.repairs import (
    carry_out,
    install_action,
    remember_restart,
    restart_actions,
    second_tries,
    start_actions,
    wait_for,
    watched,
)
from specs.catalogue import catalogue
from specs.desired import DesiredComponent, DesiredTester

OTHERS = frozenset({"hero_proc", "hero_router", "hero_proxy"})
"""Kept by the steps `supervisor` and `front_door`."""
_TO_INSTALL = frozenset({Standing.MISSING, Standing.OTHER_VERSION})
_TROUBLE = frozenset({Standing.FAILED, Standing.BROKEN, Standing.UNWELL})


class ComponentsReconciler(Base):
    """Installs side by side, a few at a time, in the order of needs; removes only what we installed ourselves."""

    name = "components"
    needs: tuple[str, ...] = ("supervisor", "settings")

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen:
        """Raises Unreachable, Transient."""
        return await look_supervised(tester, looks)

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        """Install, start, restart, remove; then wait. Goes with the machine.

        What has failed before comes only when nothing else is left to do, because its failure ends this step's turn and
        lengthens the pause before the next.
        """
        if desired is None:
            return ()
        if observed is None:
            return tuple(install_action(State(each, Standing.MISSING)) for each in _wanted(desired))
        states = [judge(each, observed.look) for each in _wanted(desired)]
        ours = facts.get(ComponentsFacts)
        actions = (
            *_installs(states, facts.fleet.spec.limits.installs),
            *(a for s in states if s.standing is Standing.STOPPED for a in start_actions(s)),
            *(a for s in states if s.standing is Standing.UNWELL for a in restart_actions(s, observed.at, ours)),
            *_removals(desired, observed),
        )
        if actions:
            return actions
        installing = any(state.standing is Standing.INSTALLING for state in states)
        return (() if installing else second_tries(states)) or wait_for(states, facts)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        """Raises Transient InstallFailed after a second start of an install."""
        machines = self.backends.machines
        if action.verb == "remove":
            name = action.args[0]
            await machines.remove_component(machine_address(tester.facts), name, _services_of(name))
            return None
        await carry_out(machines, action, tester, _wanted(tester.desired))
        await remember_restart(action, tester.facts.get(ComponentsFacts) or ComponentsFacts(), ports)
        return None

    def learn(self, observed: Seen, facts: Facts) -> ComponentsFacts:
        """The exact version of every component that is there; unknown is recorded as unknown (lesson 32)."""
        look = observed.look
        mine = {name: version for name, version in look.versions.items() if name not in OTHERS}
        services = tuple(service for service in look.health if service not in OTHERS)
        return ComponentsFacts(
            versions={name: version or UNKNOWN_VERSION for name, version in sorted(mine.items())},
            **watched(look, observed.at, facts.get(ComponentsFacts), services),
        )

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """ComponentsHealthy: names each component that is in trouble, with the last words of its log."""
        if not isinstance(observed, Seen):
            return ()
        states = [judge(each, observed.look) for each in _wanted(desired)]
        trouble = [state for state in states if state.standing in _TROUBLE]
        if trouble:
            words = "; ".join(f"{state.name}: {state.detail}" for state in trouble)
            return (Finding("ComponentsHealthy", False, "ComponentFailing", words),)
        under_way = [state.name for state in states if state.standing is not Standing.WELL]
        if under_way:
            return (Finding("ComponentsHealthy", None, "Installing", f"not there yet: {', '.join(under_way)}"),)
        return (Finding("ComponentsHealthy", True, "AllHealthy", f"all {len(states)} components answer"),)


def _wanted(desired: DesiredTester) -> tuple[DesiredComponent, ...]:
    return tuple(component for component in desired.components if component.name not in OTHERS)


def _installs(states: Sequence[State], limit: int) -> tuple[Action, ...]:
    """As many as there is room for, each only when what it needs is installed."""
    by_name = {state.name: state for state in states}
    room = limit - sum(state.standing is Standing.INSTALLING for state in states)
    ready = [
        state
        for state in states
        if state.standing in _TO_INSTALL
        and all(by_name[need].standing in SETTLED for need in state.component.needs if need in by_name)
    ]
    return tuple(install_action(state) for state in ready[: max(0, room)])


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
