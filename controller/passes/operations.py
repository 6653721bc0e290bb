"""Calls that take minutes run beside the passes; their end wakes the tester.

A removal does not wait for what is being made: it cuts the waiting off (`cut_off`). What the call comes to is unknown then,
as after a lost answer, and is looked for until its limit and the grace have passed (law 2).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.store.fencing import NotOurs
from reconcilers.errors import OutsideError

log = logging.getLogger("controller")

RowKey = tuple[int, int]  # incarnation and attempt


@dataclass
class Operation:
    """One call under way. `error` is set when it ended badly, and is told to the next turn once.

    row      the row that it is about; None in a step that makes nothing
    makes    something that was not there before: what a removal does not wait for
    cut      why nobody waits for it any more; "" as long as somebody does
    """

    tester: str
    step: str
    what: str
    began_at: datetime
    limit: timedelta
    row: RowKey | None = None
    makes: bool = False
    cut: str = ""
    task: asyncio.Task[None] | None = None
    error: OutsideError | None = None
    ended: bool = False

    @property
    def key(self) -> tuple[str, str, RowKey | None]:
        return self.tester, self.step, self.row


@dataclass
class Operations:
    """At most one for each row of a tester's step, or for the step if it has none. `wake` puts a tester back in the queue."""

    wake: Callable[[str], None]
    _all: dict[tuple[str, str, RowKey | None], Operation] = field(default_factory=dict)

    def of(self, tester: str) -> list[Operation]:
        """Those of a tester that are under way."""
        return [op for op in self._all.values() if op.tester == tester and not op.ended]

    def testers(self) -> list[str]:
        """Whose operations are under way, one by one."""
        return [op.tester for op in self._all.values() if not op.ended]

    def drop(self, whose: Callable[[str], bool]) -> None:
        """Stop waiting for those of testers that are not ours any more. What they come to is for others to find out."""
        for operation in self._all.values():
            if whose(operation.tester) and operation.task is not None:
                operation.cut = "another replica looks after this tester now"
                operation.task.cancel()

    def take_failed(self, tester: str, step: str) -> list[Operation]:
        """The operations of a step that ended badly; told once."""
        ended = [op for op in self._all.values() if (op.tester, op.step) == (tester, step) and op.ended]
        for op in ended:
            del self._all[op.key]
        return ended

    def forget(self, tester: str) -> None:
        """The tester is no more: how its operations ended must not be told to a namesake."""
        for key in [key for key, op in self._all.items() if op.tester == tester and op.ended]:
            del self._all[key]

    def start(self, operation: Operation, call: Callable[[], Awaitable[None]]) -> None:
        """Run `call`, beside the passes; an OutsideError of it is kept for the next turn."""

        async def run() -> None:
            try:
                await call()
            except OutsideError as error:
                operation.error = error
            except NotOurs:
                log.info("%s: another replica finds out what %s came to", operation.tester, operation.what)
            except Exception as error:
                # The books could not be written (the journal still says that it is open): the next look tells what it came to.
                log.error(
                    "%s: the end of %s is not written down (%s)", operation.tester, operation.what, type(error).__name__
                )

        self._all[operation.key] = operation
        operation.task = asyncio.ensure_future(run())
        operation.task.add_done_callback(lambda _: self._end(operation))  # also of one that was cut off before it began

    def _end(self, operation: Operation) -> None:
        operation.ended = True
        if operation.error is None and self._all.get(operation.key) is operation:
            del self._all[operation.key]
        self.wake(operation.tester)

    async def cut_off(self, operations: Collection[Operation], why: str) -> None:
        """Stop waiting for them. When it returns the books say that what they come to is unknown.

        Our side of a call ends, the other side's may not: a write that is on the wire may still take effect, up to the
        call's limit and after it. So the row stays *intended*, its deadline counts from now, and what appears late is
        found by its name and taken away before the row may be closed.
        """
        for operation in operations:
            operation.cut = why
        await self._cancel(operations)

    async def aclose(self) -> None:
        """Stop waiting for all of them. What they were about is unknown then, and the journal says so."""
        await self._cancel(list(self._all.values()))

    async def _cancel(self, operations: Collection[Operation]) -> None:
        await asyncio.sleep(0)  # a task that has not taken its first step yet could not write down how it ended
        tasks = [op.task for op in operations if op.task is not None and not op.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True)
class UnderWay:
    """What one pass over a tester leaves alone: operations that run, and those that had not ended when its books were read,
    as these books may be older than their end."""

    operations: Operations
    tester: str
    before: tuple[Operation, ...]

    def of(self, step: str) -> list[Operation]:
        """Those of a step, without repetition."""
        now = [op for op in self.operations.of(self.tester) if op.step == step]
        return now + [op for op in self.before if op.step == step and op not in now]

    def any(self) -> bool:
        """Whether there is one, of whatever step."""
        return bool(self.before or self.operations.of(self.tester))

    def about(self, step: str, row: RowKey | None) -> Operation | None:
        return next((op for op in self.of(step) if op.row == row), None)
