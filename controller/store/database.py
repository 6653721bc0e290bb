"""What the store asks of a database, whichever it is; and the care that both take of a cancelled task."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")

Work = Callable[[Connection], T]
"""Runs within a transaction that is begun for it. It must not await, begin or commit anything."""

Pause = Callable[[], Awaitable[None]]
"""Awaited between the work and its commit; what it raises undoes the work."""


class Written(asyncio.CancelledError):
    """The task was cancelled meanwhile, but what it wrote is durable: whoever must hear of it hears of it."""


class Database(Protocol):
    """Raises SQLAlchemyError for what goes wrong in it."""

    async def read(self, ask: Work[T]) -> T:
        """Ask within one transaction that sees one moment."""
        ...

    async def write(self, work: Work[T], pause: Pause | None) -> T:
        """Work within one transaction, durable when this returns and undone when this raises.

        A task that is cancelled meanwhile sees the statements, or the commit, to their end first; Written says that it did.
        """
        ...

    async def tidy(self) -> None:
        """Give back room that is not used any more, where the database does not do so by itself."""
        ...

    def abandon(self) -> None:
        """Wait for nothing that is under way any more: it fails at once. What comes next is asked anew."""
        ...

    async def aclose(self) -> None:
        """Let go of the database, after the write that is under way."""
        ...


async def to_the_end(work: Awaitable[T]) -> T:
    """Await work that must not stop half-way; a cancellation that arrives meanwhile is passed on when it has ended.

    A cancelled database call would take its connection down with it, and nobody could say whether a commit happened.
    """
    task: asyncio.Future[T] = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, so that nobody warns that it was not
        raise cancelled
    return task.result()
