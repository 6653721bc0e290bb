"""HTTP connections that are not waited for without end: whoever takes too long over a request's head, or over a body that
nobody reads, is hung up on. Without this a few hundred idle connections would keep everybody else out."""

from __future__ import annotations

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_LIMIT: Final = 10.0
"""Seconds for the whole head of a request, the first or a later one on its connection."""

MOST_CONNECTIONS: Final = 1000
"""At once. More are told to come again (503)."""


class PatientProtocol(H11Protocol):
    """Speaks HTTP/1.1, with a limit on how long a head may take."""

    _hanging_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_a_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_between_requests() and self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._wait_for_a_head()  # a part of it has come, or of a body that was answered already: the limit is the same
        else:
            self._head_is_here()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_a_head(self) -> None:
        if self._hanging_up is None:
            self._hanging_up = self.loop.call_later(HEAD_LIMIT, self._hang_up)

    def _head_is_here(self) -> None:
        if self._hanging_up is not None:
            self._hanging_up.cancel()
            self._hanging_up = None

    def _hang_up(self) -> None:
        self._hanging_up = None
        if self._is_between_requests() and not self.transport.is_closing():
            self.transport.abort()
