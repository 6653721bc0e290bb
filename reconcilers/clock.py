"""The one clock (law 9). Everything that needs the time is given one of these; nobody asks the system."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time (UTC) and lets it pass."""

    def now(self) -> datetime: ...

    async def sleep(self, span: timedelta) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, span: timedelta) -> None:
        await asyncio.sleep(max(0.0, span.total_seconds()))


def steady() -> float:
    """Seconds of a clock that nobody sets and that goes on while the process is stopped. For what a server counts by its own:
    the same in every process, of no use in the books."""
    return time.monotonic()
