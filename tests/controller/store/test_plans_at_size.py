"""On a PostgreSQL that knows how large its tables are, nobody reads rows that it does not want.

`test_plans` asks whether there is an index at all; this one, whether the planner goes by it, and how much is read on the way.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Table

from controller.records import AddEvent, PutCondition, PutFacts, PutJournal, PutObject, PutTester, Seal
from controller.store import Keyring, Store, tables
from reconcilers.facts import ObjectState
from reconcilers.secret import Secret
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import (
    NOON,
    a_condition,
    a_tester,
    an_entry,
    an_event,
    an_object,
    machine_facts,
)
from tests.controller.store.test_plans import SMALL, USES, _is_query, watched

TESTERS = 400
STEPS = ("account", "machine", "gateway", "sign_in_app")
TYPES = ("Ready", "Stalled", "Machine", "Gateway", "Account", "SignInProtected", "Components", "Settings")
EVENTS, ENTRIES = 20, 10  # of each tester
ASIDE = 100
"""So many rows may be read that are not wanted: a tester's own, or those of one page or two."""


@pytest.fixture
async def grown(postgres_url: str, clock: ManualClock) -> AsyncIterator[Store]:
    """A fleet with a history, and a server that has been through it, as autovacuum does."""
    store = await Store.open(postgres_url, Keyring.generate(), clock)
    await store.write(
        PutTester(a_tester("x")),
        *(PutObject(an_object(step, of="x")) for step in STEPS),
        *(PutCondition(a_condition(kind, of="x")) for kind in TYPES),
        PutFacts("x", machine_facts(), "", NOON),
        Seal("x/token", Secret("x"), NOON),
        AddEvent(an_event(of="x")),
        PutJournal(an_entry("x1", of="x", ended_at=NOON)),
    )
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        named = "'t' || n"
        for statement in (
            _many(tables.testers, TESTERS, name=named, observed_generation="generation"),
            *(_many(table, TESTERS, tester=named) for table in (tables.objects, tables.conditions, tables.facts)),
            _many(tables.sealed, TESTERS, name=f"{named} || '/token'", owner=named),
            _many(
                tables.events,
                TESTERS * EVENTS,
                tester=f"'t' || n % {TESTERS}",
                id="1000 + n",
                at="at + n * interval '1 s'",
                last_at="last_at + n * interval '1 s'",
            ),
            _many(
                tables.journal,
                TESTERS * ENTRIES,
                tester=f"'t' || n % {TESTERS}",
                id="'old' || n",
                began_at="began_at + n * interval '1 s'",
                ended_at="ended_at + n * interval '1 s'",
            ),
            "VACUUM ANALYZE",
        ):
            admin.execute(statement)
    await store.write(
        PutTester(a_tester("alice")),
        PutObject(an_object()),
        AddEvent(an_event("before")),
        PutJournal(an_entry()),
        PutObject(an_object("gateway", ObjectState.INTENDED)),
    )
    yield store
    await store.aclose()


def _many(table: Table, count: int, **told: str) -> str:
    """So many rows like those that there are, but for what is told of number `n`."""
    names = [column.name for column in table.columns]
    values = ", ".join(told.get(name, f'"{name}"') for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    return (
        f'INSERT INTO "{table.name}" ({columns}) SELECT {values} FROM "{table.name}", generate_series(1, {count}) AS n'
    )


async def test_no_use_of_a_large_store_reads_what_it_does_not_want(grown: Store, postgres_url: str) -> None:
    """Nor does pruning, of the history that stays."""
    early = NOON + timedelta(minutes=2)
    found = {}
    for name, use in {**USES, "pruning": lambda store: store.prune(early)}.items():
        with watched() as sent, psycopg.connect(postgres_url) as books:
            await use(grown)
            asked = [(statement, told) for statement, told in sent if _is_query(statement)]
            wasted = [each for statement, told in asked for each in _waste(books, statement, told)]
            books.rollback()
        if any(name != "pruning" or table in ("events", "journal") for _, table, _, _ in wasted):
            found[name] = wasted
    assert not found


def _waste(books: psycopg.Connection[Any], statement: str, told: Any) -> list[tuple[str, str, float, float]]:
    """Nodes of its plan that read more of a large table than they want: what, of which table, rows wanted, rows read besides."""
    ((text,),) = books.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", told).fetchall()  # type: ignore[call-overload]
    (plan,) = json.loads(text) if isinstance(text, str) else text
    found = []
    for node in _nodes(plan["Plan"]):
        table, loops = node.get("Relation Name", ""), node["Actual Loops"]
        wanted = node["Actual Rows"] * loops
        besides = (node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)) * loops
        if table not in SMALL and besides > ASIDE + 5 * wanted:
            found.append((node["Node Type"], table, wanted, besides))
    return found


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for each in node.get("Plans", ()):
        yield from _nodes(each)
