"""The world of a crowd: in a thread of its own, on a loop whose time runs so many times as fast as ours, behind a Unix socket.

It looks at all doors every quarter of a second instead of at every change, which hundreds of testers make too many of.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import selectors
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from examples.simulator import invariants
from examples.simulator.clock import WorldClock
from examples.simulator.server import Addresses
from examples.simulator.world import World
from reconcilers.secret import Secret
from tests.replicas.crowd_wire import Counters
from tests.worlds.addresses import addresses_of
from tests.worlds.ground import Yard
from tests.worlds.options import options_of
from tests.worlds.wire import WorldTransport

T = TypeVar("T")

DOORS_EVERY = 0.25  # real seconds


class _Hasty(selectors.DefaultSelector):
    """Waits for so much less."""

    speed = 1.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(None if timeout is None else timeout / self.speed)


class HastyLoop(asyncio.SelectorEventLoop):
    """A loop whose time runs so many times as fast as ours."""

    def __init__(self, speed: float) -> None:
        self._speed, self._began = speed, time.monotonic()
        selector = _Hasty()
        selector.speed = speed
        super().__init__(selector)

    def time(self) -> float:
        return (time.monotonic() - self._began) * self._speed


class Somewhere:
    """A world in a thread of its own, behind a socket."""

    def __init__(self, root: Path, seed: int, speed: float) -> None:
        self.socket = root / "world.sock"
        self._loop = HastyLoop(speed)
        self._ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._root, self._seed = root, seed
        self._over = asyncio.Event()
        self.cpu = 0.0
        self._thread = threading.Thread(target=self._run, name="world")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            raise
        finally:
            self.cpu = time.thread_time()

    async def _live(self) -> None:
        self.world = world = World(seed=self._seed, clock=WorldClock(1.0))
        for node in (node for daemon in world.state.daemons.values() for node in daemon.nodes):
            node.memory_mb_total *= 10_000  # room is not what this is about
            for pool in node.pools:
                pool.gb_total *= 10_000
        self.addresses: Addresses = addresses_of(world, self._root)
        self.yard = Yard(world)
        key = Secret(Path(self.addresses.installer_key_file).read_bytes())
        self.counters = Counters(self.yard, WorldTransport(world), key)
        self.systems = tuple(options_of(self.yard, self.counters.transport).transports)
        self._looking = asyncio.ensure_future(self._look_at_doors())
        server = await asyncio.start_unix_server(self.counters.serve, self.socket, limit=1 << 24)
        self._ready.set_result(None)
        await self._over.wait()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _look_at_doors(self) -> None:
        watch, changed = invariants.watch, self.world.changed
        dirty = False

        def note(world: World) -> None:
            nonlocal dirty
            dirty = True

        assert changed
        invariants.watch = note
        try:
            while True:
                await asyncio.sleep(DOORS_EVERY * self._loop._speed)
                if dirty:
                    dirty = False
                    watch(self.world)
        finally:
            invariants.watch = watch

    async def ask(self, what: Callable[[], T]) -> T:
        """The world, in its own thread."""

        async def asked() -> T:
            return what()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked(), self._loop))

    @contextmanager
    def living(self) -> Iterator[Somewhere]:
        self._thread.start()
        self._ready.result()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()
