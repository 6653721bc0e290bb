"""The queue of testers to look at: names only, never events (level-triggered).

A name stands in it once. Added again, it keeps the earliest time and the most urgent class of both. A name that is being
worked on is not handed out a second time; what is added meanwhile waits until `done`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from reconcilers.clock import Clock

NOW = timedelta(0)
LONGEST_SLEEP = 30.0  # seconds: a clock that was put forward or back is noticed so soon


class Urgency(Enum):
    """The order among names that are due. The value is the head start, in seconds, that the others have: one that has waited
    longer than it comes first whatever its class, so nothing starves (ageing)."""

    CHANGED = 0.0
    FAILING = 10.0
    RESYNC = 60.0

    def __init__(self, seconds: float) -> None:
        self.head_start = timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a queue stands. `due`: names that wait to be handed out, the first of them for `oldest_due`; `handed_out`: since when
    nobody was; `longest`: who is being worked on for the longest time, and for how long."""

    due: int
    oldest_due: timedelta
    later: int
    working: int
    handed_out: timedelta
    longest: tuple[str, timedelta] | None


class _Entry:
    """A name in the queue, and then while it is worked on: since when, and what was added meanwhile."""

    __slots__ = ("again", "begun", "due", "live", "name", "urgency")

    def __init__(self, name: str, due: datetime, urgency: Urgency) -> None:
        self.name = name
        self.due = self.begun = due
        self.urgency = urgency
        self.live = True
        self.again: _Entry | None = None


class Queue:
    """Heap-based; every operation is O(log n). One consumer calls `get`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = clock.now()
        self._entries: dict[str, _Entry] = {}
        self._later: list[tuple[datetime, int, _Entry]] = []
        self._due: list[tuple[datetime, int, _Entry]] = []
        self._working: dict[str, _Entry] = {}
        self._handed_out = self._seen
        self._count = 0
        self._changed = asyncio.Event()
        self.admits: Callable[[str, Urgency], bool] | None = None  # whom this process looks after; None: everybody

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        """Whether it waits for its time, or is due."""
        return name in self._entries

    def urgency_of(self, name: str) -> Urgency | None:
        """As what a name that is being worked on was handed out; None: it is not."""
        entry = self._working.get(name)
        return None if entry is None else entry.urgency

    @property
    def working(self) -> frozenset[str]:
        """The names that are being worked on now."""
        return frozenset(self._working)

    def depth(self) -> int:
        """How many names are due and not yet handed out."""
        self._promote()
        return sum(entry.live for _, _, entry in self._due)

    def standing(self) -> Standing:
        """As of now; what it tells is no older than the clock, were it set back."""
        self._promote()
        now = self._clock.now()
        due = [entry.due for _, _, entry in self._due if entry.live]
        longest = min(self._working.values(), key=lambda each: (each.begun, each.name), default=None)
        return Standing(
            due=len(due),
            oldest_due=_age(min(due, default=now), now),
            later=len(self._entries) - len(due),
            working=len(self._working),
            handed_out=_age(self._handed_out, now),
            longest=(longest.name, _age(longest.begun, now)) if longest is not None else None,
        )

    def add(self, name: str, after: timedelta = NOW, urgency: Urgency = Urgency.CHANGED) -> None:
        """Look at `name` no later than `after` from now, if we look after it."""
        if self.admits is not None and not self.admits(name, urgency):
            return
        due = self._now()
        if after > NOW:
            due += after
        working = self._working.get(name)
        if working is not None:
            working.again = _merged(working.again, name, due, urgency)
            return
        old = self._entries.get(name)
        entry = _Entry(name, due, urgency) if old is None else _merged(old, name, due, urgency)
        if old is not None:
            if (old.due, old.urgency) == (entry.due, entry.urgency):
                return
            old.live = False
        self._put(entry)

    def discard(self, name: str) -> None:
        """Forget a name: it is no more. What is being worked on is left to end."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            entry.live = False
        if name in self._working:
            self._working[name].again = None

    def discard_those(self, whose: Callable[[str], bool]) -> None:
        for name in [name for name in {*self._entries, *self._working} if whose(name)]:
            self.discard(name)

    async def get(self) -> str:
        """The next name, once one is due."""
        while True:
            self._promote()
            due = self._due
            while due:
                entry = heapq.heappop(due)[2]
                if entry.live:
                    name = entry.name
                    del self._entries[name]
                    self._working[name] = entry
                    entry.begun = self._handed_out = self._seen
                    return name
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), self._until_next())
            except TimeoutError:
                continue

    def done(self, name: str) -> None:
        """The work on `name` has ended; what was added meanwhile is queued now."""
        entry = self._working.pop(name, None)
        if entry is not None and entry.again is not None:
            self._put(entry.again)

    def _put(self, entry: _Entry) -> None:
        self._entries[entry.name] = entry
        self._count += 1
        if entry.due <= self._seen:
            heapq.heappush(self._due, (entry.due + entry.urgency.head_start, self._count, entry))
        else:
            heapq.heappush(self._later, (entry.due, self._count, entry))
        if not self._changed.is_set():
            self._changed.set()

    def _now(self) -> datetime:
        now = self._clock.now()
        if now < self._seen:
            self._go_back(self._seen - now)
        self._seen = now
        return now

    def _go_back(self, back: timedelta) -> None:
        """When the clock is set back, everything due moves back with it: nobody waits once more for time that has passed."""
        for entry in (*self._entries.values(), *(each.again for each in self._working.values())):
            if entry is not None:
                entry.due -= back
        self._later = [(due - back, count, entry) for due, count, entry in self._later]
        self._due = [(rank - back, count, entry) for rank, count, entry in self._due]

    def _promote(self) -> None:
        now, later = self._now(), self._later
        while later and later[0][0] <= now:
            _, count, entry = heapq.heappop(later)
            if entry.live:
                heapq.heappush(self._due, (entry.due + entry.urgency.head_start, count, entry))

    def _until_next(self) -> float | None:
        while self._later and not self._later[0][2].live:
            heapq.heappop(self._later)
        if not self._later:
            return None
        return min(max(0.0, (self._later[0][0] - self._now()).total_seconds()), LONGEST_SLEEP)


def _age(then: datetime, now: datetime) -> timedelta:
    return max(now - then, NOW)


def _merged(old: _Entry | None, name: str, due: datetime, urgency: Urgency) -> _Entry:
    if old is None:
        return _Entry(name, due, urgency)
    return _Entry(name, min(old.due, due), old.urgency if old.urgency.value <= urgency.value else urgency)
