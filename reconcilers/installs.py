"""How one component stands on a machine, judged from one look. Pure; shared by the steps that install something.

What our last install job said is remembered on the machine: which version was asked for, which one came. The supervisor's
word on a service is a hint (lesson 34): its own health check decides where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from reconcilers.backends.machine import SUPERVISOR_JOB, Job, JobState, MachineLook, install_job
from reconcilers.backends.probes import ProbeAnswer
from reconcilers.machine_look import Seen, works_probe
from specs.catalogue import SUPERVISOR
from specs.desired import DesiredComponent, DesiredTester

ROUTER = "hero_router"
HEALTHY = 200
NO_SUCH_REQUEST = (404, 405, 501)
RUNNING = "running"
STARTING = "starting"
UNKNOWN_VERSION = "unknown"
WAITS_FOR_PLACE = "waits for one of "
"""How the line of a job begins that waits for its turn on the machine (`backends/machine_jobs.py`)."""
USUAL_CHANNEL = "latest"


class Standing(StrEnum):
    """How a component stands, the most basic lack first."""

    INSTALLING = "installing"
    FAILED = "failed"  # our last install of what is wanted ended badly
    MISSING = "missing"
    OTHER_VERSION = "other_version"
    STOPPED = "stopped"
    BROKEN = "broken"  # the supervisor says that it failed
    STARTING = "starting"
    UNWELL = "unwell"  # it runs, and does not answer
    WELL = "well"


SETTLED = frozenset({Standing.STOPPED, Standing.BROKEN, Standing.STARTING, Standing.UNWELL, Standing.WELL})
"""Installed, in the version that is wanted: what needs it may come now."""
TO_INSTALL = frozenset({Standing.MISSING, Standing.OTHER_VERSION})


@dataclass(frozen=True, slots=True)
class State:
    """One component's standing. `detail`: what is the matter, in words. `services`: those that are concerned."""

    component: DesiredComponent
    standing: Standing
    detail: str = ""
    services: tuple[str, ...] = ()
    version: str | None = None

    @property
    def name(self) -> str:
        return self.component.name


def jobs_of(desired: DesiredTester) -> Mapping[str, str]:
    """Component → the name of the job on the machine whose log tells of its install."""
    names = [component.name for component in desired.components]
    return {name: SUPERVISOR_JOB if name == SUPERVISOR else install_job(name) for name in names}


def on_channel(component: DesiredComponent, desired: DesiredTester, seen: Seen) -> DesiredComponent:
    """The component with the version that its channel means today. A pin wins; of the usual channel the installer itself
    takes the newest (S), of any other one it is told which that is. Who is only told of updates keeps what we installed: what
    somebody changed or took away comes back as it was, and no newer."""
    if component.version is not None:
        return component
    if desired.channel == USUAL_CHANNEL:
        job = seen.look.jobs.get(install_job(component.name)) if desired.updates == "notify" else None
        return component.model_copy(update={"version": job.result}) if job is not None and job.result else component
    there, newest = seen.look.versions.get(component.name), seen.newest.get(component.name)
    moves = there is None or desired.updates == "apply"
    return component.model_copy(update={"version": newest if moves and newest else there})


def can_install(state: State, desired: DesiredTester) -> bool:
    """Not before it is known which version is meant."""
    return desired.channel == USUAL_CHANNEL or state.component.version is not None


def judge(component: DesiredComponent, look: MachineLook) -> State:
    """How a component stands."""
    job = look.jobs.get(install_job(component.name))
    version = look.versions.get(component.name)
    if job is not None and job.state is JobState.RUNNING:
        return State(component, Standing.INSTALLING, last_line(job.log), version=version)
    lack = _lack(component, look, job)
    if lack is not None:
        return lack
    return _judge_services(component, look)


def _lack(component: DesiredComponent, look: MachineLook, job: Job | None) -> State | None:
    """What is wrong with the installation itself; None: the wanted version is there."""
    installed, version = component.name in look.versions, look.versions.get(component.name)
    pin = component.version
    ours = (
        job if job is not None and job.wanted == (pin or "") else None
    )  # the last job, if it was after what is wanted now
    if installed and pin is not None and same_version(version, pin):
        if job is None or not broke_off(job, pin):
            return None
        return State(component, Standing.FAILED, ended_badly(job.state, job.log), version=version)
    if ours is not None and ours.state is not JobState.SUCCEEDED:
        return State(component, Standing.FAILED, ended_badly(ours.state, ours.log), version=version)
    if not installed:
        return State(component, Standing.MISSING)
    if pin is not None:
        return _off_the_pin(component, pin, version, ours)
    if job is not None and job.wanted:
        return State(
            component, Standing.OTHER_VERSION, f"it was held at {job.wanted} and is no longer", version=version
        )
    if ours is not None and ours.result and not same_version(version, ours.result):
        detail = f"it is {version or UNKNOWN_VERSION}, and {ours.result} was installed"
        return State(component, Standing.OTHER_VERSION, detail, version=version)
    return None


def broke_off(job: Job, version: str | None) -> bool:
    """It brought this version, and ended before it had seen to the services: what runs may be another one."""
    came = job.wanted if job.state is JobState.DIED else job.result
    return job.state is not JobState.SUCCEEDED and same_version(came, version)


def _off_the_pin(component: DesiredComponent, pin: str, version: str | None, ours: Job | None) -> State | None:
    """Installed, and not seen to be at the pinned version."""
    if ours is not None and version is None and not ours.result:
        return None  # we installed exactly this; it tells no version: unknown, not wrong
    if ours is not None and ours.result and not same_version(ours.result, pin):
        detail = f"{pin} was asked for and {ours.result} came"
        return State(component, Standing.FAILED, detail, version=version)
    return State(component, Standing.OTHER_VERSION, f"it is {version or UNKNOWN_VERSION}, not {pin}", version=version)


def _judge_services(component: DesiredComponent, look: MachineLook) -> State:
    version = look.versions.get(component.name)
    code = health_of(component.health, look) if component.health else None
    by_state: dict[Standing, list[str]] = {}
    for service in component.services:
        if service == component.health and code == HEALTHY:
            continue  # it answers, whatever the supervisor says
        by_state.setdefault(_service_standing(look.services.get(service)), []).append(service)
    for standing in (Standing.BROKEN, Standing.STOPPED, Standing.STARTING):
        if standing in by_state:
            services = tuple(by_state[standing])
            return State(component, standing, f"{', '.join(services)} {_SAID[standing]}", services, version)
    if component.health and code is None:
        return State(
            component, Standing.STARTING, f"{component.health} cannot be asked for its health", version=version
        )
    if component.health and code != HEALTHY:
        answer = f"answers its health check with {code}" if code else "does not answer its health check"
        return State(component, Standing.UNWELL, f"{component.health} {answer}", (component.health,), version)
    failing = not_working(component, look)
    if failing:
        services = (component.health,) if component.health else component.services
        return State(component, Standing.UNWELL, failing, services, version)
    return State(component, Standing.WELL, version=version)


def not_working(component: DesiredComponent, look: MachineLook) -> str:
    """It lives, and does not do what it is there for: in words; "" when it does, or nobody can tell."""
    answer = _functional_answer(component, look)
    if answer is None or (answer.status is not None and answer.status < 400) or knows_not(component, look):
        return ""
    said = f"answers with {answer.status}" if answer.status else "does not answer"
    return f"{component.name} lives, but {component.sends} {said}"


def knows_not(component: DesiredComponent, look: MachineLook) -> bool:
    """It does not know the assumed request (A) by which it would be seen to work: whether it works is not known then."""
    answer = _functional_answer(component, look)
    return component.assumed and answer is not None and answer.status in NO_SUCH_REQUEST


def _functional_answer(component: DesiredComponent, look: MachineLook) -> ProbeAnswer | None:
    """None: there is no such check, or nothing that it could tell."""
    if not component.sends or look.health.get(ROUTER, HEALTHY) != HEALTHY:
        return None
    return look.probes.get(works_probe(component.sends))


def update_due(state: State, newest: Mapping[str, str], begun: Mapping[str, str]) -> str | None:
    """The published version that should be installed: it differs from what runs, nothing is pinned, and it was not tried.

    Installing takes the newest of the channel, which may turn out to be called otherwise (A): once is enough.
    """
    wanted = newest.get(state.name)
    if state.component.version is not None or state.standing not in SETTLED or wanted is None or state.version is None:
        return None
    return None if same_version(wanted, state.version) or begun.get(state.name) == wanted else wanted


def health_of(service: str, look: MachineLook) -> int | None:
    """What its health check answers, 0: nothing; None: not known. Checks go through hero_router: while that does not answer,
    its silence says nothing about the others."""
    if service != ROUTER and look.health.get(ROUTER, HEALTHY) != HEALTHY:
        return None
    return look.health.get(service)


_SAID = {Standing.BROKEN: "failed", Standing.STOPPED: "does not run", Standing.STARTING: "is starting"}


def _service_standing(said: str | None) -> Standing:
    words = {RUNNING: Standing.WELL, STARTING: Standing.STARTING, "failed": Standing.BROKEN}
    return words.get(said or "", Standing.STOPPED)


def same_version(one: str | None, other: str | None) -> bool:
    """Equal, with or without the `v` in front. An unknown version equals none."""
    return one is not None and other is not None and one.strip().removeprefix("v") == other.strip().removeprefix("v")


def ended_badly(state: str, log: str) -> str:
    """How an install that failed or died is told: with the last line that it printed."""
    line = last_line(log)
    how = "was interrupted" if state == JobState.DIED else "failed"
    return f"its install {how}" + (f": {line}" if line else "")


def last_line(log: str) -> str:
    """The last line that says something, bounded."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
