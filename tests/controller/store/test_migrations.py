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
    with migrations.migrating_engine(address).begin() as connection:  # fields that only the newer program has
        connection.execute(text("""UPDATE testers SET desired = '{"mood": "glad", ' || substr(desired, 2)"""))
    assert await store.tester("alice") == a_tester("alice")
    await store.aclose()
    with migrations.migrating_engine(address).connect() as connection:
        assert migrations.revision_of(connection) == "9999"


CONTRACTS = {
    "drop_column",
    "drop_table",
    "drop_constraint",
    "drop_index",
    "rename_table",
    "alter_column",
    "batch_alter_table",
    "create_unique_constraint",
    "create_check_constraint",
    "create_foreign_key",
    "create_primary_key",
    "create_exclude_constraint",
}
IN_SQL = re.compile(r"\b(DROP|RENAME|ALTER|DELETE|TRUNCATE|UPDATE|TRIGGER|UNIQUE)\b", re.IGNORECASE)


def contracting(source: str) -> list[str]:
    """What a revision does, on its way up, that a program of before may stumble over."""
    body = [part for part in ast.parse(source).body if getattr(part, "name", "") != "downgrade"]
    calls = [node for part in body for node in ast.walk(part) if isinstance(node, ast.Call)]
    new = {ast.unparse(call.args[0]) for call in calls if _name(call) == "create_table"}
    found = [f"{_name(call)}: {ast.unparse(call)[:100]}" for call in calls if _contracts(call, new)]
    nodes = [node for part in body for node in ast.walk(part)]
    remarks = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    words = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in remarks]
    return found + [f"SQL: {word[:100]}" for word in words if isinstance(word, str) and IN_SQL.search(word)]


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _contracts(call: ast.Call, new: set[str]) -> bool:
    match _name(call):
        case "add_column":  # one that older programs would have to fill, or that refuses what they write
            told = _told(call)
            strict = told.get("nullable") == "False" and "server_default" not in told
            return strict or told.get("unique") == "True"
        case "create_index":
            return _told(call).get("unique") == "True" and ast.unparse(call.args[1]) not in new
        case "create_table":  # what refers to rows that older programs delete
            keys = [part for part in _calls_in(call) if _name(part) in ("ForeignKey", "ForeignKeyConstraint")]
            return any("ondelete" not in _told(key) for key in keys)
        case name:
            return name in CONTRACTS


def _calls_in(call: ast.Call) -> list[ast.Call]:
    return [node for node in ast.walk(call) if isinstance(node, ast.Call)]


def _told(call: ast.Call) -> dict[str | None, str]:
    """What is given by name, also to what is given."""
    return {word.arg: ast.unparse(word.value) for each in _calls_in(call) for word in each.keywords}


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
        "op.drop_index('ix_testers_phase')",
        "op.create_index('one_each', 'testers', ['uid'], unique=True)",
        "op.create_unique_constraint('one_each', 'testers', ['uid'])",
        "op.add_column('testers', sa.Column('mood', sa.String(), unique=True))",
        "op.create_table('moods', sa.Column('of', sa.String(), sa.ForeignKey('testers.name')))",
        "op.execute(sa.text('UPDATE testers SET phase = 1'))",
        "op.execute(f'CREATE TRIGGER {1} BEFORE INSERT ON testers')",
    ],
)
def test_what_contracts_is_noticed(statement: str) -> None:
    assert contracting(f"def upgrade():\n    {statement}\n")
    assert not contracting(f"def downgrade():\n    {statement}\n")
    in_a_name = "WORDS = 'ALTER TABLE testers DROP COLUMN uid'\ndef upgrade():\n    op.execute(WORDS)\n"
    assert contracting(in_a_name)


@pytest.mark.parametrize(
    "statement",
    [
        "op.add_column('testers', sa.Column('mood', sa.String()))",
        "op.add_column('testers', sa.Column('mood', sa.String(), nullable=False, server_default='calm'))",
        "op.create_index('ix_testers_mood', 'testers', ['mood'])",
        "op.create_table('moods', sa.Column('n', sa.Integer()))\n    op.create_index('one', 'moods', ['n'], unique=True)",
        "op.create_table('m', sa.Column('of', sa.String(), sa.ForeignKey('testers.name', ondelete='CASCADE')))",
    ],
)
def test_what_only_expands_passes(statement: str) -> None:
    assert contracting(f'"""Drops nothing."""\ndef upgrade():\n    {statement}\n') == []


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
