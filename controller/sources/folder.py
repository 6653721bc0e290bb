"""A folder of YAML files, watched: a saved file is picked up at once, a half-written one removes nobody.

Editors save in several ways: some truncate and write, some write another file and rename it, some move the old one away
first. So a reading counts only when two in a row, a moment apart, are the same; and when a file that was there is gone,
it must stay gone for a little longer before its absence is believed.

The system names the files that were written: where only what is in them has changed, only they are read again. Whatever else
may be different is for a reading of the whole, and so is every rescan, which gives way to what is told meanwhile: among
thousands of files it takes a second.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from watchfiles import awatch

from controller.intake import Edit, Revision
from controller.sources.judging import Judge
from controller.sources.source import Known
from controller.sources.waiting import first
from reconcilers.clock import Clock
from specs.amending import amended
from specs.errors import SpecError
from specs.folder import CalledAway, Folder, FolderReader, never
from specs.loading import Loaded

log = logging.getLogger("controller")

STEADY = timedelta(milliseconds=60)
GONE = timedelta(seconds=1)
REFUSED = timedelta(minutes=1)  # until it is tried again to watch
REWATCH = timedelta(seconds=1)  # how often it is looked at whether the folder still is the one that is watched
MOST_READINGS = 100  # of a folder that does not come to rest
MOST_EDITED = 50  # files; where more are written at once, it is the whole that changes


class Heard:
    """What the watching has told and nobody has looked at yet."""

    def __init__(self) -> None:
        self.came = asyncio.Event()
        self._paths: set[str] | None = set()

    def of(self, paths: Iterable[str]) -> None:
        """Something was written there."""
        if self._paths is not None:
            self._paths.update(paths)
            self._paths = self._paths if len(self._paths) <= MOST_EDITED else None
        self.came.set()

    def anything(self) -> None:
        """Nobody can tell what has changed."""
        self._paths = None
        self.came.set()

    def taken(self) -> frozenset[str] | None:
        """All of it, which is looked at now. None: anything may have changed."""
        paths, self._paths = self._paths, set()
        self.came.clear()
        return None if paths is None else frozenset(paths)


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
        self._latest: Revision | None = None  # that told something
        self._again = asyncio.Event()
        self._gave_way = False  # the reading that `_again` asks for, once already

    def rescan(self) -> None:
        """Read again even if no change was noticed: a net under lost notifications, and for dates that pass."""
        self._again.set()

    async def read(self) -> Revision:
        """One settled reading of the folder: what has stood there twice. Raises what `known` raises."""
        return await self._settled(await self._look())

    async def _settled(self, found: Folder) -> Revision:
        """What has stood there twice, given what stands there now."""
        known, last_fleet = await self._known()
        if self._stands(found):
            return self._good(self._revision(await self._judge.judge(found, known, last_fleet)))
        for _ in range(MOST_READINGS):
            judging = self._judge.judge(found, known, last_fleet)
            loaded, _ = await asyncio.gather(judging, self._clock.sleep(STEADY))
            if self._lacks_something(loaded, known):
                await self._clock.sleep(GONE - STEADY)
            again = await self._look()
            if again == found:
                return self._good(self._revision(loaded))
            found = again
        return _restless(self._revision(await self._judge.judge(found, known, last_fleet)))

    async def read_again(self, paths: Iterable[str]) -> Revision | None:
        """As `read`, when nothing else was written than what is at these paths. None: nothing is different."""
        last = self._latest
        names = self._reader.named(paths) if last is not None else None
        if last is None or names is None:
            return await self.read()
        found = await asyncio.to_thread(self._reader.contents, names)
        for _ in range(MOST_READINGS):
            if found is None:
                break
            revision, _ = await asyncio.gather(asyncio.to_thread(self._edited, last, found), self._clock.sleep(STEADY))
            if revision is None:
                break
            again = await asyncio.to_thread(self._reader.contents, names)
            if again == found:
                self._judge.amend(last.loaded, found, revision.loaded)
                return self._good(revision) if revision is not last else None
            found = again
        return await self.read()

    def _edited(self, last: Revision, files: dict[str, bytes]) -> Revision | None:
        """The last revision with these files in it; itself when they are as they were; None when the whole must be read."""
        found = amended(last.loaded, files, self._clock.now().date())
        if found is None:
            return None
        loaded, testers = found
        return replace(self._revision(loaded), edit=Edit(last.id, testers)) if loaded is not last.loaded else last

    def _stands(self, found: Folder) -> bool:
        """Whether the last good reading found the same: then this is the second one in a row."""
        return self._latest is not None and self._judge.answer_to(found) is self._latest.loaded

    def _good(self, revision: Revision) -> Revision:
        if revision.loaded.readable:
            self._latest, self.good_at = revision, self._clock.now()
        return revision

    async def _look(self, called_away: Callable[[], bool] = never) -> Folder:
        return await asyncio.to_thread(self._reader.read, called_away)

    def _lacks_something(self, loaded: Loaded, known: frozenset[str]) -> bool:
        """Whether a file is gone since the last good reading; at the first one, whether a known tester is in none."""
        if self._latest is None:
            return bool(known - set(loaded.testers))
        return bool(self._latest.loaded.files.keys() - loaded.files.keys())

    def _revision(self, loaded: Loaded) -> Revision:
        content = "\n".join(f"{name} {sha}" for name, sha in loaded.files.items())
        identity = hashlib.sha256(f"{loaded.readable}\n{content}".encode()).hexdigest()[:12]
        return Revision(self.name, identity, loaded)

    async def revisions(self, stop: asyncio.Event) -> AsyncGenerator[Revision, None]:
        """The folder now, and again after every change, until `stop`. Raises what `known` raises."""
        heard = Heard()
        watcher = asyncio.ensure_future(self._watch(heard))  # before the first reading, so that nothing falls between
        try:
            yield await self.read()
            while not stop.is_set():
                await first(heard.came.wait(), self._again.wait(), stop.wait())
                if stop.is_set():
                    return
                revision = await self._next(heard)
                if revision is not None:
                    yield revision
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _next(self, heard: Heard) -> Revision | None:
        """What was told first, and then the whole, if that is asked for: it gives way once. None: nothing is different."""
        paths, is_asked = heard.taken(), self._again.is_set()
        may_wait = is_asked and not self._gave_way
        if paths and (may_wait or not is_asked):
            self._gave_way = is_asked
            return await self.read_again(paths)
        self._again.clear()
        self._gave_way = False
        try:
            found = await self._look(heard.came.is_set if may_wait and paths is not None else never)
        except CalledAway:
            self._again.set()
            return None
        return await self._settled(found)

    async def _watch(self, heard: Heard) -> None:
        """Folders come and go, and the system may refuse to watch one: while nobody watches, the rescan finds changes."""
        while True:
            while not self.folder.is_dir():
                await self._clock.sleep(REWATCH)
                if self.folder.is_dir():
                    heard.anything()
            try:
                await self._watch_this_one(heard)
                heard.anything()
            except (OSError, RuntimeError) as error:
                log.warning("%s is not watched: %s", self.name, error)
                await self._clock.sleep(REFUSED)

    async def _watch_this_one(self, heard: Heard) -> None:
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
                    heard.of(path for _, path in seen)
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
