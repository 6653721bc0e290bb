"""What stands, in virtual time, for the watching of the folder and for the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from controller.chores import Chore
from controller.sources.folder import FolderSource, Heard
from tests.worlds.loop import VirtualClock

ANYWAY = timedelta(hours=2)
"""A folder that has not changed is read again so often: thousands of readings that tell nothing would cost the most."""


class QuietFolder(FolderSource):
    """A folder that nobody watches: the rig says when it has changed. The rest is the real source."""

    _last: tuple[object, datetime] | None = None

    def changed(self) -> None:
        """Read it now."""
        self._again.set()

    def rescan(self) -> None:
        """As asked every minute: only if something differs, the date among it, or has not been read for long."""
        now = self._clock.now()
        state = (now.date(), *((path.name, path.stat().st_mtime_ns) for path in sorted(self.folder.glob("*"))))
        if self._last is None or self._last[0] != state or now - self._last[1] >= ANYWAY:
            self._last = (state, now)
            self._again.set()

    async def _watch(self, heard: Heard) -> None:
        await asyncio.get_running_loop().create_future()


@contextmanager
def by_clock(chores: Sequence[Chore]) -> Iterator[None]:
    """A timetable by virtual time."""
    clock = VirtualClock()

    async def again_and_again(chore: Chore) -> None:
        while True:
            await clock.sleep(chore.every)
            await chore.work()

    tasks = [asyncio.ensure_future(again_and_again(chore)) for chore in chores]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
