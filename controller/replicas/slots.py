"""The limits of a backend, shared by replicas: each call in flight takes one of so many slots, wherever it is made.

A slot is a lock on the keeper's session, so that it falls with its holder. Those of our fair share are kept for a moment after
a call, since the next one mostly comes soon; others go back at once. Calls a second are divided evenly.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from reconcilers.backends.limits import Call

RETRY: Final = 0.1  # seconds, where all slots are taken
KEPT: Final = 1.0  # seconds


class Locks(Protocol):
    """What `Keeper` does for slots."""

    @property
    def term(self) -> int: ...

    @property
    def replicas(self) -> int: ...

    async def some_of(self, kind: int, keys: Sequence[int], most: int) -> tuple[int, ...]: ...

    async def give_back(self, kind: int, keys: Collection[int]) -> None: ...


@dataclass
class Slots:
    """Of one backend's gate (`reconcilers.backends.limits.Shared`). `name` tells gates apart, in all replicas alike; `ask`: the
    last question about each call."""

    name: str
    total: int
    locks: Locks
    chance: random.Random
    ask: Callable[[Call], Awaitable[None]]
    _term: int = 0
    _free: set[int] = field(default_factory=set)
    _used: set[int] = field(default_factory=set)
    _waiting: int = 0
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _returning: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def kind(self) -> int:
        """The class of its locks."""
        return zlib.crc32(f"slots of {self.name}".encode()) & 0x7FFF_FFFF

    @property
    def among(self) -> int:
        """How many replicas share it."""
        return max(1, self.locks.replicas)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one slot, once there is one."""
        slot = await self._take()
        term = self._term
        try:
            yield
        finally:
            self._give(slot, term)

    async def leaving(self, call: Call) -> None:
        await self.ask(call)

    async def _take(self) -> int:
        self._waiting += 1
        try:
            while True:
                if self._term != self.locks.term:  # with the session all slots were lost
                    self._term, self._free, self._used = self.locks.term, set(), set()
                if not self._free:
                    await self._ask()
                if self._free:
                    slot = self._free.pop()
                    self._used.add(slot)
                    return slot
                await self._a_moment()
        finally:
            self._waiting -= 1

    async def _ask(self) -> None:
        async with self._asking:
            if self._free:
                return
            term = self._term
            others = [slot for slot in range(self.total) if slot not in self._used]
            self.chance.shuffle(others)
            taken = await self.locks.some_of(self.kind, others, self._waiting) if others else ()
            if term == self._term == self.locks.term:
                for slot in taken:  # who waited for one may have been cancelled
                    self._keep(slot)

    async def _a_moment(self) -> None:
        try:
            async with asyncio.timeout(RETRY * (0.5 + self.chance.random())):
                await self._news.wait()
        except TimeoutError:
            return

    def _give(self, slot: int, term: int) -> None:
        """A call has ended; a slot of a former term is not ours to give."""
        if not term == self._term == self.locks.term:
            return
        self._used.discard(slot)
        keep = self.total // self.among
        if len(self._used) + len(self._free) >= keep:
            self._return({slot})
            return
        self._keep(slot)
        self._news.set()
        self._news = asyncio.Event()

    def _keep(self, slot: int) -> None:
        """For a moment: somebody may want it."""
        self._free.add(slot)
        asyncio.get_running_loop().call_later(KEPT, self._rest, slot, self._term)

    def _rest(self, slot: int, term: int) -> None:
        """Nobody has wanted it for a while."""
        if term == self._term == self.locks.term and slot in self._free:
            self._free.discard(slot)
            self._return({slot})

    def _return(self, slots: set[int]) -> None:
        self._used |= slots  # not to be asked for until it is free
        term = self._term

        async def give_back() -> None:
            await self.locks.give_back(self.kind, slots)
            if term == self._term:
                self._used -= slots
            self._news.set()
            self._news = asyncio.Event()

        task = asyncio.ensure_future(give_back())
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)
