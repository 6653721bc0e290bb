"""What a store is opened with: the database of its address, and keys that fit what is sealed in it."""

from __future__ import annotations

from sqlalchemy import URL

from controller.store import reading
from controller.store.address import is_in_memory, is_postgres
from controller.store.database import Database
from controller.store.errors import SealingError
from controller.store.sealing import Keyring, KeySource
from controller.store.sqlite import MemoryDatabase, SqliteDatabase


def database_of(url: URL) -> Database:
    if is_postgres(url):
        # Only who has a server pays for its driver: it is slow to import.
        from controller.store.postgres import PostgresDatabase

        return PostgresDatabase(url)
    return MemoryDatabase(url) if is_in_memory(url) else SqliteDatabase(url)


async def fitting_keys(database: Database, place: str, keys: Keyring | KeySource) -> Keyring:
    """The keys of a store. Raises SealingError when secrets are sealed with others: better now than at the first use."""
    empty, needed = await database.read(lambda connection: (reading.is_empty(connection), reading.key_ids(connection)))
    keyring = keys if isinstance(keys, Keyring) else keys.open(store_is_empty=empty)
    missing = needed - keyring.ids
    if missing:
        raise SealingError(
            f"The store {place} holds secrets that were sealed with another key: {', '.join(sorted(missing))} is "
            f"needed, {', '.join(sorted(keyring.ids))} is given. Put the old key back, behind the new one if there is one."
        )
    return keyring
