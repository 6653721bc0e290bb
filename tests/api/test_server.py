"""Where the API may listen, and that it begins and ends inside somebody else's loop."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from api.complaint import Complaint
from api.server import bound, here, make_app, place, serve
from api.window import Window
from controller.running import Controller


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8484", "http://127.0.0.1:8484"),
        ("localhost:80", "http://127.0.0.1:80"),
        ("[::1]:8484", "http://[::1]:8484"),
        ("127.8.9.1:0", "http://127.8.9.1:0"),
    ],
)
def test_loopback_is_a_place(listen: str, url: str) -> None:
    assert here(place(listen)).url == url


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8484", "[::]:8484", "192.168.1.4:80", "[fe80::1]:80", "[::ffff:10.0.0.1]:80"]
)
def test_anything_else_is_refused_where_nobody_proves_who_they_are(listen: str) -> None:
    with pytest.raises(Complaint, match="is not on loopback, and whoever reaches it could look"):
        here(place(listen))


@pytest.mark.parametrize(
    "listen", ["", "8484", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "example.org:80", ":80"]
)
def test_what_is_no_place_is_said_so(listen: str) -> None:
    with pytest.raises(Complaint, match="no place to listen"):
        place(listen)


async def test_it_answers_until_it_is_stopped_and_leaves_the_loop_clean(controller: Controller) -> None:
    sock, where = bound(place("127.0.0.1:0"))
    stop = asyncio.Event()
    serving = asyncio.ensure_future(serve(make_app(Window(controller)), sock, stop))
    async with httpx.AsyncClient(base_url=where.url, trust_env=False, timeout=30) as client:
        assert (await client.get("/healthz")).json()["alive"] is True
    with pytest.raises(Complaint, match="cannot be listened at"):
        bound(where)
    stop.set()
    await serving
    again, _ = bound(where)
    again.close()


async def test_cancelling_ends_it_too_without_leaving_its_socket_with_the_loop(controller: Controller) -> None:
    sock, where = bound(place("127.0.0.1:0"))
    stop = asyncio.Event()
    serving = asyncio.ensure_future(serve(make_app(Window(controller)), sock, stop))
    async with httpx.AsyncClient(base_url=where.url, trust_env=False, timeout=30) as client:
        assert (await client.get("/healthz")).status_code == 200
    stop.set()
    await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait((serving,))
    assert sock.fileno() == -1
    # A socket that was closed behind the loop's back would make the next one with its number fail.
    again, there = bound(where)
    with again:
        again.listen()
        for _ in range(3):
            _, writer = await asyncio.open_connection(str(there.address), there.port)
            writer.close()
