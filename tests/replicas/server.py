"""A make-believe PostgreSQL, as far as locks go, and replicas at it, in virtual time: stopped, cut off, killed, come and gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.replicas.keeper import Keeper
from controller.replicas.shares import SHARDS, Rhythm
from controller.store.fencing import Lease
from controller.store.locks import LOCKS, Card, Seen, SessionLost
from tests.worlds.loop import START, VirtualClock


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Server:
    """`history`: (when, key, epoch) of every taking; `writers`: keys that somebody is in the middle of a write about."""

    lease: float = 5.0
    up: bool = True
    held: dict[tuple[int, int], int] = field(default_factory=dict)  # (class, key) → session
    heard: dict[int, float] = field(default_factory=dict)  # session → when it was heard of last
    epochs: dict[int, int] = field(default_factory=dict)
    history: list[tuple[float, int, int]] = field(default_factory=list)
    writers: set[int] = field(default_factory=set)
    pids: int = 100
    started: float = float("-inf")

    def expire(self) -> None:
        for pid in [pid for pid, at in self.heard.items() if now() - at > self.lease]:
            self.end(pid)

    def end(self, pid: int) -> None:
        self.heard.pop(pid, None)
        self.held = {lock: who for lock, who in self.held.items() if who != pid}

    def restart(self) -> None:
        for pid in list(self.heard):
            self.end(pid)
        self.started = now()

    def open(self) -> int:
        if not self.up:
            raise SessionLost("it is down")
        self.pids += 1
        self.heard[self.pids] = now()
        return self.pids


@dataclass
class Way:
    """Between one replica and the server, and whether the replica's process runs. What is stopped or cut off hears nothing."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()
        self.running.set()

    async def passed(self) -> None:
        await self.open.wait()
        await self.running.wait()


class FakeSession:
    sent = float("-inf")

    def __init__(self, server: Server, way: Way) -> None:
        self.server, self.way = server, way
        self.pid = server.open()

    async def _asked(self) -> None:
        await asyncio.sleep(0.001)
        await self.way.passed()
        self.server.expire()
        if self.pid not in self.server.heard or not self.server.up:
            raise SessionLost("terminated")
        self.server.heard[self.pid] = now()

    async def beat(self) -> Seen:
        await self._asked()
        holders = {key: pid for (kind, key), pid in self.server.held.items() if kind == LOCKS}
        young = now() - self.server.started < self.server.lease and bool(self.server.epochs)
        return Seen(self.pid, frozenset(self.server.heard), holders, young)

    @property
    def hung_up(self) -> bool:
        """Of a line that is cut nothing is heard."""
        return self.way.open.is_set() and self.pid not in self.server.heard

    async def take(self, kind: int, keys: Sequence[int], most: int) -> tuple[int, ...]:
        await self._asked()
        got = [key for key in keys if self.server.held.get((kind, key), self.pid) == self.pid][:most]
        self.server.held |= {(kind, key): self.pid for key in got}
        return tuple(got)

    async def free(self, kind: int, keys: Collection[int]) -> None:
        await self._asked()
        for key in keys:
            del self.server.held[kind, key]

    async def raise_epochs(self, keys: Collection[int], holder: str) -> dict[int, int]:
        await self._asked()
        if self.server.writers & set(keys):
            raise TimeoutError
        for key in keys:
            self.server.epochs[key] = self.server.epochs.get(key, 0) + 1
            self.server.history.append((now(), key, self.server.epochs[key]))
        return {key: self.server.epochs[key] for key in keys}

    async def show(self, card: Card) -> None:
        await self._asked()

    def abort(self) -> None:
        self.way = Way()  # whoever waits is told
        self.pid = -1

    async def aclose(self) -> None:
        if self.way.open.is_set():
            self.server.end(self.pid)


class StoppableClock(VirtualClock):
    """Does not wake a process that is stopped."""

    def __init__(self, way: Way) -> None:
        super().__init__()
        self.way = way

    async def sleep(self, span: timedelta) -> None:
        await super().sleep(span)
        await self.way.running.wait()


@dataclass
class Replica:
    """A keeper, and what it was told. `passes`: by shard, what is under way."""

    server: Server
    name: str
    way: Way = field(default_factory=Way)
    passes: dict[int, int] = field(default_factory=dict)
    told: list[tuple[float, str, frozenset[int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        rhythm = Rhythm(timedelta(seconds=self.server.lease))
        self.keeper = Keeper(
            self._card, self._open, self, StoppableClock(self.way), now, rhythm, random.Random(self.name)
        )
        self.task = asyncio.ensure_future(self.keeper.run())

    @property
    def shards(self) -> frozenset[int]:
        return frozenset(key for key in self.keeper.leases if key < SHARDS)

    def kill(self) -> None:
        """kill -9: the server sees the connection end at once."""
        self.task.cancel()

    def gained(self, leases: Collection[Lease]) -> None:
        self.told.append((now(), "gained", frozenset(lease.key for lease in leases)))

    def lost(self, keys: Collection[int]) -> None:
        self.told.append((now(), "lost", frozenset(keys)))

    def resumed(self, shards: Collection[int]) -> None:
        self.told.append((now(), "resumed", frozenset(shards)))

    def busy(self, shard: int) -> int:
        return self.passes.get(shard, 0)

    def members_changed(self) -> None:
        self.told.append((now(), "members", frozenset()))

    def term_ended(self) -> None:
        self.told.append((now(), "ended", frozenset()))

    def _card(self) -> Card:
        began: datetime = START
        return Card(self.name, "here", "1", began, 0)

    async def _open(self) -> FakeSession:
        await self.way.passed()
        return FakeSession(self.server, self.way)


def moved(replica: Replica, since: float) -> int:
    """How many shards it got or gave since then."""
    return sum(
        len(keys & frozenset(range(SHARDS))) for at, what, keys in replica.told if at >= since and what != "resumed"
    )
