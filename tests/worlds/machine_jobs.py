"""The detached jobs on a make-believe machine: the supervisor's, and the install of a component, as their scripts do it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from examples.simulator.machine_faults import is_full
from examples.simulator.outcome import Outcome
from reconcilers.backends.machine import SUPERVISOR_JOB, JobState, SettingKey, install_job
from reconcilers.backends.machine_dialect import MachineDialect, Words
from reconcilers.backends.machine_jobs import START_WAIT
from reconcilers.backends.machine_look import version_in
from reconcilers.secret import Secret
from tests.worlds.ground import Failed, Ground, JobRecord

QUIET = 15.0  # seconds for a question that the log does not tell
LOCK_TRIED = 1.0  # seconds; a look may hold the lock for an instant


class JobFailed(Exception):
    """A command of the job failed; `args[0]` is its exit code."""


class Job:
    """A job that runs: its commands are told in its log."""

    def __init__(self, ground: Ground, dialect: MachineDialect, record: JobRecord) -> None:
        self.ground = ground
        self.dialect = dialect
        self.record = record

    async def call(self, words: Sequence[str]) -> Outcome:
        """Raises JobFailed."""
        outcome = await self.tried(words)
        if outcome.code:
            raise JobFailed(outcome.code)
        return outcome

    async def tried(self, words: Sequence[str]) -> Outcome:
        self.record.say(f"+ {' '.join(words)}\n")
        outcome = await self.ground.run(words)
        self.record.say((outcome.out + outcome.err).decode("utf-8", "replace"))
        return outcome

    async def answers(self) -> bool:
        return (
            self.ground.has(self.dialect.supervisor)
            and not (await self.ground.ask(self.dialect.service_list, QUIET)).code
        )

    async def version_of(self, component: str) -> str:
        if not self.ground.has(component):
            return ""
        outcome = await self.ground.ask(filled(self.dialect.version, component=component), QUIET)
        return version_in(outcome.out.decode("utf-8", "replace")) or ""

    async def build(self, component: str, version: str | None) -> None:
        words = self.dialect.lab_build + (self.dialect.lab_build_version if version else ())
        await self.call(filled(words, component=component, version=version or ""))


def filled(words: Words, **values: str) -> Words:
    return tuple(word.format(**values) for word in words)


async def start(
    ground: Ground, dialect: MachineDialect, name: str, wanted: str, work: Callable[[Job], Awaitable[None]]
) -> None:
    """Begin a job, unless it runs. Raises Failed."""
    lock = ground.lock_of(name)
    try:
        async with asyncio.timeout(LOCK_TRIED):
            await lock.acquire()
    except TimeoutError:
        return
    if is_full(ground.machine):
        lock.release()
        raise Failed("", b"")
    record = ground.jobs[name] = JobRecord(wanted, ground.now())

    async def run() -> None:
        try:
            await work(Job(ground, dialect, record))
            record.state, record.rc = JobState.SUCCEEDED, 0
        except JobFailed as error:
            record.state, record.rc = JobState.FAILED, int(error.args[0])
        finally:
            lock.release()

    record.task = ground.begin(run())


async def start_supervisor(ground: Ground, dialect: MachineDialect, lab_url: str, version: str | None) -> None:
    """Base packages, lab, hero_proc installed and answering: each only if it is missing."""

    async def work(job: Job) -> None:
        name = dialect.supervisor
        await _base(job, lab_url)
        have, want = await job.version_of(name), version or ""
        if not ground.has(name) or (want and have.removeprefix("v") != want.removeprefix("v")):
            await job.build(name, version)
            ground.before[name] = have
        if name in ground.before:
            job.record.result = await job.version_of(name)
            if await job.answers():
                await job.call(filled(dialect.lab_stop, service=name))
            del ground.before[name]
        if not await job.answers():
            await job.call(filled(dialect.lab_start, service=name))
            await _answering(job)
        job.record.result = await job.version_of(name)

    await start(ground, dialect, SUPERVISOR_JOB, version or "", work)


async def _base(job: Job, lab_url: str) -> None:
    """Packages and lab."""
    ground, dialect = job.ground, job.dialect
    if not ground.has("curl"):
        await job.call(dialect.packages_refresh)
        await job.call((*dialect.packages_install, *dialect.base_packages))
    if ground.has(dialect.lab):
        return
    part = f"{dialect.bin}/{dialect.lab}.part"
    await job.call(("curl", "-fsSL", "-o", part, lab_url))
    ground.machine.files.write(f"{dialect.bin}/{dialect.lab}", ground.machine.files.read(part) or b"", 0o755)
    ground.machine.files.remove(part)


async def _answering(job: Job) -> None:
    """Until the supervisor answers. Raises JobFailed."""
    for _ in range(START_WAIT):
        if await job.answers():
            return
        await asyncio.sleep(1)
    job.record.say(f"{job.dialect.supervisor} does not answer\n")
    raise JobFailed(1)


@dataclass(frozen=True)
class Install:
    """What to install, and how many installs run at once on a machine."""

    component: str
    version: str | None
    services: tuple[str, ...]
    places: int
    first: Mapping[SettingKey, Secret]


async def start_install(ground: Ground, dialect: MachineDialect, install: Install) -> None:
    """Install or update a component and start its services, when a place is free; services that ran another version are
    restarted."""
    component, version = install.component, install.version

    async def work(job: Job) -> None:
        ground.components[component] = None
        places = ground.places_of(install.places)
        if places.locked():
            job.record.say(f"waits for one of {install.places} places\n")
        async with places:
            await placed(job)

    async def placed(job: Job) -> None:
        fresh = not ground.has(component)
        before = ground.before.setdefault(component, await job.version_of(component))
        await job.build(component, version)
        job.record.result = await job.version_of(component)
        if not job.record.result or before != job.record.result:
            for (context, key), value in install.first.items():
                await job.call(filled(dialect.secret_set, context=context, key=key, value=value.text()))
        for service in install.services:
            await _started(job, service, fresh, before)
        del ground.before[component]

    await start(ground, dialect, install_job(component), version or "", work)


async def _started(job: Job, service: str, fresh: bool, before: str) -> None:
    """What was written before the first start is read by it."""
    ground, dialect = job.ground, job.dialect
    was = ground.stale.get(service)
    updated = not fresh and before != job.record.result
    if updated and not (await job.tried(filled(dialect.service_restart, service=service))).code:
        clear_stale(ground, service, was)
        return
    await job.call(filled(dialect.lab_start, service=service))
    if fresh:
        clear_stale(ground, service, was)


def clear_stale(ground: Ground, service: str, was: str | None) -> None:
    """The mark goes only if it is still the one that was there before."""
    if was is not None and ground.stale.get(service) == was:
        del ground.stale[service]
