"""A branch of a git repository: one commit, whole or not at all.

It is fetched again and again, and at once when somebody says that it has changed. While it cannot be fetched, the last good
revision stays in force, and the source says why. A branch whose history was rewritten is taken as it is now: the brake on
removals stands behind it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from controller.intake import Edit, Revision
from controller.records import Commit
from controller.sources.fetched import fetched_at
from controller.sources.folder import MOST_EDITED
from controller.sources.judging import Judge
from controller.sources.mirror import Differing, Entry, GitError, Mirror
from controller.sources.source import Known
from controller.sources.waiting import first
from reconcilers.clock import Clock
from specs.amending import amended
from specs.errors import SpecError
from specs.fleet import Fleet
from specs.folder import MAX_FILES, MAX_TOTAL, Folder, is_spec, odd_name
from specs.loading import Loaded
from specs.yaml_reader import MAX_BYTES

log = logging.getLogger("controller")

_ORDINARY: Final = ("100644", "100755")
_OUR_OWN: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EAGAIN})
"""Errors that say nothing about the mirror."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A commit's files, kept while the branch stays where it is."""

    sha: str
    folder: Folder
    commit: Commit
    rewrites: bool  # the revision in force is none of its ancestors


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
        self._trees = TreeReader(mirror)
        self._judge = Judge(clock)
        self._read: _Read | None = None
        self._latest: Revision | None = None
        self._trouble = ""
        self._again = asyncio.Event()

    def rescan(self) -> None:
        """Fetch now: somebody has pushed, or it is time to."""
        self._again.set()

    async def read(self) -> Revision:
        """The branch as it is now; what cannot be fetched tells nothing but why. Raises what `known` raises."""
        before = await self._before()
        try:
            sha = await self.mirror.fetch()
            found = await self._edited(sha, before) or await self._whole(sha, before)
        except GitError as error:
            self._log(str(error))
            return await self._unread(before, str(error))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _OUR_OWN:
                problem = f"{error.strerror} on the controller's own machine"
                self._log(problem)
                return await self._unread(before, problem)
            # An answer of git's that nobody expected: the mirror may be broken, and is only a copy.
            log.exception("%s could not be read; its mirror is made anew", self.name)
            self.mirror.discard()
            return await self._unread(before, "the mirror was broken and is made anew")
        self._log("")
        revision = found if isinstance(found, Revision) else await self._judged(found, before)
        self._latest, self.good_at = revision, self._clock.now()
        self.mirror.fetched(self.good_at)
        return revision

    async def _whole(self, sha: str, before: str) -> _Read:
        """Every file of a commit. Raises GitError."""
        known = self._read if self._read is not None and self._read.sha == sha else None
        folder = known.folder if known is not None else await self._trees.read(sha)
        commit = known.commit if known is not None else await self.mirror.commit(sha)
        rewrites = bool(before) and before != sha and not await self.mirror.follows(sha, before)
        return _Read(sha, folder, commit, rewrites)

    async def _judged(self, read: _Read, before: str) -> Revision:
        loaded = await self._judge.judge(read.folder, *await self._known())
        self._read = read
        return Revision(self.name, read.sha, loaded, commit=read.commit, rewrites=before if read.rewrites else "")

    async def _edited(self, sha: str, before: str) -> Revision | None:
        """A commit that follows the one in force and differs from it in what a few files hold; None: all must be read."""
        latest = self._latest
        if latest is None or latest.id != before or before == sha:
            return None
        try:
            follows, (commit, differing) = await asyncio.gather(
                self.mirror.follows(sha, before), self.mirror.change(sha, before, self.mirror.repository.folder)
            )
            edits = _edits(differing)
            if not follows or edits is None:
                return None
            contents = await self.mirror.contents([each.sha for each in edits])
        except GitError:
            return None  # one of the two is not there as it should be: what a reading of the whole says counts
        files = {each.path: content for each, content in zip(edits, contents, strict=True)}
        if any(len(content) > MAX_BYTES for content in contents):
            return None
        found = await asyncio.to_thread(amended, latest.loaded, files, self._clock.now().date())
        if found is None:
            return None
        self._judge.amend(latest.loaded, files, found[0])
        if self._read is not None and self._read.sha == before:
            whole = replace(self._read.folder, files={**self._read.folder.files, **files})
            self._read = _Read(sha, whole, commit, rewrites=False)
        return Revision(self.name, sha, found[0], commit=commit, edit=Edit(before, found[1]))

    async def revisions(self, stop: asyncio.Event) -> AsyncGenerator[Revision, None]:
        """The branch now, and again whenever it was asked for, until `stop`. Raises what `known` raises."""
        yield await self.read()
        while not stop.is_set():
            await self._tidied()
            await first(self._again.wait(), stop.wait())
            if stop.is_set():
                return
            self._again.clear()
            yield await self.read()

    async def _tidied(self) -> None:
        """Between two readings: nobody waits for it. A mirror that is broken is seen to be so when it is read."""
        try:
            await self.mirror.tidied()
        except GitError as error:
            log.warning("%s: what many fetches left in its mirror stays as it is: %s", self.name, error)

    def _log(self, trouble: str) -> None:
        """When it comes, and when it is over."""
        if trouble and not self._trouble:
            log.warning("%s cannot be read: %s", self.name, trouble)
        if self._trouble and not trouble:
            log.warning("%s can be read again", self.name)
        self._trouble = trouble

    async def _unread(self, before: str, problem: str) -> Revision:
        _, last_fleet = await self._known()
        return Revision(self.name, before, self._unreadable(problem, last_fleet))

    def _unreadable(self, problem: str, last_fleet: Fleet | None) -> Loaded:
        last = f"{self.good_at:%Y-%m-%d %H:%M} UTC" if self.good_at is not None else "unknown"
        remedy = (
            "nothing is lost: the last good revision stays in force; it is tried again every minute; last good "
            f"fetch: {last}"
        )
        return Loaded({}, last_fleet, (SpecError(".", 0, 0, "", problem, remedy),), {}, {}, readable=False)


def _edits(differing: Sequence[Differing]) -> list[Differing] | None:
    """The specs among files that differ, if these are few, and ordinary files before and after; None: it is more than edits."""
    specs = [each for each in differing if is_spec(each.path)]
    ordinary = all(set(each.modes) <= set(_ORDINARY) for each in specs)
    return specs if ordinary and len(specs) <= MOST_EDITED else None


class TreeReader:
    """Reads the YAML files of one commit after another; what the last one held already is not asked of git again."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self._blobs: Mapping[str, bytes] = {}

    async def read(self, sha: str) -> Folder:
        """The YAML files of a commit, under the rules that a folder on disk keeps. Raises GitError."""
        entries = [each for each in await self.mirror.entries(sha, self.mirror.repository.folder) if is_spec(each.path)]
        errors = [error for each in entries if (error := _refused(each)) is not None]
        sound = [each for each in entries if _refused(each) is None]
        taken = _as_many_as_may_be(sound)
        if len(taken) < len(sound):
            problem = f"there are more than {MAX_FILES} files or {MAX_TOTAL // 1024**2} MiB; the rest is not read"
            errors.append(SpecError(sound[len(taken)].path, 0, 0, "", problem, "give a smaller folder"))
        await self._fill([each.sha for each in taken])
        files = {each.path: self._blobs[each.sha] for each in taken}
        if not files and not errors:
            remedy = "an empty source removes nobody; add a Fleet and testers"
            errors.append(SpecError(".", 0, 0, "", "there is no YAML file", remedy))
        return Folder(files, tuple(errors), readable=bool(files))

    async def _fill(self, wanted: Sequence[str]) -> None:
        missing = [blob for blob in dict.fromkeys(wanted) if blob not in self._blobs]
        known = {**self._blobs, **dict(zip(missing, await self.mirror.contents(missing), strict=True))}
        self._blobs = {blob: known[blob] for blob in wanted}


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
