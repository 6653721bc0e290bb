"""What the jobs on a tester's machine printed while they installed things. Read from the machine itself, where it is kept
bounded; where that does not tell, what our books kept of failures. Secrets that we know are taken out, and whatever could
drive a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from api.complaint import Complaint
from api.words import safe
from controller.records import TesterBooks
from controller.world import World
from reconcilers.backends.machine import Job, JobState, MachineAddress, MachineQuery
from reconcilers.errors import OutsideError
from reconcilers.facts import Facts, InstallLogsFacts, MachineFacts
from reconcilers.installs import jobs_of
from reconcilers.machine_look import machine_address, redacted
from reconcilers.secret import Secret

OVERLAP = 2048  # characters by which a log is recognised when its beginning was cut off meanwhile


class NoLog(Complaint):
    """There is nothing of that kind to be read: no machine, or no such component."""


@dataclass(frozen=True, slots=True)
class JobLog:
    """A component's last job, None when none ever ran; and the end of what it printed, or all that is kept of it.

    `kept_at`: when it was seen so, if our books tell it and not the machine; `why`: what keeps the machine from telling, ""
    when it answers and knows nothing of it.
    """

    component: str
    job: Job | None
    log: str
    kept_at: datetime | None = None
    machine: str = ""  # that it ran on, if our books tell it
    why: str = ""


async def read(
    books: TesterBooks, world: World, secrets: tuple[Secret, ...], component: str | None = None
) -> tuple[JobLog, ...]:
    """As `asked`; of what the machine does not tell, our books tell the last failures (4 KiB each).

    Raises NoLog, and an OutsideError, when the books tell nothing of it either.
    """
    known = _in_the_books(books, secrets)
    try:
        found = await asked(books, world, secrets, component)
    except (NoLog, OutsideError) as error:
        kept = tuple(replace(one, why=str(error)) for one in known.values() if component in (None, one.component))
        if not kept:
            raise
        return kept
    return tuple(known.get(one.component, one) if one.job is None else one for one in found)


async def asked(
    books: TesterBooks, world: World, secrets: tuple[Secret, ...], component: str | None = None
) -> tuple[JobLog, ...]:
    """All that the machine keeps of one component's last job, or the end of each. Raises NoLog, and an OutsideError."""
    if component is None:
        return await end_of_each(books, world, secrets)
    return (await whole(books, world, secrets, component),)


def _in_the_books(books: TesterBooks, secrets: tuple[Secret, ...]) -> dict[str, JobLog]:
    """By component of the spec."""
    facts = books.facts.get(InstallLogsFacts.step)
    kept = facts.kept if isinstance(facts, InstallLogsFacts) else {}
    found = {}
    for component, name in jobs_of(books.record.desired).items():
        if name in kept:
            one = kept[name]
            job = Job(name, JobState(one.state), one.rc, one.log, one.result, one.wanted, one.began)
            made = _log(component, job, one.log, books, secrets)
            found[component] = replace(made, kept_at=one.at, machine=one.machine)
    return found


async def end_of_each(books: TesterBooks, world: World, secrets: Iterable[Secret]) -> tuple[JobLog, ...]:
    """The last job of every component with the end of what it printed (4 KiB). One round trip.

    Raises NoLog, and an OutsideError when the machine cannot be asked.
    """
    known = jobs_of(books.record.desired)
    look = await world.backends.machines.look(_address(books, world), MachineQuery(logs=tuple(known.values())))
    found = ((component, look.jobs.get(job)) for component, job in known.items())
    return tuple(_log(component, job, job.log if job else "", books, secrets) for component, job in found)


async def whole(books: TesterBooks, world: World, secrets: Iterable[Secret], component: str) -> JobLog:
    """All that is kept of one component's last job (64 KiB). Raises NoLog, and an OutsideError."""
    known = jobs_of(books.record.desired)
    if component not in known:
        raise NoLog(f"{books.record.name} has no component {safe(component)!r}. There are: {', '.join(sorted(known))}.")
    address, machines = _address(books, world), world.backends.machines
    name = known[component]
    look, log = await asyncio.gather(machines.look(address, MachineQuery()), machines.job_log(address, name))
    return _log(component, look.jobs.get(name), log, books, secrets)


def _address(books: TesterBooks, world: World) -> MachineAddress:
    record = books.record
    facts = Facts(record.name, record.uid, world.fleet, books.facts)
    if facts.get(MachineFacts) is None:
        raise NoLog(f"{record.name} has no machine yet, so nothing was installed.")
    return machine_address(facts)


def _log(component: str, job: Job | None, log: str, books: TesterBooks, secrets: Iterable[Secret]) -> JobLog:
    return JobLog(component, job, safe(redacted(log, (*books.sealed.values(), *secrets))))


def news(before: str, now: str) -> str:
    """What was printed since: the rest when the log only grew, or was cut at its beginning; all of it when it began anew."""
    if now.startswith(before):
        return now[len(before) :]
    known = before[-OVERLAP:]
    place = now.find(known) if len(known) == OVERLAP else -1
    return now[place + len(known) :] if place >= 0 else now
