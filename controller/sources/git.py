"""A branch of a git repository: one commit, whole or not at all.

It is fetched again and again, and at once when somebody says that it has changed. While it cannot be fetched, the last good
revision stays in force, and the source says why. A branch whose history was rewritten is taken as it is now: the brake on
removals stands behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from controller.intake import Revision
from controller.sources.fetched import fetched_at
from controller.sources.mirror import Entry, GitError, Mirror
from controller.sources.source import Known
from controller.sources.waiting import first
from reconcilers.clock import Clock
from specs.errors import SpecError
from specs.fleet import Fleet
from specs.folder import MAX_FILES, MAX_TOTAL, Folder, is_spec, odd_name
from specs.loading import Loaded, load_folder_content
from specs.yaml_reader import MAX_BYTES

log = logging.getLogger("controller")

_ORDINARY: Final = ("100644", "100755")


@dataclass(frozen=True, slots=True)
class _Read:
    """A commit's files, kept while the branch stays where it is."""

    sha: str
    folder: Folder


class GitSource:
    """`known` tells which testers exist already and the last good Fleet; `before` the revision that is in force."""

    def __init__(self, mirror: Mirror, clock: Clock, known: Known, before: Callable[[], Awaitable[str]]) -> None:
        self.mirror = mirror
        repository = mirror.repository
        self.name = f"git {repository.url} {repository.branch}" + (f" {repository.folder}" if repository.folder else "")
        self.good_at: datetime | None = fetched_at(mirror.path)
        """When it was last fetched and read without an error."""
        self._clock = clock
        self._known = known
        self._before = before
        self._read: _Read | None = None
        self._again = asyncio.Event()

    def rescan(self) -> None:
        """Fetch now: somebody has pushed, or it is time to."""
        self._again.set()

    async def read(self) -> Revision:
        """The branch as it is now; what cannot be fetched tells nothing but why. Raises what `known` raises."""
        known, last_fleet = await self._known()
        before = await self._before()
        try:
            sha = await self.mirror.fetch()
            read = self._read if self._read is not None and self._read.sha == sha else await self._tree(sha)
            commit = await self.mirror.commit(sha)
            rewritten = bool(before) and before != sha and not await self.mirror.follows(sha, before)
        except GitError as error:
            return Revision(self.name, before, self._unreadable(str(error), last_fleet))
        except Exception:  # an answer of git's that nobody expected: the mirror may be broken, and is only a copy
            log.exception("%s could not be read; its mirror is made anew", self.name)
            self.mirror.discard()
            return Revision(self.name, before, self._unreadable("the mirror was broken and is made anew", last_fleet))
        self._read, self.good_at = read, self._clock.now()
        self.mirror.fetched(self.good_at)
        today = self.good_at.date()
        loaded = await asyncio.to_thread(load_folder_content, read.folder, today, known, last_fleet)
        return Revision(self.name, sha, loaded, commit=commit, rewrites=before if rewritten else "")

    async def revisions(self, stop: asyncio.Event) -> AsyncGenerator[Revision, None]:
        """The branch now, and again whenever it was asked for, until `stop`. Raises what `known` raises."""
        yield await self.read()
        while not stop.is_set():
            await first(self._again.wait(), stop.wait())
            if stop.is_set():
                return
            self._again.clear()
            yield await self.read()

    async def _tree(self, sha: str) -> _Read:
        return _Read(sha, await read_tree(self.mirror, sha))

    def _unreadable(self, problem: str, last_fleet: Fleet | None) -> Loaded:
        last = f"{self.good_at:%Y-%m-%d %H:%M} UTC" if self.good_at is not None else "unknown"
        remedy = (
            "nothing is lost: the last good revision stays in force; it is tried again every minute; last good "
            f"fetch: {last}"
        )
        return Loaded({}, last_fleet, (SpecError(".", 0, 0, "", problem, remedy),), {}, {}, readable=False)


async def read_tree(mirror: Mirror, sha: str) -> Folder:
    """The YAML files of a commit, under the rules that a folder on disk keeps. Raises GitError."""
    entries = [each for each in await mirror.entries(sha, mirror.repository.folder) if is_spec(each.path)]
    errors = [error for each in entries if (error := _refused(each)) is not None]
    sound = [each for each in entries if _refused(each) is None]
    taken = _as_many_as_may_be(sound)
    if len(taken) < len(sound):
        problem = f"there are more than {MAX_FILES} files or {MAX_TOTAL // 1024**2} MiB; the rest is not read"
        errors.append(SpecError(sound[len(taken)].path, 0, 0, "", problem, "give a smaller folder"))
    contents = await mirror.contents([each.sha for each in taken])
    files = {each.path: content for each, content in zip(taken, contents, strict=True)}
    if not files and not errors:
        errors.append(
            SpecError(".", 0, 0, "", "there is no YAML file", "an empty source removes nobody; add a Fleet and testers")
        )
    return Folder(files, tuple(errors), readable=bool(files))


def _refused(entry: Entry) -> SpecError | None:
    if odd_name(entry.path):
        name = ascii(entry.path)[1:-1]
        return SpecError(name, 0, 0, "", "the file's name holds odd characters", "rename the file")
    if entry.mode not in _ORDINARY:
        return SpecError(entry.path, 0, 0, "", "this is not an ordinary file", "put the file itself here")
    if entry.size > MAX_BYTES:
        problem = f"the file has {entry.size} bytes, more than {MAX_BYTES // 1024**2} MiB"
        return SpecError(entry.path, 0, 0, "", problem, "split it")
    return None


def _as_many_as_may_be(entries: list[Entry]) -> list[Entry]:
    total = 0
    for number, each in enumerate(entries):
        total += each.size
        if number >= MAX_FILES or total > MAX_TOTAL:
            return entries[:number]
    return entries
