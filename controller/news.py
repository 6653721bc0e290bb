"""What has changed in the books, in order, for those who follow it: whose it was, never what.

Level-triggered as the queue is: a thing that changes again moves to the end, so that the memory is bounded by how many things
there are, and who comes back after a while is told each of them once. A position is of one process: who brings another's, or
one from before what is remembered, has to look at everything anew.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.records import (
    AddEvent,
    Change,
    ClaimForge,
    DropCondition,
    DropFacts,
    DropTester,
    NameForgeOwner,
    PutCondition,
    PutFacts,
    PutFleet,
    PutJournal,
    PutObject,
    PutRevision,
    PutSource,
    PutTester,
    SetStatus,
)
from controller.store import Store

REMEMBERED: Final = 10_000
"""So many things are known to have changed, each with when it did last."""


class Kind(StrEnum):
    """Of what has changed."""

    TESTER = "tester"
    FLEET = "fleet"
    EVENT = "event"
    REVISION = "revision"


@dataclass(frozen=True, slots=True)
class Topic:
    """What has changed: a tester, the fleet (name ""), an event of a tester's or of the fleet's, a revision."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of news. `position`: who goes on from it has heard it."""

    position: str
    topic: Topic


class News:
    """Of one store, from the moment at which it is made. It is heard in one event loop."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._of = secrets.token_hex(4)
        self._remembered = remembered
        self._last = 0
        self._forgotten = 0  # the newest that is not remembered any more
        self._topics: OrderedDict[Topic, int] = OrderedDict()
        self._came = asyncio.Event()

    @property
    def position(self) -> str:
        """Where the news are now."""
        return self._position(self._last)

    def hear(self, changes: tuple[Change, ...]) -> None:
        """Something was committed (a listener of the store)."""
        self.hear_of(set(topics_of(changes)))

    def hear_of(self, topics: Set[Topic]) -> None:
        """Something was committed, here or by another replica."""
        if not topics:
            return
        for topic in sorted(topics, key=lambda each: (each.kind, each.name)):
            self._last += 1
            self._topics[topic] = self._last
            self._topics.move_to_end(topic)
        while len(self._topics) > self._remembered:
            self._forgotten = self._topics.popitem(last=False)[1]
        self._came.set()
        self._came = asyncio.Event()

    def forget(self) -> None:
        """Nobody knows what was missed: whoever follows looks at everything anew."""
        self._last += 1
        self._forgotten = self._last
        self._topics.clear()
        self._came.set()
        self._came = asyncio.Event()

    def since(self, position: str) -> tuple[Piece, ...] | None:
        """What came after a position, oldest first; None: it is not known here, or is too long ago."""
        number = self._number(position)
        if number is None or number < self._forgotten:
            return None
        found = []
        for topic, at in reversed(self._topics.items()):
            if at <= number:
                break
            found.append(Piece(self._position(at), topic))
        return tuple(reversed(found))

    async def beyond(self, position: str) -> None:
        """Until there is something after a position."""
        while self._number(position) == self._last:
            await self._came.wait()

    def _position(self, number: int) -> str:
        return f"{self._of}-{number}"

    def _number(self, position: str) -> int | None:
        of, _, number = position.partition("-")
        if of != self._of or not (number.isascii() and number.isdigit()) or len(number) > len(str(self._last)):
            return None
        return int(number) if int(number) <= self._last else None


def news_of(store: Store) -> News:
    """The news of a store: one for all who follow it."""
    for listener in store.listeners:
        of = getattr(listener, "__self__", None)
        if isinstance(of, News):
            return of
    made = News()
    store.listeners.append(made.hear)
    return made


def topics_of(changes: Iterable[Change]) -> Iterator[Topic]:
    """What changes are about. What only the controller itself uses (sealed secrets, runs) is nobody's news."""
    for change in changes:
        match change:
            case PutTester(record):
                yield Topic(Kind.TESTER, record.name)
            case SetStatus(tester=name) | DropTester(name) | PutFacts(tester=name) | DropFacts(tester=name):
                yield Topic(Kind.TESTER, name)
            case PutCondition(condition):
                yield _of_tester_or_fleet(condition.tester)
            case DropCondition(tester=name):
                yield _of_tester_or_fleet(name)
            case PutObject(row):
                yield _of_tester_or_fleet(row.tester)
            case PutJournal(entry):
                yield _of_tester_or_fleet(entry.tester)
            case AddEvent(event):
                yield Topic(Kind.EVENT, event.tester)
            case PutRevision(revision):
                yield Topic(Kind.REVISION, revision.revision)
            case PutSource() | PutFleet() | ClaimForge() | NameForgeOwner():
                yield Topic(Kind.FLEET, "")
            case _:
                pass


def _of_tester_or_fleet(name: str) -> Topic:
    return Topic(Kind.TESTER, name) if name else Topic(Kind.FLEET, "")
