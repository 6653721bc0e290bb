"""The tables and their history agree, a database is brought up once, and one of the future is left alone."""

from __future__ import annotations

import ast
import multiprocessing
import re
from pathlib import Path

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
        connection.execute(text("INSERT INTO schema_floor VALUES ('9998')"))
    with pytest.raises(StoreError, match="newer version of this program") as refused:
        await Store.open(empty_database_url, Keyring.generate(), clock)
    assert "9999" in str(refused.value)
    with migrations.migrating_engine(address).connect() as connection:
        assert migrations.revision_of(connection) == "9999"


async def test_one_that_a_newer_program_has_only_added_to_is_worked_on(
    address: URL, empty_database_url: str, clock: Clock
) -> None:
    """While replicas are upgraded one by one, an old one may be started again."""
    migrations.upgrade(address)
    with migrations.migrating_engine(address).begin() as connection:
        for statement in (
            "UPDATE alembic_version SET version_num = '9999'",
            "ALTER TABLE testers ADD COLUMN mood VARCHAR",
            "ALTER TABLE events ADD COLUMN colour VARCHAR NOT NULL DEFAULT 'grey'",
            "CREATE TABLE moods (name VARCHAR PRIMARY KEY)",
        ):
            connection.execute(text(statement))
    store = await Store.open(empty_database_url, Keyring.generate(), clock)
    await store.write(PutTester(a_tester("alice")), AddEvent(an_event("alice")))
    assert await store.tester("alice") == a_tester("alice")
    assert len(await store.events()) == 1
    await store.aclose()
    with migrations.migrating_engine(address).connect() as connection:
        assert migrations.revision_of(connection) == "9999"


CONTRACTS = {"drop_column", "drop_table", "drop_constraint", "rename_table", "alter_column", "batch_alter_table"}
IN_SQL = re.compile(r"\b(DROP|RENAME|ALTER|DELETE|TRUNCATE)\b", re.IGNORECASE)


def contracting(source: str) -> list[str]:
    """What a revision does, on its way up, that a program of before may stumble over."""
    found = []
    for function in ast.parse(source).body:
        if not isinstance(function, ast.FunctionDef) or function.name == "downgrade":
            continue
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            words = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
            sql = [word for word in words if isinstance(word, str) and name == "execute" and IN_SQL.search(word)]
            strict = name == "add_column" and _is_strict(call)
            if name in CONTRACTS or sql or strict:
                found.append(f"{name}: {ast.unparse(call)[:100]}")
    return found


def _is_strict(added: ast.Call) -> bool:
    """A column that older programs would have to fill."""
    told = {
        word.arg: ast.unparse(word.value)
        for node in ast.walk(added)
        if isinstance(node, ast.Call)
        for word in node.keywords
    }
    return told.get("nullable") == "False" and "server_default" not in told


def test_no_revision_contracts_what_the_last_release_still_uses() -> None:
    folder = Path(migrations.__file__).parent / "versions"
    young = [file for file in sorted(folder.glob("[0-9]*_*.py")) if file.name[:4] > migrations.RELEASED]
    assert young
    assert {file.name: found for file in young if (found := contracting(file.read_text()))} == {}


@pytest.mark.parametrize(
    "statement",
    [
        "op.drop_column('testers', 'uid')",
        "op.add_column('testers', sa.Column('mood', sa.String(), nullable=False))",
        "op.execute('ALTER TABLE testers DROP COLUMN uid')",
        "op.alter_column('testers', 'uid', nullable=True)",
        "op.rename_table('testers', 'people')",
    ],
)
def test_what_contracts_is_noticed(statement: str) -> None:
    assert contracting(f"def upgrade():\n    {statement}\n")
    assert not contracting(f"def downgrade():\n    {statement}\n")
    assert not contracting("def upgrade():\n    op.add_column('testers', sa.Column('mood', sa.String()))\n")


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
