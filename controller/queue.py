"""The queue of testers to look at: names only, never events (level-triggered).

A name stands in it once. Added again, it keeps the earliest time and the most urgent class of both. A name that is being
worked on is not handed out a second time; what is added meanwhile waits until `done`.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import count
from math import inf

from reconcilers.backends.haste import Haste
from reconcilers.clock import Clock

NOW = timedelta(0)
LONGEST_SLEEP = 30.0  # seconds: a clock that was put forward or back is noticed so soon
CHANGES_IN_A_ROW = 3  # while somebody else has waited longer than they by its head start


class Urgency(Enum):
    """The order among names that are due. The value is the head start, in seconds, that the others have: one that has waited
    longer than it comes first whatever its class, so nothing starves (ageing). Of a change that holds for each fourth turn
    only: after a start, or another Fleet, thousands have waited so long."""

    CHANGED = 0.0
    FAILING = 10.0
    RESYNC = 60.0

    __hash__ = object.__hash__  # each is there once; an Enum's own is a call for every look into a dictionary

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


_Entry = tuple[datetime, int, str, Urgency]
"""When it is due; the how manieth it is, so that the first to come is the first of those due at once; and who. It counts only as
long as it is the very one that is in `_entries`."""


class Queue:
    """Who is due stands in a line for each urgency, in order of time; who is due later in a heap. One consumer calls `get`.

    others_at_once  how many are worked on at once whose spec has not changed: places are kept for those whose has
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = clock.now()
        self._entries: dict[str, _Entry] = {}
        self._due: dict[Urgency, deque[_Entry]] = {urgency: deque() for urgency in Urgency}
        self._later: list[_Entry] = []
        self._working: dict[str, tuple[datetime, Urgency, Haste]] = {}  # since when, and as what it was handed out
        self._again: dict[str, tuple[datetime, Urgency]] = {}  # what was added of these meanwhile
        self._handed_out = self._seen
        self._number = count()
        self.others_at_once: float = inf
        self._others = 0  # how many are
        self._in_a_row = 0
        self._waiting: asyncio.Future[None] | None = None
        self.admits: Callable[[str, Urgency], bool] | None = None  # whom this process looks after; None: everybody

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        """Whether it waits for its time, or is due."""
        return name in self._entries

    def urgency_of(self, name: str) -> Urgency | None:
        """As what a name that is being worked on was handed out; None: it is not."""
        working = self._working.get(name)
        return None if working is None else working[1]

    def haste_of(self, name: str) -> Haste:
        """Of what is done for a name that is being worked on: it comes with a change, also with one that comes meanwhile."""
        working = self._working.get(name)
        return Haste() if working is None else working[2]

    @property
    def working(self) -> frozenset[str]:
        """The names that are being worked on now."""
        return frozenset(self._working)

    def depth(self) -> int:
        """How many names are due and not yet handed out."""
        return len(self._all_due())

    def standing(self) -> Standing:
        """As of now; what it tells is no older than the clock, were it set back."""
        due, now = self._all_due(), self._seen
        longest = min(((begun, name) for name, (begun, *_) in self._working.items()), default=None)
        return Standing(
            due=len(due),
            oldest_due=_age(min(due, default=now), now),
            later=len(self._entries) - len(due),
            working=len(self._working),
            handed_out=_age(self._handed_out, now),
            longest=(longest[1], _age(longest[0], now)) if longest is not None else None,
        )

    def add(self, name: str, after: timedelta = NOW, urgency: Urgency = Urgency.CHANGED) -> None:
        """Look at `name` no later than `after` from now, if we look after it."""
        if self.admits is not None and not self.admits(name, urgency):
            return
        due = self._now()
        if after > NOW:
            due += after
        if name in self._working:
            again = self._again.get(name)
            self._again[name] = (due, urgency) if again is None else _merged(*again, due, urgency)
            if urgency is Urgency.CHANGED:
                self.haste_of(name).comes()
            return
        old = self._entries.get(name)
        if old is not None:
            known = old[0], old[3]
            due, urgency = _merged(*known, due, urgency)
            if (due, urgency) == known:
                return
        self._place((due, next(self._number), name, urgency))

    def discard(self, name: str) -> None:
        """Forget a name: it is no more. What is being worked on is left to end."""
        self._entries.pop(name, None)
        self._again.pop(name, None)

    def discard_those(self, whose: Callable[[str], bool]) -> None:
        for name in [name for name in {*self._entries, *self._again} if whose(name)]:
            self.discard(name)

    async def get(self) -> str:
        """The next name, once one is due."""
        while True:
            now = self._promote()
            entry = self._first()
            if entry is not None:
                _, _, name, urgency = entry
                del self._entries[name]
                self._working[name] = now, urgency, Haste(urgency is Urgency.CHANGED)
                self._others += urgency is not Urgency.CHANGED
                self._handed_out = now
                return name
            self._waiting = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._waiting,), timeout=self._until_next())

    def done(self, name: str) -> None:
        """The work on `name` has ended; what was added meanwhile is queued now."""
        worked = self._working.pop(name, None)
        if worked is not None and worked[1] is not Urgency.CHANGED:
            self._others -= 1
            if self._others == self.others_at_once - 1:
                self._wake()
        again = self._again.pop(name, None)
        if again is not None:
            self._place((again[0], next(self._number), name, again[1]))

    def _place(self, entry: _Entry) -> None:
        """Where it belongs by now."""
        due, _, name, urgency = entry
        self._entries[name] = entry
        if due > self._seen:
            heapq.heappush(self._later, entry)
            if self._later[0] is not entry and self._later[0][0] > self._seen:
                return  # whoever waits does so for somebody else, who is not due yet
        else:
            line = self._due[urgency]
            if not line or line[-1] < entry:
                line.append(entry)
            else:
                insort(line, entry)
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _first(self) -> _Entry | None:
        """Out of its line: who has waited longest of those who are due and may have a place, head starts reckoned in."""
        changes, may_others = self._due[Urgency.CHANGED], self._others < self.others_at_once
        while True:
            first: deque[_Entry] | None = None
            for line in self._due.values():
                if line and (may_others or line is changes) and (first is None or _rank(line) < _rank(first)):
                    first = line
            if first is None:
                return None
            is_aged = bool(changes) and first is not changes
            if is_aged and self._in_a_row < CHANGES_IN_A_ROW:
                first = changes
            entry = first.popleft()
            if self._entries.get(entry[2]) is entry:
                if is_aged:
                    self._in_a_row = self._in_a_row + 1 if first is changes else 0
                return entry

    def _counts(self, entry: _Entry) -> bool:
        return self._entries.get(entry[2]) is entry

    def _all_due(self) -> list[datetime]:
        self._promote()
        return [entry[0] for line in self._due.values() for entry in line if self._counts(entry)]

    def _now(self) -> datetime:
        now, seen = self._clock.now(), self._seen
        self._seen = now
        if now < seen:
            self._go_back(seen - now)
        return now

    def _go_back(self, back: timedelta) -> None:
        """When the clock is set back, everything due moves back with it: nobody waits once more for time that has passed."""
        self._again = {name: (due - back, urgency) for name, (due, urgency) in self._again.items()}
        self._later.clear()
        for line in self._due.values():
            line.clear()
        for due, number, name, urgency in list(self._entries.values()):
            self._place((due - back, number, name, urgency))

    def _promote(self) -> datetime:
        """Returns what time it is."""
        now, later = self._now(), self._later
        while later and later[0][0] <= now:
            entry = heapq.heappop(later)
            if self._counts(entry):
                self._place(entry)
        return now

    def _until_next(self) -> float | None:
        while self._later and not self._counts(self._later[0]):
            heapq.heappop(self._later)
        if not self._later:
            return None
        return min(max(0.0, (self._later[0][0] - self._now()).total_seconds()), LONGEST_SLEEP)


def _age(then: datetime, now: datetime) -> timedelta:
    return max(now - then, NOW)


def _rank(line: deque[_Entry]) -> tuple[datetime, int]:
    due, number, _, urgency = line[0]
    return due + urgency.head_start, number


def _merged(old: datetime, older: Urgency, new: datetime, newer: Urgency) -> tuple[datetime, Urgency]:
    return min(old, new), older if older.head_start <= newer.head_start else newer
