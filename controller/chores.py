"""What the controller does at intervals, beside looking at testers; and what keeps the intervals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta

from apscheduler.schedulers.asyncio import AsyncIOScheduler


@dataclass(frozen=True, slots=True)
class Chore:
    """Some work, first after one interval and then again and again. `jitter`: so much earlier or later, at most."""

    work: Callable[[], Awaitable[None]]
    every: timedelta
    jitter: timedelta = timedelta(0)


Timetable = Callable[[Sequence[Chore]], AbstractContextManager[None]]
"""Has the chores done while its block is entered."""


@contextmanager
def scheduled(chores: Sequence[Chore]) -> Iterator[None]:
    """The usual timetable, by the machine's clock."""
    late_is_better_than_never = {"misfire_grace_time": None, "coalesce": True}
    scheduler = AsyncIOScheduler(timezone="UTC", job_defaults=late_is_better_than_never)
    for chore in chores:
        jitter = int(chore.jitter.total_seconds()) or None
        scheduler.add_job(_done, "interval", [chore], seconds=chore.every.total_seconds(), jitter=jitter)
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


async def _done(chore: Chore) -> None:
    """A coroutine function, whatever the work is: the scheduler gives anything else to a thread."""
    await chore.work()
