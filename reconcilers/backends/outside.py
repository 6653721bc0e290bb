"""The public address as a stranger on the internet sees it: anonymous, no redirects followed, errors are answers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx

from reconcilers.backends.limits import Call, Gate
from reconcilers.backends.probes import ProbeAnswer as ProbeAnswer
from reconcilers.backends.transport import LimitedTransport, why
from reconcilers.errors import Throttled

LIMIT = 15.0  # seconds for one path
CONNECTIONS = 4  # at once to one address


@dataclass
class PublicProbe:
    """Asks public addresses.

    `connect` makes what carries one run of probes: every run has connections of its own, so that an answer never comes
    over one that was opened before the door changed.
    """

    gate: Gate
    connect: Callable[[], httpx.AsyncBaseTransport]

    async def probe(self, fqdn: str, paths: Iterable[str], scheme: str = "https") -> Mapping[str, ProbeAnswer]:
        """What each path answers an anonymous visitor. Never raises for what the outside does."""
        transport = LimitedTransport(self.connect(), self.gate)
        try:
            return dict(await self._ask(transport, f"{scheme}://{fqdn}", tuple(dict.fromkeys(paths))))
        finally:
            await transport.aclose()

    async def _ask(
        self, transport: httpx.AsyncBaseTransport, base: str, paths: tuple[str, ...]
    ) -> Iterable[tuple[str, ProbeAnswer]]:
        places = asyncio.Semaphore(CONNECTIONS)

        async def one(path: str) -> ProbeAnswer:
            async with places:
                return await self._one(transport, base, path)

        return zip(paths, await asyncio.gather(*(one(path) for path in paths)), strict=True)

    async def _one(self, transport: httpx.AsyncBaseTransport, base: str, path: str) -> ProbeAnswer:
        try:
            request = httpx.Request(
                "GET",
                base + path,
                headers={"Accept": "*/*", "User-Agent": "tester-controller"},
                extensions={
                    "call": Call(self.gate.system, f"probe {path}", False),
                    "limit": LIMIT,
                    "timeout": httpx.Timeout(LIMIT, connect=10.0).as_dict(),
                },
            )
            answer = await transport.handle_async_request(request)
        except Throttled:
            return ProbeAnswer(None, error="the address asked us to slow down")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return ProbeAnswer(None, error=_short(error))
        return ProbeAnswer(answer.status_code, _absolute(str(request.url), answer.headers.get("Location", "")))

    async def aclose(self) -> None:
        """Nothing is kept open between runs."""


def _absolute(base: str, location: str) -> str:
    try:
        return urljoin(base, location) if location else ""
    except ValueError:
        return location[:500]


def _short(error: Exception) -> str:
    """What a person needs to know: nobody there, too slow, or a certificate that does not fit."""
    text = why(error)
    if isinstance(error.__cause__, ssl.SSLError) or "certificate" in text.lower():
        return f"the certificate is not accepted ({text})"
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, (httpx.ConnectError, httpx.ProxyError)):
        return f"no connection ({text})"
    return f"no proper answer ({text})"
