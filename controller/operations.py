"""Calls that take minutes run beside the passes; their end wakes the tester."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reconcilers.errors import OutsideError

log = logging.getLogger("controller")


@dataclass
class Operation:
    """One call under way. `error` is set when it ended badly, and is told to the next turn once."""

    tester: str
    step: str
    what: str
    began_at: datetime
    limit: timedelta
    task: asyncio.Task[None] | None = None
    error: OutsideError | None = None
    ended: bool = False


@dataclass
class Operations:
    """At most one for each step of a tester. `wake` puts a tester back in the queue."""

    wake: Callable[[str], None]
    _all: dict[tuple[str, str], Operation] = field(default_factory=dict)

    def running(self, tester: str, step: str) -> Operation | None:
        found = self._all.get((tester, step))
        return found if found is not None and not found.ended else None

    def of(self, tester: str) -> list[Operation]:
        """Those of a tester that are under way."""
        return [op for (name, _), op in self._all.items() if name == tester and not op.ended]

    def take_error(self, tester: str, step: str) -> OutsideError | None:
        """How the last operation of a step failed; told once."""
        found = self._all.get((tester, step))
        if found is None or not found.ended:
            return None
        del self._all[tester, step]
        return found.error

    def forget(self, tester: str) -> None:
        """The tester is no more: how its operations ended must not be told to a namesake."""
        for key in [key for key, op in self._all.items() if key[0] == tester and op.ended]:
            del self._all[key]

    def start(self, operation: Operation, call: Callable[[], Awaitable[None]]) -> None:
        """Run `call`, beside the passes; an OutsideError of it is kept for the next turn."""

        async def run() -> None:
            try:
                await call()
            except OutsideError as error:
                operation.error = error
            except Exception as error:
                # The books could not be written (the journal still says that it is open): the next look tells what it came to.
                log.error(
                    "%s: the end of %s is not written down (%s)", operation.tester, operation.what, type(error).__name__
                )
            finally:
                operation.ended = True
                if operation.error is None:
                    self._all.pop((operation.tester, operation.step), None)
                self.wake(operation.tester)

        self._all[operation.tester, operation.step] = operation
        operation.task = asyncio.ensure_future(run())

    async def aclose(self) -> None:
        """Stop waiting for all of them. What they were about is unknown then, and the journal says so."""
        tasks = [op.task for op in self._all.values() if op.task is not None and not op.task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
