"""HTTP connections that are not waited for without end: whoever takes too long over a request's head, over a body that
nobody reads, or over taking an answer, is hung up on; and there are only so many. Without this a few hundred idle connections
would keep everybody else out, and take the file descriptors with which the controller reaches machines."""

from __future__ import annotations

import asyncio
import resource
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_LIMIT: Final = 10.0
"""Seconds for the whole head of a request, the first or a later one on its connection."""

TAKING_LIMIT: Final = 60.0
"""Seconds in which who asked must have taken what was sent so far."""

MOST_CONNECTIONS: Final = 1000
"""At once, where the system allows that."""


def most_connections() -> int:
    """At once; never more than half of the files that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft // 2)


class PatientProtocol(H11Protocol):
    """Speaks HTTP/1.1, with a limit on how long a head may take, and an answer to be taken. When there are too many connections,
    the one goes that has been without a request for longest."""

    _hanging_up: asyncio.TimerHandle | None = None
    _giving_up: asyncio.TimerHandle | None = None
    _quiet_since: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that writing pauses for as long as anything is not taken yet
        self._quiet_since = self.loop.time()
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._make_room()
        self._wait_for_a_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_between_requests() and self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            self._wait_for_a_head()  # a part of it has come, or of a body that was answered already: the limit is the same
        else:
            self._head_is_here()

    def on_response_complete(self) -> None:
        self._quiet_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._giving_up is None:
            self._giving_up = self.loop.call_later(TAKING_LIMIT, self.transport.abort)

    def resume_writing(self) -> None:
        self._all_is_taken()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        self._all_is_taken()
        super().connection_lost(exc)

    def _make_room(self) -> None:
        others = [each for each in self.connections if isinstance(each, PatientProtocol)]
        quiet = [each for each in others if each is not self and each._is_between_requests()]
        goes = min(quiet, key=lambda each: each._quiet_since, default=self)
        self.connections.discard(goes)
        goes.transport.abort()

    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait_for_a_head(self) -> None:
        if self._hanging_up is None:
            self._hanging_up = self.loop.call_later(HEAD_LIMIT, self._hang_up)

    def _head_is_here(self) -> None:
        if self._hanging_up is not None:
            self._hanging_up.cancel()
            self._hanging_up = None

    def _all_is_taken(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _hang_up(self) -> None:
        self._hanging_up = None
        if self._is_between_requests() and not self.transport.is_closing():
            self.transport.abort()
