"""Pull requests on the specs: validated and planned against the live state, told as a status and a comment, never applied.

Everybody who may open a pull request writes these specs, so they are believed in nothing: no connection is made to what they
name. Plans are made with the Fleet in force and its credentials; of a new Fleet only the testers' desired states are taken.

What is planned is the merge: a file that the pull request has not touched is as the branch has it now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from controller.engine import Engine, fleet_references
from controller.in_use import kept_to_what_is_used, last_good_fleet
from controller.passes.preview import Preview, preview
from controller.records import TesterBooks, TesterRecord
from controller.sources.git import TreeReader
from controller.sources.mirror import GitError, Mirror, TooLarge
from controller.store import StoreError
from controller.telling.at_forge import AtForge, Place
from controller.telling.expected import expected
from controller.telling.plan_words import MARK, PullPlan, as_comment, in_short
from controller.world import World
from reconcilers.backends.forge_pulls import PullRequest, newest_status, open_pulls, put_comment
from reconcilers.backends.forge_telling import LONGEST, CommitStatus, set_status
from reconcilers.errors import Blocked, OutsideError, Rejected
from specs.desired import needs_of_secret
from specs.fleet import Fleet
from specs.folder import Folder
from specs.loading import load_folder_content

log = logging.getLogger("controller")

CONTEXT: Final = "testers/plan"
MOST_PLANNED: Final = 20
"""Testers of one pull request that are looked at; the others are named."""
MOST_NEW: Final = 64 * 1024 * 1024
"""Bytes that one pull request may bring along: anybody may open one."""
MOST_KEPT: Final = 256 * 1024 * 1024
"""When all of them together have brought so many, the mirror is made anew."""
SOON: Final = timedelta(seconds=5)
"""Until it is tried once more, before somebody rings again: Forge may tell of a head before git shows it."""
LIMIT: Final = timedelta(minutes=2)
"""So long the looking for one pull request may take."""

Seen = tuple[str, str]
"""The head of a pull request, and the revision in force when it was planned."""


@dataclass
class PullRequests:
    """`mirror` is its own: what a pull request brings along must not get into the source's."""

    there: AtForge
    mirror: Mirror
    engine: Engine
    comments: bool = False
    _told: dict[int, Seen] = field(default_factory=dict)
    _again: asyncio.Event = field(default_factory=asyncio.Event)
    _size: int | None = None  # of the mirror, before others brought anything

    def ring(self) -> None:
        """Look soon: one may have come or changed."""
        self._again.set()

    async def run(self) -> None:
        """Look whenever somebody rings, for ever. Nobody waits for it, and no mistake in it ends anything else."""
        while True:
            await self._again.wait()
            self._again.clear()
            if not await self.look():
                await self.engine.clock.sleep(SOON)
                await self.look()

    async def look(self) -> bool:
        """Plan what is new, and tell it. False: something went wrong, and is to be tried again."""
        try:
            async with self.there.reached() as place:
                return place is None or await self._look(place)
        except (OutsideError, StoreError, GitError) as error:
            log.warning("pull requests are not planned now: %s", error)
        except Exception:
            log.exception("pull requests could not be planned")
        return False

    async def _look(self, place: Place) -> bool:
        pulls = await open_pulls(place.forge, place.owner, place.name, self.mirror.repository.branch)
        source = await self.engine.store.source()
        self._told = {number: seen for number, seen in self._told.items() if number in {each.number for each in pulls}}
        new = [each for each in pulls if self._told.get(each.number) != (each.sha, source.revision if source else "")]
        if source is None or not new:
            return True
        base = await self._base()
        for each in new:
            try:
                await self._one(place, each, base)
            except (Rejected, Blocked) as error:  # the same tomorrow, until it changes or somebody acts
                log.warning("pull request %d: %s", each.number, error)
            except GitError as error:  # it has moved on, or is not what it says: the next look sees it anew
                log.warning("pull request %d is not read: %s", each.number, error)
                continue
            self._told[each.number] = each.sha, source.revision
        return all(self._told.get(each.number) == (each.sha, source.revision) for each in new)

    async def _base(self) -> str:
        """The commit that the branch is at. Nothing is kept for ever of what others brought. Raises GitError."""
        if self._size is not None and self.mirror.size() > self._size + MOST_KEPT:
            self.mirror.discard()
            self._size = None
        base = await self.mirror.fetch()
        self._size = self.mirror.size() if self._size is None else self._size
        return base

    async def _one(self, place: Place, pull: PullRequest, base: str) -> None:
        try:
            plan = await self._plan(place.world, await self._merged(pull, base), pull.sha)
        except TooLarge as error:
            plan = PullPlan(pull.sha, self.mirror.repository.branch, errors=(f"not planned: {error}",))
        state, words = "success" if plan.good else "failure", in_short(plan)[:LONGEST]
        status = CommitStatus(state, words, CONTEXT, self.there.dashboard)
        if await newest_status(place.forge, place.owner, place.name, pull.sha, CONTEXT) != status:
            await set_status(place.forge, place.owner, place.name, pull.sha, status)
        if self.comments:
            new = plan.changes or not plan.good
            text = as_comment(plan)
            await put_comment(place.forge, place.owner, place.name, pull.number, MARK, text, new=new)

    async def _merged(self, pull: PullRequest, base: str) -> Folder:
        """The files as they would be on the branch. Raises GitError."""
        await self.mirror.fetch_commit(pull.ref, pull.sha, MOST_NEW)
        trees = TreeReader(self.mirror)
        head, ours = await trees.read(pull.sha), await trees.read(base)
        fork = await self.mirror.fork_point(pull.sha, base)
        before = await trees.read(fork) if fork else Folder({}, (), readable=True)
        files = merged(before.files, ours.files, head.files)
        return Folder(files, head.errors, readable=bool(files))

    async def _plan(self, world: World, folder: Folder, sha: str) -> PullPlan:
        store, now = self.engine.store, self.engine.clock.now()
        records = {record.name: record for record in await store.testers()}
        last = await last_good_fleet(store)
        loaded = await asyncio.to_thread(load_folder_content, folder, now.date(), frozenset(records), last)
        loaded = await kept_to_what_is_used(loaded, store)
        made = PullPlan(sha, self.mirror.repository.branch, errors=tuple(map(str, loaded.errors)))
        if loaded.fleet is None:
            return made
        rows, held = expected(records, loaded, now)
        changed = [row for name, row in sorted(rows.items()) if row.generation != _generation(records.get(name))]
        looked_at = changed[:MOST_PLANNED]
        return replace(
            made,
            coming=tuple(row.name for row in changed if row.name not in records),
            changing=tuple(row.name for row in changed if row.name in records and not row.leaving),
            leaving=tuple(row.name for row in changed if row.leaving),
            held=held,
            fleet=_differs(last, loaded.refused or loaded.fleet),
            plans=await self._previews(world, looked_at),
            unplanned=tuple(row.name for row in changed[MOST_PLANNED:]),
        )

    async def _previews(self, world: World, rows: list[TesterRecord]) -> tuple[Preview, ...]:
        try:
            async with asyncio.timeout(LIMIT.total_seconds()):
                return tuple(await asyncio.gather(*(self._preview(world, row) for row in rows)))
        except TimeoutError:
            log.warning("a pull request was planned for %s without an end; only its files are told of", LIMIT)
            return ()

    async def _preview(self, world: World, row: TesterRecord) -> Preview:
        books = await self.engine.store.books(row.name) or TesterBooks(row)
        references = [*fleet_references(world.fleet), *needs_of_secret(row.desired)]
        secrets = await self.engine.references.resolve(references)
        return await preview(replace(books, record=row), secrets, world, self.engine.store)


def merged(before: Mapping[str, bytes], ours: Mapping[str, bytes], theirs: Mapping[str, bytes]) -> dict[str, bytes]:
    """File by file, as a merge has it: what they have not touched is as ours; of what both changed, theirs is taken."""
    names = sorted({*ours, *theirs})
    chosen = {name: (ours if theirs.get(name) == before.get(name) else theirs).get(name) for name in names}
    return {name: content for name, content in chosen.items() if content is not None}


def _generation(record: TesterRecord | None) -> int:
    return record.generation if record is not None else 0


def _differs(last: Fleet | None, new: Fleet) -> bool:
    return last is not None and last.model_dump_json() != new.model_dump_json()
