"""The whole books, row by row, from one database to another: from a file to a server, and back."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.exc import SQLAlchemyError

from controller.store import migrations, reading, sqlite
from controller.store.address import normal, place_of
from controller.store.errors import StoreError, readable
from controller.store.tables import events, leases, metadata, replicas, rests, runs, schema_floor

AT_ONCE: Final = 500
"""Rows in one statement."""
_NOT_COPIED: Final = {leases.name, replicas.name, rests.name, schema_floor.name}
"""What is about a database itself."""


def copy(source: str, target: str) -> int:
    """Copy everything into a database that holds nothing yet; all of it or nothing. Returns the number of rows. Nobody may work
    on the source meanwhile. Raises StoreError."""
    came, goes = normal(source), normal(target)
    for address in (came, goes):
        migrations.upgrade(address)
    from_there, to_there = migrations.migrating_engine(came), migrations.migrating_engine(goes)
    place = place_of(came)
    try:
        with from_there.connect() as reader:
            place = place_of(goes)
            with to_there.execution_options(**sqlite.FOR_WRITING).begin() as writer:
                if not reading.is_empty(writer):
                    raise StoreError(f"The store {place} holds something already: copy into an empty one.")
                return _copy(reader, writer)
    except SQLAlchemyError as error:
        raise readable(place, error) from error
    finally:
        from_there.dispose()
        to_there.dispose()


def _copy(reader: Connection, writer: Connection) -> int:
    copied = 0
    for table in metadata.sorted_tables:
        if table.name in _NOT_COPIED:
            continue
        for some in reader.execute(select(table)).mappings().partitions(AT_ONCE):
            writer.execute(insert(table), [dict(row) for row in some])
            copied += len(some)
    if writer.dialect.name == "postgresql":
        for counted in (events, runs):  # ids go on after the last one
            last = writer.scalar(select(func.max(counted.c.id)))
            if last is not None:
                writer.execute(text(f"SELECT setval(pg_get_serial_sequence('{counted.name}', 'id'), {last})"))
    return copied
