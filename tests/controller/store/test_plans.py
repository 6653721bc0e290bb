"""Every query that passes and chores put has an index: no table that grows with the fleet is read from end to end, but where that
is meant.

The statements are those that the store really sends; each is explained by the database that gets them.
"""

from __future__ import annotations

import inspect
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

Use = Callable[[Store], Awaitable[Any]]

USES: dict[str, Use] = {
    "the books of a tester": lambda store: store.books("alice"),
    "the books of a tester, marked": lambda store: store.books("alice", marked=lambda record: True),
    "what testers rested on": lambda store: store.rests(["alice", "bob"]),
    "one tester": lambda store: store.tester("alice"),
    "a few testers": lambda store: store.testers(["alice", "bob"]),
    "how a few stand": lambda store: store.outlines(("Ready", "SignInProtected"), ["alice", "bob"]),
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
    "who has signed out": lambda store: store.has_ended("ab"),
    "a secret": lambda store: store.sealed("alice/token"),
    "what is in force": lambda store: store.in_force("r1", ["alice"]),
    "the source": lambda store: store.source(),
    "the fleet": lambda store: store.fleet(),
    "whose it is at Forge": lambda store: store.forge_owner(),
    "revisions": lambda store: store.revisions(),
    "a revision": lambda store: store.revision("r1"),
    "how long it took": lambda store: store.runs(),
    "tokens": lambda store: store.tokens(),
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

WHOLE: dict[str, tuple[Use, str]] = {
    "names": (lambda store: store.names(), "each minute, for the folder and as a net: names alone, of their own index"),
    "heads": (
        lambda store: store.heads(),
        "a reading of the source that says something new, and each ten minutes the same one: who is in the books and in no file",
    ),
    "testers": (
        lambda store: store.testers(),
        "what became of a revision from git, after something was written; a plan of all",
    ),
    "lists": (
        lambda store: store.briefs(("machine",)),
        "the first list, and after words were missed: then those who changed",
    ),
    "how all stand": (lambda store: store.outlines(("Ready",)), "notices, likewise"),
    "what was told": (lambda store: store.events(only={"step": "notices"}), "notices, at the start"),
    "roster": (lambda store: store.roster(), "a replica that takes shards: names alone"),
    "bearers": (
        lambda store: store.bearers(),
        "a listing that differs from the last one, or after something was written",
    ),
    "names of objects": (lambda store: store.names_of_objects(), "the same"),
    "facts of a step": (lambda store: store.facts_of_all(("engine_access",)), "a Fleet that leaves out an engine"),
    "newest events": (lambda store: store.events(limit=1), "backwards by their ids, and no further than the page"),
    "names of secrets": (lambda store: store.sealed_names(), "when somebody asks for them"),
}
"""What reads a table, or an index, from end to end by intent: when, and why that will do."""

NO_READINGS = {"open", "aclose", "abandon", "write", "prune", "reseal", "drop_old_keys", "keyring"}


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


@pytest.mark.parametrize("any_database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("use", WHOLE)
async def test_what_is_said_to_read_a_table_whole_does(store: Store, any_database_url: str, use: str) -> None:
    with watched() as sent:
        await WHOLE[use][0](store)
    assert any(re.search(r"^SCAN ", plan, re.MULTILINE) for plan in explained(any_database_url, sent))


def test_every_reading_is_held_to_its_plan_or_whole_for_a_reason() -> None:
    public = {name for name, _ in inspect.getmembers(Store) if not name.startswith("_")}
    asked = Asked()
    for use in (*USES.values(), *(use for use, _ in WHOLE.values())):
        use(asked)  # type: ignore[arg-type]
    assert public - NO_READINGS == asked.was_asked - NO_READINGS


class Asked:
    """Stands where a store does, and notes the names of what it is asked."""

    def __init__(self) -> None:
        self.was_asked: set[str] = set()

    def __getattr__(self, name: str) -> Callable[..., None]:
        self.was_asked.add(name)
        return lambda *args, **more: None


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
