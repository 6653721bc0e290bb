"""The one seam under every HTTP client: limits, time-outs, sizes, and what a failure means.

`LimitedTransport` wraps whatever really carries the request; tests plug a fake in there. `Wire` sends and maps what
httpx raises and what servers answer to the tree of `reconcilers.errors`:

    nothing was sent (no connection, no place in the pool)      Unreachable
    429                                                         Throttled, and the whole bucket rests
    anything odd once bytes may have left, 5xx, garbage         reading: Transient · writing: OutcomeUnknown
    asyncio.CancelledError                                      passes through

No words of a server's get into an error with what it was told in confidence: the key that opens it, and every Secret of a body,
which becomes text here and nowhere before (law 10).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

from reconcilers.backends.hiding import without
from reconcilers.backends.limits import Call, Gate
from reconcilers.clock import Clock
from reconcilers.errors import OutcomeUnknown, OutsideError, Throttled, Transient, Unreachable
from reconcilers.secret import Secret

BODY_LIMIT = 8 * 1024 * 1024
DEFAULT_REST = timedelta(seconds=5)
LONGEST_REST = timedelta(hours=1)
ADDRESSES = 256  # of one system that are kept at hand: reading one takes longer than building the request around it
DEFAULT_LIMIT = 30.0  # seconds for one whole call, from the first byte sent to the last one read

_NOTHING_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_OF_THE_WIRE = (
    b"content-encoding",
    b"transfer-encoding",
    b"content-length",
)  # untrue of a body that was read and unpacked


class BodyTooLarge(httpx.RemoteProtocolError):
    """The answer is larger than BODY_LIMIT."""


class LimitedTransport(httpx.AsyncBaseTransport):
    """Lets requests through a gate, reads the whole answer within one time limit, and rests after a 429.

    The limit of one call is the request's extension `limit` (seconds). Raises Throttled during a rest.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, gate: Gate) -> None:
        self.inner = inner
        self.gate = gate

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call = request.extensions.get("call") or Call(self.gate.system, f"{request.method} {request.url.path}", False)
        if self.gate.shared is not None:
            request.extensions["trace"] = _before_the_first_byte(self.gate, call)
        async with self.gate.passing(call) as passage:
            try:
                async with asyncio.timeout(request.extensions.get("limit", DEFAULT_LIMIT)):
                    answer = await self.inner.handle_async_request(request)
                    answer.request = request
                    passage.status = str(answer.status_code)
                    body = await _read(answer)
            except TimeoutError:
                raise httpx.ReadTimeout("no complete answer in time", request=request) from None
        if answer.status_code == 429:
            self.gate.rest(retry_after(answer.headers, self.gate.clock) or DEFAULT_REST)
        headers = [(key, value) for key, value in answer.headers.raw if key.lower() not in _OF_THE_WIRE]
        return httpx.Response(answer.status_code, headers=headers, content=body, request=request)

    async def aclose(self) -> None:
        await self.inner.aclose()


def _before_the_first_byte(gate: Gate, call: Call) -> Callable[[str, object], Awaitable[None]]:
    """What httpcore tells each of its steps."""

    async def step(name: str, _: object) -> None:
        if name.endswith("send_request_headers.started"):
            await gate.leaving(call)

    return step


async def _read(answer: httpx.Response) -> bytes:
    body = bytearray()
    try:
        async for piece in answer.aiter_bytes():
            body += piece
            if len(body) > BODY_LIMIT:
                raise BodyTooLarge(f"the answer is larger than {BODY_LIMIT >> 20} MiB", request=answer.request)
    finally:
        await answer.aclose()
    return bytes(body)


def retry_after(headers: Mapping[str, str], clock: Clock) -> timedelta | None:
    """What `Retry-After` asks for, in seconds or as a date, at most an hour; None when it is missing or senseless."""
    asked = headers.get("Retry-After", "").strip()
    try:
        if asked.isascii() and asked.isdigit():
            span = timedelta(seconds=int(asked[:9]))
        else:
            moment = parsedate_to_datetime(asked)
            span = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - clock.now()
    except (ValueError, TypeError):
        return None
    return min(max(span, timedelta(0)), LONGEST_REST)


class Wire:
    """One outside system over HTTP: sends, limits, maps. `system` names it in errors."""

    def __init__(
        self, base: str, inner: httpx.AsyncBaseTransport, gate: Gate, headers: Mapping[str, str] | None = None
    ) -> None:
        self.system = gate.system
        self.gate = gate
        self._at = lru_cache(ADDRESSES)(lambda path: httpx.URL(f"{base.rstrip('/')}/{path.lstrip('/')}"))
        self._transport = LimitedTransport(inner, gate)
        self._client = httpx.AsyncClient(
            transport=self._transport,
            headers={"Accept": "application/json", **(headers or {})},
            follow_redirects=False,
            trust_env=False,
        )

    async def send(
        self,
        method: str,
        path: str,
        *,
        writing: bool,
        body: object = None,
        name: str = "",
        limit: float = DEFAULT_LIMIT,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """The answer, if it is one: neither 429 nor 5xx. `limit`: seconds for the whole call. Raises OutsideError.

        `body` becomes JSON; the secrets in it stand in no error, and not in what `said` tells of the answer.
        """
        hidden: list[Secret] = []
        call = Call(self.system, name or f"{method} {urlsplit(path).path}", writing)
        request = self._client.build_request(
            method,
            self._at(path),
            json=_revealed(body, hidden),
            headers=headers,
            timeout=httpx.Timeout(limit, connect=10.0, pool=30.0),
            extensions={"call": call, "limit": limit, "hidden": hidden},
        )
        try:
            # Past the client: redirects, sign-in and cookies of its own are not wanted, and cost more than all the rest.
            answer = await self._transport.handle_async_request(request)
        except _NOTHING_SENT as error:
            raise Unreachable(f"no connection for {call.name} ({why(error, request)})", system=self.system) from None
        except httpx.HTTPError as error:
            # Not "from error": what broke the connection may hold the server's words as they came.
            self.unclear(writing, f"{call.name} got no complete answer ({why(error, request)})")
        if answer.status_code == 429:
            asked = retry_after(answer.headers, self.gate.clock)
            raise Throttled(f"{call.name}: too many calls (429)", system=self.system, retry_after=asked or DEFAULT_REST)
        if answer.status_code >= 500:
            self.unclear(writing, f"{call.name} answered {answer.status_code}{said(answer)}")
        return answer

    def json(self, answer: httpx.Response, *, writing: bool) -> Any:
        """The JSON that an answer holds. HTML or half an answer: OutcomeUnknown when writing, else Transient."""
        kind = answer.headers.get("Content-Type", "")
        if "html" in kind.lower():
            self.unclear(writing, f"{_asked(answer)} answered a web page where data was due")
        try:
            return json.loads(answer.content)
        except ValueError:
            self.unclear(writing, f"{_asked(answer)} answered {answer.status_code} with what is not whole JSON")

    def unclear(self, writing: bool, message: str) -> NoReturn:
        """Raises what an unclear end means: after a write look again, after a read try again."""
        kind: type[OutsideError] = OutcomeUnknown if writing else Transient
        raise kind(message, system=self.system) from None

    async def aclose(self) -> None:
        await self._client.aclose()


def why(error: Exception, request: httpx.Request | None = None) -> str:
    """A few words on a transport error, without anything that was sent in confidence with the request."""
    text = _cleaned(str(error), request)
    return text[:200] or {"ConnectTimeout": "timed out", "ReadTimeout": "timed out"}.get(
        type(error).__name__, type(error).__name__
    )


def said(answer: httpx.Response) -> str:
    """The server's own message, ": …", when it sent one as JSON; bounded, and without what it was told in confidence."""
    try:
        body = json.loads(answer.content)
    except ValueError:
        return ""
    message = body.get("message") if isinstance(body, dict) else None
    if not isinstance(message, str) or not message.strip():
        return ""
    return f": {_cleaned(message, answer.request)[:300]}"


def _revealed(body: object, found: list[Secret]) -> object:
    """The body with its secrets as text. They are added to those found."""
    if isinstance(body, Secret):
        found.append(body)
        return body.text()
    if isinstance(body, Mapping):
        return {key: _revealed(value, found) for key, value in body.items()}
    if isinstance(body, list):
        return [_revealed(value, found) for value in body]
    return body


def _cleaned(text: str, request: httpx.Request | None) -> str:
    if request is None:
        return without(text, ())
    keys = request.headers.get("Authorization", "").split()[1:]
    return without(text, (*keys, *request.extensions.get("hidden", ())))


def _asked(answer: httpx.Response) -> str:
    return f"{answer.request.method} {answer.request.url.path}"
