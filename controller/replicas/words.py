"""What replicas tell each other: whose something changed, who is to be looked at now, that the source is to be read.

Gathered while the line is busy or cut, so that one word says many things and a storm of commits is one of them at a time.
Whoever cannot have heard everything (the line was cut, a replica is gone) is told to take everything for changed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol

from controller.news import Kind, Topic
from controller.store.errors import StoreError
from controller.store.line import LONGEST
from reconcilers.clock import Clock

log = logging.getLogger("controller")

RETRY: Final = timedelta(seconds=1)
_KINDS: Final = frozenset(Kind)
MOST: Final = 2_000
"""Things in one motion; of more it is said that everything has changed."""


@dataclass(frozen=True, slots=True)
class Word:
    """changed   whose something was written; None: nobody knows, take everything for changed
    wake      who is to be looked at now, by whoever looks after it
    ring      the source is to be read now, by whoever reads it
    """

    changed: frozenset[Topic] | None = frozenset()
    wake: frozenset[str] = frozenset()
    ring: bool = False


class Line(Protocol):
    """What `controller.store.line.Line` does."""

    def words(self) -> AsyncIterator[str]: ...

    async def tell(self, words: Sequence[str]) -> None: ...


@dataclass
class Words:
    """`name`: ours, since we hear ourselves too. `hear`: told what others say, and of every gap."""

    name: str
    open_line: Callable[[], AbstractAsyncContextManager[Line]]
    hear: Callable[[Word], None]
    clock: Clock
    _changed: set[Topic] = field(default_factory=set)
    _wake: set[str] = field(default_factory=set)
    _ring: bool = False
    _pending: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, changed: Set[Topic] = frozenset(), wake: Iterable[str] = (), *, ring: bool = False) -> None:
        """To all others, as soon as the line is free."""
        self._changed |= changed
        self._wake.update(wake)
        self._ring = self._ring or ring
        self._pending.set()

    async def run(self) -> None:
        """Hear and tell for ever."""
        while True:
            try:
                async with self.open_line() as line:
                    self.hear(Word(changed=None))  # whatever was said before
                    await self._both(line)
            except StoreError as error:
                log.warning("%s; it is tried again", error)
            await self.clock.sleep(RETRY)

    async def _both(self, line: Line) -> None:
        """Until either way is cut."""
        ways = [asyncio.ensure_future(self._listen(line)), asyncio.ensure_future(self._tell(line))]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in done:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _listen(self, line: Line) -> None:
        async for text in line.words():
            word = read(text, self.name)
            if word is not None:
                self.hear(word)

    async def _tell(self, line: Line) -> None:
        while True:
            await self._pending.wait()
            changed, wake, ring = self._changed, self._wake, self._ring
            self._changed, self._wake, self._ring = set(), set(), False
            self._pending.clear()
            try:
                await line.tell(list(written(self.name, changed, wake, ring=ring)))
            except BaseException:
                self.say(changed, wake, ring=ring)
                raise


def written(name: str, changed: Set[Topic], wake: Set[str], *, ring: bool) -> Iterator[str]:
    """As few words as hold all of it."""
    told = sorted(changed, key=lambda one: (one.kind, one.name))
    pieces: list[object] = [["all"]] if len(told) > MOST else [[topic.kind.value, topic.name] for topic in told]
    pieces += [["wake", one] for one in sorted(wake)]
    pieces += [["ring"]] if ring else []
    head = json.dumps({"of": name, "said": []})[:-2]
    said: list[str] = []
    length = 0
    for text in map(json.dumps, pieces):
        if said and len(head) + length + len(text) > LONGEST:
            yield f"{head}{', '.join(said)}]}}"
            said, length = [], 0
        said.append(text)
        length += len(text) + 3
    if said:
        yield f"{head}{', '.join(said)}]}}"


def read(text: str, me: str) -> Word | None:
    """What another one said; None: it was us, or a program that speaks otherwise."""
    try:
        told = json.loads(text)
        if told["of"] == me:
            return None
        return _word(told["said"])
    except (ValueError, KeyError, TypeError):
        return None


def _word(said: Iterable[object]) -> Word:
    changed: set[Topic] | None = set()
    wake: set[str] = set()
    ring = False
    for piece in said:
        match piece:
            case ["wake", str(name)]:
                wake.add(name)
            case ["ring"]:
                ring = True
            case [str(kind), str(name)] if kind in _KINDS:
                if changed is not None:
                    changed.add(Topic(Kind(kind), name))
            case _:  # all, or what only a newer program can tell of
                changed = None
    return Word(frozenset(changed) if changed is not None else None, frozenset(wake), ring)
