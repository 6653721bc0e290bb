"""How the store says no: one readable paragraph, never a driver's traceback, never a value that was to be stored.

StoreError            the store cannot be read or written as asked
├── NotNow            … because somebody else has it, its disk is full, or its server does not answer: that may pass
└── SealingError      the sealing key, or a sealed value, is not as it should be

SpecChanged           nothing was written, because a write was to be made only while its tester's spec is as it was
"""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError, TimeoutError

LOST_RACES: Final = frozenset({"40P01", "40001", "23503"})
"""SQLSTATEs of PostgreSQL after which the same write may simply be done again: deadlock, serialisation, a row gone."""

_PASSING: Final = (
    ("database is locked", "is held by another process for too long; see who else has it open, then try again"),
    ("database table is locked", "is held by another process for too long; see who else has it open, then try again"),
    ("disk is full|no space left", "cannot be written because the disk is full; make room, nothing was changed"),
    ("lock timeout", "is held by another process for too long; see who else is connected, then try again"),
    ("connection refused", "does not answer: nobody listens at its address"),
    (r"socket .* no such file or directory", "does not answer: nobody listens at its address"),
    ("timeout expired", "does not answer in time"),
    ("the database system is", "cannot be used yet, or not any more: its server starts, or is stopped"),
    ("too many clients|too many connections|remaining connection slots", "has no connection left for us"),
    ("server closed the connection", "closed the connection; nothing was changed unless it had just been committed"),
    ("terminating connection", "closed the connection; nothing was changed unless it had just been committed"),
)
"""Patterns of what a driver says, and what it means: of what may pass by itself, and of what somebody must mend."""

_REMEDIES: Final = (
    ("readonly database", "cannot be written: the file, or its folder, is read-only for this user"),
    ("unable to open database", "cannot be opened; check that its folder exists and belongs to this user"),
    ("malformed", "is damaged; restore it from a backup"),
    ("not a database", "is not a database; check the path, or restore it from a backup"),
    ("disk i/o error", "cannot be read or written: the disk reports an error; see that it is not full, and not broken"),
    ("password authentication failed", "refuses us: user name or password is wrong"),
    ("no password supplied", "refuses us: it wants a password, and DATABASE_URL has none"),
    ("no pg_hba.conf entry", "refuses us: its server lets nobody in from here, or not this user"),
    ('database ".*" does not exist', "is not there: make it (`createdb`), or mend its name in DATABASE_URL"),
    ('role ".*" does not exist', "refuses us: it knows no such user; mend the name in DATABASE_URL, or make the user"),
    ("permission denied", "refuses us: its user must own the database, and all tables in it"),
    (
        "failed to resolve host",
        "is not found: mend the host's name in DATABASE_URL, or see that names are resolved here",
    ),
    (
        "read-only transaction",
        "may only be read: let DATABASE_URL lead to a server that is no standby, with default_transaction_read_only off",
    ),
)


class StoreError(Exception):
    """The store cannot be read or written as asked. The message is one readable paragraph without secrets."""


class NotNow(StoreError):
    """The store cannot be used at this moment; that may pass without anything being changed here."""


class SealingError(StoreError):
    """A sealing key is missing, unfit or unsafe, or a sealed value does not open."""


class SpecChanged(Exception):
    """The tester's spec has changed meanwhile, or it leaves, or does not leave any more: nothing was written."""


def readable(place: str, error: SQLAlchemyError) -> StoreError:
    """What a driver's error means for people. `place` names the store, without a password."""
    if isinstance(error, TimeoutError):
        return NotNow(f"The store {place} has no free connection; too much is asked of it at once.")
    cause = error.orig if isinstance(error, StatementError) else None
    if isinstance(cause, ValueError) and not isinstance(error, DBAPIError):
        return StoreError(f"The store {place} was given a value that it does not keep: {cause}.")
    return said_by(place, cause if cause is not None else error)


def said_by(place: str, error: BaseException) -> StoreError:
    """The same of what the driver itself has raised."""
    said = _first_line(error)
    for kind, known in ((NotNow, _PASSING), (StoreError, _REMEDIES)):
        for symptom, meaning in known:
            if re.search(symptom, said, re.IGNORECASE):
                return kind(f"The store {place} {meaning} ({said}).")
    return StoreError(f"The store {place} failed: {said}.")


def said_by_system(error: OSError) -> str:
    """What the system says, and of which file."""
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if error.filename else said


def lost_race(error: SQLAlchemyError) -> bool:
    """Whether the transaction was undone only because another one came first."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in LOST_RACES


def _first_line(error: BaseException) -> str:
    """The driver's first line: further ones (DETAIL) may quote a row."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
