"""Base packages, lab and hero_proc: what every other step on the machine stands on (lesson 28). One detached job brings it up."""

from __future__ import annotations

from reconcilers.actions import INSTALLING, Action, FieldChange, Step, Wait
from reconcilers.backends import Backends
from reconcilers.backends.machine import SUPERVISOR_JOB, Job, JobState
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.errors import Transient
from reconcilers.facts import Facts, SupervisorFacts
from reconcilers.installs import UNKNOWN_VERSION, broke_off, last_line, same_version
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import Seen, look_at, machine_address, machine_system
from specs.catalogue import SUPERVISOR
from specs.desired import DesiredTester

TOOLS = ("curl", "lab", SUPERVISOR)


class SupervisorReconciler(Base):
    """Keeps hero_proc answering, at its pinned version if there is one."""

    name = "supervisor"
    needs: tuple[str, ...] = ("machine_access",)

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen:
        """Raises Unreachable, Transient."""
        at = looks.now()
        return Seen(at, await look_at(tester, looks))

    def plan(self, desired: DesiredTester | None, observed: Seen | None, facts: Facts) -> tuple[Step, ...]:
        """Start the job, or wait for it. Goes with the machine."""
        if desired is None:
            return ()
        if observed is None:
            return (_install(_pin(desired), ("nothing is installed",)),)
        job = observed.look.jobs.get(SUPERVISOR_JOB)
        if job is not None and job.state is JobState.RUNNING:
            return (_wait(job, facts),)
        lacks = _lacks(observed, _pin(desired))
        if not lacks:
            return ()
        if observed.look.supervisor_up and (busy := _installs_under_way(observed)):
            return (_wait_for_installs(busy, lacks, facts),)
        return (_install(_pin(desired), lacks, failed=_failure(job, lacks)),)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        """Starts the job. Raises Transient InstallFailed after a second start, so that the pauses grow."""
        pin = _pin(tester.desired)
        lab_url = tester.facts.fleet.spec.lab_url
        await self.backends.machines.start_supervisor_job(machine_address(tester.facts), lab_url, pin)
        if action.verb == "retry":
            system = machine_system(tester.facts)
            raise Transient(f"{action.args[0]}; it is being tried again", system=system, reason="InstallFailed")
        return None

    def learn(self, observed: Seen, facts: Facts) -> SupervisorFacts | None:
        """Once hero_proc answers."""
        if not observed.look.supervisor_up:
            return None
        return SupervisorFacts(version=observed.look.versions.get(SUPERVISOR) or UNKNOWN_VERSION)


def _pin(desired: DesiredTester) -> str | None:
    return next((component.version for component in desired.components if component.name == SUPERVISOR), None)


def _lacks(observed: Seen, pin: str | None) -> tuple[str, ...]:
    """What is missing, in words; nothing: in sync. A version that is not told is unknown, not wrong."""
    look = observed.look
    missing = tuple(f"{tool} is not installed" for tool in TOOLS if tool not in look.tools)
    version = look.versions.get(SUPERVISOR)
    if missing:
        return missing
    if pin is not None and version is not None and not same_version(version, pin):
        return (f"hero_proc is {version}, not {pin}",)
    job = look.jobs.get(SUPERVISOR_JOB)
    if pin is not None and job is not None and broke_off(job, pin):
        return (f"hero_proc {pin} is there, and another one may be running",)
    return () if look.supervisor_up else ("hero_proc does not answer",)


def _installs_under_way(observed: Seen) -> list[str]:
    return sorted(name for name, job in observed.look.jobs.items() if job.state is JobState.RUNNING)


def _wait_for_installs(busy: list[str], lacks: tuple[str, ...], facts: Facts) -> Wait:
    """Everything on the machine stops with a hero_proc that is replaced: not in the middle of an install."""
    text = f"{'; '.join(lacks)}; seen to when these have ended: {', '.join(busy)}"
    return Wait(INSTALLING, text, facts.fleet.spec.timing.install_limit, blames=machine_system(facts))


def _failure(job: Job | None, lacks: tuple[str, ...]) -> str:
    """Why the last run did not help; "" when it did, and something broke afterwards."""
    if job is None or job.state is JobState.SUCCEEDED:
        return ""
    ended = "was interrupted" if job.state is JobState.DIED else "failed"
    return f"setting up the supervisor {ended}: {last_line(job.log) or lacks[0]}"


def _install(pin: str | None, lacks: tuple[str, ...], failed: str = "") -> Action:
    return Action(
        "retry" if failed else "install",
        "base packages, lab and hero_proc",
        changes=(FieldChange("supervisor", "; ".join(lacks), f"hero_proc {pin or 'newest'} answers"),),
        args=(failed,) if failed else (),
        reason="InstallRetried" if failed else "InstallStarted",
    )


def _wait(job: Job, facts: Facts) -> Wait:
    line = last_line(job.log)
    return Wait(
        INSTALLING,
        "base packages, lab and hero_proc are being installed" + (f": {line}" if line else ""),
        facts.fleet.spec.timing.install_limit,
        blames=machine_system(facts),
    )
