"""Where a store is: database URLs, and what people are told of them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from controller.store.errors import StoreError

_DRIVERS: Final = {
    "sqlite": "sqlite",
    "sqlite+aiosqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}


def normal(url: str) -> URL:
    """The URL with the driver that we use. Raises StoreError, without a password, when it is of another kind."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StoreError(
            "The store's address is not a database URL; write sqlite:///path or postgresql://user@host/name."
        ) from None
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise StoreError(
            f"A store of the kind {parsed.drivername!r} is not known; write sqlite:///path or postgresql://user@host/name."
        )
    return parsed.set(drivername=driver)


def is_postgres(url: URL) -> bool:
    return url.get_backend_name() == "postgresql"


def is_in_memory(url: URL) -> bool:
    return not is_postgres(url) and url.database in (None, "", ":memory:")


def place_of(url: URL) -> str:
    """The name of a store for people, without a password."""
    if is_postgres(url):
        return url.render_as_string(hide_password=True)
    return "in memory" if is_in_memory(url) else str(url.database)
