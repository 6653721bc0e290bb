"""The store: one door to the database. Reads give records, `write` makes changes, all of them or none.

    store = await Store.open("sqlite:///state/controller.db", KeySource(os.environ, folder / "sealing.key"), clock)
    await store.write(PutTester(record), AddEvent(event))
    books = await store.books("alice")
    await store.aclose()

Times come in the changes; the store asks no clock for its own purposes.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Row
from sqlalchemy.exc import SQLAlchemyError

from controller.records import (
    Change,
    Condition,
    Event,
    JournalEntry,
    RevisionRecord,
    Run,
    SourceState,
    TesterBooks,
    TesterRecord,
)
from controller.rests import KeptRest
from controller.store import marks, migrations, pruning, reading, writing
from controller.store.address import is_in_memory, normal, place_of
from controller.store.briefs import Brief, Head, Outline, briefs, outlines
from controller.store.database import Database, Work, Written
from controller.store.errors import SealingError, StoreError, lost_race, readable
from controller.store.fencing import Fence, Fenced
from controller.store.opening import database_of, fitting_keys
from controller.store.sealing import Keyring, KeySource
from controller.store.tables import keepable, metadata
from controller.tokens import TokenRecord
from reconcilers.clock import Clock
from reconcilers.facts import ObjectState, OutsideObject, StepFacts
from reconcilers.secret import Secret

log = logging.getLogger("controller")

BEFORE_COMMIT: Final = "before commit"
AFTER_COMMIT: Final = "after commit"

Hook = Callable[[str, tuple[Change, ...]], Awaitable[None]]
"""Called with BEFORE_COMMIT, inside the transaction, and with AFTER_COMMIT. What it raises goes to the writer."""

Listener = Callable[[tuple[Change, ...]], None]
"""Told what was committed, at once. It must be quick, and raise nothing."""

RACES: Final = 5
"""How often a write that lost a race in the database is tried in all."""

T = TypeVar("T")


class Store:
    """Safe to use from many tasks of one event loop at once, and by several processes on one database.

    `commits` counts transactions that wrote; `hooks` are called around each; they must not use the store. `fence`: set where
    several replicas write; then a write raises NotOurs when it is about what another one has taken. Every method
    raises StoreError, and nothing else of its own, when the database does not do what it should.
    """

    def __init__(self, database: Database, place: str, keyring: Keyring, clock: Clock) -> None:
        self.clock = clock
        self.hooks: list[Hook] = []
        self.listeners: list[Listener] = []
        self.fence: Fence | None = None
        self.commits = 0
        self._database = database
        self._place = place
        self._keyring = keyring
        self._closed = False

    @classmethod
    async def open(cls, url: str, keys: Keyring | KeySource, clock: Clock) -> Store:
        """Open a store, made or brought up to this program's tables first.

        `url`: `sqlite:///path` (`sqlite://` is one in memory, for tests) or `postgresql://user:password@host/name`.
        Raises StoreError when it cannot be reached or a newer program has changed it, SealingError when the keys do not fit.
        """
        address = normal(url)
        place = place_of(address)
        if not is_in_memory(address):
            migrations.upgrade(address)
        database = database_of(address)
        try:
            if is_in_memory(address):
                await database.write(metadata.create_all, None)
            keyring = await fitting_keys(database, place, keys)
        except SQLAlchemyError as error:
            await database.aclose()
            raise readable(place, error) from error
        except BaseException:
            await database.aclose()
            raise
        return cls(database, place, keyring, clock)

    async def aclose(self) -> None:
        """Wait for the write that is under way, then let go of the database."""
        if not self._closed:
            self._closed = True
            await self._database.aclose()

    def abandon(self) -> None:
        """Have everything fail at once that is being asked of the database: its answers are of no use any more."""
        self._database.abandon()

    # -------------------------------------------------------------------------------------------- writing

    async def write(self, *changes: Change) -> None:
        """Make the changes in their order, in one transaction. Durable when it returns; nothing is done for no changes.

        Cancelled before its turn: nothing is written. Cancelled later: what is under way in the database is seen to its end
        first, so that nothing is left in the middle.
        """
        if changes:
            await self._write(writing.Making(changes, self._keys_now), changes)

    async def prune(self, before: datetime) -> int:
        """Forget history from before a moment: events, journal entries that have ended, conditions of testers that are no more,
        gone objects, of testers that are there but the newest, who is no more, and ended sessions. Returns how many rows went."""
        gone = await self._write(lambda connection: pruning.prune(connection, before))
        try:
            await self._database.tidy()
        except (SQLAlchemyError, OSError, sqlite3.Error) as error:
            log.warning("the store is not tidied up: %s", type(error).__name__)
        return gone

    async def reseal(self, keyring: Keyring | None = None) -> int:
        """Seal every secret anew under the first key, of a new ring if one is given (`store.keyring.rotated()`).

        Returns how many were sealed under another key. Raises SealingError when one does not open; then nothing is changed.
        """
        self._keyring = keyring or self._keyring.current()
        return await self._write(lambda connection: writing.reseal(connection, self._keyring))

    async def drop_old_keys(self) -> Keyring:
        """Take all keys but the first out of the key file. Raises SealingError while a secret needs one of them."""
        keyring = self._keyring.current()
        needed = await self._read(reading.key_ids)
        if needed - {keyring.primary.id}:
            raise SealingError("Old sealing keys are still needed: reseal the store first, then drop them.")
        self._keyring = keyring.primary_only()
        return self._keyring

    @property
    def keyring(self) -> Keyring:
        return self._keyring

    # -------------------------------------------------------------------------------------------- reading

    async def books(self, name: str, *, marked: Callable[[TesterRecord], bool] | None = None) -> TesterBooks | None:
        """Everything about one tester, of one moment; None when it has no row. `marked`: of whom a mark over it is wanted.

        Raises StoreError, naming the tester, when its rows do not fit this program, and SealingError when a secret of it
        does not open.
        """
        return await self._read(lambda connection: self._books(connection, keepable(name), marked))

    async def rests(self, names: Collection[str]) -> dict[str, KeptRest]:
        """What was kept of testers that were at rest, by tester, with a mark over their books as they are."""
        return await self._read(lambda connection: marks.kept_rests(connection, names))

    async def testers(self, names: Collection[str] | None = None) -> tuple[TesterRecord, ...]:
        """By name, those that are being removed included; None: all."""
        return await self._read(lambda connection: reading.all_testers(connection, _all_kept(names)))

    async def heads(self) -> dict[str, Head]:
        """By name, of all testers."""
        return await self._read(reading.heads)

    async def names(self) -> tuple[str, ...]:
        """Of all testers, in no order."""
        return await self._read(reading.all_names)

    async def roster(self) -> tuple[tuple[str, ...], frozenset[str], frozenset[str]]:
        """As of one moment: all testers, in no order; those whose present generation no whole pass has seen; and those of whom a
        journal entry has no end."""
        return await self._read(
            lambda connection: (
                reading.all_names(connection),
                frozenset(reading.names_behind(connection)),
                frozenset(entry.tester for entry in reading.unfinished_entries(connection)),
            )
        )

    async def behind(self) -> tuple[str, ...]:
        """The testers whose present generation no whole pass has seen."""
        return await self._read(reading.names_behind)

    async def tester(self, name: str) -> TesterRecord | None:
        return await self._read(lambda connection: reading.one_tester(connection, keepable(name)))

    async def briefs(self, steps: tuple[str, ...], names: Collection[str] | None = None) -> dict[str, Brief]:
        """What lists show, by tester; None: of all. Without those that have no row. `steps`: whose facts; with "machine", also
        steps whose facts live on it."""
        return await self._read(lambda connection: briefs(connection, steps, _all_kept(names)))

    async def outlines(self, kinds: tuple[str, ...], names: Collection[str] | None = None) -> dict[str, Outline]:
        """How testers stand, by name; None: all. Without those that have no row. `kinds`: of conditions."""
        return await self._read(lambda connection: outlines(connection, kinds, _all_kept(names)))

    async def objects(
        self, step: str | None = None, states: frozenset[ObjectState] | None = None
    ) -> tuple[OutsideObject, ...]:
        """All outside objects in our books, also of testers that are no more; None: of any step, in any state."""
        return await self._read(lambda connection: reading.all_objects(connection, step, states))

    async def given_away(self, step: str, states: frozenset[ObjectState]) -> reading.GivenAway:
        """Its objects in these states, and the room of testers who were let begin and stay, as of one moment."""
        return await self._read(
            lambda connection: (reading.all_objects(connection, step, states), reading.rooms(connection))
        )

    async def facts_of_all(self, steps: tuple[str, ...]) -> dict[str, dict[str, StepFacts]]:
        """Tester → step → facts, for lists. Only steps whose facts live on no machine."""
        found = await self._read(lambda connection: reading.facts_of_all(connection, steps))
        return {tester: {step: kept for step, (kept, _) in of.items()} for tester, of in found.items()}

    async def conditions(self, tester: str | None = None) -> tuple[Condition, ...]:
        """By tester and type; None: of all, those of the fleet (tester "") included."""
        return await self._read(lambda connection: reading.all_conditions(connection, _kept(tester)))

    async def failing_conditions(self) -> tuple[Condition, ...]:
        """Everybody's conditions of what fails, by tester and type."""
        return await self._read(reading.failing_conditions)

    async def bearers(self) -> tuple[tuple[str, str, bool], ...]:
        """Name and uid of every tester, and whether it is still here."""
        return await self._read(reading.bearers)

    async def names_of_objects(self) -> tuple[tuple[str, ObjectState], ...]:
        """Name and state of all outside objects in our books."""
        return await self._read(reading.names_of_objects)

    async def conditions_of_type(self, kind: str) -> tuple[Condition, ...]:
        """Everybody's condition of one type, by tester."""
        return await self._read(lambda connection: reading.conditions_of_type(connection, kind))

    async def events(
        self,
        tester: str | None = None,
        limit: int = 100,
        before: int | None = None,
        only: Mapping[str, str] | None = None,
    ) -> tuple[Event, ...]:
        """Newest first. `before`: only those with a smaller id, for the next page; `only`: with these values, by field."""
        wanted = {field: keepable(value) for field, value in (only or {}).items()}
        return await self._read(
            lambda connection: reading.newest_events(connection, _kept(tester), limit, before, wanted)
        )

    async def journal(self, tester: str | None = None, limit: int = 100) -> tuple[JournalEntry, ...]:
        """Newest first."""
        return await self._read(lambda connection: reading.newest_entries(connection, _kept(tester), limit))

    async def unfinished(self) -> tuple[JournalEntry, ...]:
        """Journal entries without an end (`ended_at`), oldest first: after a crash, the writes whose outcome is unknown."""
        return await self._read(reading.unfinished_entries)

    async def begun(self, step: str, testers: Collection[str]) -> dict[str, datetime]:
        """Tester → when its first create of a step was written down since it was last Ready, or else since it was added;
        without those of whom the journal tells none."""
        kept = _all_kept(testers)
        return await self._read(lambda connection: reading.begun(connection, step, kept)) if kept else {}

    async def runs(self) -> tuple[Run, ...]:
        """How long testers took until they were Ready, newest first."""
        return await self._read(reading.newest_runs)

    async def source(self) -> SourceState | None:
        return await self._read(reading.source_now)

    async def in_force(self, revision: str, names: Collection[str]) -> reading.InForce:
        """The source as last read, what is known of a revision, and the testers of these names, as of one moment."""
        return await self._read(lambda connection: reading.in_force(connection, keepable(revision), names))

    async def revisions(self, limit: int = 50) -> tuple[RevisionRecord, ...]:
        """What was read of the source, newest first."""
        return await self._read(lambda connection: reading.newest_revisions(connection, limit))

    async def revision(self, revision: str) -> RevisionRecord | None:
        return await self._read(lambda connection: reading.one_revision(connection, keepable(revision)))

    async def tokens(self) -> tuple[TokenRecord, ...]:
        """The bearer tokens of programs, by name, those included whose time is over."""
        return await self._read(reading.all_tokens)

    async def has_ended(self, session: str) -> bool:
        """Whether somebody signed out of a session, by the hash of its id."""
        return await self._read(lambda connection: reading.has_ended(connection, session))

    async def fleet(self) -> tuple[str, str] | None:
        """The last good Fleet document as JSON text, and its revision."""
        return await self._read(reading.fleet_now)

    async def forge_owner(self) -> str:
        """The account to which everything belongs that was made at Forge; "" while nothing was."""
        return await self._read(reading.forge_owner)

    async def sealed(self, name: str) -> Secret | None:
        """A secret by its full name; None when there is none or it is void. Raises SealingError when it does not open."""
        row = await self._read(lambda connection: reading.box(connection, keepable(name)))
        return None if row is None else self._opened(row)

    async def sealed_names(self) -> tuple[str, ...]:
        """Full names of the secrets that are not void."""
        return await self._read(reading.names_of_boxes)

    # -------------------------------------------------------------------------------------------- inside

    def _books(
        self, connection: Connection, name: str, marked: Callable[[TesterRecord], bool] | None
    ) -> TesterBooks | None:
        record = reading.one_tester(connection, name)
        if record is None:
            return None
        facts = reading.facts_about(connection, name)
        mark = marks.of_books(connection, (name,))[name].digest if marked is not None and marked(record) else b""
        return TesterBooks(
            record=record,
            objects=reading.objects_of(connection, name),
            facts={step: kept for step, (kept, _) in facts.items()},
            facts_at={step: row.at for step, (_, row) in facts.items()},
            conditions={each.type: each for each in reading.all_conditions(connection, name)},
            journal=reading.unfinished_entries(connection, name),
            sealed={row.name: self._opened(row) for row in reading.boxes(connection, name)},
            forge_owner=reading.forge_owner(connection),
            mark=mark,
        )

    def _opened(self, row: Row[Any]) -> Secret:
        if row.key_id not in self._keyring.ids:
            self._keyring = self._keyring.current()  # another process may have changed the key file
        return self._keyring.open(row.name, row.key_id, row.box)

    def _keys_now(self) -> Keyring:
        self._keyring = self._keyring.current()
        return self._keyring

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"The store {self._place} is closed.")

    async def _read(self, ask: Work[T]) -> T:
        self._check_open()
        try:
            return await self._database.read(ask)
        except SQLAlchemyError as error:
            raise readable(self._place, error) from error

    async def _write(self, work: Work[T], changes: tuple[Change, ...] = ()) -> T:
        self._check_open()
        lease = self.fence(changes) if self.fence is not None else None
        if lease is not None:
            work = Fenced(work, lease)
        pause = partial(self._call_hooks, BEFORE_COMMIT, changes) if self.hooks else None
        for races_left in reversed(range(RACES)):
            try:
                result = await self._database.write(work, pause)
                break
            except Written:
                self._hear(changes)
                raise
            except SQLAlchemyError as error:
                if not races_left or not lost_race(error):
                    raise readable(self._place, error) from error
        self._hear(changes)
        await self._call_hooks(AFTER_COMMIT, changes)
        return result

    def _hear(self, changes: tuple[Change, ...]) -> None:
        """They are durable."""
        self.commits += 1
        for listener in self.listeners:
            listener(changes)

    async def _call_hooks(self, moment: str, changes: tuple[Change, ...]) -> None:
        for hook in self.hooks:
            await hook(moment, changes)


def _kept(name: str | None) -> str | None:
    """A name that somebody asks for, as it would be kept: no database is asked for what it cannot hold."""
    return None if name is None else keepable(name)


def _all_kept(names: Collection[str] | None) -> Collection[str] | None:
    return None if names is None else frozenset(map(keepable, names))
