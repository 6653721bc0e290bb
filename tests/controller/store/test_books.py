"""What the store says of one tester: its facts, those of its present machine only, and rows of another program's shape."""

from __future__ import annotations

import gc
import sqlite3
import weakref
from pathlib import Path

import pytest
from sqlalchemy import make_url, text

from controller.records import PutFacts, PutObject, PutTester, Seal
from controller.store import Keyring, KeySource, Store, StoreError
from controller.store.address import normal
from controller.store.migrations import migrating_engine
from reconcilers.clock import Clock
from reconcilers.facts import AccountFacts, ComponentsFacts, GatewayFacts, StepFacts, SupervisorFacts
from reconcilers.secret import HIDDEN, Secret
from tests.controller.fakes import until
from tests.controller.store.conftest import OpenStore
from tests.controller.store.samples import MINUTE, NOON, a_tester, an_object, machine_facts

ACCOUNT = AccountFacts(account="Alice", forge_id=7, made_by_us=True)
GATEWAY = GatewayFacts(daemon="gent", gateway_id="3", gateway_name="alicex7k2p9", fqdn="alicex7k2p9.gent.example.org")
COMPONENTS = ComponentsFacts(versions={"hero_books": "v0.3.1"})
SUPERVISOR = SupervisorFacts(version="1.2")


def put(facts: StepFacts, machine: str = "") -> PutFacts:
    return PutFacts("alice", facts, machine, NOON)


async def facts_in(store: Store) -> set[str]:
    books = await store.books("alice")
    assert books is not None
    return set(books.facts)


async def test_there_are_no_books_of_nobody(store: Store) -> None:
    assert await store.books("alice") is None


async def test_facts_come_back_as_they_were_learnt(store: Store) -> None:
    machine = machine_facts()
    await store.write(PutTester(a_tester()), put(ACCOUNT), put(machine), put(GATEWAY), put(COMPONENTS, machine.key))
    books = await store.books("alice")
    assert books is not None
    assert books.facts == {"account": ACCOUNT, "machine": machine, "gateway": GATEWAY, "components": COMPONENTS}
    assert set(books.facts_at.values()) == {NOON}


async def test_facts_of_another_machine_are_left_out(store: Store) -> None:
    old, new = machine_facts("17"), machine_facts("18")
    await store.write(PutTester(a_tester()), put(old), put(GATEWAY), put(COMPONENTS, old.key), put(SUPERVISOR, old.key))
    await store.write(put(new), put(SUPERVISOR, new.key))
    assert await facts_in(store) == {"machine", "gateway", "supervisor"}


async def test_without_a_machine_nothing_is_known_about_what_is_on_it(store: Store) -> None:
    await store.write(PutTester(a_tester()), put(COMPONENTS, "gent/17"), put(SUPERVISOR, ""), put(ACCOUNT))
    assert await facts_in(store) == {"account"}


async def test_newer_facts_replace_older_ones(store: Store) -> None:
    again = ACCOUNT.model_copy(update={"account": "alice-b"})
    await store.write(PutTester(a_tester()), put(ACCOUNT))
    await store.write(PutFacts("alice", again, "", NOON + MINUTE))
    books = await store.books("alice")
    assert books is not None
    assert books.facts == {"account": again}
    assert books.facts_at == {"account": NOON + MINUTE}


async def test_what_did_not_change_is_read_once_and_what_it_was_before_is_not_remembered(store: Store) -> None:
    async def read() -> StepFacts:
        books = await store.books("alice")
        assert books is not None
        return books.facts["account"]

    await store.write(PutTester(a_tester()), put(ACCOUNT))
    earlier = weakref.ref(await read())
    assert await read() is earlier()
    await store.write(put(ACCOUNT.model_copy(update={"account": "alice-b"})))
    await read()
    await until(lambda: gc.collect() >= 0 and earlier() is None)  # a month's facts would fill the memory


async def test_the_books_of_one_tester_hold_nothing_of_another(store: Store) -> None:
    names = ("alice", "alice2")
    await store.write(
        *(PutTester(a_tester(name)) for name in names),
        *(PutObject(an_object(of=name)) for name in names),
        *(PutFacts(name, ACCOUNT, "", NOON) for name in names),
        *(Seal(f"{name}/key", Secret(name), NOON) for name in names),
        Seal("alice", Secret("without an owner"), NOON),
    )
    books = await store.books("alice")
    assert books is not None
    assert books.objects == (an_object(of="alice"),)
    assert books.sealed == {"alice/key": Secret("alice")}
    assert HIDDEN in repr(books)


def run_sql(url: str, statement: str) -> None:
    engine = migrating_engine(normal(url))
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


async def test_facts_of_a_step_that_this_program_does_not_know_are_left_alone(
    store: Store, any_database_url: str
) -> None:
    await store.write(PutTester(a_tester()), put(ACCOUNT))
    run_sql(any_database_url, "UPDATE facts SET step = 'telepathy'")
    assert await facts_in(store) == set()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ('UPDATE testers SET desired = \'{"canary": "c4n4ry"}\'', "'alice'"),
        ('UPDATE facts SET body = \'{"account": {"canary": "c4n4ry"}}\'', "'account' of tester 'alice'"),
    ],
)
async def test_rows_of_another_shape_are_named_without_their_values(
    store: Store, any_database_url: str, statement: str, named: str
) -> None:
    await store.write(PutTester(a_tester()), put(ACCOUNT))
    run_sql(any_database_url, statement)
    with pytest.raises(StoreError) as refused:
        await store.books("alice")
    assert named in str(refused.value)
    assert "c4n4ry" not in str(refused.value)


async def test_everything_is_still_there_when_the_store_is_opened_again(open_store: OpenStore) -> None:
    first = await open_store()
    await first.write(PutTester(a_tester()), put(ACCOUNT), PutObject(an_object()), Seal("alice/key", Secret("k"), NOON))
    before = await first.books("alice")
    await first.aclose()
    assert await (await open_store()).books("alice") == before


async def test_a_sqlite_store_is_its_owners_only(sqlite_url: str, clock: Clock) -> None:
    file = Path(str(make_url(sqlite_url).database))
    store = await Store.open(sqlite_url, KeySource({}, file.with_name("sealing.key")), clock)
    await store.write(PutTester(a_tester()))
    modes = {each.name: each.stat().st_mode & 0o777 for each in file.parent.iterdir()}
    await store.aclose()
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert set(modes.values()) == {0o600}
    assert {"controller.db", "controller.db-wal", "sealing.key"} <= set(modes)
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_a_store_in_memory_is_complete_and_gone_afterwards(keyring: Keyring, clock: Clock) -> None:
    store = await Store.open("sqlite://", keyring, clock)
    await store.write(PutTester(a_tester()), put(ACCOUNT), Seal("alice/key", Secret("k"), NOON))
    assert await facts_in(store) == {"account"}
    await store.aclose()
    again = await Store.open("sqlite://", keyring, clock)
    assert await again.testers() == ()
    await again.aclose()


@pytest.mark.parametrize("name", ["a\x00b", "\ud800"])
async def test_what_no_database_can_hold_is_nothing_that_is_there(store: Store, name: str) -> None:
    assert await store.books(name) is None
    assert await store.tester(name) is None
    assert await store.revision(name) is None
    assert await store.sealed(name) is None
    assert await store.conditions(name) == await store.events(name) == await store.journal(name) == ()
    assert await store.events(only={"reason": name, "step": name}) == ()
