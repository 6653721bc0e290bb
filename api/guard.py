"""What stands before every answer: headers that keep a browser from doing more than showing it, and a look at whom it is for.

The API knows no authentication yet, so it answers loopback only. A web page that somebody visits could still point a name
of its own at 127.0.0.1; such a request carries that name in its Host header, and is refused.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def headers(style_hash: str) -> dict[str, str]:
    """`style_hash` is that of the one style sheet that pages may carry."""
    policy = (
        f"default-src 'none'; style-src '{style_hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


class Guard:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, style_hash: str) -> None:
        self._app = app
        self._headers = headers(style_hash)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        answering: ASGIApp = self._app
        if host_of(Headers(scope=scope).get("host", "")) not in LOOPBACK_NAMES:
            answering = problem(421, "this address answers to localhost, 127.0.0.1 and [::1] only")
        await answering(scope, receive, send_guarded)


def host_of(header: str) -> str:
    """The name in a Host header, without the port, in small letters."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdigit() else header).lower()
