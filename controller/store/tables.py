"""The tables. A column is named like the field of the record that it keeps, so that rows and records map by name.

Portable between SQLite and PostgreSQL. Change a table here and write a revision in `migrations/versions` for it; a test
holds both equal.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeDecorator

from controller.records import Outcome, Phase, RevisionState, Severity, Status
from reconcilers.facts import ObjectState


class UtcDateTime(TypeDecorator[datetime]):
    """An instant. Naive datetimes are refused (ValueError); aware ones come back in UTC, also from SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def keepable(words: str) -> str:
    """Text as every database can hold it: NUL becomes U+FFFD, half a surrogate pair `?`."""
    if not words.isascii():
        words = words.encode("utf-8", "replace").decode("utf-8")
    return words.replace("\x00", "\ufffd")


class Words(TypeDecorator[str]):
    """Text that may come from outside, kept as `keepable`."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else keepable(value)


class Word(TypeDecorator[StrEnum]):
    """A member of an enumeration, kept as its value."""

    impl = String
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        return None if value is None else self.kind(value).value

    def process_result_value(self, value: Any, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.kind(value)


metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

testers: Final = Table(
    "testers",
    metadata,
    Column("name", String, primary_key=True),
    Column("uid", String, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("desired", Text, nullable=False),
    Column("digest", String, nullable=False),
    Column("source_file", Words, nullable=False),
    Column("source_line", Integer, nullable=False),
    Column("revision", Words, nullable=False),
    Column("added_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("removed_at", UtcDateTime),
    Column("source_error", Words, nullable=False),
    Column("observed_generation", Integer, nullable=False),
    Column("phase", Word(Phase), nullable=False),
    Column("progress", Integer, nullable=False),
    Column("current", Words, nullable=False),
    Column("next_look_at", UtcDateTime),
    Column("ready_at", UtcDateTime),
    Column("interrupted_at", UtcDateTime),
    Index(
        "ix_testers_behind",
        "name",
        sqlite_where=text("observed_generation < generation"),
        postgresql_where=text("observed_generation < generation"),
    ),
)
"""One row per tester. `desired` is JSON of specs.desired.DesiredTester."""

STATUS_COLUMNS: Final = (
    *("observed_generation", "phase", "progress", "current", "next_look_at"),
    *("ready_at", "interrupted_at"),
)
"""What a pass writes of a tester's row; an intake writes the others."""

objects: Final = Table(
    "objects",
    metadata,
    Column("tester", String, primary_key=True),
    Column("step", String, primary_key=True),
    Column("incarnation", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("name", Words, nullable=False),
    Column("state", Word(ObjectState), nullable=False),
    Column("identity", JSON, nullable=False),
    Column("since", UtcDateTime),
    Column("deadline", UtcDateTime),
    Column("missing_since", UtcDateTime),
    Index("ix_objects_step_state", "step", "state"),
    Index("ix_objects_state", "state"),
)
"""One row per outside object. No foreign key to the tester: what stays outside outlives its tester's row."""

OF_A_ROOM: Final = "step = 'room'"
"""Of a facts row: `reconcilers.facts.RoomFacts`. Written out, so that its index is of use."""

facts: Final = Table(
    "facts",
    metadata,
    Column("tester", String, ForeignKey("testers.name", ondelete="CASCADE"), primary_key=True),
    Column("step", String, primary_key=True),
    Column("machine", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Index("ix_facts_rooms", "tester", sqlite_where=text(OF_A_ROOM), postgresql_where=text(OF_A_ROOM)),
)
"""What steps learnt: JSON of one of reconcilers.facts.FACTS, and the machine that it speaks of ("" for none)."""

rests: Final = Table(
    "rests",
    metadata,
    Column("tester", String, ForeignKey("testers.name", ondelete="CASCADE"), primary_key=True),
    Column("mark", LargeBinary, nullable=False),
    Column("body", Text, nullable=False),
)
"""What testers at rest rest on (`controller/passes/rest.py`): believed as long as the mark is what it would be now."""

conditions: Final = Table(
    "conditions",
    metadata,
    Column("tester", String, primary_key=True),
    Column("type", String, primary_key=True),
    Column("status", Word(Status), nullable=False),
    Column("reason", Words, nullable=False),
    Column("message", Words, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("until", UtcDateTime),
    Column("blames", Words, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("retry_at", UtcDateTime),
    Index("ix_conditions_type", "type"),
    Index(
        "ix_conditions_failing",
        "tester",
        sqlite_where=text("failures > 0"),
        postgresql_where=text("failures > 0"),
    ),
)
"""No foreign key: the fleet has conditions as well, with tester ""."""

events: Final = Table(
    "events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("tester", String, nullable=False),
    Column("step", String, nullable=False),
    Column("reason", Words, nullable=False),
    Column("message", Words, nullable=False),
    Column("severity", Word(Severity), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("count", Integer, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Index("ix_events_tester_id", "tester", "id"),
    Index("ix_events_last_at", "last_at"),
    sqlite_autoincrement=True,  # ids are never given twice, so that "before" and "after" an id keep their meaning
)

journal: Final = Table(
    "journal",
    metadata,
    Column("id", String, primary_key=True),
    Column("tester", String, nullable=False),
    Column("step", String, nullable=False),
    Column("verb", Words, nullable=False),
    Column("target", Words, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("outcome", Word(Outcome), nullable=False),
    Column("ended_at", UtcDateTime),
    Column("limit_at", UtcDateTime),
    Column("detail", Words, nullable=False),
    Column("generation", Integer, nullable=False),
    Index("ix_journal_tester_began_at", "tester", "began_at"),
    Index("ix_journal_began_at", "began_at"),
    Index("ix_journal_ended_at", "ended_at"),
    Index(
        "ix_journal_unfinished",
        "tester",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

runs: Final = Table(
    "runs",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("tester", String, nullable=False),
    Column("ready_at", UtcDateTime, nullable=False),
    Column("ready", Float, nullable=False),
    Column("milestones", JSON, nullable=False),
    sqlite_autoincrement=True,
)
"""How long testers took, for the estimates. No foreign key: what was learnt outlives the tester."""

MOST_RUNS: Final = 200
"""The newest are kept."""

fleet_identity: Final = Table(
    "fleet_identity",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("forge_owner", Words, nullable=False),
    Column("since", UtcDateTime, nullable=False),
)
"""Who the fleet is to the outside: the Forge account to which everything that it makes there belongs."""

sealed: Final = Table(
    "sealed",
    metadata,
    Column("name", String, primary_key=True),
    Column("owner", String, nullable=False, index=True),
    Column("key_id", String, nullable=False, index=True),
    Column("box", LargeBinary, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("void", Boolean, nullable=False),
)
"""Encrypted secrets. `owner` is the tester of `<tester>/<short name>`, "" for other names; `key_id` names the key."""

source: Final = Table(
    "source",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("source", Words, nullable=False),
    Column("revision", Words, nullable=False),
    Column("read_at", UtcDateTime, nullable=False),
    Column("readable", Boolean, nullable=False),
    Column("errors", JSON, nullable=False),
    Column("held", JSON, nullable=False),
)

revisions: Final = Table(
    "revisions",
    metadata,
    Column("revision", String, primary_key=True),
    Column("source", Words, nullable=False),
    Column("read_at", UtcDateTime, nullable=False, index=True),
    Column("author", Words, nullable=False),
    Column("subject", Words, nullable=False),
    Column("committed_at", UtcDateTime),
    Column("errors", JSON, nullable=False),
    Column("changed", JSON, nullable=False),
    Column("state", Word(RevisionState), nullable=False),
    Column("ready", Integer, nullable=False),
    Column("total", Integer, nullable=False),
    Column("text", Words, nullable=False),
    Column("told", Words, nullable=False),
)
"""What was read of the source, and what became of it."""

MOST_REVISIONS: Final = 200
"""The newest are kept."""

tokens: Final = Table(
    "tokens",
    metadata,
    Column("name", String, primary_key=True),
    Column("hash", String, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("last_used_at", UtcDateTime),
)
"""Bearer tokens of programs that look: SHA-256 in hex, never the token itself."""

former_testers: Final = Table(
    "former_testers",
    metadata,
    Column("uid", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("removed_at", UtcDateTime, nullable=False, index=True),
)
"""Testers that are no more: whose a gateway was is known by name and uid only, should one turn up after all."""

ended_sessions: Final = Table(
    "ended_sessions",
    metadata,
    Column("hash", String, primary_key=True),
    Column("until", UtcDateTime, nullable=False, index=True),
)
"""Sessions of people who signed out: SHA-256 of their ids, in hex, and when they would have ended by themselves."""

fleet: Final = Table(
    "fleet",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one_row"), primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
    Column("revision", Words, nullable=False),
)

leases: Final = Table(
    "leases",
    metadata,
    Column("key", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", String, nullable=False),
    Column("since", UtcDateTime, nullable=False),
)
"""What replicas share among them (`fencing.Lease`): how often it was taken, and by whom last. A lock tells whether it is held."""

replicas: Final = Table(
    "replicas",
    metadata,
    Column("name", String, primary_key=True),
    Column("session", Integer, nullable=False),
    Column("place", Words, nullable=False),
    Column("version", String, nullable=False),
    Column("began_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("passes", BigInteger, nullable=False),
)
"""Who works on the store: for people. `session`: the server's process that holds its locks."""

schema_floor: Final = Table("schema_floor", metadata, Column("revision", String, primary_key=True))
"""Revisions that contracted: a program that does not know them must not work on these tables. Empty until there is one."""
