"""What people read when the store cannot be used: one paragraph, with a way out, without a password or a value."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, make_url

from controller.records import AddEvent, PutTester
from controller.store import Keyring, Store, StoreError, sqlite
from reconcilers.clock import Clock
from tests.controller.store.conftest import OpenStore
from tests.controller.store.samples import a_tester, an_event


@contextmanager
def refused(*said: str) -> Iterator[None]:
    with pytest.raises(StoreError) as raised:
        yield
    for each in said:
        assert each in str(raised.value)
    assert "hunter2" not in f"{raised.value} {raised.value.__cause__}"
    assert "Traceback" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("url", ["mysql://me:hunter2@host/db", "not a url hunter2", "", "sqlite+other:///x"])
async def test_another_kind_of_address_is_refused(url: str, keyring: Keyring, clock: Clock) -> None:
    with refused("sqlite:///path"):
        await Store.open(url, keyring, clock)


async def test_a_server_that_nobody_runs(keyring: Keyring, clock: Clock) -> None:
    with refused("does not answer", "127.0.0.1"):
        await Store.open("postgresql://me:hunter2@127.0.0.1:1/db", keyring, clock)


async def test_a_database_that_is_not_there(postgres_server: str, keyring: Keyring, clock: Clock) -> None:
    url = make_url(postgres_server).set(database="nowhere", password="hunter2").render_as_string(hide_password=False)
    with refused("nowhere"):
        await Store.open(url, keyring, clock)


async def test_a_folder_that_cannot_be_made(tmp_path: Path, keyring: Keyring, clock: Clock) -> None:
    (tmp_path / "file").touch()
    with refused("cannot be made"):
        await Store.open(f"sqlite:///{tmp_path}/file/controller.db", keyring, clock)


async def test_a_file_that_is_no_database(tmp_path: Path, keyring: Keyring, clock: Clock) -> None:
    (tmp_path / "controller.db").write_bytes(b"a letter to a friend " * 400)
    with refused("not a database"):
        await Store.open(f"sqlite:///{tmp_path}/controller.db", keyring, clock)


async def test_a_store_that_another_process_holds(
    sqlite_url: str, keyring: Keyring, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 1)
    store = await Store.open(sqlite_url, keyring, clock)
    with sqlite3.connect(str(make_url(sqlite_url).database), isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with refused("held by another process"):
            await store.write(AddEvent(an_event()))
        assert await store.events() == ()
        other.execute("COMMIT")
    await store.write(AddEvent(an_event()))
    assert len(await store.events()) == 1
    await store.aclose()


async def test_a_full_disk_says_so_and_nothing_is_changed(sqlite_url: str, keyring: Keyring, clock: Clock) -> None:
    store = await Store.open(sqlite_url, keyring, clock)
    await store._database.write(_no_more_pages, None)
    with refused("disk is full", "make room"):
        await store.write(PutTester(a_tester()), *(AddEvent(an_event(f"{n}" * 3000)) for n in range(50)))
    assert await store.testers() == ()
    await store.aclose()


def _no_more_pages(connection: Connection) -> None:
    pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


async def test_a_closed_store_says_so(open_store: OpenStore) -> None:
    store = await open_store()
    await store.aclose()
    with refused("is closed"):
        await store.testers()
    with refused("is closed"):
        await store.write(AddEvent(an_event()))


async def test_a_server_that_restarts_is_found_again(
    postgres_url: str, postgres_server: str, keyring: Keyring, clock: Clock
) -> None:
    """The server has taken all connections away; the next use gets a new one."""
    store = await Store.open(postgres_url, keyring, clock)
    await store.write(AddEvent(an_event()))
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE application_name = 'tester-controller'"
        )
    await store.write(AddEvent(an_event("again")))
    assert len(await store.events()) == 2
    await store.aclose()
