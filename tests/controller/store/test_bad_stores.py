"""A start on a store that cannot be used: it is told what is wrong, where, and what mends it, and nothing is changed."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.errors import OperationalError
from sqlalchemy import Engine, Table, event, make_url

from controller.places import Places
from controller.records import AddEvent, PutTester
from controller.running import STORE_RETRY, STORE_TRIES, working_store
from controller.store import Keyring, SealingError, Store, StoreError, file, migrations, open_keyring, sqlite
from controller.store.address import normal
from controller.store.alone import alone
from controller.store.errors import NotNow, said_by
from controller.store.locks import LockSession
from controller.store.tables import metadata
from reconcilers.clock import Clock, SystemClock
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import a_tester, an_event

READ_ONLY = "-c default_transaction_read_only=on"


@pytest.fixture
async def state(tmp_path: Path, keyring: Keyring, clock: Clock) -> Path:
    """A folder with a store of one tester, whose newest event is only in the log, as after kill -9."""
    folder, copied = tmp_path / "working", tmp_path / "state"
    store = await Store.open(f"sqlite:///{folder / 'controller.db'}", keyring, clock)
    await store.write(PutTester(a_tester()))
    await store.prune(clock.now() - timedelta(days=1))  # into the file itself
    await store.write(AddEvent(an_event()))
    shutil.copytree(folder, copied)
    await store.aclose()
    return copied


def content(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and bytes of everything there, but the index of the log, which is made anew whenever one is needed."""
    return {
        one.name: (one.lstat().st_mode, one.read_bytes() if one.is_file() else b"")
        for one in folder.iterdir()
        if not one.name.endswith("-shm")
    }


async def opened(state: Path, keyring: Keyring) -> None:
    url = f"sqlite:///{state / 'controller.db'}"
    sqlite.prepare(normal(url))  # here, since tests lay an empty store where they find none
    store = await Store.open(url, keyring, SystemClock())
    assert await store.names() == ("alice",)
    assert len(await store.events()) == 1
    await store.aclose()


async def test_what_a_killed_process_left_is_opened(state: Path, keyring: Keyring) -> None:
    await opened(state, keyring)


def emptied(db: Path) -> None:
    db.write_bytes(b"")


def gone_but_for_its_log(db: Path) -> None:
    db.unlink()


def a_folder(db: Path) -> None:
    db.unlink()
    db.mkdir(mode=0o755)


def a_folder_for_a_log(db: Path) -> None:
    log = db.with_name(db.name + "-wal")
    log.unlink()
    log.mkdir()


def a_link_to_nowhere(db: Path) -> None:
    db.unlink()
    db.symlink_to("/nowhere/controller.db")


def cut_off(db: Path) -> None:
    db.with_name(db.name + "-wal").unlink()
    os.truncate(db, db.stat().st_size // 2)


@pytest.mark.parametrize(
    ("befall", "said"),
    [
        (emptied, "is empty .0 bytes.* restore a backup"),
        (gone_but_for_its_log, "is gone, but its log controller.db-wal is there.* restore a backup"),
        (a_folder, "controller.db is not a plain file"),
        (a_folder_for_a_log, "controller.db-wal is not a plain file"),
        (a_link_to_nowhere, "is a link to /nowhere/controller.db, which is not there"),
        (cut_off, "damaged; restore it from a backup"),
    ],
)
async def test_a_file_that_holds_no_books_any_more_is_left_as_it_is(
    state: Path, keyring: Keyring, befall: Callable[[Path], None], said: str
) -> None:
    """SQLite itself would make new, empty tables there, throw the log away, or say something that helps nobody."""
    befall(state / "controller.db")
    before = content(state)
    with pytest.raises(StoreError, match=said):
        await opened(state, keyring)
    assert content(state) == before


@contextmanager
def as_who_may_not_write(monkeypatch: pytest.MonkeyPatch, path: Path) -> Iterator[None]:
    """As for a user whom the system does not let write there; tests may run as root, who may everything."""
    with monkeypatch.context() as patch:
        patch.setattr(file.os, "access", lambda asked, how: asked != path)
        yield


@pytest.mark.parametrize("name", ["", "controller.db", "controller.db-wal"])
async def test_what_this_user_may_not_write_to_is_told_with_its_owner(
    state: Path, keyring: Keyring, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store in a file that may only be read would be opened, with a log beside it that nobody may write to, for ever."""
    (state / "controller.db").chmod(0o400)
    before = content(state)
    with as_who_may_not_write(monkeypatch, state / name if name else state):
        for attempt in (opened(state, keyring), held_alone(state)):
            with pytest.raises(StoreError, match=r"may not write to .*: it belongs to \w+ \(mode 0\d+\), .*chown"):
                await attempt
    assert content(state) == before


async def held_alone(state: Path) -> None:
    async with alone(f"sqlite:///{state / 'controller.db'}", SystemClock()):
        raise AssertionError("it may not be held")


async def test_a_file_that_others_may_read_and_only_its_owner_can_close_is_refused(
    state: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    (state / "controller.db").chmod(0o666)
    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(StoreError, match=r"can be read by others, and only its owner can end that.*mode 0666.*chown"):
        await opened(state, keyring)


async def test_a_disk_that_is_mounted_read_only_is_told(
    state: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    with as_who_may_not_write(monkeypatch, state), monkeypatch.context() as patch:
        patch.setattr(file.os, "ST_RDONLY", os.statvfs(state).f_flag or 1)
        if not os.statvfs(state).f_flag:
            pytest.skip("this file system has no flags")
        with pytest.raises(StoreError, match="mounted read-only"):
            await opened(state, keyring)


async def test_a_disk_without_room_for_the_lock_is_told(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match=r"the disk is full.*controller.lock"):
        await held_alone(state)


async def test_who_prepares_a_store_is_not_waited_for_without_end(
    state: Path, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 1)
    folder = os.open(state, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(NotNow, match="opened by another process for too long; see who has"):
        await opened(state, keyring)
    os.close(folder)
    await opened(state, keyring)


@pytest.mark.parametrize("late", [metadata.tables["events"], metadata.sorted_tables[-1]], ids=lambda table: table.name)
async def test_a_migration_that_is_killed_half_way_is_done_by_the_next_start(
    empty_database_url: str, late: Table, clock: Clock
) -> None:
    address = normal(empty_database_url)

    def killed() -> None:
        @event.listens_for(Engine, "after_cursor_execute")
        def end(_c: object, _x: object, statement: str, *_: object) -> None:
            if f"CREATE TABLE {late.name} " in statement:
                os._exit(9)

        migrations.upgrade(address)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == 9
    store = await Store.open(empty_database_url, Keyring.generate(), clock)
    await store.write(PutTester(a_tester()))
    await store.aclose()


# ------------------------------------------------------------------------------------------------ what may pass


class Helpful(ManualClock):
    """Whoever waits for the store with this clock, is helped when it has waited so often. Other waits are let go on."""

    def __init__(self, after: int, helps: Callable[[], None]) -> None:
        super().__init__()
        self.tries = 0
        self._after, self._helps = after, helps

    async def sleep(self, span: timedelta) -> None:
        if span == STORE_RETRY:
            self.tries += 1
            if self.tries == self._after:
                self._helps()
        else:
            await SystemClock().sleep(span)


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    """Another process's transaction, on a store that has no tables yet."""
    monkeypatch.setattr(sqlite, "BUSY_MS", 1)
    sqlite.prepare(normal(Places(tmp_path, tmp_path).url))
    with closing(sqlite3.connect(tmp_path / "controller.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


@pytest.mark.on_a_file
async def test_a_start_waits_for_who_holds_the_store_and_says_so(
    tmp_path: Path, held: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Helpful(after=3, helps=lambda: held.execute("COMMIT"))
    async with working_store(Places(tmp_path, tmp_path), clock) as store:
        assert await store.names() == ()
    assert clock.tries == 3
    assert f"{STORE_TRIES - 1} times more: The store {tmp_path}/controller.db is held by another process" in caplog.text


@pytest.mark.on_a_file
async def test_a_start_does_not_wait_without_end(tmp_path: Path, held: sqlite3.Connection) -> None:
    clock = Helpful(after=0, helps=held.close)
    with pytest.raises(NotNow, match="held by another process"):
        async with working_store(Places(tmp_path, tmp_path), clock):
            raise AssertionError("it is held")
    assert clock.tries == STORE_TRIES - 1


@pytest.mark.on_a_file
async def test_a_start_waits_for_nothing_that_somebody_must_mend(tmp_path: Path) -> None:
    clock = Helpful(after=0, helps=lambda: None)
    (tmp_path / "controller.db").touch()
    with pytest.raises(StoreError, match="0 bytes"):
        async with working_store(Places(tmp_path, tmp_path), clock):
            raise AssertionError("it is empty")
    assert clock.tries == 0


async def test_who_brings_up_the_tables_is_not_waited_for_without_end(
    empty_postgres_url: str, keyring: Keyring, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 1)
    with psycopg.connect(empty_postgres_url) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [migrations._ADVISORY_LOCK])
        with pytest.raises(NotNow, match="held by another process"):
            await Store.open(empty_postgres_url, keyring, clock)
    await (await Store.open(empty_postgres_url, keyring, clock)).aclose()


async def test_a_server_that_may_only_be_read_gets_no_tables(
    empty_postgres_url: str, keyring: Keyring, clock: Clock
) -> None:
    with pytest.raises(StoreError, match=r"may only be read: .*default_transaction_read_only"):
        await Store.open(only_read(empty_postgres_url), keyring, clock)


async def test_a_replica_on_a_server_that_may_only_be_read_holds_nothing_and_says_why(postgres_url: str) -> None:
    with pytest.raises(StoreError, match="may only be read, so nothing is begun"):
        await LockSession.open(normal(only_read(postgres_url)), "reader", timedelta(seconds=5))


def only_read(url: str) -> str:
    return make_url(url).update_query_dict({"options": READ_ONLY}).render_as_string(hide_password=False)


@pytest.mark.parametrize(
    ("said", "meaning", "passes"),
    [
        ('socket "/run/x/.s.PGSQL.5432" failed: No such file or directory', "nobody listens", True),
        ("FATAL:  the database system is starting up", "starts, or is stopped", True),
        ("FATAL:  the database system is shutting down", "starts, or is stopped", True),
        ("FATAL:  sorry, too many clients already", "no connection left", True),
        ('FATAL:  too many connections for role "testers"', "no connection left", True),
        (
            "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
            "no connection",
            True,
        ),
        ("database or disk is full", "make room", True),
        ('FATAL:  password authentication failed for user "testers"', "user name or password is wrong", False),
        ("fe_sendauth: no password supplied", "DATABASE_URL has none", False),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.4"', "lets nobody in from here", False),
        ('FATAL:  database "testers" does not exist', "createdb", False),
        ('FATAL:  role "testers" does not exist', "knows no such user", False),
        ("permission denied for schema public", "must own the database", False),
        ("failed to resolve host 'db': [Errno -2] Name or service not known", "mend the host's name", False),
        ("disk I/O error", "see that it is not full", False),
        ("attempt to write a readonly database", "read-only for this user", False),
    ],
)
def test_what_a_driver_says_is_told_with_what_mends_it(said: str, meaning: str, passes: bool) -> None:
    error = said_by("here", OperationalError(said))
    assert meaning in str(error)
    assert said in str(error)
    assert isinstance(error, NotNow) is passes


# ------------------------------------------------------------------------------------------------ the sealing key


@pytest.mark.parametrize("text", ["", "\n", "not a key", "c2hvcnQ="])
def test_an_unfit_key_is_told_with_its_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sealing.key"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(SealingError, match=f"{path}.* [Pp]ut back the .*from your backup"):
        open_keyring({}, path, store_is_empty=False)
    assert path.read_text() == text
    with pytest.raises(SealingError, match="what is in TESTER_SEALING_KEY is not one"):
        open_keyring({"TESTER_SEALING_KEY": "not a key"}, path, store_is_empty=False)


def test_a_key_that_this_user_may_not_read_is_told_with_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sealing.key"
    path.touch(mode=0o600)

    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(SealingError, match=f"{path} cannot be read: Permission denied. Let it, .*chown"):
        open_keyring({}, path, store_is_empty=False)
