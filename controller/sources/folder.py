"""A folder of YAML files, watched: a saved file is picked up at once, a half-written one removes nobody.

Editors save in several ways: some truncate and write, some write another file and rename it, some move the old one away
first. So a reading counts only when two in a row, a moment apart, are the same; and when a file that was there is gone,
it must stay gone for a little longer before its absence is believed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from watchfiles import awatch

from controller.intake import Revision
from controller.sources.source import Known
from controller.sources.waiting import first
from reconcilers.clock import Clock
from specs.errors import SpecError
from specs.loading import load_folder

log = logging.getLogger("controller")

STEADY = timedelta(milliseconds=60)
GONE = timedelta(seconds=1)
REFUSED = timedelta(minutes=1)  # until it is tried again to watch
REWATCH = timedelta(seconds=1)  # how often it is looked at whether the folder still is the one that is watched
MOST_READINGS = 100  # of a folder that does not come to rest


class FolderSource:
    """`known` tells which testers exist already (only for new ones is a date in the past refused) and the last good Fleet."""

    def __init__(self, folder: Path, clock: Clock, known: Known) -> None:
        self.folder = folder
        self.name = f"folder {folder}"
        self.good_at: datetime | None = None
        """When it was last read as a whole."""
        self._clock = clock
        self._known = known
        self._files: Mapping[str, str] | None = None  # of the last reading that told something
        self._existing: frozenset[str] = frozenset()
        self._again = asyncio.Event()

    def rescan(self) -> None:
        """Read again even if no change was noticed: a net under lost notifications, and for dates that pass."""
        self._again.set()

    async def read(self) -> Revision:
        """One settled reading of the folder. Raises what `known` raises."""
        revision = await self._once()
        for _ in range(MOST_READINGS):
            await self._clock.sleep(GONE if self._lacks_something(revision) else STEADY)
            again = await self._once()
            if again.id == revision.id:
                if again.loaded.readable:
                    self._files, self.good_at = dict(again.loaded.files), self._clock.now()
                return again
            revision = again
        return _restless(revision)

    def _lacks_something(self, revision: Revision) -> bool:
        """Whether a file is gone since the last good reading; at the first one, whether a known tester is in none."""
        if self._files is None:
            return bool(self._existing - set(revision.loaded.testers))
        return bool(set(self._files) - set(revision.loaded.files))

    async def revisions(self, stop: asyncio.Event) -> AsyncGenerator[Revision, None]:
        """The folder now, and again after every change, until `stop`. Raises what `known` raises."""
        changed = asyncio.Event()
        watcher = asyncio.ensure_future(self._watch(changed))  # before the first reading, so that nothing falls between
        try:
            yield await self.read()
            while not stop.is_set():
                await first(changed.wait(), self._again.wait(), stop.wait())
                if stop.is_set():
                    return
                changed.clear()
                self._again.clear()
                yield await self.read()
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _watch(self, changed: asyncio.Event) -> None:
        """Folders come and go, and the system may refuse to watch one: while nobody watches, the rescan finds changes."""
        while True:
            while not self.folder.is_dir():
                await self._clock.sleep(REWATCH)
                if self.folder.is_dir():
                    changed.set()
            try:
                await self._watch_this_one(changed)
                changed.set()
            except (OSError, RuntimeError) as error:
                log.warning("%s is not watched: %s", self.name, error)
                await self._clock.sleep(REFUSED)

    async def _watch_this_one(self, changed: asyncio.Event) -> None:
        """Until another folder stands in its place (a deployment may swap it, or the link that leads to it)."""
        watched = _identity(self.folder)
        ended = asyncio.Event()  # its own: the watcher sets it when it is cancelled
        every = int(REWATCH.total_seconds() * 1000)
        changes = awatch(
            self.folder,
            stop_event=ended,
            debounce=50,
            step=10,
            rust_timeout=every,
            yield_on_timeout=True,
            recursive=True,
        )
        async with aclosing(changes):
            async for seen in changes:
                if seen:
                    changed.set()
                if _identity(self.folder) != watched:
                    return

    async def _once(self) -> Revision:
        known, last_fleet = await self._known()
        self._existing = known
        loaded = await asyncio.to_thread(load_folder, self.folder, self._clock.now().date(), known, last_fleet)
        content = "\n".join(f"{name} {sha}" for name, sha in sorted(loaded.files.items()))
        identity = hashlib.sha256(f"{loaded.readable}\n{content}".encode()).hexdigest()[:12]
        return Revision(self.name, identity, loaded)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _restless(revision: Revision) -> Revision:
    """A folder that does not come to rest is taken as it is, and says so: with an error, nobody's absence is believed."""
    remedy = "find out what keeps writing to it; until then nobody is removed"
    error = SpecError(".", 0, 0, "", "the folder does not come to rest", remedy)
    return replace(revision, loaded=replace(revision.loaded, errors=(*revision.loaded.errors, error)))
