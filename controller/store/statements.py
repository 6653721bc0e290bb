"""The statements that write, and those that every pass reads by. Built once, from the tables: no use costs a thought about SQL.

"Insert or replace" is written as text, which SQLite and PostgreSQL both understand, with typed parameters: SQLAlchemy's own
construct for it is compiled anew at every use, which takes longer than the write itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Row,
    Table,
    TextClause,
    bindparam,
    delete,
    exists,
    false,
    insert,
    or_,
    select,
    text,
    true,
    union_all,
    update,
)

from controller.store.tables import (
    MOST_REVISIONS,
    MOST_RUNS,
    OF_A_ROOM,
    STATUS_COLUMNS,
    conditions,
    ended_sessions,
    events,
    facts,
    fleet,
    fleet_identity,
    former_testers,
    journal,
    metadata,
    objects,
    rests,
    revisions,
    runs,
    sealed,
    source,
    testers,
    tokens,
)

NOBODY: Final = ""
"""The tester of what belongs to the fleet."""

_HAS_A_ROW: Final = 'EXISTS (SELECT 1 FROM "testers" WHERE "name" = :tester)'


def _upsert(table: Table, *, only_if: str = "true", special: Mapping[str, str] | None = None) -> TextClause:
    """Insert a row, or replace what it has beside its key. `special`: columns whose replacement is an expression."""
    names = [column.name for column in table.columns]
    keys = [column.name for column in table.primary_key]
    new = {name: f'excluded."{name}"' for name in names if name not in keys} | dict(special or {})
    statement = text(
        f'INSERT INTO "{table.name}" ({_listed(names)}) SELECT :{", :".join(names)} WHERE {only_if} '
        f"ON CONFLICT ({_listed(keys)}) DO UPDATE SET " + ", ".join(f'"{name}" = {to}' for name, to in new.items())
    )
    return statement.bindparams(*(bindparam(column.name, type_=column.type) for column in table.columns))


def of_these(connection: Connection, sql: str, names: Collection[str]) -> Sequence[Row[Any]]:
    """Asks for `:names` as the driver takes it: going by way of a statement of SQLAlchemy's takes three times as long for one
    tester. Columns come as the driver gives them."""
    sign = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    return connection.exec_driver_sql(sql.replace(":names", f"({', '.join([sign] * len(names))})"), tuple(names)).all()


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _kept_for_the_same(name: str) -> str:
    return f'CASE WHEN "testers"."uid" = excluded."uid" THEN "testers"."{name}" ELSE excluded."{name}" END'


PUT_TESTER: Final = _upsert(testers, special={name: _kept_for_the_same(name) for name in STATUS_COLUMNS})
"""What a pass found stays as long as it is the same tester; one of another uid starts anew."""

PUT_FACTS: Final = _upsert(facts, only_if=_HAS_A_ROW)
"""Only while the tester has a row: a late answer must not leave facts to a namesake."""

PUT_REST: Final = _upsert(rests, only_if=_HAS_A_ROW)
"""Likewise."""

PUT_CONDITION: Final = _upsert(conditions, only_if=f":tester = '{NOBODY}' OR {_HAS_A_ROW}")
"""Only while the tester has a row, or for the fleet itself."""

PUT_OBJECT: Final = _upsert(objects)
PUT_JOURNAL: Final = _upsert(journal)
PUT_SEALED: Final = _upsert(sealed)
PUT_SOURCE: Final = _upsert(source)
PUT_FLEET: Final = _upsert(fleet)
NAME_FORGE_OWNER: Final = _upsert(fleet_identity)
PUT_TOKEN: Final = _upsert(tokens)
DROP_TOKEN: Final = delete(tokens).where(tokens.c.name == bindparam("row"))
NOTE_TOKEN_USE: Final = (
    update(tokens)
    .where(tokens.c.name == bindparam("row"), tokens.c.hash == bindparam("of"))
    .values(last_used_at=bindparam("at"))
)
END_SESSION: Final = _upsert(ended_sessions)
REMEMBER_TESTER: Final = _upsert(former_testers)

CLAIM_FORGE: Final = text(
    "INSERT INTO fleet_identity (id, forge_owner, since) VALUES (:id, :forge_owner, :since) ON CONFLICT DO NOTHING"
).bindparams(*(bindparam(column.name, type_=column.type) for column in fleet_identity.columns))
"""Who comes first stays."""

SET_STATUS: Final = (
    update(testers)
    .where(testers.c.name == bindparam("row"))
    .values({name: bindparam(f"new_{name}") for name in STATUS_COLUMNS})
)
FRESHEN_FACTS: Final = (
    update(facts)
    .where(
        facts.c.tester == bindparam("of"),
        facts.c.step == bindparam("what"),
        facts.c.machine == bindparam("on"),
        facts.c.body == bindparam("before"),
    )
    .values(body=bindparam("now"), at=bindparam("seen"))
)
DROP_FACTS: Final = delete(facts).where(facts.c.tester == bindparam("of"), facts.c.step == bindparam("what"))
DROP_CONDITION: Final = delete(conditions).where(
    conditions.c.tester == bindparam("of"), conditions.c.type == bindparam("what")
)
ADD_EVENT: Final = insert(events)
NEWEST_EVENTS: Final = (
    "SELECT tester, id, step, reason, message FROM events WHERE id IN "
    "(SELECT MAX(id) FROM events WHERE tester IN :names GROUP BY tester)"
)
"""For `of_these`."""
COUNT_UP: Final = (
    update(events)
    .where(events.c.id == bindparam("row"))
    .values(count=events.c.count + bindparam("by"), last_at=bindparam("new_last_at"))
)
NEWEST_RUNS: Final = (
    select(*(column for column in runs.columns if column is not runs.c.id)).order_by(runs.c.id.desc()).limit(MOST_RUNS)
)
FORGET_OLD_RUNS: Final = delete(runs).where(
    runs.c.id <= select(runs.c.id).order_by(runs.c.id.desc()).limit(1).offset(MOST_RUNS).scalar_subquery()
)
PUT_REVISION: Final = _upsert(revisions)
FORGET_OLD_REVISIONS: Final = delete(revisions).where(
    revisions.c.read_at
    < select(revisions.c.read_at)
    .order_by(revisions.c.read_at.desc())
    .limit(1)
    .offset(MOST_REVISIONS - 1)
    .scalar_subquery()
)
VOID: Final = update(sealed).where(sealed.c.name == bindparam("row")).values(void=True)
UNSEAL: Final = delete(sealed).where(sealed.c.name == bindparam("row"))
RESEAL: Final = (
    update(sealed)
    .where(sealed.c.name == bindparam("row"))
    .values(key_id=bindparam("new_key_id"), box=bindparam("new_box"))
)

# ------------------------------------------------------------------------------------------------ reading

ANY_ROW: Final = select(or_(*(exists().select_from(table) for table in metadata.sorted_tables)))
ALL_TESTERS: Final = select(testers)
TESTER: Final = select(testers).where(testers.c.name == bindparam("of"))
HEADS: Final = select(
    testers.c.name,
    testers.c.digest,
    testers.c.source_file,
    testers.c.source_line,
    testers.c.source_error,
    testers.c.removed_at.is_not(None).label("leaving"),
)
BEARERS: Final = union_all(
    select(testers.c.name, testers.c.uid, true().label("is_here")),
    select(former_testers.c.name, former_testers.c.uid, false()),
)
NAMES_OF_OBJECTS: Final = select(objects.c.name, objects.c.state)
OBJECTS_OF: Final = select(objects).where(objects.c.tester == bindparam("of"))
FACTS_OF: Final = select(facts.c.step, facts.c.machine, facts.c.body, facts.c.at).where(
    facts.c.tester == bindparam("of")
)
ROOMS: Final = (
    select(facts.c.tester, facts.c.step, facts.c.machine, facts.c.body, facts.c.at)
    .join(testers, testers.c.name == facts.c.tester)
    .where(text(OF_A_ROOM), testers.c.removed_at.is_(None))
)
ALL_CONDITIONS: Final = select(conditions)
CONDITIONS_OF: Final = select(conditions).where(conditions.c.tester == bindparam("of"))
CONDITIONS_THAT_FAIL: Final = select(conditions).where(conditions.c.failures > 0)
CONDITIONS_OF_TYPE: Final = select(conditions).where(conditions.c.type == bindparam("what"))
UNFINISHED: Final = select(journal).where(journal.c.ended_at.is_(None)).order_by(journal.c.began_at, journal.c.id)
UNFINISHED_OF: Final = UNFINISHED.where(journal.c.tester == bindparam("of"))
SOURCE_NOW: Final = select(*(column for column in source.columns if column is not source.c.id))
FLEET_NOW: Final = select(fleet.c.text, fleet.c.revision)
FORGE_OWNER: Final = select(fleet_identity.c.forge_owner)

NEWEST_REVISIONS: Final = (
    select(revisions).order_by(revisions.c.read_at.desc(), revisions.c.revision).limit(bindparam("most"))
)
TOKENS: Final = select(tokens)
ENDED_SESSION: Final = select(ended_sessions.c.until).where(ended_sessions.c.hash == bindparam("of"))
REVISION: Final = select(revisions).where(revisions.c.revision == bindparam("of"))

_BOXES: Final = select(sealed.c.name, sealed.c.key_id, sealed.c.box).where(sealed.c.void.is_(False))
BOXES_OF: Final = _BOXES.where(sealed.c.owner == bindparam("of"))
BOX: Final = _BOXES.where(sealed.c.name == bindparam("of"))
