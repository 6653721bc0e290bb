"""Records to rows and back. Columns carry the names of the records' fields, so most of it is by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from sqlalchemy import Row, Table

from controller.records import RevisionRecord, SourceState, TesterRecord
from controller.store.errors import StoreError
from reconcilers.facts import FACTS, MachineFacts, StepFacts
from specs.desired import DesiredTester

R = TypeVar("R")

REMEMBERED: Final = 256
"""Of how many testers what was last read is kept, parsed. A frozen value, so that everybody may have the same."""

Values = dict[str, Any]


def values(table: Table, record: object) -> Values:
    """The row of a record: one value per column that the record has a field for."""
    kind: Any = type(record)
    return {name: getattr(record, name) for name in _shared(table, kind)}


@cache
def _shared(table: Table, kind: Any) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns if column.name in kind.__dataclass_fields__)


def records(kind: type[R], rows: Sequence[Row[Any]]) -> tuple[R, ...]:
    """By name; where columns stand in the order of the fields, by place, which takes half as long."""
    names = rows[0]._fields if rows else ()
    if names == tuple(kind.__dataclass_fields__):  # type: ignore[attr-defined]
        return tuple(kind(*row) for row in rows)
    return tuple(kind(**dict(zip(names, row, strict=True))) for row in rows)


def tester_values(table: Table, tester: TesterRecord) -> Values:
    return {**values(table, tester), "desired": tester.desired.model_dump_json()}


def tester_record(row: Row[Any]) -> TesterRecord:
    """Raises StoreError, naming the tester, when its desired state is not of this program's shape."""
    try:
        desired = _desired(row.desired)
    except ValidationError as error:
        raise StoreError(
            f"The store's row of tester {row.name!r} does not fit this version of the program: its desired state has "
            f"{_places(error)}. Install the version that wrote it, or one with a migration from it."
        ) from None
    return TesterRecord(**{**row._mapping, "desired": desired})


def facts_of(tester: str, rows: Sequence[Row[Any]]) -> dict[str, tuple[StepFacts, Row[Any]]]:
    """By step, with the row. Steps that this program does not know are left out, and so are facts of another machine
    than the one that the tester has now.

    Raises StoreError, naming tester and step, when facts are not of this program's shape.
    """
    known = {row.step: (_facts(tester, row), row) for row in rows if row.step in FACTS}
    machine = known[MachineFacts.step][0] if MachineFacts.step in known else None
    key = machine.key if isinstance(machine, MachineFacts) else None
    return {step: (kept, row) for step, (kept, row) in known.items() if not kept.on_machine or row.machine == key}


def source_state(row: Row[Any]) -> SourceState:
    return SourceState(**{**row._mapping, "errors": tuple(row.errors), "held": tuple(row.held)})


def revision_record(row: Row[Any]) -> RevisionRecord:
    return RevisionRecord(**{**row._mapping, "errors": tuple(row.errors), "changed": tuple(row.changed)})


def owner_of(name: str) -> str:
    """The tester that a sealed name belongs to: `alice` of `alice/one_time_password`, "" of a name without one."""
    return name.partition("/")[0] if "/" in name else ""


# What did not change since it was last read is not read again: every look asks for the same few rows.


@lru_cache(maxsize=REMEMBERED)
def _desired(body: str) -> DesiredTester:
    return DesiredTester.from_books(body)


class _LastRead:
    """The last text of a tester's facts of a step, and what it says. Nobody reads an earlier one again."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: tuple[str, StepFacts] | None = None


@lru_cache(maxsize=8 * REMEMBERED)
def _last_read(tester: str, step: str) -> _LastRead:
    return _LastRead()


def _facts(tester: str, row: Row[Any]) -> StepFacts:
    last = _last_read(tester, row.step)
    known = last.known
    if known is not None and known[0] == row.body:
        return known[1]
    try:
        facts = FACTS[row.step].model_validate_json(row.body)
        last.known = (row.body, facts)
        return facts
    except ValidationError as error:
        raise StoreError(
            f"The store's facts of step {row.step!r} of tester {tester!r} do not fit this version of the program: "
            f"they have {_places(error)}. Install the version that wrote them, or one with a migration from it."
        ) from None


def _places(error: ValidationError) -> str:
    """Where it does not fit; never the values."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    places = [".".join(str(part) for part in each["loc"]) or "its whole" for each in found]
    return "a problem at " + ", ".join(places[:3]) + (" …" if len(places) > 3 else "")
