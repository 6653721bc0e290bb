"""Several whole controllers over one world and one store, in virtual time: killed, stopped, cut off from the database, come anew.

    async with team(tmp_path, names, count=3) as w:
        w.replicas[0].kill() / .pause() / .go_on() / .cut_off() / .mend()
        await w.begin()                     another one
        w.server.restart()

The store is one SQLite file, and what PostgreSQL does for replicas is `server.Server`. The world notes each call that reaches it:
one that was begun under a lease whose lock somebody else had taken by then is in `w.too_late`.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlalchemy.exc import OperationalError

from controller.places import Places
from controller.records import Change
from controller.replicas.shares import SHARDS, Rhythm
from controller.running import Controller
from controller.store import KeySource, Store, StoreError
from controller.store.database import Database, Pause, Work
from controller.store.fencing import LEASE, Lease
from controller.store.locks import LOCKS
from reconcilers.backends.machine import MachineAddress
from reconcilers.backends.opening import Options
from tests.replicas.server import FakeSession, Server, Way, now
from tests.worlds.files import hurried, prepared
from tests.worlds.loop import Life, VirtualClock, VirtualLoop, _life, outliving
from tests.worlds.machine import WorldMachines
from tests.worlds.options import options_of
from tests.worlds.rig import Rig, Spec, _fleet
from tests.worlds.source import QuietFolder, by_clock
from tests.worlds.wire import WorldTransport

T = TypeVar("T")

GIVES_UP = 25.0  # seconds: how long a connection that was cut is believed in


class PausableLoop(VirtualLoop):
    """Lives may be stopped: what they would have run is run when they go on."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[Life, list[tuple[Any, tuple[Any, ...], contextvars.Context | None]]] = {}

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        life = _life.get() if context is None else context.get(_life)
        if life is None:
            return super().call_soon(callback, *args, context=context)
        return super().call_soon(self._unless_stopped, life, callback, args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        life = _life.get() if context is None else context.get(_life)
        if life is None:
            return super().call_at(when, callback, *args, context=context)
        return super().call_at(when, self._unless_stopped, life, callback, args, context=context)

    def _unless_stopped(self, life: Life, callback: Any, args: tuple[Any, ...]) -> None:
        if life in self.held:
            self.held[life].append((callback, args, contextvars.copy_context()))
        else:
            callback(*args)

    def stop_life(self, life: Life) -> None:
        self.held.setdefault(life, [])

    def go_on(self, life: Life) -> None:
        for callback, args, context in self.held.pop(life, []):
            if not life.ended:
                super().call_soon(self._unless_stopped, life, callback, args, context=context)


class StoreSession(FakeSession):
    """Raises epochs in the store's own table, as the real one does."""

    def __init__(self, server: Server, way: Way, file: Path) -> None:
        super().__init__(server, way)
        self.file = file

    async def raise_epochs(self, keys: Collection[int], holder: str) -> dict[int, int]:
        epochs = await super().raise_epochs(keys, holder)
        with sqlite3.connect(self.file, timeout=0) as books:
            put = "INSERT OR REPLACE INTO leases (key, epoch, holder, since) VALUES (?, ?, ?, '2026-01-01 00:00:00.000000')"
            books.executemany(put, [(key, epoch, holder) for key, epoch in epochs.items()])
        return epochs


@dataclass
class Wired:
    """A database behind a way that may be cut: then nothing is answered."""

    inner: Database
    way: Way
    cut: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, ask: Work[T]) -> T:
        await self._passed()
        return await self.inner.read(ask)

    async def write(self, work: Work[T], pause: Pause | None) -> T:
        await self._passed()
        return await self.inner.write(work, pause)

    def abandon(self) -> None:
        self.cut.set()
        self.cut = asyncio.Event()

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _passed(self) -> None:
        """What is asked of who does not answer is waited for until it is abandoned."""
        if not self.way.open.is_set():
            await self.cut.wait()
            raise OperationalError("ask", {}, Exception("server closed the connection"))


class Hub:
    """The line between replicas: a word reaches all that are not cut off."""

    def __init__(self) -> None:
        self.ends: set[HubLine] = set()

    @asynccontextmanager
    async def open(self, way: Way) -> AsyncIterator[HubLine]:
        if not way.open.is_set():
            await asyncio.sleep(GIVES_UP)
            raise StoreError("the line cannot be opened")
        line = HubLine(self, way)
        self.ends.add(line)
        try:
            yield line
        finally:
            self.ends.discard(line)


class HubLine:
    def __init__(self, hub: Hub, way: Way) -> None:
        self.hub, self.way = hub, way
        self.said: asyncio.Queue[str] = asyncio.Queue()

    async def words(self) -> AsyncIterator[str]:
        while True:
            word = await self.said.get()
            if not self.way.open.is_set():
                raise StoreError("the line is cut")
            yield word

    async def tell(self, words: Sequence[str]) -> None:
        await asyncio.sleep(0.002)
        if not self.way.open.is_set():
            raise StoreError("the line is cut")
        for end in self.hub.ends:
            for word in words:
                end.said.put_nowait(word)


@dataclass
class One:
    """One replica."""

    team: Team
    number: int
    life: Life = field(default_factory=Life)
    way: Way = field(default_factory=Way)
    controller: Controller = field(init=False)
    store: Store = field(init=False)
    session: FakeSession | None = None
    running: asyncio.Task[None] = field(init=False)

    async def start(self) -> None:
        team = self.team
        self.store = await self.life.run(self._opened())
        chance = random.Random(f"{team.seed}/{self.number}")
        options = team.options_for(self)
        self.controller = Controller(
            team.places,
            self.store,
            team.clock,
            chance,
            options=options,
            source_of=QuietFolder,
            timetable=by_clock,
            replicas=Rhythm(),
        )
        crew = self.controller.crew
        assert crew is not None
        crew.keeper.open_session = self._session
        crew.keeper.monotonic = now
        crew.words.open_line = lambda: team.hub.open(self.way)
        crew.name = crew.words.name = f"replica-{self.number}"
        self.controller.listeners.append(team._took)
        self.store.listeners.append(team._heard)
        self.running = self.life.run(self.controller.run())

    async def _opened(self) -> Store:
        store = await Store.open(self.team.places.url, KeySource({}, self.team.places.key_file), self.team.clock)
        hurried(store)
        store._database = Wired(store._database, self.way)
        return store

    async def _session(self) -> FakeSession:
        await self.way.passed()
        self.session = StoreSession(self.team.server, self.way, self.team.places.state / "controller.db")
        return self.session

    @property
    def shards(self) -> frozenset[int]:
        crew = self.controller.crew
        assert crew is not None
        return frozenset(key for key in crew.keeper.leases if key < SHARDS)

    @property
    def alive(self) -> bool:
        return not self.life.ended

    def kill(self) -> None:
        """kill -9: the server sees its connections end."""
        self.life.end()
        if self.session is not None:
            self.team.server.end(self.session.pid)

    def pause(self) -> None:
        """SIGSTOP."""
        self.team.loop.stop_life(self.life)

    def go_on(self) -> None:
        """SIGCONT."""
        self.team.loop.go_on(self.life)

    def cut_off(self) -> None:
        """Nothing passes between it and the database, and neither side is told."""
        self.way.open.clear()

    def mend(self) -> None:
        self.way.open.set()

    async def stop(self) -> None:
        """SIGTERM."""
        self.controller.stop.set()
        await self.running
        await self.store.aclose()
        self.life.ended = True


class Team(Rig):
    """A world with replicas; see the module."""

    def __init__(self, root: Path, seed: int, count: int) -> None:
        super().__init__(root, seed, 1)
        self.server, self.hub = Server(), Hub()
        self.count = count
        self.replicas: list[One] = []
        self.calls = 0
        self.too_late: list[str] = []

    @property
    def loop(self) -> PausableLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PausableLoop)
        return loop

    async def start(self) -> None:
        self.store = await Store.open(self.places.url, KeySource({}, self.places.key_file), self.clock)
        hurried(self.store)
        for _ in range(self.count):
            await self.begin()
        self.controller = self.replicas[0].controller

    async def begin(self) -> One:
        one = One(self, len(self.replicas))
        self.replicas.append(one)
        await one.start()
        return one

    def rescan(self) -> None:
        for one in self.replicas:
            if one.alive and isinstance(one.controller.source, QuietFolder):
                one.controller.source.changed()

    @property
    def living(self) -> list[One]:
        return [one for one in self.replicas if one.alive]

    @property
    def is_shared(self) -> bool:
        """All shards are held, evenly, by those who live."""
        held = [one.shards for one in self.living]
        sizes = [len(shards) for shards in held]
        return len(frozenset().union(*held)) == sum(sizes) == SHARDS and max(sizes) - min(sizes) <= 1

    async def stop(self) -> None:
        for one in self.living:
            one.go_on()
            one.mend()
            await one.stop()
        await self.store.aclose()

    def kill(self) -> None:
        for one in self.living:
            one.life.end()

    def check(self) -> None:
        super().check()
        assert self.too_late == []

    def reached(self, one: One, lease: Lease | None, what: str) -> None:
        """A call has reached the world. One of the dead was begun before."""
        self.calls += 1
        if not one.alive or lease is None:
            return
        me = one.session.pid if one.session is not None else None
        if self.server.epochs[lease.key] != lease.epoch or self.server.held.get((LOCKS, lease.key), me) != me:
            self.too_late.append(f"+{now():.3f} replica {one.number}: {what} under {lease}")

    def options_for(self, one: One) -> Options:
        usual = options_of(self.yard, self._transport, self.hooks)
        noting = NotingTransport(self._transport, self, one)
        return Options(
            hooks=usual.hooks,
            transports=dict.fromkeys(usual.transports, noting),
            machines=lambda key, gate, places: NotingMachines(self, one, self.yard, key, gate, places),
            trust=usual.trust,
        )

    def _heard(self, changes: tuple[Change, ...]) -> None:
        self.store.commits += 1


class NotingTransport(httpx.AsyncBaseTransport):
    def __init__(self, inner: WorldTransport, team: Team, one: One) -> None:
        self.inner, self.team, self.one = inner, team, one

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.team.reached(self.one, LEASE.get(), f"{request.method} {request.url}")
        return await self.inner.handle_async_request(request)


class NotingMachines(WorldMachines):
    def __init__(self, team: Team, one: One, *given: Any) -> None:
        super().__init__(*given)
        self.team, self.one = team, one

    async def _run(self, address: MachineAddress, name: str, writing: bool, work: Callable[[Any], Awaitable[T]]) -> T:
        lease = LEASE.get()

        async def noted(ground: Any) -> T:
            self.team.reached(self.one, lease, f"{name} on {address.key}")
            return await work(ground)

        return await super()._run(address, name, writing, noted)


@asynccontextmanager
async def team(
    root: Path, testers: Mapping[str, Spec] | Iterable[str], *, seed: int = 1, count: int = 3, fleet: Spec | None = None
) -> AsyncIterator[Team]:
    root.mkdir(parents=True, exist_ok=True)
    made = Team(root, seed, count)
    for node in (node for daemon in made.world.state.daemons.values() for node in daemon.nodes):
        node.memory_mb_total *= 100  # room is not what this is about
        for pool in node.pools:
            pool.gb_total *= 100
    made.places.folder.mkdir(parents=True)
    prepared(made.places)
    made._save("fleet", _fleet(made, fleet or {}))
    specs = testers if isinstance(testers, Mapping) else {name: {} for name in testers}
    for name, spec in specs.items():
        made.write(name, **spec)
    await made.start()
    try:
        yield made
    except BaseException:
        made.kill()
        raise
    await made.stop()
    made.check()


def lived(work: Awaitable[T]) -> T:
    """In virtual time, on a loop that can stop lives."""

    async def whole() -> T:
        return await work

    loop = PausableLoop()
    try:
        return loop.run_until_complete(whole())
    finally:
        loop.wind_up()
        loop.close()


__all__ = ["Places", "Team", "VirtualClock", "lived", "outliving", "team"]
