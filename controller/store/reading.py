"""What can be asked of the store. Every function runs in a transaction that the store has begun and sees one moment.

What is ordered by name is ordered here: databases compare text by rules of their own. Statements that every pass needs are
built once (`statements`): building one costs several times what asking it does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from controller.records import (
    Condition,
    Event,
    JournalEntry,
    RevisionRecord,
    Run,
    SourceState,
    TesterRecord,
)
from controller.store.briefs import MOST_NAMED, Head
from controller.store.rows import facts_of, records, revision_record, source_state, tester_record
from controller.store.statements import (
    ALL_CONDITIONS,
    ALL_TESTERS,
    ANY_ROW,
    BEARERS,
    BOX,
    BOXES_OF,
    CONDITIONS_OF,
    CONDITIONS_OF_TYPE,
    CONDITIONS_THAT_FAIL,
    ENDED_SESSION,
    FACTS_OF,
    FLEET_NOW,
    FORGE_OWNER,
    HEADS,
    NAMES_OF_OBJECTS,
    NEWEST_REVISIONS,
    NEWEST_RUNS,
    OBJECTS_OF,
    REVISION,
    ROOMS,
    SOURCE_NOW,
    TESTER,
    TOKENS,
    UNFINISHED,
    UNFINISHED_OF,
)
from controller.store.tables import (
    events,
    facts,
    journal,
    objects,
    sealed,
    testers,
)
from controller.tokens import TokenRecord
from reconcilers.facts import ObjectState, OutsideObject, RoomFacts, StepFacts

CREATE: Final = "create"
"""The verb of making a machine anew."""

FactRows = dict[str, tuple[StepFacts, Row[Any]]]


def is_empty(connection: Connection) -> bool:
    """Whether nothing was ever kept here."""
    return not connection.scalar(ANY_ROW)


def heads(connection: Connection) -> dict[str, Head]:
    rows = connection.execute(HEADS).tuples()
    return {name: Head(digest, file, line, error, bool(leaving)) for name, digest, file, line, error, leaving in rows}


def all_testers(connection: Connection, names: Collection[str] | None = None) -> tuple[TesterRecord, ...]:
    some = names is not None and len(names) <= MOST_NAMED
    asked = ALL_TESTERS.where(testers.c.name.in_(sorted(names))) if some and names is not None else ALL_TESTERS
    found = (tester_record(row) for row in connection.execute(asked) if names is None or row.name in names)
    return tuple(sorted(found, key=lambda tester: tester.name))


def all_names(connection: Connection) -> tuple[str, ...]:
    return tuple(connection.scalars(select(testers.c.name)))


def names_behind(connection: Connection) -> tuple[str, ...]:
    """Those whose present generation no whole pass has seen."""
    return tuple(connection.scalars(select(testers.c.name).where(testers.c.observed_generation < testers.c.generation)))


def one_tester(connection: Connection, name: str) -> TesterRecord | None:
    row = connection.execute(TESTER, {"of": name}).one_or_none()
    return None if row is None else tester_record(row)


def all_objects(
    connection: Connection, step: str | None, states: frozenset[ObjectState] | None
) -> tuple[OutsideObject, ...]:
    query = select(objects)
    if step is not None:
        query = query.where(objects.c.step == step)
    if states is not None:
        query = query.where(objects.c.state.in_(sorted(states)))
    return _objects(connection.execute(query).all())


def objects_of(connection: Connection, tester: str) -> tuple[OutsideObject, ...]:
    return _objects(connection.execute(OBJECTS_OF, {"of": tester}).all())


def facts_about(connection: Connection, tester: str) -> FactRows:
    return facts_of(tester, connection.execute(FACTS_OF, {"of": tester}).all())


def facts_of_all(connection: Connection, steps: tuple[str, ...]) -> dict[str, FactRows]:
    """By tester. Of steps whose facts live on no machine: the others would need the machine's key."""
    columns = (facts.c.tester, facts.c.step, facts.c.machine, facts.c.body, facts.c.at)
    rows: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(select(*columns).where(facts.c.step.in_(steps))):
        rows.setdefault(row.tester, []).append(row)
    return {tester: facts_of(tester, found) for tester, found in rows.items()}


GivenAway = tuple[tuple[OutsideObject, ...], dict[str, RoomFacts]]


def rooms(connection: Connection) -> dict[str, RoomFacts]:
    """By tester, of those who do not leave."""
    found = {row.tester: facts_of(row.tester, [row])[RoomFacts.step][0] for row in connection.execute(ROOMS)}
    return {name: room for name, room in found.items() if isinstance(room, RoomFacts)}


def all_conditions(connection: Connection, tester: str | None) -> tuple[Condition, ...]:
    rows = connection.execute(ALL_CONDITIONS) if tester is None else connection.execute(CONDITIONS_OF, {"of": tester})
    return tuple(sorted(records(Condition, rows.all()), key=lambda condition: (condition.tester, condition.type)))


def failing_conditions(connection: Connection) -> tuple[Condition, ...]:
    rows = connection.execute(CONDITIONS_THAT_FAIL).all()
    return tuple(sorted(records(Condition, rows), key=lambda condition: (condition.tester, condition.type)))


def bearers(connection: Connection) -> tuple[tuple[str, str, bool], ...]:
    return tuple((row.name, row.uid, bool(row.is_here)) for row in connection.execute(BEARERS))


def names_of_objects(connection: Connection) -> tuple[tuple[str, ObjectState], ...]:
    return tuple((row.name, row.state) for row in connection.execute(NAMES_OF_OBJECTS))


def conditions_of_type(connection: Connection, kind: str) -> tuple[Condition, ...]:
    rows = connection.execute(CONDITIONS_OF_TYPE, {"what": kind}).all()
    return tuple(sorted(records(Condition, rows), key=lambda condition: condition.tester))


def newest_events(
    connection: Connection, tester: str | None, limit: int, before: int | None, only: Mapping[str, str]
) -> tuple[Event, ...]:
    query = select(events).order_by(events.c.id.desc()).limit(limit)
    if tester is not None:
        query = query.where(events.c.tester == tester)
    if before is not None:
        query = query.where(events.c.id < before)
    for name, value in only.items():
        query = query.where(events.c[name] == value)
    return records(Event, connection.execute(query).all())


def newest_entries(connection: Connection, tester: str | None, limit: int) -> tuple[JournalEntry, ...]:
    query = select(journal).order_by(journal.c.began_at.desc(), journal.c.id).limit(limit)
    if tester is not None:
        query = query.where(journal.c.tester == tester)
    return records(JournalEntry, connection.execute(query).all())


def unfinished_entries(connection: Connection, tester: str | None = None) -> tuple[JournalEntry, ...]:
    """Oldest first."""
    rows = connection.execute(UNFINISHED) if tester is None else connection.execute(UNFINISHED_OF, {"of": tester})
    return records(JournalEntry, rows.all())


def begun(connection: Connection, step: str, names: Collection[str]) -> dict[str, datetime]:
    """By tester: when its first create of a step was written down since it was last Ready, or else since it was added."""
    known_since = func.coalesce(testers.c.ready_at, testers.c.added_at)
    query = (
        select(journal.c.tester, func.min(journal.c.began_at).label("first"))
        .join(testers, testers.c.name == journal.c.tester)
        .where(journal.c.tester.in_(sorted(names)), journal.c.began_at >= known_since)
        .where(journal.c.step == step, journal.c.verb == CREATE)
        .group_by(journal.c.tester)
    )
    return {row.tester: row.first for row in connection.execute(query)}


def newest_runs(connection: Connection) -> tuple[Run, ...]:
    return records(Run, connection.execute(NEWEST_RUNS).all())


def source_now(connection: Connection) -> SourceState | None:
    row = connection.execute(SOURCE_NOW).one_or_none()
    return None if row is None else source_state(row)


def newest_revisions(connection: Connection, limit: int) -> tuple[RevisionRecord, ...]:
    return tuple(revision_record(row) for row in connection.execute(NEWEST_REVISIONS, {"most": limit}))


def one_revision(connection: Connection, revision: str) -> RevisionRecord | None:
    row = connection.execute(REVISION, {"of": revision}).one_or_none()
    return None if row is None else revision_record(row)


InForce = tuple[SourceState | None, RevisionRecord | None, tuple[TesterRecord, ...]]


def in_force(connection: Connection, revision: str, names: Collection[str]) -> InForce:
    some = all_testers(connection, names) if names else ()
    return source_now(connection), one_revision(connection, revision), some


def all_tokens(connection: Connection) -> tuple[TokenRecord, ...]:
    return tuple(sorted(records(TokenRecord, connection.execute(TOKENS).all()), key=lambda token: token.name))


def has_ended(connection: Connection, session: str) -> bool:
    return connection.scalar(ENDED_SESSION, {"of": session}) is not None


def fleet_now(connection: Connection) -> tuple[str, str] | None:
    row = connection.execute(FLEET_NOW).one_or_none()
    return None if row is None else (row.text, row.revision)


def forge_owner(connection: Connection) -> str:
    return connection.scalar(FORGE_OWNER) or ""


def boxes(connection: Connection, owner: str) -> list[Row[Any]]:
    """The sealed rows of a tester that are not void."""
    return list(connection.execute(BOXES_OF, {"of": owner}))


def box(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(BOX, {"of": name}).one_or_none()


def names_of_boxes(connection: Connection) -> tuple[str, ...]:
    return tuple(sorted(connection.scalars(select(sealed.c.name).where(sealed.c.void.is_(False)))))


def key_ids(connection: Connection) -> frozenset[str]:
    """The keys that the sealed rows need, void rows included: they are only asked for when keys change."""
    return frozenset(connection.scalars(select(sealed.c.key_id).distinct()))


def _objects(rows: Sequence[Row[Any]]) -> tuple[OutsideObject, ...]:
    return tuple(
        sorted(records(OutsideObject, rows), key=lambda row: (row.tester, row.step, row.incarnation, row.attempt))
    )
