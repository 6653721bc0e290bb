"""The way to the world's HTTP without a socket: at the clients' transport, one for every system, told apart by address.

Forge, every daemon and Resend have names that lead nowhere else; an engine is reached at the admin machine's address, a
public name through its gateway. A server goes on with what it was asked whether or not anybody still waits for its answer,
as real ones do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from email.utils import formatdate
from functools import lru_cache
from urllib.parse import unquote

import httpx

from examples.simulator.http import Answer, Request
from examples.simulator.ways import GIVES_UP, Inner, way_to
from examples.simulator.world import World
from tests.worlds.loop import outliving

RESEND = "resend.test"
NEVER = 3600.0
"""Virtual seconds for which an answer that never comes is awaited at most."""


def daemon_host(name: str) -> str:
    """Where the daemon of that name listens."""
    return f"{name}.daemon.test"


class WorldTransport(httpx.AsyncBaseTransport):
    """Carries a request to whatever the world has at its address."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._forge = httpx.URL(world.realm.forge_url).host

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx.ConnectError, ReadTimeout, RemoteProtocolError as a real connection would."""
        asked = await _as_asked(request)
        timeouts: Mapping[str, float | None] = request.extensions.get("timeout", {})
        answering = await self._reached(request, asked, timeouts.get("connect"))
        task = outliving(_awaited(answering))
        try:
            async with asyncio.timeout(timeouts.get("read") or NEVER):
                answer = await asyncio.shield(task)
                if answer.delivery == "never":
                    await asyncio.get_running_loop().create_future()
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time", request=request) from None
        if answer.delivery == "cut":
            raise httpx.RemoteProtocolError("the connection broke in the middle of the answer", request=request)
        return self._response(request, answer)

    async def _reached(
        self, request: httpx.Request, asked: Request, patience: float | None
    ) -> Awaitable[Answer | None]:
        """What will answer. Raises httpx.ConnectError or ConnectTimeout when nobody listens there."""
        world, host, port = self.world, request.url.host, request.url.port
        if host == self._forge and not world.faults.is_down("forge"):
            return world.ask_forge(asked)
        if host == RESEND and not world.faults.is_down("mail"):
            return world.ask_mail(asked)
        for name in world.daemons:
            if host == daemon_host(name) and world.listens(name):
                return world.ask_compute(name, asked)
        way = way_to(world, host, port or (443 if request.url.scheme == "https" else 80))
        if isinstance(way, Inner):
            return world.ask_overlay(way.machine, way.port, asked)
        if way == "outside":
            return _done(world.ask_outside(host, asked))
        if way == "unreachable":
            await asyncio.sleep(min(GIVES_UP, patience or GIVES_UP))
        raise httpx.ConnectError(f"{host} is {way}", request=request)

    def _response(self, request: httpx.Request, answer: Answer) -> httpx.Response:
        headers = [*answer.headers, ("date", _date(int(self.world.clock.now())))]
        body = b"" if request.method == "HEAD" else answer.body
        return httpx.Response(answer.status, headers=headers, stream=httpx.ByteStream(body), request=request)


@lru_cache(maxsize=16)  # the same for all that is answered in one moment
def _date(now: int) -> str:
    return formatdate(now, usegmt=True)


async def _as_asked(request: httpx.Request) -> Request:
    path, _, query = request.url.raw_path.decode("ascii").partition("?")
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in request.headers.raw}
    headers.setdefault("host", request.url.netloc.decode("ascii"))
    return Request(request.method, unquote(path), query, headers, await request.aread())


async def _done(answer: Answer) -> Answer:
    return answer


async def _awaited(answering: Awaitable[Answer | None]) -> Answer:
    return await answering or Answer(502)
