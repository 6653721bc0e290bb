"""Words between replicas, by PostgreSQL's LISTEN and NOTIFY: quick, and lost when nobody listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import psycopg
from sqlalchemy import URL

from controller.store.errors import StoreError
from controller.store.postgres import raw_arguments

CHANNEL: Final = "tester_controller"
LONGEST: Final = 7_900
"""Bytes of one word: the server takes less than 8,000."""

_TELL: Final = f"SELECT pg_notify('{CHANNEL}', word) FROM unnest(%s::text[]) AS word"  # noqa: S608 - a name of ours


class Line:
    """One end of the line. Raises StoreError when it is cut."""

    def __init__(self, hearing: psycopg.AsyncConnection[Any], telling: psycopg.AsyncConnection[Any]) -> None:
        self._hearing = hearing
        self._telling = telling

    async def words(self) -> AsyncIterator[str]:
        """What the others say, and what we say ourselves, as it comes; ends never but by StoreError."""
        try:
            async for word in self._hearing.notifies():
                yield word.payload
        except psycopg.Error as error:
            raise StoreError("the line to the other replicas is cut") from error
        raise StoreError("the line to the other replicas has ended")

    async def tell(self, words: Sequence[str]) -> None:
        """All of them or none."""
        try:
            await self._telling.execute(_TELL, [list(words)])
        except psycopg.Error as error:
            raise StoreError("the line to the other replicas is cut") from error


@asynccontextmanager
async def open_line(url: URL, name: str) -> AsyncIterator[Line]:
    """Listening when this is entered. Raises StoreError."""
    given = {**raw_arguments(url), "application_name": name}
    opened: list[psycopg.AsyncConnection[Any]] = []
    try:
        try:
            opened.append(await psycopg.AsyncConnection.connect(**given, autocommit=True))
            opened.append(await psycopg.AsyncConnection.connect(**given, autocommit=True))
            await opened[0].execute(f"LISTEN {CHANNEL}")
        except psycopg.Error as error:
            raise StoreError("there is no line to the other replicas") from error
        yield Line(*opened)
    finally:
        for connection in opened:
            with suppress(psycopg.Error):
                await connection.close()
