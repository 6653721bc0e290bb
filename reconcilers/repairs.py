"""What is done about a component that is not well: actions for its standing, how they are carried out, what is waited for.

Shared by the steps that install something. A service that runs without answering is given time for a cold start (lesson
21), then restarted once, and again only after long: the memory of that is in the step's facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from reconcilers.actions import INSTALLING, UPDATE_STARTED, Action, Disruption, FieldChange, Wait
from reconcilers.backends.machine import NOTHING, MachineAddress, MachineLook, Machines
from reconcilers.contract import Ports, TesterView
from reconcilers.errors import Transient, Unreachable
from reconcilers.facts import Facts, WatchedFacts
from reconcilers.installs import (
    HEALTHY,
    RUNNING,
    SETTLED,
    TO_INSTALL,
    Standing,
    State,
    can_install,
    health_of,
    not_working,
    update_due,
)
from reconcilers.listener import BEFORE_ANOTHER_VERSION
from reconcilers.machine_look import machine_address, machine_system
from specs.desired import DesiredComponent, DesiredTester

FIRST_PATIENCE = timedelta(seconds=30)
LATER_PATIENCE = timedelta(minutes=10)
HEALTH_LIMIT = timedelta(minutes=10)  # after a restart, until somebody should look at it


def install_action(state: State) -> Action:
    """Start the install job of a component."""
    return _install(state, "install", "InstallStarted")


def updates(states: Sequence[State], newest: Mapping[str, str], known: WatchedFacts | None) -> tuple[Action, ...]:
    """Newer versions of what is there, each begun once."""
    begun = known.updated if known else {}
    due = [(state, wanted) for state in states if (wanted := update_due(state, newest, begun)) is not None]
    return tuple(
        Action(
            "update",
            f"component {state.name}",
            changes=(FieldChange("version", state.version, wanted),),
            disruption=Disruption.RESTART,
            consequences=(f"{state.name} restarts",),
            args=(state.name, wanted),
            reason=UPDATE_STARTED,
        )
        for state, wanted in due
    )


def second_tries(states: Sequence[State]) -> tuple[Action, ...]:
    """What has failed before, once more: services first, then installs. The last of them carries the report of all, which
    its apply raises as a failure: people read why, the pauses grow, and nobody keeps another from being tried."""
    broken = [
        action for state in states if state.standing is Standing.BROKEN for action in _start(state, "start_again")
    ]
    failed = [_install(state, "retry", "InstallRetried") for state in states if state.standing is Standing.FAILED]
    tries = [*broken, *failed]
    if not tries:
        return ()
    report = "; ".join(f"{s.name}: {s.detail}" for s in states if s.standing in (Standing.BROKEN, Standing.FAILED))
    last = tries[-1]
    return (*tries[:-1], replace(last, args=(last.args[0], f"{report}; it is being tried again", *last.args[2:])))


def _install(state: State, verb: str, reason: str) -> Action:
    """`args`: the component, what its apply reports as a failure, and the exact version if one is wanted."""
    wanted = state.component.version or "newest of the channel"
    return Action(
        verb,
        f"component {state.name}",
        changes=(FieldChange("version", state.version, wanted),),
        disruption=Disruption.RESTART if state.version else Disruption.NONE,
        consequences=(f"{state.name} restarts",) if state.version else (),
        args=(state.name, "", state.component.version) if state.component.version else (state.name,),
        reason=reason,
    )


def start_actions(state: State) -> tuple[Action, ...]:
    """Start what does not run."""
    return _start(state, "start")


def _start(state: State, verb: str) -> tuple[Action, ...]:
    return tuple(
        Action(
            verb,
            f"service {service}",
            changes=(FieldChange("state", "failed" if state.standing is Standing.BROKEN else "stopped", RUNNING),),
            args=(service,),
            reason="ServiceStarted",
        )
        for service in state.services
    )


def restart_actions(state: State, at: datetime, known: WatchedFacts | None) -> tuple[Action, ...]:
    """Restart what runs without answering, when its time has come. `at`: now, remembered as the restart's moment."""
    if known is None:
        return ()
    return tuple(
        Action(
            "restart",
            f"service {service}",
            disruption=Disruption.RESTART,
            consequences=(f"{state.detail}, though the supervisor says that it runs",),
            args=(service, at.isoformat()),
            reason="ServiceRestarted",
        )
        for service in state.services
        if _restart_is_due(service, at, known)
    )


def _restart_is_due(service: str, at: datetime, known: WatchedFacts) -> bool:
    if service in known.restarted:
        return at - known.restarted[service] >= LATER_PATIENCE
    return at - known.unwell.get(service, at) >= FIRST_PATIENCE


def watched(
    look: MachineLook,
    at: datetime,
    known: WatchedFacts | None,
    services: Iterable[str],
    wanted: Iterable[DesiredComponent] = (),
) -> dict[str, Mapping[str, datetime]]:
    """The fields `unwell` and `restarted` after a look, carried over from what was known."""
    before = known.unwell if known else {}
    failing = {each.health for each in wanted if not_working(each, look)}
    unwell = {
        service: before.get(service, at)
        for service in services
        if (health_of(service, look) not in (HEALTHY, None) or service in failing)
        and look.services.get(service) == RUNNING
    }
    restarted = known.restarted if known else {}
    return {"unwell": unwell, "restarted": {each: when for each, when in restarted.items() if each in unwell}}


def wait_for(states: Sequence[State], desired: DesiredTester, facts: Facts) -> tuple[Wait, ...]:
    """One wait that names everything which is still on its way; () when all is well."""
    unsettled = [state for state in states if state.standing is not Standing.WELL]
    if not unsettled:
        return ()
    installing = [state for state in unsettled if state.standing not in SETTLED]
    named = "; ".join(
        f"{state.name} ({state.detail or state.standing.value})" for state in (installing or unsettled)[:5]
    )
    done = f"{len(states) - len(unsettled)} of {len(states)} are well"
    limit = facts.fleet.spec.timing.install_limit
    unpublished = [
        state.name for state in unsettled if state.standing in TO_INSTALL and not can_install(state, desired)
    ]
    if unpublished and all(state.standing is not Standing.INSTALLING for state in states):
        text = (
            f"{done}; Forge tells no release of {', '.join(unpublished)} in channel {desired.channel}: publish one there, or "
            "choose another version.channel"
        )
        return (Wait("NothingPublished", text, limit, blames="Forge"),)
    if installing:
        return (Wait(INSTALLING, f"{done}; being installed: {named}", limit, blames=machine_system(facts)),)
    return (Wait("WaitingForHealth", f"{done}; waiting for {named}", HEALTH_LIMIT, blames=machine_system(facts)),)


async def carry_out(
    machines: Machines, action: Action, tester: TesterView, components: Sequence[DesiredComponent]
) -> None:
    """Do a start, restart, install or second try. Raises Transient InstallFailed at the end of second tries."""
    address = machine_address(tester.facts)
    match action.verb:
        case "start":
            await machines.start_service(address, action.args[0])
        case "restart":
            await machines.restart_service(address, action.args[0])
        case "start_again":
            await _start_again(machines, action, address)
        case _:
            component = next(each for each in components if each.name == action.args[0])
            version = action.args[2] if len(action.args) > 2 else component.version
            first = BEFORE_ANOTHER_VERSION.get(component.name, NOTHING)
            await machines.start_install(address, component.name, version, component.services, first)
            if action.verb == "retry" and _report(action):
                raise Transient(_report(action), system=machine_system(tester.facts), reason="InstallFailed")


async def _start_again(machines: Machines, action: Action, address: MachineAddress) -> None:
    """Another failure is raised by the last try only, so that the others get theirs."""
    try:
        await machines.start_service(address, action.args[0])
    except Unreachable:
        raise
    except Transient as error:
        if _report(action):
            raise Transient(_report(action), system=error.system, reason="ComponentFailing") from error


def _report(action: Action) -> str:
    return action.args[1] if len(action.args) > 1 else ""


async def remember(action: Action, known: WatchedFacts | None, ports: Ports) -> None:
    """Record that a service was restarted, or an update begun, so that it is not done again at once."""
    if action.verb == "update" and known is not None:
        name, version = action.args
        await ports.record(known.model_copy(update={"updated": {**known.updated, name: version}}))
    if action.verb == "restart" and known is not None:
        service, at = action.args
        restarted = {**known.restarted, service: datetime.fromisoformat(at)}
        await ports.record(known.model_copy(update={"restarted": restarted}))
