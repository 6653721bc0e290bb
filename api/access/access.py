"""What the guard asks before every answer: under which names we may be called, and who asks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from api.access import pages
from api.access.cookies import SESSION, Jar
from api.access.limits import Allowance
from api.access.sessions import Sessions
from api.access.sign_in import SignIn
from api.access.who import Viewer
from api.problems import problem
from controller.admission import MARK, Admission
from reconcilers.secret import Secret

log = logging.getLogger("api")

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

FOR_EVERYBODY: Final = frozenset(
    {"/healthz", "/hooks/forge", "/sign-in", "/sign-in/forge", "/sign-in/callback", "/sign-out", "/signed-out"}
)
"""Addresses that tell nothing of the fleet: whether we live, the signed webhook, the way in and out."""

STATIC: Final = "/static/"
"""Style and script, the same for everybody."""

NAMES_OF_TOKENS: Final = frozenset({"token", "access_token", "api_key", "apikey", "authorization", "bearer", "session"})

SHORTEST_TOKEN: Final = 40
LONGEST_TOKEN: Final = 200

SCHEME: Final = {"WWW-Authenticate": 'Bearer realm="testers"'}


@dataclass
class Access:
    """`base`: where people reach us. `demanded`: whether who looks must prove who they are. `sign_in`: None when nobody can
    sign in. `numbers`: whether we may be called by any bare address, too: nobody can point a name of theirs at us there."""

    admission: Admission
    base: str
    demanded: bool = False
    sign_in: SignIn | None = None
    numbers: bool = False
    sessions: Sessions = field(init=False)
    begins: Allowance = field(init=False)
    returns: Allowance = field(init=False)

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.admission)
        self.begins, self.returns = Allowance(self.admission.clock), Allowance(self.admission.clock)

    @property
    def jar(self) -> Jar:
        return Jar(self.base.startswith("https://"))

    @property
    def behind_a_proxy(self) -> bool:
        """Whether people reach us through something on this machine that ends TLS and passes requests on."""
        return self._public_name not in LOOPBACK_NAMES

    @property
    def _public_name(self) -> str:
        return host_of(urlsplit(self.base).netloc)

    def is_ours(self, host: str) -> bool:
        """Whether a Host header names us. Else a web page could point a name of its own at us, and read what we answer."""
        name = host_of(host)
        return name in LOOPBACK_NAMES or name == self._public_name or (self.numbers and _is_number(name))

    async def admitted(self, request: Request) -> Viewer | Response | None:
        """Who asks, or the answer that says no; None where nobody needs to be known. Raises StoreError."""
        path = _path(request)
        if path in FOR_EVERYBODY or path.startswith(STATIC):
            return None
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return await self._program(token.strip())
        if not self.demanded:
            return Viewer("somebody on this machine", "here")
        name = await self.sessions.admin_of(self.jar.get(request, SESSION)) if self.sign_in is not None else None
        return Viewer(name, "forge") if name is not None else self._unknown(request)

    async def _program(self, token: str) -> Viewer | Response:
        """A token that is wrong is refused also where none is needed: whoever sends one should know. Other schemes than ours
        are for a proxy before us, and prove nothing here."""
        fits = SHORTEST_TOKEN <= len(token) <= LONGEST_TOKEN and token.isascii() and token.startswith(MARK)
        name = await self.admission.holder(Secret(token)) if fits else None
        if name is None:
            return problem(401, "this is no token that holds: make one with `testerctl token make`", dict(SCHEME))
        return Viewer(name, "token")

    def _unknown(self, request: Request) -> Response:
        if "text/html" not in request.headers.get("accept", ""):
            return problem(401, "bring a token (Authorization: Bearer …), or sign in with Forge", dict(SCHEME))
        if self.sign_in is None:
            return pages.tokens_only()
        query = f"?{_query(request)}" if _query(request) else ""
        return pages.sign_in(f"{_path(request)}{query}", status=401)


def has_token_in_address(request: Request) -> bool:
    """Whether a token stands where proxies, histories and logs keep it."""
    if MARK in _path(request) or MARK in _query(request):
        return True
    try:
        given = parse_qsl(_query(request), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return False
    return any(name.lower() in NAMES_OF_TOKENS or MARK in value for name, value in given)


def host_of(header: str) -> str:
    """The name in a Host header, without the port, in small letters."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isascii() and port.isdigit() else header).lower()


def _path(request: Request) -> str:
    """As routes are found by it: that of `request.url` depends on what the Host header says."""
    return str(request.scope["path"])


def _query(request: Request) -> str:
    return str(request.scope["query_string"].decode("latin-1"))


def _is_number(name: str) -> bool:
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
