"""Every query that passes and chores put has an index: no table that grows with the fleet is read from end to end.

The statements are those that the store really sends; each is explained by the database that gets them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import ExecutionContext

from controller.fresh import FreshenFacts
from controller.records import (
    AddEvent,
    DropCondition,
    DropFacts,
    DropTester,
    OnlyWhile,
    Phase,
    PutCondition,
    PutFacts,
    PutJournal,
    PutObject,
    PutTester,
    Seal,
    SetStatus,
    Unseal,
    Void,
)
from controller.rests import PutRest
from controller.store import Store, migrations
from controller.store.address import normal
from reconcilers.facts import ObjectState
from reconcilers.secret import Secret
from tests.controller.store.samples import (
    MINUTE,
    NOON,
    a_condition,
    a_tester,
    an_entry,
    an_event,
    an_object,
    machine_facts,
)

SMALL = {"fleet", "fleet_identity", "source", "runs", "revisions", "tokens", "leases", "replicas", "alembic_version"}
"""Tables that have few rows however large the fleet is."""

STATES = frozenset({ObjectState.EXISTING})
FACTS = machine_facts()

USES: dict[str, Callable[[Store], Awaitable[Any]]] = {
    "the books of a tester": lambda store: store.books("alice"),
    "the books of a tester, marked": lambda store: store.books("alice", marked=lambda record: True),
    "what testers rested on": lambda store: store.rests(["alice", "bob"]),
    "one tester": lambda store: store.tester("alice"),
    "who is behind": lambda store: store.behind(),
    "objects of a step": lambda store: store.objects("machine", STATES),
    "what is given away": lambda store: store.given_away("machine", STATES),
    "objects in some state": lambda store: store.objects(states=STATES),
    "one condition of everybody": lambda store: store.conditions_of_type("Ready"),
    "what fails": lambda store: store.failing_conditions(),
    "conditions of the fleet": lambda store: store.conditions(""),
    "events of a tester": lambda store: store.events("alice", before=9),
    "journal of a tester": lambda store: store.journal("alice"),
    "journal of all": lambda store: store.journal(),
    "unfinished": lambda store: store.unfinished(),
    "since when": lambda store: store.begun("machine", ["alice"]),
    "a few for a list": lambda store: store.briefs(("machine",), ["alice", "bob"]),
    "a secret": lambda store: store.sealed("alice/token"),
    "a write of a pass": lambda store: store.write(
        OnlyWhile("alice", 1, leaving=False),
        SetStatus("alice", Phase.READY, 100, "", 1, None),
        PutObject(an_object()),
        PutFacts("alice", FACTS, "", NOON),
        FreshenFacts("alice", FACTS, FACTS, "", NOON),
        DropFacts("alice", "machine"),
        PutRest("alice", b"", ""),
        PutCondition(a_condition()),
        DropCondition("alice", "Ready"),
        AddEvent(an_event("once")),
        AddEvent(an_event("once")),
        PutJournal(an_entry()),
        Seal("alice/token", Secret("x"), NOON),
        Void("alice/token"),
        Unseal("alice/token"),
    ),
    "a removal": lambda store: store.write(DropTester("alice")),
}


@contextmanager
def watched() -> Iterator[list[tuple[str, Any]]]:
    """Statements as drivers get them."""
    sent: list[tuple[str, Any]] = []

    def note(
        connection: Connection, cursor: Any, statement: str, parameters: Any, context: ExecutionContext, many: bool
    ) -> None:
        sent.append((statement, parameters[0] if many else parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("use", USES)
async def test_it_reads_no_large_table_from_end_to_end(store: Store, any_database_url: str, use: str) -> None:
    await store.write(
        PutTester(a_tester()), PutObject(an_object()), AddEvent(an_event("before")), PutRest("alice", b"", "")
    )
    with watched() as sent:
        await USES[use](store)
    asked = [(statement, told) for statement, told in sent if _is_query(statement)]
    assert asked
    plans = explained(any_database_url, asked)
    assert not [plan for plan in plans if scanned(plan) - SMALL], plans


async def test_a_query_without_an_index_is_told(store: Store, any_database_url: str) -> None:
    with watched() as sent:
        await store.events_of_step("gateway", 1)
    assert any(scanned(plan) - SMALL for plan in explained(any_database_url, sent)) or "postgres" in any_database_url


async def test_pruning_reads_its_tables_by_their_ages(store: Store, any_database_url: str) -> None:
    """But the objects: of those that are gone, the newest of each step are counted."""
    with watched() as sent:
        await store.prune(NOON - timedelta(days=90) + MINUTE)
    asked = [(statement, told) for statement, told in sent if _is_query(statement)]
    assert (
        not set().union(*map(scanned, explained(any_database_url, asked)))
        - SMALL
        - {"conditions", "testers", "objects", "anon_1"}
    )


def _is_query(statement: str) -> bool:
    return statement.split(None, 1)[0].upper() in ("SELECT", "UPDATE", "DELETE", "INSERT")


def explained(url: str, sent: list[tuple[str, Any]]) -> list[str]:
    """The plans of statements, as texts. On PostgreSQL as if tables were large: nobody scans one who has another way."""
    plans = []
    with migrations.migrating_engine(normal(url)).connect() as connection:
        on_sqlite = connection.dialect.name == "sqlite"
        with closing(connection.connection.cursor()) as cursor:
            if not on_sqlite:
                cursor.execute("SET enable_seqscan = off")
            for statement, told in sent:
                cursor.execute(("EXPLAIN QUERY PLAN " if on_sqlite else "EXPLAIN ") + statement, told)
                rows = cursor.fetchall()
                plans.append("\n".join(str(row[3] if on_sqlite else row[0]) for row in rows))
    return plans


def scanned(plan: str) -> set[str]:
    """Tables that a plan reads whole, without any index."""
    found = set(re.findall(r"^SCAN (\w+)(?! USING)\s*$", plan, re.MULTILINE))
    return {each for each in found if each != "CONSTANT"} | set(re.findall(r"Seq Scan on (\w+)", plan))
