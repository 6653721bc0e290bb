"""Several testers at once, with as much of each as lists show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Row, Select, select

from controller.records import Condition, Phase, TesterRecord
from controller.store.rows import facts_of, records, tester_record
from controller.store.tables import conditions, facts, testers
from reconcilers.facts import StepFacts

_PAUSES = '"paused":{'  # in the text of a desired state; a quote within one of its strings is escaped
MOST_NAMED = 200
"""More names than these are not asked for by name: reading all is cheaper then."""


@dataclass(frozen=True, slots=True)
class Brief:
    """One tester: its row, its conditions by type, and the facts of some steps."""

    record: TesterRecord
    conditions: Mapping[str, Condition]
    facts: Mapping[str, StepFacts]


@dataclass(frozen=True, slots=True)
class Head:
    """As much of a tester as tells whether its file says something new."""

    digest: str
    source_file: str
    source_line: int
    source_error: str
    leaving: bool


@dataclass(frozen=True, slots=True)
class Outline:
    """As much of a tester as tells how it stands, whatever is wanted of it: of its row, and some conditions by type.

    pauses  its spec tells of a pause, which may be over
    """

    name: str
    generation: int
    observed_generation: int
    phase: Phase
    added_at: datetime
    ready_at: datetime | None
    leaving: bool
    pauses: bool
    conditions: Mapping[str, Condition]


def briefs(connection: Connection, steps: tuple[str, ...], names: Collection[str] | None) -> dict[str, Brief]:
    """By tester, as of one moment; None: of all."""
    wanted = _asked_for(names)
    rows = connection.execute(_of(select(testers), testers.c.name, wanted)).all()
    told = _conditions(connection, select(conditions), wanted)
    known = _facts(connection, steps, wanted)
    return {
        row.name: Brief(tester_record(row), told.get(row.name, {}), known.get(row.name, {}))
        for row in rows
        if names is None or row.name in names
    }


def outlines(connection: Connection, kinds: tuple[str, ...], names: Collection[str] | None) -> dict[str, Outline]:
    """By tester, in the order of their names, as of one moment; None: of all. `kinds`: of conditions."""
    wanted = _asked_for(names)
    row = testers.c
    standing = (row.name, row.generation, row.observed_generation, row.phase, row.added_at, row.ready_at)
    states = (row.removed_at.is_not(None).label("leaving"), row.desired.contains(_PAUSES).label("pauses"))
    rows = connection.execute(_of(select(*standing, *states), row.name, wanted)).all()
    told = _conditions(connection, select(conditions).where(conditions.c.type.in_(kinds)), wanted)
    return {
        each.name: Outline(**each._mapping, conditions=told.get(each.name, {}))
        for each in sorted(rows, key=lambda each: each.name)
        if names is None or each.name in names
    }


def _asked_for(names: Collection[str] | None) -> list[str] | None:
    return None if names is None or len(names) > MOST_NAMED else sorted(names)


def _conditions(
    connection: Connection, asked: Select[Any], wanted: list[str] | None
) -> dict[str, dict[str, Condition]]:
    told: dict[str, dict[str, Condition]] = {}
    for one in records(Condition, connection.execute(_of(asked, conditions.c.tester, wanted)).all()):
        told.setdefault(one.tester, {})[one.type] = one
    return told


def _facts(connection: Connection, steps: tuple[str, ...], wanted: list[str] | None) -> dict[str, dict[str, StepFacts]]:
    columns = (facts.c.tester, facts.c.step, facts.c.machine, facts.c.body, facts.c.at)
    asked = _of(select(*columns).where(facts.c.step.in_(steps)), facts.c.tester, wanted)
    rows: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(asked):
        rows.setdefault(row.tester, []).append(row)
    return {
        tester: {step: kept for step, (kept, _) in facts_of(tester, found).items()} for tester, found in rows.items()
    }


def _of(asked: Select[Any], column: Column[str], wanted: list[str] | None) -> Select[Any]:
    return asked if wanted is None else asked.where(column.in_(wanted))
