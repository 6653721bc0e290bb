"""A Forge that signs people in as it is told to, and windows that ask it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from api.access.access import Access
from api.access.sign_in import SignIn
from api.server import make_app
from api.window import Window
from controller.admission import Admission, hash_of, new_token
from controller.records import PutFleet
from controller.running import Controller
from controller.tokens import PutToken, TokenRecord
from reconcilers.backends.opening import Options
from reconcilers.secret import Secret
from tests.controller.fakes import FLEET, START, ManualClock

FORGE = "https://forge.example.org"
BASE = "https://testers.example.org"
CLIENT = "client-1"
SECRET = "gto_the-secret-of-our-application-at-forge"
CODE = "gta_code"
PAGE = {"Accept": "text/html"}
RSA = RSAKey.generate_key(2048, {"kid": "k1"})


@dataclass
class FakeForge:
    """`claims` overrides those of the id token (None: left out), `info` those of userinfo. `algorithm`: how it signs."""

    account: str = "mik"
    algorithm: str = "RS256"
    claims: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    userinfo_kind: str = "application/json; charset=utf-8"
    signs_with: Any = None
    answers: dict[str, httpx.Response] = field(default_factory=dict)  # by path, instead
    dead: bool = False
    nonce: str = ""
    challenge: str = ""
    asked: list[httpx.Request] = field(default_factory=list)

    def let_in(self, location: str) -> None:
        """Somebody signs in at the address that the windows sent them to."""
        query = dict(parse_qsl(urlsplit(location).query))
        self.nonce, self.challenge = query["nonce"], query["code_challenge"]

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path = request.url.path
        if self.dead:
            raise httpx.ConnectError("nobody", request=request)
        if path in self.answers:
            return self.answers[path]
        if path == "/login/oauth/access_token":
            return httpx.Response(
                200, json={"access_token": "at-1", "token_type": "bearer", "id_token": self.id_token()}
            )
        if path == "/login/oauth/keys":
            return httpx.Response(200, json=KeySet([RSA]).as_dict(private=False))
        told = {"sub": "7", "preferred_username": self.account, **self.info}
        return httpx.Response(
            200, headers={"Content-Type": self.userinfo_kind}, content=httpx.Response(200, json=told).content
        )

    def id_token(self) -> str:
        usual = {"iss": FORGE, "aud": CLIENT, "sub": "7", "exp": int(START.timestamp()) + 3600, "nonce": self.nonce}
        claims = {name: value for name, value in {**usual, **self.claims}.items() if value is not None}
        if isinstance(self.signs_with, bytes):
            return _signed_by_hand(claims, self.signs_with)
        key = self.signs_with or (RSA if self.algorithm.startswith("RS") else OctKey.import_key(SECRET))
        return jwt.encode({"alg": self.algorithm, "kid": "k1"}, claims, key, algorithms=[self.algorithm])

    @property
    def form(self) -> dict[str, str]:
        """What the token endpoint was sent last."""
        sent = [one for one in self.asked if one.url.path == "/login/oauth/access_token"]
        return {name: values[0] for name, values in parse_qs(sent[-1].content.decode()).items()}


def _signed_by_hand(claims: dict[str, Any], key: bytes) -> str:
    """With keys that no library would sign with."""
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in ({"alg": "HS256"}, claims)]
    proof = hmac.new(key, b".".join(parts), hashlib.sha256).digest()
    return b".".join((*parts, base64.urlsafe_b64encode(proof).rstrip(b"="))).decode()


@dataclass
class Rig:
    """Windows with a sign-in, and a browser in front of them."""

    controller: Controller
    clock: ManualClock
    forge: FakeForge
    access: Access
    browser: httpx.AsyncClient

    async def to_forge(self, wanted: str = "/") -> str:
        """The first half: where the browser is sent."""
        answer = await self.browser.get("/sign-in/forge", params={"next": wanted})
        assert answer.status_code == 303, answer.text
        location = answer.headers["location"]
        self.forge.let_in(location)
        return str(location)

    async def back(self, location: str, **other: str) -> httpx.Response:
        """The second half; `other` replaces what Forge sends back."""
        state = dict(parse_qsl(urlsplit(location).query))["state"]
        return await self.browser.get("/sign-in/callback", params={"code": CODE, "state": state, **other})

    async def signed_in(self, wanted: str = "/") -> httpx.Response:
        return await self.back(await self.to_forge(wanted))

    async def looks(self, **headers: str) -> int:
        """The status of a page."""
        return (await self.browser.get("/api/v1/fleet", headers=headers)).status_code

    async def a_token(self, name: str = "prometheus", **more: Any) -> str:
        token = new_token()
        now = self.clock.now()
        record = {"name": name, "hash": hash_of(token), "made_at": now, "expires_at": now.replace(year=2027), **more}
        await self.controller.store.write(PutToken(TokenRecord(**record)))
        return token.text()

    def session(self) -> str | None:
        return self.browser.cookies.get("__Host-testers-session")


@asynccontextmanager
async def windows(
    controller: Controller, clock: ManualClock, base: str = BASE, *, sign_in: bool = True, demanded: bool = True
) -> AsyncIterator[Rig]:
    """As they stand on their public address."""
    await controller.store.write(PutFleet(FLEET.model_dump_json(), "r1"))
    forge = FakeForge()
    admission = Admission(controller.store, clock)
    way = Options(transports={"forge": httpx.MockTransport(forge.answer)})
    app = SignIn(admission, CLIENT, Secret(SECRET), base, way) if sign_in else None
    access = Access(admission, base, demanded, app)
    transport = httpx.ASGITransport(make_app(Window(controller), access=access), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=base) as browser:
        yield Rig(controller, clock, forge, access, browser)


def cookie(answer: httpx.Response, name: str) -> str:
    """The whole Set-Cookie line of a name."""
    found = [line for line in answer.headers.get_list("set-cookie") if line.startswith(f"{name}=")]
    return found[-1] if found else ""
