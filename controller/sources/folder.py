"""A folder of YAML files, watched: a saved file is picked up at once, a half-written one removes nobody.

Editors save in several ways: some truncate and write, some write another file and rename it, some move the old one away
first. So a reading counts only when two in a row, a moment apart, are the same; and when a file that was there is gone,
it must stay gone for a little longer before its absence is believed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path

from watchfiles import awatch

from controller.intake import Revision
from reconcilers.clock import Clock
from specs.fleet import Fleet
from specs.loading import load_folder

STEADY = timedelta(milliseconds=60)
GONE = timedelta(seconds=1)
MOST_READINGS = (
    100  # of a folder that does not come to rest; then it is taken as it is, and its absences are not believed
)

Known = Callable[[], Awaitable[tuple[frozenset[str], Fleet | None]]]


class FolderSource:
    """`known` tells which testers exist already (only for new ones is a date in the past refused) and the last good Fleet."""

    def __init__(self, folder: Path, clock: Clock, known: Known) -> None:
        self.folder = folder
        self.name = f"folder {folder}"
        self._clock = clock
        self._known = known
        self._files: Mapping[str, str] | None = None
        self._again = asyncio.Event()

    def rescan(self) -> None:
        """Read again even if no change was noticed: a net under lost notifications, and for dates that pass."""
        self._again.set()

    async def read(self) -> Revision:
        """One settled reading of the folder."""
        previous = self._files
        revision = await self._once()
        for _ in range(MOST_READINGS):
            vanished = set(previous or ()) - set(revision.loaded.files)
            await self._clock.sleep(GONE if vanished else STEADY)
            again = await self._once()
            steady = again.id == revision.id
            revision = again
            if steady:
                break
        self._files = dict(revision.loaded.files)
        return revision

    async def revisions(self, stop: asyncio.Event) -> AsyncIterator[Revision]:
        """The folder now, and again after every change, until `stop`."""
        yield await self.read()
        changed = asyncio.Event()
        watcher = asyncio.ensure_future(self._watch(changed, stop))
        try:
            while not stop.is_set():
                await _first(changed.wait(), self._again.wait(), stop.wait())
                if stop.is_set():
                    return
                changed.clear()
                self._again.clear()
                yield await self.read()
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _watch(self, changed: asyncio.Event, stop: asyncio.Event) -> None:
        """Folders come and go (a deployment may swap them); until it is there, the rescan finds it."""
        while not stop.is_set():
            if self.folder.is_dir():
                async for _ in awatch(self.folder, stop_event=stop, debounce=50, step=10, recursive=True):
                    changed.set()
            else:
                await self._clock.sleep(timedelta(seconds=1))

    async def _once(self) -> Revision:
        known, last_fleet = await self._known()
        loaded = await asyncio.to_thread(load_folder, self.folder, self._clock.now().date(), known, last_fleet)
        content = "\n".join(f"{name} {sha}" for name, sha in sorted(loaded.files.items()))
        identity = hashlib.sha256(f"{loaded.readable}\n{content}".encode()).hexdigest()[:12]
        return Revision(self.name, identity, loaded)


async def _first(*waits: Awaitable[object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
