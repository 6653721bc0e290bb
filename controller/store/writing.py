"""How each kind of change is made. One table says which function makes which kind; a run of changes of the same kind is
one statement (or two), however long it is. All of it runs in a transaction that the store has begun and will commit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, insert, select, text

from controller.fresh import FreshenFacts
from controller.records import (
    AddEvent,
    AddRun,
    Change,
    ClaimForge,
    DropCondition,
    DropFacts,
    DropTester,
    Event,
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
from controller.store.errors import SpecChanged
from controller.store.rows import Values, owner_of, tester_values, values
from controller.store.sealing import Keyring
from controller.store.statements import (
    ADD_EVENT,
    CLAIM_FORGE,
    COUNT_UP,
    DROP_CONDITION,
    DROP_FACTS,
    DROP_TOKEN,
    END_SESSION,
    FORGET_OLD_REVISIONS,
    FORGET_OLD_RUNS,
    FRESHEN_FACTS,
    NAME_FORGE_OWNER,
    NEWEST_EVENTS,
    NOTE_TOKEN_USE,
    PUT_CONDITION,
    PUT_FACTS,
    PUT_FLEET,
    PUT_JOURNAL,
    PUT_OBJECT,
    PUT_REST,
    PUT_REVISION,
    PUT_SEALED,
    PUT_SOURCE,
    PUT_TESTER,
    PUT_TOKEN,
    REMEMBER_TESTER,
    RESEAL,
    SET_STATUS,
    UNSEAL,
    VOID,
    of_these,
)
from controller.store.tables import (
    STATUS_COLUMNS,
    conditions,
    events,
    fleet,
    journal,
    keepable,
    objects,
    rests,
    revisions,
    runs,
    sealed,
    source,
    testers,
    tokens,
)
from controller.tokens import DropToken, EndSession, NoteTokenUse, PutToken
from reconcilers.facts import ObjectState

Ring = Callable[[], Keyring]
"""Gives the keys as they are at this moment."""

Handler = Callable[[Connection, Sequence[Any], Ring], None]

ONE_ROW: Final = 1


@dataclass(frozen=True, slots=True)
class Making:
    """The work of one write."""

    changes: Sequence[Change]
    ring: Ring

    def __call__(self, connection: Connection) -> None:
        make(connection, self.changes, self.ring)


def make_all(connection: Connection, works: Sequence[Making]) -> None:
    """Several writes, one after the other; as one, where it makes no difference."""
    for ring, some in groupby(works, lambda work: work.ring):
        make(connection, [change for work in some for change in work.changes], ring)


def make(connection: Connection, changes: Iterable[Change], ring: Ring) -> None:
    """Make the changes in their order; those whose order does not matter, by kind."""
    for has_place, stretch in groupby(changes, _has_place):
        for kind, run in groupby(sorted(stretch, key=_place) if has_place else stretch, type):
            HANDLERS[kind](connection, tuple(run), ring)


def _has_place(change: Change) -> bool:
    return type(change) in PLACES


def _place(change: Change) -> int:
    return PLACES[type(change)]


# ------------------------------------------------------------------------------------------------ testers


def _put_testers(connection: Connection, changes: Sequence[PutTester], _: Ring) -> None:
    connection.execute(PUT_TESTER, [tester_values(testers, change.record) for change in changes])


def _check_specs(connection: Connection, changes: Sequence[OnlyWhile], _: Ring) -> None:
    """An intake that comes later waits for the end of this write."""
    for change in changes:
        asked = select(testers.c.generation, testers.c.removed_at).where(testers.c.name == change.tester)
        row = connection.execute(asked.with_for_update(read=True)).first()
        if row is None or (row.generation, row.removed_at is not None) != (change.generation, change.leaving):
            raise SpecChanged(f"the spec of {change.tester} has changed meanwhile")


def _set_statuses(connection: Connection, changes: Sequence[SetStatus], _: Ring) -> None:
    last = {change.tester: change for change in changes}.values()
    rows = [{"row": each.tester, **{f"new_{name}": getattr(each, name) for name in STATUS_COLUMNS}} for each in last]
    connection.execute(SET_STATUS, rows)


def _drop_testers(connection: Connection, changes: Sequence[DropTester], _: Ring) -> None:
    one = testers.c
    leaving = and_(one.name.in_([change.tester for change in changes]), one.removed_at.is_not(None))
    left = connection.execute(delete(testers).where(leaving).returning(one.name, one.uid, one.removed_at)).all()
    if not left:
        return
    connection.execute(REMEMBER_TESTER, [row._asdict() for row in left])
    dropped = [row.name for row in left]  # facts go with the row, by their foreign key
    connection.execute(delete(conditions).where(conditions.c.tester.in_(dropped)))
    connection.execute(delete(sealed).where(sealed.c.owner.in_(dropped)))
    connection.execute(delete(objects).where(objects.c.tester.in_(dropped), objects.c.state == ObjectState.GONE))


# ------------------------------------------------------------------------------------------------ what is known of them


def _put_objects(connection: Connection, changes: Sequence[PutObject], _: Ring) -> None:
    rows = [{**values(objects, change.object), "identity": dict(change.object.identity)} for change in changes]
    connection.execute(PUT_OBJECT, rows)


def _put_facts(connection: Connection, changes: Sequence[PutFacts], _: Ring) -> None:
    rows = [
        {
            "tester": change.tester,
            "step": change.facts.step,
            "machine": change.machine,
            "body": change.facts.model_dump_json(),
            "at": change.at,
        }
        for change in changes
    ]
    connection.execute(PUT_FACTS, rows)


def _freshen_facts(connection: Connection, changes: Sequence[FreshenFacts], _: Ring) -> None:
    rows = [
        {
            "of": change.tester,
            "what": change.facts.step,
            "on": change.machine,
            "before": change.before.model_dump_json(),
            "now": change.facts.model_dump_json(),
            "seen": change.at,
        }
        for change in changes
    ]
    connection.execute(FRESHEN_FACTS, rows)


def _put_rests(connection: Connection, changes: Sequence[PutRest], _: Ring) -> None:
    connection.execute(PUT_REST, [values(rests, change) for change in changes])


def _put_conditions(connection: Connection, changes: Sequence[PutCondition], _: Ring) -> None:
    connection.execute(PUT_CONDITION, [values(conditions, change.condition) for change in changes])


def _drop_facts(connection: Connection, changes: Sequence[DropFacts], _: Ring) -> None:
    connection.execute(DROP_FACTS, [{"of": change.tester, "what": change.step} for change in changes])


def _drop_conditions(connection: Connection, changes: Sequence[DropCondition], _: Ring) -> None:
    connection.execute(DROP_CONDITION, [{"of": change.tester, "what": change.type} for change in changes])


# ------------------------------------------------------------------------------------------------ history


def _add_events(connection: Connection, changes: Sequence[AddEvent], _: Ring) -> None:
    """Count up the newest event of a tester when it says the same, also within this very run."""
    newest = _newest_events(connection, {change.event.tester for change in changes})
    counted: dict[int, Values] = {}
    added: list[Values] = []
    for event in (change.event for change in changes):
        row = newest.get(event.tester)
        if row is None or (row["step"], row["reason"], row["message"]) != _saying(event):
            row = newest[event.tester] = _event_row(event)
            added.append(row)
            continue
        row["last_at"] = event.last_at or event.at
        if "id" not in row:
            row["count"] += event.count
            continue
        before = counted.get(row["id"], {"by": 0})
        counted[row["id"]] = {"row": row["id"], "by": before["by"] + event.count, "new_last_at": row["last_at"]}
    if counted:
        connection.execute(COUNT_UP, list(counted.values()))
    if added:
        connection.execute(ADD_EVENT, added)


def _newest_events(connection: Connection, names: set[str]) -> dict[str, Values]:
    rows = of_these(connection, NEWEST_EVENTS, sorted(names))
    return {row.tester: dict(row._mapping) for row in rows}


def _saying(event: Event) -> tuple[str, str, str]:
    return event.step, keepable(event.reason), keepable(event.message)


def _event_row(event: Event) -> Values:
    step, reason, message = _saying(event)
    said = {"step": step, "reason": reason, "message": message, "last_at": event.last_at or event.at}
    row = {**values(events, event), **said}
    del row["id"]  # the database gives it
    return row


def _add_runs(connection: Connection, changes: Sequence[AddRun], _: Ring) -> None:
    rows = [{**values(runs, change.run), "milestones": dict(change.run.milestones)} for change in changes]
    connection.execute(insert(runs), rows)
    connection.execute(FORGET_OLD_RUNS)


def _put_journal(connection: Connection, changes: Sequence[PutJournal], _: Ring) -> None:
    connection.execute(PUT_JOURNAL, [values(journal, change.entry) for change in changes])


# ------------------------------------------------------------------------------------------------ secrets


def _seal(connection: Connection, changes: Sequence[Seal], ring: Ring) -> None:
    if connection.dialect.name == "postgresql":
        # Wait for a resealing that is under way before asking which key is the first one now.
        connection.execute(text("LOCK TABLE sealed IN ROW EXCLUSIVE MODE"))
    keys = ring()
    rows = []
    for change in changes:
        key_id, box = keys.seal(change.name, change.value)
        owner = owner_of(change.name)
        rows.append({"name": change.name, "owner": owner, "key_id": key_id, "box": box, "at": change.at, "void": False})
    connection.execute(PUT_SEALED, rows)


def _void(connection: Connection, changes: Sequence[Void], _: Ring) -> None:
    connection.execute(VOID, [{"row": change.name} for change in changes])


def _unseal(connection: Connection, changes: Sequence[Unseal], _: Ring) -> None:
    connection.execute(UNSEAL, [{"row": change.name} for change in changes])


def reseal(connection: Connection, keys: Keyring) -> int:
    """Seal anew, under the first key, every row that is sealed under another one, void ones too: keys may be dropped afterwards.
    Returns how many there were. Raises SealingError when a row does not open."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE sealed IN EXCLUSIVE MODE"))
    columns = (sealed.c.name, sealed.c.key_id, sealed.c.box)
    old = connection.execute(select(*columns).where(sealed.c.key_id != keys.primary.id)).all()
    rows = []
    for row in old:
        key_id, box = keys.seal(row.name, keys.open(row.name, row.key_id, row.box))
        rows.append({"row": row.name, "new_key_id": key_id, "new_box": box})
    if rows:
        connection.execute(RESEAL, rows)
    return len(rows)


# ------------------------------------------------------------------------------------------------ the fleet


def _put_source(connection: Connection, changes: Sequence[PutSource], _: Ring) -> None:
    state = changes[-1].state
    row = {**values(source, state), "id": ONE_ROW, "errors": list(state.errors), "held": list(state.held)}
    connection.execute(PUT_SOURCE, [row])


def _put_revisions(connection: Connection, changes: Sequence[PutRevision], _: Ring) -> None:
    lists = ("errors", "changed")
    rows = [
        {**values(revisions, change.record), **{name: list(getattr(change.record, name)) for name in lists}}
        for change in changes
    ]
    connection.execute(PUT_REVISION, rows)
    connection.execute(FORGET_OLD_REVISIONS)


def _put_fleet(connection: Connection, changes: Sequence[PutFleet], _: Ring) -> None:
    connection.execute(PUT_FLEET, [{**values(fleet, changes[-1]), "id": ONE_ROW}])


def _put_tokens(connection: Connection, changes: Sequence[PutToken], _: Ring) -> None:
    connection.execute(PUT_TOKEN, [values(tokens, change.record) for change in changes])


def _drop_tokens(connection: Connection, changes: Sequence[DropToken], _: Ring) -> None:
    connection.execute(DROP_TOKEN, [{"row": change.name} for change in changes])


def _note_uses(connection: Connection, changes: Sequence[NoteTokenUse], _: Ring) -> None:
    connection.execute(NOTE_TOKEN_USE, [{"row": each.name, "of": each.hash, "at": each.at} for each in changes])


def _end_sessions(connection: Connection, changes: Sequence[EndSession], _: Ring) -> None:
    connection.execute(END_SESSION, [{"hash": change.hash, "until": change.until} for change in changes])


def _claim_forge(connection: Connection, changes: Sequence[ClaimForge], _: Ring) -> None:
    connection.execute(CLAIM_FORGE, [_owned(changes[0])])


def _name_forge_owner(connection: Connection, changes: Sequence[NameForgeOwner], _: Ring) -> None:
    connection.execute(NAME_FORGE_OWNER, [_owned(changes[-1])])


def _owned(change: ClaimForge | NameForgeOwner) -> Values:
    return {"id": ONE_ROW, "forge_owner": change.owner, "since": change.at}


PLACES: Final[Mapping[type[Any], int]] = {
    kind: place for place, kind in enumerate((PutJournal, PutObject, PutFacts, PutCondition, AddEvent, SetStatus))
}
"""What passes write all the time. Each has a table of its own, SetStatus columns of its own, and asks of others only whether the
tester has a row: so it makes no difference in which order kinds of them are made."""

HANDLERS: Final[Mapping[type[Any], Handler]] = {
    PutTester: _put_testers,
    OnlyWhile: _check_specs,
    SetStatus: _set_statuses,
    DropTester: _drop_testers,
    PutObject: _put_objects,
    PutFacts: _put_facts,
    FreshenFacts: _freshen_facts,
    DropFacts: _drop_facts,
    PutRest: _put_rests,
    PutCondition: _put_conditions,
    DropCondition: _drop_conditions,
    AddEvent: _add_events,
    AddRun: _add_runs,
    PutJournal: _put_journal,
    Seal: _seal,
    Void: _void,
    Unseal: _unseal,
    PutSource: _put_source,
    PutRevision: _put_revisions,
    PutFleet: _put_fleet,
    ClaimForge: _claim_forge,
    NameForgeOwner: _name_forge_owner,
    PutToken: _put_tokens,
    DropToken: _drop_tokens,
    NoteTokenUse: _note_uses,
    EndSession: _end_sessions,
}
