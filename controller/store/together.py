"""Writes that wait for one another are one transaction.

What was asked for while another write was under way is written in one go, and each who asked is told when all of it is durable:
waiting for the disk, or for the way to the server and back, is most of a write. Should anything in it fail, each is tried alone.
All of it runs on threads of its own: going to a thread and back costs more than most statements do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from controller.store.database import Pause, Work, Written, to_the_end
from controller.store.errors import StoreError
from controller.store.fencing import Fenced, check
from controller.store.writing import Making, make_all

MOST_TOGETHER: Final = 64
"""Writes in one transaction."""

HELD_UP: Final = 0.05
"""Seconds: what was asked for behind a write that takes longer may go another way, if there is one."""

T = TypeVar("T")


@dataclass(eq=False)
class _Asked(Generic[T]):
    """A write that waits for its turn. `outcome`: what came of it, in a tuple, or what it raised."""

    work: Work[T]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: tuple[T] | BaseException | None = None

    def result(self) -> T:
        if self.outcome is None:
            raise StoreError("the write was not begun")
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome[0]


class Writers:
    """At most so many transactions at once (`ways`): the second only when the first is held up, by somebody else's locks."""

    def __init__(self, engine: Engine, ways: int = 1) -> None:
        self._engine = engine
        self._ways = ways
        self._threads = ThreadPoolExecutor(ways, "store-writer")
        self._turn = asyncio.Semaphore(ways)
        self._asked: deque[_Asked[Any]] = deque()
        self._answering: set[asyncio.Task[None]] = set()
        self._held_up: set[object] = set()  # transactions

    async def write(self, work: Work[T], pause: Pause | None) -> T:
        """As `Database.write`."""
        if pause is not None:
            async with self._turn:
                return await self._write_with_pause(work, pause)
        mine = _Asked(work)
        self._asked.append(mine)
        self._begin()
        try:
            await mine.ended.wait()
        except asyncio.CancelledError:
            if mine in self._asked:
                self._asked.remove(mine)
                raise
            with suppress(asyncio.CancelledError):
                await to_the_end(mine.ended.wait())  # it is begun
            if isinstance(mine.outcome, tuple):
                raise Written from None
            raise
        return mine.result()

    async def run(self, work: Callable[[], T]) -> T:
        """Something else that wants the database for itself."""
        async with self._turn:
            return await to_the_end(run_in(self._threads, work))

    async def aclose(self) -> None:
        """After what was asked for is written."""
        while self._answering:
            await asyncio.wait(set(self._answering))
        await self.run(self._engine.dispose)
        self._threads.shutdown(wait=False)

    def _begin(self) -> None:
        """To answer, if nobody does who can go on."""
        under_way = sum(not task.done() for task in self._answering)
        if self._asked and under_way <= len(self._held_up) and under_way < self._ways:
            task = asyncio.create_task(self._answer())
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self) -> None:
        """Until nothing is asked for. It begins a turn of the loop later: who asks in the same one goes along."""
        try:
            while self._asked:
                async with self._turn:
                    await self._write_together()
                await asyncio.sleep(0)
        finally:
            left, self._asked = self._asked, deque()  # their writes, it is told, were not begun: nor are they later
            _tell(left)

    async def _write_together(self) -> None:
        """All that was asked for, as far as it may be, in the order in which it was."""
        some = [self._asked.popleft() for _ in range(min(len(self._asked), MOST_TOGETHER))]
        with self._others_going_on():
            try:
                await to_the_end(run_in(self._threads, lambda: _all(self._engine, some)))
            finally:
                _tell(some)

    @contextmanager
    def _others_going_on(self) -> Iterator[None]:
        """Another way is gone when this takes too long, by whoever asks then or has asked already."""
        if self._ways == 1:
            yield
            return
        this = object()

        def held_up() -> None:
            self._held_up.add(this)
            self._begin()

        timer = asyncio.get_running_loop().call_later(HELD_UP, held_up)
        try:
            yield
        finally:
            timer.cancel()
            self._held_up.discard(this)

    async def _write_with_pause(self, work: Work[T], pause: Pause) -> T:
        opened: list[Connection] = []  # so that a connection is closed even if we are cancelled while it is handed over
        try:
            await to_the_end(run_in(self._threads, lambda: opened.append(self._engine.connect())))
            connection = opened[0]
            result = await to_the_end(run_in(self._threads, lambda: work(connection)))
            await pause()
            await to_the_end(run_in(self._threads, connection.commit))
            return result
        finally:
            for connection in opened:
                await to_the_end(run_in(self._threads, connection.close))  # what is not committed is undone


def run_in(executor: Executor, call: Callable[[], T]) -> asyncio.Future[T]:
    return asyncio.get_running_loop().run_in_executor(executor, call)


def _tell(asked: Iterable[_Asked[Any]]) -> None:
    for each in asked:
        each.ended.set()


def _all(engine: Engine, asked: Sequence[_Asked[Any]]) -> None:
    """In one transaction, or else each in its own: who fails must not take the others with him."""
    if len(asked) > 1 and _together(engine, asked):
        return
    for each in asked:
        try:
            with engine.begin() as connection:
                each.outcome = (each.work(connection),)
        except Exception as error:
            each.outcome = error


def _together(engine: Engine, asked: Sequence[_Asked[Any]]) -> bool:
    """False: one of them fails, and nothing is written. A connection or a commit that fails is everybody's failure: nobody tries
    it again."""
    try:
        with engine.connect() as connection, connection.begin() as transaction:
            try:
                results = _results(connection, asked)
            except Exception as error:
                if isinstance(error, DBAPIError) and error.connection_invalidated:
                    raise
                transaction.rollback()
                return False
    except Exception as error:
        for each in asked:
            each.outcome = error
        return True
    for each, result in zip(asked, results, strict=True):
        each.outcome = (result,)
    return True


def _results(connection: Connection, asked: Sequence[_Asked[Any]]) -> list[Any]:
    """Writes of changes that follow each other are made in one go: a statement for many rows costs little more than for one.
    Raises NotOurs when any of them is under a lease that is somebody else's by now."""
    check(connection, [each.work.lease for each in asked if isinstance(each.work, Fenced)])
    bare = [each.work.work if isinstance(each.work, Fenced) else each.work for each in asked]
    results: list[Any] = []
    for _, some in groupby(bare, lambda work: isinstance(work, Making)):
        works = list(some)
        makings = [work for work in works if isinstance(work, Making)]
        if makings:
            make_all(connection, makings)
        results += [None] * len(makings) if makings else [work(connection) for work in works]
    return results
