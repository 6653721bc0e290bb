"""What somebody may try below HTTP: bytes that two programs read differently, connections that pile up, answers that nobody
takes, and lines in the log that we never wrote."""

from __future__ import annotations

import asyncio
import io
import logging
import resource
from collections.abc import AsyncIterator

import pytest
from starlette.responses import Response

from api import logs, patience
from api.server import bound, make_app, place, serve
from api.window import Window
from controller.running import Controller
from tests.api.sockets import said

CLEAR = "\x1b[2J"
HOST = b"Host: 127.0.0.1\r\n"
SECOND = b"GET /api/v1/fleet HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture
async def port(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Of windows that answer on loopback, with room for a few, and with something large to take."""
    monkeypatch.setattr(patience, "MOST_CONNECTIONS", 5)
    sock, where = bound(place("127.0.0.1:0"))
    app = make_app(Window(controller))

    async def large() -> Response:
        return Response(b"x" * 30_000_000)

    app.add_api_route("/large", large)
    stop = asyncio.Event()
    serving = asyncio.ensure_future(serve(app, sock, stop))
    try:
        yield where.port
    finally:
        stop.set()
        await serving


CHUNKED = b"Transfer-Encoding: chunked\r\n"


READ_DIFFERENTLY = [
    b"POST /hooks/forge HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n" + CHUNKED,
    b"POST /hooks/forge HTTP/1.1\r\n" + HOST + CHUNKED + b"Content-Length: 5\r\n",
    b"GET /healthz HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n" + CHUNKED,
    b"POST /hooks/forge HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 0\r\n",
    b"POST /hooks/forge HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 0\r\n",
    b"POST /hooks/forge HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n",
    b"POST /hooks/forge HTTP/1.1\r\n" + HOST + b"Content-Length: 0x5\r\n",
    b"POST /hooks/forge HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n",
    b"POST /hooks/forge HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n",
    b"POST /hooks/forge HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n",
    b"POST /hooks/forge HTTP/1.1\r\n" + HOST + CHUNKED + CHUNKED,
    b"GET /healthz HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n",
    b"GET /healthz HTTP/1.1\r\n",
    b"GET /healthz HTTP/1.1\r\n" + HOST + b"X-A: 1\x00\r\n",
    b"GET /health z HTTP/1.1\r\n" + HOST,
]


async def test_what_two_programs_may_read_differently_is_read_by_neither(port: int) -> None:
    """Else what comes behind it would be taken for a request of somebody else's on the same connection."""
    for head in READ_DIFFERENTLY:
        answer = await said(port, head + b"\r\n0\r\n\r\n" + SECOND)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), (head, answer[:100])
        assert answer.count(b"HTTP/1.1 ") == 1, head
        assert b"phases" not in answer, head


async def test_another_protocol_is_not_spoken(port: int) -> None:
    """No connection leaves the guard's sight."""
    for wanted in (b"websocket", b"h2c"):
        upgrade = b"Connection: Upgrade, close\r\nUpgrade: " + wanted + b"\r\nSec-WebSocket-Version: 13\r\n"
        answer = await said(port, b"GET /healthz HTTP/1.1\r\n" + HOST + upgrade + b"Sec-WebSocket-Key: eHg=\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"default-src 'none'" in answer


async def test_connections_that_pile_up_keep_nobody_out(port: int) -> None:
    """Those that have been silent for longest make room, long before they would be hung up on."""
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
    try:
        answer = await said(port, b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 ")
        async with asyncio.timeout(30):
            for reader, _ in silent[:8]:
                assert await hung_up(reader)
    finally:
        for _, writer in silent:
            writer.close()


async def test_who_is_being_answered_is_not_the_one_to_go(port: int) -> None:
    streams = []
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /api/v1/stream HTTP/1.1\r\n" + HOST + b"\r\n")
        assert b"event: ready" in await reader.readuntil(b"data: {}\n\n")
        streams.append((reader, writer))
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(6)]
    async with asyncio.timeout(30):
        assert await hung_up(silent[0][0])
    assert not any(reader.at_eof() or reader.exception() for reader, _ in streams)
    for _, writer in (*streams, *silent):
        writer.close()


async def hung_up(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


async def test_an_answer_that_nobody_takes_is_given_up(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "TAKING_LIMIT", 0.2)
    loop = asyncio.get_running_loop()
    given_up = loop.create_future()

    def lost(self: patience.PatientProtocol, exc: Exception | None) -> None:
        if not given_up.done():
            given_up.set_result(None)
        original(self, exc)

    original = patience.PatientProtocol.connection_lost
    monkeypatch.setattr(patience.PatientProtocol, "connection_lost", lost)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
    writer.write(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n")
    async with asyncio.timeout(30):
        await given_up
    writer.close()
    assert not reader.at_eof()


def test_connections_leave_files_for_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    assert patience.most_connections() == 512
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, 0))
    assert patience.most_connections() == patience.MOST_CONNECTIONS


def test_nobody_writes_a_line_of_our_log() -> None:
    formatter = logs.OneLine(logs.FORMAT)
    hostile = f"no\n2026-11-20T12:00:00Z INFO    api: mik signed in\r\n{CLEAR}\u202e"
    for said_so in (("%s failed", (hostile,)), (hostile, ())):
        record = logging.LogRecord("api", logging.WARNING, "", 0, said_so[0], said_so[1], None)
        line = formatter.format(record)
        assert "\n" not in line
        assert "\x1b" not in line
        assert "\u202e" not in line
    try:
        raise RuntimeError(f"{CLEAR} gone")
    except RuntimeError as error:
        record = logging.LogRecord("api", logging.ERROR, "", 0, "x", (), (RuntimeError, error, error.__traceback__))
    assert "Traceback" in formatter.format(record)
    assert CLEAR not in formatter.format(record)


async def test_what_is_no_http_fills_no_log(port: int) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    logging.getLogger("uvicorn.error").addHandler(handler)
    try:
        await said(port, b"\x16\x03\x01 hello\r\n\r\n")
        await said(port, b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: upgrade, close\r\nUpgrade: x\r\n\r\n")
    finally:
        logging.getLogger("uvicorn.error").removeHandler(handler)
    assert written.getvalue() == ""
