"""Who somebody is at Forge: the OpenID Connect code flow, with PKCE, state and nonce, as an application of Forge.

The paths are Forge's own (CONTRACTS, V): nothing is discovered, so nobody else can name a place to which secrets are sent. The
id token may carry only `sub` (V), so the name comes from userinfo; what Forge gives access to is thrown away at once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey

from reconcilers.backends.hiding import without
from reconcilers.errors import OutsideError, Rejected, Transient, Unreachable
from reconcilers.secret import Secret

SYSTEM: Final = "Forge"
REFUSED: Final = "SignInRefused"
BY_SECRET: Final = ("HS256", "HS384", "HS512")
BY_KEY: Final = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA")
SKEW: Final = timedelta(minutes=2)
"""So far our clock and Forge's may be apart."""

NAME: Final = re.compile(r"[0-9A-Za-z][-.\w]{0,39}", re.ASCII)
"""A Forge account's name (P)."""

Claims = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Application:
    """An OAuth application at Forge. `url`: Forge's; `back`: where people are sent back to, as registered there."""

    url: str
    client: str
    secret: Secret = field(repr=False)
    back: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to sign in: what only its browser and we know."""

    state: str
    nonce: str
    verifier: str = field(repr=False)

    @classmethod
    def fresh(cls) -> Attempt:
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))


@dataclass(frozen=True, slots=True)
class Person:
    """An account at Forge. `id` stays when it is renamed."""

    id: str
    name: str


def address(app: Application, attempt: Attempt) -> str:
    """Where the browser is sent to sign in."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(attempt.verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "client_id": app.client,
        "redirect_uri": app.back,
        "response_type": "code",
        "scope": "openid profile",
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    return f"{app.url}/login/oauth/authorize?{urlencode(asked)}"


async def person(app: Application, attempt: Attempt, code: str, forge: httpx.AsyncClient, now: datetime) -> Person:
    """Who came back with a code. Raises Rejected SignInRefused when Forge or its answers do not prove it, Transient."""
    form = {
        "grant_type": "authorization_code",
        "client_id": app.client,
        "client_secret": app.secret.text(),
        "redirect_uri": app.back,
        "code": code,
        "code_verifier": attempt.verifier,
    }
    granted = _json(await _sent(forge, "POST", f"{app.url}/login/oauth/access_token", form=form), app)
    access, proof = granted.get("access_token"), granted.get("id_token")
    if not isinstance(access, str) or not isinstance(proof, str) or not access.isascii() or not access.isprintable():
        raise _refused("Forge answered without a token of who it is")
    claims = await _proven(app, proof, forge)
    subject = _checked(app, attempt, claims, now)
    answer = await _sent(forge, "GET", f"{app.url}/login/oauth/userinfo", headers={"Authorization": f"Bearer {access}"})
    told = _json(answer, app)
    name = told.get("preferred_username")
    if str(told.get("sub")) != subject or not isinstance(name, str) or not NAME.fullmatch(name):
        raise _refused("Forge's userinfo tells of another account, or no name")
    return Person(subject, name)


async def _proven(app: Application, token: str, forge: httpx.AsyncClient) -> Claims:
    """The claims of an id token, its signature checked: with our secret, or with the keys that Forge publishes."""
    kind = _algorithm(token)
    try:
        if kind in BY_SECRET:
            return dict(jwt.decode(token, OctKey.import_key(app.secret.reveal()), algorithms=[kind]).claims)
        if kind in BY_KEY:
            keys = KeySet.import_key_set(_json(await _sent(forge, "GET", f"{app.url}/login/oauth/keys"), app))  # type: ignore[arg-type]
            return dict(jwt.decode(token, keys, algorithms=[kind]).claims)
    except OutsideError:
        raise
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise _refused(f"the id token is not signed by Forge ({type(error).__name__})") from None
    raise _refused("the id token is signed in a way that proves nothing")


def _algorithm(token: str) -> str:
    head = token.partition(".")[0]
    try:
        told = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (ValueError, RecursionError):
        return ""
    kind = told.get("alg") if isinstance(told, dict) else None
    return kind if isinstance(kind, str) else ""


def _checked(app: Application, attempt: Attempt, claims: Claims, now: datetime) -> str:
    """The subject, when the claims are of this application and this attempt. `iss` ends in a slash or not, `aud` is a string
    or a list, by version (V)."""
    heard = claims.get("aud")
    audience = heard if isinstance(heard, list) else [heard]
    ends = claims.get("exp")
    nonce, subject = claims.get("nonce"), claims.get("sub")
    wrong = {
        "iss": claims.get("iss") not in (app.url, f"{app.url}/"),
        "aud": app.client not in audience or claims.get("azp", app.client) != app.client,
        "exp": not isinstance(ends, int | float) or not now.timestamp() <= ends + SKEW.total_seconds(),
        "nonce": not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), attempt.nonce.encode()),
        "sub": not isinstance(subject, str | int) or not str(subject),
    }
    if any(wrong.values()):
        raise _refused(f"the id token does not fit: {', '.join(name for name, is_so in wrong.items() if is_so)}")
    return str(subject)


async def _sent(
    forge: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    form: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> httpx.Response:
    """The answer. No error holds what was sent. Raises Transient."""
    try:
        answer = await forge.request(
            method, url, data=form, headers={"Accept": "application/json", **(headers or {})}, follow_redirects=False
        )
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise Unreachable(f"no connection to sign in ({type(error).__name__})", system=SYSTEM) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Transient(f"no complete answer to a sign-in ({type(error).__name__})", system=SYSTEM) from None
    if answer.status_code == 429 or answer.status_code >= 500:
        raise Transient(f"{method} {answer.url.path} answered {answer.status_code}", system=SYSTEM)
    return answer


def _json(answer: httpx.Response, app: Application) -> Claims:
    """What a good answer holds. A page where data is due is a refusal: so Forge answers for a disabled account (V)."""
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        told = json.loads(answer.content) if kind == "application/json" else None
    except (ValueError, RecursionError):
        told = None
    if answer.status_code != 200 or not isinstance(told, dict):
        words = told.get("error_description") or told.get("error") if isinstance(told, dict) else None
        detail = f": {without(words, (app.secret,))[:200]}" if isinstance(words, str) else ""
        raise _refused(f"{answer.url.path} answered {answer.status_code} with {kind or 'nothing'}{detail}")
    return told


def _refused(why: str) -> Rejected:
    return Rejected(why, system=SYSTEM, reason=REFUSED)
