"""Requests and answers as values, a table router, and the thin ASGI skin that puts a handler on a socket."""

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate, parsedate_to_datetime
from http.cookies import SimpleCookie
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import parse_qsl

Delivery = Literal["whole", "cut", "never"]
"""How an answer travels: entirely, broken off in the middle, or not at all."""


class CutConnectionError(ConnectionError):
    """The make-believe network broke the connection in the middle of an answer."""


@dataclass(frozen=True)
class Request:
    """One HTTP request. Header names are lower case; `query` is raw; `client` is the peer's address and port."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    client: tuple[str, int] | None = None

    def params(self) -> dict[str, str]:
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def cookies(self) -> dict[str, str]:
        jar: SimpleCookie = SimpleCookie(self.headers.get("cookie", ""))
        return {name: morsel.value for name, morsel in jar.items()}

    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, and how it travels."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    delivery: Delivery = "whole"

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)

    def travelling(self, delivery: Delivery) -> "Answer":
        return replace(self, delivery=delivery)


Handler = Callable[[Request], Awaitable[Answer]]
Headers = tuple[tuple[str, str], ...]


_as_json = json.JSONEncoder(ensure_ascii=False).encode  # `dumps` would make an encoder each time


def json_answer(value: Any, status: int = 200, headers: Headers = ()) -> Answer:
    body = _as_json(value).encode()
    return Answer(status, body, (("content-type", "application/json;charset=utf-8"), *headers))


def text(body: str, status: int = 200, kind: str = "text/plain", headers: Headers = ()) -> Answer:
    return Answer(status, body.encode(), (("content-type", f"{kind}; charset=utf-8"), *headers))


def page(title: str, status: int = 200, body: str = "") -> Answer:
    return text(f"<!doctype html><title>{title}</title><h1>{title}</h1>{body}\n", status, "text/html")


def redirect(location: str, status: int = 302, headers: Headers = ()) -> Answer:
    return Answer(status, b"", (("location", location), *headers))


def conditional(request: Request, answer: Answer, changed: float) -> Answer:
    """The answer with ETag and Last-Modified (`changed`: epoch seconds), or 304 when the caller has it already.

    As RFC 9110 says: If-Modified-Since counts only without If-None-Match.
    """
    etag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    headers = (("etag", etag), ("last-modified", formatdate(int(changed), usegmt=True)))
    given = request.headers.get("if-none-match")
    if given is not None:
        known = {one.strip().removeprefix("W/") for one in given.split(",")}
        same = "*" in known or etag in known
    else:
        same = _moment(request.headers.get("if-modified-since", "")) >= int(changed)
    return Answer(304, b"", headers) if same else replace(answer, headers=(*answer.headers, *headers))


def _moment(date: str) -> float:
    """Epoch seconds of an HTTP date; before all time for anything else."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return -1.0


F = TypeVar("F")


class Router(Generic[F]):
    """(method, path with {names}) → entry of a table. `{name*}` swallows slashes."""

    def __init__(self, table: Mapping[tuple[str, str], F]) -> None:
        self._rows = [(method, _pattern(path), entry) for (method, path), entry in table.items()]

    def find(self, method: str, path: str) -> tuple[F, dict[str, str]] | Literal[404, 405]:
        """The entry and the path's parts, or the status that a server gives when there is none."""
        known = False
        for wanted, pattern, entry in self._rows:
            if match := pattern.fullmatch(path):
                if wanted == method:
                    return entry, match.groupdict()
                known = True
        return 405 if known else 404


def _pattern(path: str) -> re.Pattern[str]:
    starred = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.+)", path)
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", starred))


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def asgi(handler: Handler) -> AsgiApp:
    """The handler as an ASGI application, for a server or for httpx.ASGITransport."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = await handler(await _request(scope, receive))
        await _deliver(answer, scope["method"] == "HEAD", receive, send)

    return app


async def _request(scope: Scope, receive: Receive) -> Request:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    client = scope.get("client")
    query = scope.get("query_string", b"").decode("latin-1")
    return Request(scope["method"], scope["path"], query, headers, body, tuple(client) if client else None)


async def _deliver(answer: Answer, head: bool, receive: Receive, send: Send) -> None:
    if answer.delivery == "never":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.delivery == "cut":
        await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
        raise CutConnectionError("the connection broke in the middle of the answer")
    await send({"type": "http.response.body", "body": b"" if head else answer.body})
