"""The tables and their history agree, a database is brought up once, and one of the future is left alone."""

from __future__ import annotations

import multiprocessing

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, inspect, text

from controller.records import AddEvent, PutTester
from controller.store import Keyring, Store, StoreError, migrations, sqlite
from controller.store.address import normal
from controller.store.tables import metadata
from reconcilers.clock import Clock
from tests.controller.store.samples import a_tester, an_event


@pytest.fixture
def address(empty_database_url: str) -> URL:
    return normal(empty_database_url)


def tables_in(address: URL) -> set[str]:
    engine = migrations.migrating_engine(address)
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def test_the_history_ends_at_the_tables_of_today(address: URL) -> None:
    migrations.upgrade(address)
    with migrations.migrating_engine(address).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        for table in metadata.sorted_tables:
            assert found.get_pk_constraint(table.name)["constrained_columns"] == [c.name for c in table.primary_key]
            named = {index["name"] for index in found.get_indexes(table.name)}
            assert named == {index.name for index in table.indexes}
            checks = {check["name"] for check in found.get_check_constraints(table.name)}
            assert checks == (
                {f"ck_{table.name}_one_row"} if table.name in {"source", "fleet", "fleet_identity"} else set()
            )


def test_the_files_names_tell_the_whole_history_in_order() -> None:
    walked = ScriptDirectory.from_config(migrations.config()).walk_revisions()
    assert migrations.revisions() == tuple(script.revision for script in walked)


def test_upgrading_twice_changes_nothing(address: URL) -> None:
    migrations.upgrade(address)
    before = tables_in(address)
    migrations.upgrade(address)
    assert tables_in(address) == before == {*metadata.tables, "alembic_version"}


def test_the_history_can_be_walked_back(address: URL) -> None:
    migrations.upgrade(address)
    settings = migrations.config()
    with migrations.migrating_engine(address).begin() as connection:
        settings.attributes["connection"] = connection
        command.downgrade(settings, "base")
    assert tables_in(address) == {"alembic_version"}
    migrations.upgrade(address)
    assert set(metadata.tables) <= tables_in(address)


async def test_a_database_of_the_future_is_left_alone(address: URL, empty_database_url: str, clock: Clock) -> None:
    migrations.upgrade(address)
    with migrations.migrating_engine(address).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer version of this program") as refused:
        await Store.open(empty_database_url, Keyring.generate(), clock)
    assert "9999" in str(refused.value)
    with migrations.migrating_engine(address).connect() as connection:
        assert migrations.revision_of(connection) == "9999"


def test_a_migration_that_fails_leaves_nothing(address: URL, monkeypatch: pytest.MonkeyPatch) -> None:
    if address.get_backend_name() == "sqlite":
        sqlite.prepare(address)
    engine = migrations.migrating_engine(address)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE sealed (something_else INTEGER)"))  # in the way of a late statement
    with pytest.raises(StoreError):
        migrations.upgrade(address)
    assert tables_in(address) == {"sealed"}


async def test_opening_needs_no_write_once_the_tables_are_there(empty_database_url: str, clock: Clock) -> None:
    """A second opener does not wait for a write that is under way."""
    keys = Keyring.generate()
    store = await Store.open(empty_database_url, keys, clock)

    async def open_another(moment: str, _: object) -> None:
        if moment == "before commit":
            other = await Store.open(empty_database_url, keys, clock)
            assert await other.testers() == ()
            await other.aclose()

    store.hooks.append(open_another)
    await store.write(PutTester(a_tester()), AddEvent(an_event()))
    assert len(await store.testers()) == 1
    await store.aclose()


def test_several_processes_may_bring_up_one_database(empty_database_url: str) -> None:
    forked = multiprocessing.get_context("fork")  # they need not import everything first, and so meet
    address = normal(empty_database_url)
    running = [forked.Process(target=migrations.upgrade, args=(address,)) for _ in range(2)]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=60)
    assert [process.exitcode for process in running] == [0, 0]
    assert set(metadata.tables) <= tables_in(address)
