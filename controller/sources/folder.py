"""A folder of YAML files, watched: a saved file is picked up at once, a half-written one removes nobody.

Editors save in several ways: some truncate and write, some write another file and rename it, some move the old one away
first. So a reading counts only when two in a row, a moment apart, are the same; and when a file that was there is gone,
it must stay gone for a little longer before its absence is believed.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Set
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from watchfiles import awatch

from controller.intake import Revision
from controller.sources.judging import Judge
from controller.sources.source import Known
from controller.sources.waiting import first
from reconcilers.clock import Clock
from specs.errors import SpecError
from specs.folder import Folder, FolderReader
from specs.loading import Loaded

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
        self._reader = FolderReader(folder)
        self._judge = Judge(clock)
        self._files: Set[str] | None = None  # of the last reading that told something
        self._again = asyncio.Event()

    def rescan(self) -> None:
        """Read again even if no change was noticed: a net under lost notifications, and for dates that pass."""
        self._again.set()

    async def read(self) -> Revision:
        """One settled reading of the folder: what has stood there twice. Raises what `known` raises."""
        known, last_fleet = await self._known()
        found = await self._look()
        for _ in range(MOST_READINGS):
            judging = self._judge.judge(found, known, last_fleet)
            loaded, _ = await asyncio.gather(judging, self._clock.sleep(STEADY))
            if self._lacks_something(loaded, known):
                await self._clock.sleep(GONE - STEADY)
            again = await self._look()
            if again == found:
                if loaded.readable:
                    self._files, self.good_at = loaded.files.keys(), self._clock.now()
                return self._revision(loaded)
            found = again
        return _restless(self._revision(await self._judge.judge(found, known, last_fleet)))

    async def _look(self) -> Folder:
        return await asyncio.to_thread(self._reader.read)

    def _lacks_something(self, loaded: Loaded, known: frozenset[str]) -> bool:
        """Whether a file is gone since the last good reading; at the first one, whether a known tester is in none."""
        if self._files is None:
            return bool(known - set(loaded.testers))
        return bool(self._files - loaded.files.keys())

    def _revision(self, loaded: Loaded) -> Revision:
        content = "\n".join(f"{name} {sha}" for name, sha in loaded.files.items())
        identity = hashlib.sha256(f"{loaded.readable}\n{content}".encode()).hexdigest()[:12]
        return Revision(self.name, identity, loaded)

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
