"""An event loop in virtual time: when nobody can run, its clock jumps to the next timer.

    run(main(), start=datetime(2026, 1, 1, tzinfo=UTC))

Nothing else makes time pass. What the loop would give to a thread (a database call, reading a file) is done in line, so
that time never jumps while it is under way and no thread reorders anything. A loop with nothing ready and no timer would
sleep for ever: it raises Deadlock instead, and says what every task waits for. One that never comes to rest raises Livelock.

`Life` is everything that one life of the controller has started. `Life.end` is kill -9: not one more line of it runs, no
`finally` and no `except`, and the world goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import selectors
import sys
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop
from typing import Any, ParamSpec, TypeVar
from unittest import mock

import anyio.to_thread

from examples.simulator.clock import WORLD_BEGINS, WorldClock

T = TypeVar("T")
P = ParamSpec("P")

START = datetime.fromtimestamp(WORLD_BEGINS, UTC)
MOST_ROUNDS = 20_000
"""Rounds of the loop without time passing: more than any honest work takes."""
INSTANT = 1e-6  # seconds: the least that a timer takes
COLLECTED = (5_000, 20, 10)
"""Seldomer than by itself, and often enough for the processor's cache: with ten times as many new values it is slower again."""
LEAST_SIFTED = 100
"""Timers, of which more than half are cancelled, until they are sifted."""
ROOM = 256
"""Tasks of a life that are begun before those that have ended are forgotten."""
_life: contextvars.ContextVar[Life | None] = contextvars.ContextVar("life", default=None)


class Deadlock(RuntimeError):
    """Nobody can run, and no timer will ever wake anybody."""


class Livelock(RuntimeError):
    """Somebody always can run, and time does not pass."""


class Life:
    """What was started by `run` and by whatever that started. Dead for good once it has ended."""

    def __init__(self) -> None:
        self.ended = False
        self._tasks: list[weakref.ref[asyncio.Task[Any]]] = []
        self._room = ROOM

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin the work; all of its tasks and timers belong to this life."""
        context = contextvars.Context()
        context.run(_life.set, self)
        return asyncio.get_running_loop().create_task(work, context=context)

    def began(self, task: asyncio.Task[Any]) -> None:
        """The task is one of this life's."""
        self._tasks.append(weakref.ref(task))
        if len(self._tasks) > self._room:
            self._tasks = [weakref.ref(task) for task in self.under_way()]
            self._room = 2 * len(self._tasks) + ROOM

    def under_way(self) -> list[asyncio.Task[Any]]:
        """Its tasks that have not ended."""
        return [task for known in self._tasks if (task := known()) is not None and not task.done()]

    def end(self) -> None:
        """Nothing of it runs again, and what it awaits is answered to nobody."""
        self.ended = True
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.forget(self)


def outliving(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Begin work that belongs to the world: the end of whoever asked for it does not end it."""
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


class _Handle(asyncio.Handle):
    """Made without asking each time whether the loop is watched: most of what a loop does is to make these."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop, self._callback, self._args = loop, callback, args
        self._cancelled, self._repr, self._source_traceback = False, None, None


class _Jumping(selectors.BaseSelector):
    """Waits for nobody: a wait for a time is a jump of the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rounds = 0
        self.stuck: Callable[[], str] = lambda: ""
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock(f"nobody can run and no timer is set:\n{self.stuck()}")
        if timeout > 0:
            self.now += timeout
            self.rounds = 0
        self.rounds += 1
        if self.rounds > MOST_ROUNDS:
            raise Livelock(f"{MOST_ROUNDS} rounds without time passing:\n{self.stuck()}")
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._keys[fileobj] = key = selectors.SelectorKey(fileobj, 0, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 0; `start` is the moment (UTC) that this stands for."""

    def __init__(self, start: datetime = START) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self.start = start
        self.began = start.timestamp()
        self._any_ended = False
        self._jumping.stuck = self._waiting
        self._graves: list[tuple[asyncio.Task[Any], Life]] = []

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now

    def run_in_executor(self, executor: Executor | None, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """In line: it is done when this returns. Whoever awaits it hears of it after everybody who can run now."""
        future: asyncio.Future[T] = self.create_future()
        try:
            self.call_soon(_tell, future.set_result, future, func(*args))
        except StopIteration as error:
            self.call_soon(_tell, future.set_exception, future, RuntimeError(f"{func} raised StopIteration: {error}"))
        except Exception as error:
            self.call_soon(_tell, future.set_exception, future, error)
        return future

    def _run_once(self) -> None:
        """One round, as the loop's own: without sockets and signals, of which there are none."""
        if self._timer_cancelled_count > len(self._scheduled) / 2 > LEAST_SIFTED / 2:
            self._sift()
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heappop(scheduled)._scheduled = False
        jumping = self._jumping
        if ready or self._stopping:  # type: ignore[attr-defined]
            jumping.select(0)
        else:
            jumping.select(max(0, scheduled[0]._when - jumping.now) if scheduled else None)
        until = jumping.now + self._clock_resolution  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._when < until:
            handle = heappop(scheduled)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                handle._run()

    def _sift(self) -> None:
        """Forget the timers that were cancelled."""
        for handle in self._scheduled:  # type: ignore[has-type]
            handle._scheduled = not handle._cancelled
        self._scheduled = [handle for handle in self._scheduled if not handle._cancelled]  # type: ignore[has-type]
        heapify(self._scheduled)
        self._timer_cancelled_count = 0

    def create_task(  # type: ignore[override]
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        if self.is_closed():
            coro.close()  # it is refused
        task: asyncio.Task[Any] = super().create_task(coro, name=name, context=context)
        life = _life.get() if context is None else context.get(_life)
        if life is not None:
            life.began(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        if self.is_closed():
            raise RuntimeError("the loop is closed")
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        if self._any_ended:
            life = _life.get() if context is None else context.get(_life)
            if life is not None and life.ended:
                handle.cancel()
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """A wait that is only a rounding error long takes an instant, as by a real clock; else it would never end."""
        return super().call_at(max(when, self.time() + INSTANT), callback, *args, context=context)

    def forget(self, life: Life) -> None:
        """Drop everything of a life that is ready or will be. Its tasks are kept from the garbage collector, which would
        run their `finally` now."""
        self._any_ended = True
        for handle in (*self._ready, *self._scheduled):  # type: ignore[attr-defined]
            if handle._context.get(_life) is life:
                handle.cancel()
        self._graves += [(task, life) for task in life.under_way()]

    def wind_up(self) -> None:
        """Cancel who still lives, wait for them, and let go of the dead."""
        left = [task for task in asyncio.all_tasks(self) if not self._is_dead(task)]
        for task in left:
            task.cancel()
        with contextlib.suppress(Deadlock, Livelock):  # told already: who does not even end now is left as he is
            self._jumping.rounds = 0
            if left:
                self.run_until_complete(asyncio.wait(left))
            self.run_until_complete(self.shutdown_asyncgens())
        if self._graves:
            self._bury()

    def _bury(self) -> None:
        """The dead end without being heard: their `finally` can do no harm any more, and fails at its first await."""
        heard, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            self._unmourned()
            self.close()
            asyncio._set_running_loop(self)  # closed: it refuses what they begin now, which another loop would keep
            for task, _ in self._graves:
                with contextlib.suppress(Exception, asyncio.CancelledError):
                    task.get_coro().close()  # not when somebody lets go of it, in the midst of something else
            self._graves.clear()
            gc.collect()
        finally:
            asyncio._set_running_loop(None)
            sys.unraisablehook = heard

    def _unmourned(self) -> None:
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        if _life.get() is None:  # one of a life that has ended could not be closed
            super()._asyncgen_firstiter_hook(agen)  # type: ignore[misc]

    def _is_dead(self, task: asyncio.Task[Any]) -> bool:
        return any(task is dead for dead, _ in self._graves)

    def _waiting(self) -> str:
        tasks = sorted(filter(lambda task: not self._is_dead(task), asyncio.all_tasks(self)), key=_number)
        return "\n".join(f"  {_in_words(task)}" for task in tasks)


def _number(task: asyncio.Task[Any]) -> tuple[int, str]:
    return len(task.get_name()), task.get_name()


def _in_words(task: asyncio.Task[Any]) -> str:
    """`name: coroutine → … → innermost (file:line)`."""
    what: Any = task.get_coro()
    chain, place = [], ""
    while what is not None:
        frame = getattr(what, "cr_frame", None) or getattr(what, "ag_frame", None)
        if frame is not None:
            chain.append(getattr(what, "__qualname__", repr(what)))
            place = f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"
        what = getattr(what, "cr_await", None) or getattr(what, "ag_await", None)
    return f"{task.get_name()}: {' → '.join(chain)} ({place})"


def run(main: Coroutine[Any, Any, T], start: datetime = START) -> T:
    """The coroutine's result, on a virtual loop of its own that begins at `start` (UTC).

    Raises Deadlock and Livelock, and what `main` raises.
    """
    with virtual_loop(start) as loop:
        return loop.run_until_complete(main)


@contextlib.contextmanager
def virtual_loop(start: datetime) -> Iterator[VirtualLoop]:
    """Where a life is lived, all at once or step by step; wound up at the end."""
    _spare_what_was_there()
    loop = VirtualLoop(start)
    try:
        with mock.patch.object(anyio.to_thread, "run_sync", _in_line):
            yield loop
    finally:
        loop.wind_up()
        loop.close()


async def _in_line(work: Callable[..., T], *args: Any, **_: Any) -> T:
    """What FastAPI would give to a thread, past the loop's executor: time would run away from it, each time otherwise."""
    return work(*args)


def _tell(how: Callable[[T], None], future: asyncio.Future[Any], what: T) -> None:
    if not future.done():  # nobody may want to know any more
        how(what)


def spare_what_is_there() -> None:
    """The collector need not walk through every library again for each life that ends: once is enough."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED)


_spare_what_was_there = functools.cache(spare_what_is_there)


def in_virtual_time(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """A coroutine function as an ordinary one that runs it in virtual time: `@in_virtual_time async def test_…`."""

    @functools.wraps(test)
    def ordinary(*args: P.args, **kwargs: P.kwargs) -> None:
        async def whole() -> None:
            await test(*args, **kwargs)

        run(whole())

    return ordinary


def _loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "only on a virtual loop"
    return loop


class VirtualClock:
    """The controller's clock (`reconcilers.clock.Clock`): the loop's start and what has passed since.

    `offset`: by how much it is wrong. Waits are as long as ever.
    """

    offset = timedelta(0)
    _asked: tuple[object, float, timedelta] = (None, 0.0, offset)  # it is asked very often in one moment
    _told = datetime.min

    def now(self) -> datetime:
        loop = _loop()
        (of, at, wrong), now = self._asked, loop._jumping.now
        if at != now or of is not loop or wrong is not self.offset:
            self._asked = (loop, now, self.offset)
            self._told = loop.start + timedelta(seconds=now) + self.offset
        return self._told

    async def sleep(self, span: timedelta) -> None:
        await asyncio.sleep(max(0.0, span.total_seconds()))


class VirtualWorldClock(WorldClock):
    """The simulator's clock: the same moments, one simulated second to a virtual one."""

    def __init__(self) -> None:
        super().__init__(speed=1.0)

    def now(self) -> float:
        """Epoch seconds. Outside of a loop, the beginning of all worlds."""
        try:
            loop = _loop()
        except RuntimeError:
            return WORLD_BEGINS
        return loop.began + loop.time()
