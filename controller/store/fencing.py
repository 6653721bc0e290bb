"""The fence: what a replica writes counts only while nobody else has taken what it works on.

Work carries its lease with it, in a context variable that its tasks inherit. Each write reads the lease's row in its own
transaction and keeps it from being taken until it is committed; a row of another epoch undoes the write. A store without a
fence (SQLite, commands) writes as ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, assert_never

from sqlalchemy import Connection, bindparam, select

from controller.fresh import FreshenFacts
from controller.records import (
    AddEvent,
    AddRun,
    Change,
    ClaimForge,
    DropCondition,
    DropFacts,
    DropTester,
    NameForgeOwner,
    OnlyWhile,
    PutCondition,
    PutFacts,
    PutFleet,
    PutJournal,
    PutObject,
    PutRevision,
    PutSource,
    PutTester,
    Seal,
    SetStatus,
    Unseal,
    Void,
)
from controller.rests import PutRest
from controller.store.database import Work
from controller.store.errors import StoreError
from controller.store.rows import owner_of
from controller.store.tables import leases
from controller.tokens import DropToken, EndSession, NoteTokenUse, PutToken

T = TypeVar("T")


class NotOurs(StoreError):
    """Another replica has taken, or may have taken, what this work is about. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A right to work. `epoch`: how often it was taken until we did; `term`: which of our sessions holds it."""

    key: int
    epoch: int
    term: int


LEASE: Final[ContextVar[Lease | None]] = ContextVar("lease", default=None)
"""Under which lease this work goes on; None: none, and then nothing of a tester may be written where there are replicas."""

Fence = Callable[[tuple[Change, ...]], Lease | None]
"""Says under which lease changes are written; None: they need none. Raises NotOurs."""

_EPOCHS = (
    select(leases.c.key, leases.c.epoch)
    .where(leases.c.key.in_(bindparam("keys", expanding=True)))
    .order_by(leases.c.key)
    .with_for_update(read=True)
)


@dataclass(frozen=True, slots=True)
class Fenced(Generic[T]):
    """Work that is undone by NotOurs when the lease is somebody else's by now."""

    work: Work[T]
    lease: Lease

    def __call__(self, connection: Connection) -> T:
        check(connection, [self.lease])
        return self.work(connection)


def check(connection: Connection, held: Iterable[Lease]) -> None:
    """These leases are ours until the transaction ends. Raises NotOurs when one of them is somebody else's by now."""
    known = {(lease.key, lease.epoch) for lease in held}
    if not known:
        return
    rows = connection.execute(_EPOCHS, {"keys": sorted({key for key, _ in known})})
    if not known <= {(row.key, row.epoch) for row in rows}:
        raise NotOurs("another replica has taken this over: nothing was written")


def subjects(changes: Iterable[Change]) -> frozenset[str]:
    """The testers that changes are about; those of the fleet, its source and its people are about none. Nor is FreshenFacts,
    which replaces only what it was seen of, nor PutRest, which is believed only with the books that it was found with: they do
    no harm whoever writes them."""
    return frozenset(name for change in changes if (name := _subject(change)))


def _subject(change: Change) -> str:
    match change:
        case PutTester(record):
            return record.name
        case PutObject(row):
            return row.tester
        case PutCondition(condition):
            return condition.tester
        case AddEvent(event):
            return event.tester
        case AddRun(run):
            return run.tester
        case PutJournal(entry):
            return entry.tester
        case Seal(name) | Void(name) | Unseal(name):
            return owner_of(name)
        case SetStatus() | DropTester() | PutFacts() | DropFacts() | DropCondition() | OnlyWhile():
            return change.tester
        case PutSource() | PutRevision() | PutFleet() | ClaimForge() | NameForgeOwner():
            return ""
        case PutToken() | DropToken() | NoteTokenUse() | EndSession() | FreshenFacts() | PutRest():
            return ""
    assert_never(change)  # whoever adds a kind of change says whose it is: unfenced writes are those of nobody
