"""What stands before every answer: whom it is for, what may be asked at all, and headers that keep a browser from doing more
than showing it.

Nothing but a signed webhook and the end of one's own session is taken in. Who asks is found out anew for every request, and
again for each piece of an answer that goes on for long, so that whoever loses access loses it at once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access.access import Access, has_token_in_address
from api.access.who import Viewer
from api.problems import mistake, refusal
from controller.store import StoreError

log = logging.getLogger("api")

TAKES_IN: Final = frozenset({"/hooks/forge", "/sign-out"})
LARGEST_BODY: Final = 1024 * 1024
LONGEST_ADDRESS: Final = 8 * 1024
ASKED_AGAIN_AFTER: Final = timedelta(seconds=1)
END: Final[Message] = {"type": "http.response.body", "body": b"", "more_body": False}


def headers(https: bool) -> dict[str, str]:
    """Style and script come from here alone, and never stand in a page itself."""
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; font-src 'self'; "
        "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    always = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
    return {**always, "Strict-Transport-Security": "max-age=31536000"} if https else always


class Guard:
    """ASGI middleware, the outermost of ours."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        self._headers = headers(access.base.startswith("https://"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # no websocket is spoken here
            return
        request = Request(scope)
        sending = _Sending(self._access, request, send, self._headers)
        try:
            answer = refused(request, self._access) or await self._let_in(request) or self._app
            await answer({**scope, "method": "GET"} if sending.head_only else scope, receive, sending.send)
        except Exception as error:
            sorry = mistake(request, error)
            if sending.began is None:
                await sorry(scope, receive, sending.send)

    async def _let_in(self, request: Request) -> Response | None:
        """Writes down who asks, or gives the answer that says no."""
        try:
            found = await self._access.admitted(request)
        except StoreError as error:
            log.warning("nobody can be let in: %s", error)
            return refusal(request, 503, "the store cannot be read, so nobody can be let in", {"Retry-After": "5"})
        if isinstance(found, Response):
            return found
        request.state.viewer = found
        return None


def refused(request: Request, access: Access) -> Response | None:
    """The answer to what nobody may ask, whoever they are."""
    if not access.is_ours(request.headers.get("host", "")):
        return refusal(request, 421, "this address answers to its own names only", way=f"{access.base}/")
    path = request.scope["path"]
    if len(path) + len(request.scope["query_string"]) > LONGEST_ADDRESS:
        return refusal(request, 414, "the address is too long")
    if has_token_in_address(request):
        return refusal(
            request,
            400,
            "a token in an address is kept by logs and histories: revoke it, and send the next as a header",
        )
    if request.method not in ("GET", "HEAD") and not (request.method == "POST" and path in TAKES_IN):
        return refusal(
            request, 405, "this is only looked at: what changes the fleet is a commit", {"Allow": "GET, HEAD"}
        )
    if _is_too_large(request.headers.get("content-length", "")):
        return refusal(request, 413, f"a body has at most {LARGEST_BODY // 1024**2} MiB", {"Connection": "close"})
    if "content-length" in request.headers and "transfer-encoding" in request.headers:
        # Where this request ends is told twice: something before us may take the rest of it for a request of its own.
        return refusal(request, 400, "the length of the body is told in two ways", {"Connection": "close"})
    return None


def _is_too_large(length: str) -> bool:
    return length.isdigit() and (len(length) > len(str(LARGEST_BODY)) or int(length) > LARGEST_BODY)


@dataclass
class _Sending:
    """One answer on its way out, with our headers, and cut off as soon as it is for nobody any more. To HEAD it is that of GET
    without its body, however long that would go on."""

    access: Access
    request: Request
    out: Send
    headers: dict[str, str]
    began: datetime | None = None
    asked: datetime | None = None
    cut: bool = False

    @property
    def head_only(self) -> bool:
        return self.request.method == "HEAD"

    async def send(self, message: Message) -> None:
        if self.cut:
            return
        now = self.access.admission.clock.now()
        if message["type"] == "http.response.start":
            self.began = self.asked = now
            found = MutableHeaders(scope=message)
            found.update(self.headers)
            found.setdefault("Cache-Control", "no-store")
            if self.head_only:
                self.cut = True
                await self.out(message)
                message = END
        elif self.asked is not None and now - self.asked >= ASKED_AGAIN_AFTER:
            self.asked = now
            if not await self._is_still_let_in():
                self.cut = True
                message = END
        await self.out(message)

    async def _is_still_let_in(self) -> bool:
        viewer = getattr(self.request.state, "viewer", None)
        if not isinstance(viewer, Viewer):
            return True  # what it is about is for everybody
        try:
            return isinstance(await self.access.admitted(self.request), Viewer)
        except StoreError:
            return False
