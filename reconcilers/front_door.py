"""hero_router and hero_proxy: installed, running, at their versions. The listener is not opened here: that is the gate's."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from reconcilers.actions import Action, Step
from reconcilers.backends import Backends
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.facts import Facts, FrontDoorFacts, SignInGateFacts, is_since_cut
from reconcilers.installs import ROUTER, SETTLED, UNKNOWN_VERSION, Standing, State, can_install, judge, on_channel
from reconcilers.listener import LISTENER_KEY, LISTENER_OFF, LISTENER_ON, PROXY, shut_actions, write_gate_settings
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import Seen, is_listening, look_supervised, machine_address, newest_versions
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
from specs.desired import DesiredComponent, DesiredTester


class FrontDoorReconciler(Base):
    """Keeps the two processes that stand between the gateway and everything else."""

    name = "front_door"
    needs: tuple[str, ...] = ("supervisor",)

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen:
        """Raises Unreachable, Transient."""
        seen = await look_supervised(tester, looks)
        return replace(seen, newest=await newest_versions(tester, looks))

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        """Install, start, restart what does not answer; the router first. After a cut the listener goes off before anything
        else. Goes with the machine."""
        if desired is None:
            return ()
        if observed is None:
            return tuple(install_action(State(each, Standing.MISSING)) for each in _wanted(desired))
        if _was_cut(facts) and is_listening(observed.look):
            return shut_actions(
                set_open=observed.look.secrets.get(LISTENER_KEY) == LISTENER_ON,
                why="the gateway was cut off because the door stood open; it is proven again before a new one leads to it",
            )
        states = [judge(on_channel(each, desired, observed), observed.look) for each in _wanted(desired)]
        known = [state for state in states if state.standing in SETTLED or can_install(state, desired)]
        actions = [action for state in known for action in _repair(state, observed, facts)]
        if not actions and desired.updates == "apply":
            # The proxy last, and alone: the door is looked at after it has come back.
            actions = list(updates(states, observed.newest, facts.get(FrontDoorFacts))[:1])
        installing = any(state.standing is Standing.INSTALLING for state in states)
        if installing:
            actions = [action for action in actions if action.verb != "update"]
        return tuple(actions) or (() if installing else second_tries(states)) or wait_for(states, desired, facts)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        """Raises Transient InstallFailed after a second start of an install."""
        machines, address = self.backends.machines, machine_address(tester.facts)
        if action.verb == "shut":
            await write_gate_settings(machines, address, {LISTENER_KEY: LISTENER_OFF})
            return None
        if action.verb == "restart_proxy":
            await machines.restart_service(address, PROXY)
            return None
        await carry_out(machines, action, tester, _wanted(tester.desired))
        await remember(action, tester.facts.get(FrontDoorFacts), ports)
        return None

    def learn(self, observed: Seen, facts: Facts) -> FrontDoorFacts | None:
        """Once both are installed."""
        versions, known = observed.look.versions, facts.get(FrontDoorFacts)
        if not {ROUTER, PROXY} <= versions.keys():
            return None
        return FrontDoorFacts(
            router=versions[ROUTER] or UNKNOWN_VERSION,
            proxy=versions[PROXY] or UNKNOWN_VERSION,
            seen_shut_at=_shut_since_cut(observed, facts),
            updated=known.updated if known else {},
            **watched(observed.look, observed.at, known, (ROUTER, PROXY)),
        )


def _was_cut(facts: Facts) -> bool:
    gate = facts.get(SignInGateFacts)
    return gate is not None and gate.cut


def _shut_since_cut(observed: Seen, facts: Facts) -> datetime | None:
    """The moment of the first look since the cut that shows the listener off. A look from before it proves nothing: the
    door may have been opened in between; and what was seen after an earlier cut is void."""
    gate, known = facts.get(SignInGateFacts), facts.get(FrontDoorFacts)
    if gate is None or not gate.cut or is_listening(observed.look) or PROXY in observed.look.stale:
        return None
    before = known.seen_shut_at if known else None
    if is_since_cut(before, gate):
        return before
    return observed.at if is_since_cut(observed.at, gate) else None


def _wanted(desired: DesiredTester) -> tuple[DesiredComponent, ...]:
    """The router before the proxy: the proxy needs it, and health checks go through it."""
    by_name = {component.name: component for component in desired.components}
    return tuple(by_name[name] for name in (ROUTER, PROXY) if name in by_name)


def _repair(state: State, observed: Seen, facts: Facts) -> tuple[Action, ...]:
    match state.standing:
        case Standing.MISSING | Standing.OTHER_VERSION:
            return (install_action(state),)
        case Standing.STOPPED:
            return start_actions(state)
        case Standing.UNWELL:
            return restart_actions(state, observed.at, facts.get(FrontDoorFacts))
        case _:
            return ()
