"""What every source of specs is to the controller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime
from typing import Protocol

from controller.intake import Revision
from specs.fleet import Fleet

Known = Callable[[], Awaitable[tuple[frozenset[str], Fleet | None]]]
"""Which testers exist already (only for new ones is a date in the past refused), and the last good Fleet."""


class Source(Protocol):
    """Gives whole revisions, or says why it cannot."""

    name: str
    good_at: datetime | None
    """When it was last read without an error; None: nobody knows."""

    def rescan(self) -> None:
        """Read again soon: it may have changed."""
        ...

    def revisions(self, stop: asyncio.Event) -> AsyncGenerator[Revision, None]:
        """What is there now, and again after every change, until `stop`. Raises what `Known` raises."""
        ...
