"""What Forge's JSON becomes: frozen values, and the functions that read them.

A wrong shape raises AttributeError, KeyError, TypeError or ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from reconcilers.errors import Transient, Unreachable
from reconcilers.secret import Secret

UNKNOWN_SOURCE = -1


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account. `prohibited` None: it is not shown to us. `source_id` 0: a local account; -1: unknown."""

    id: int
    login: str
    email: str
    full_name: str = ""
    prohibited: bool | None = None
    source_id: int = 0
    login_name: str = ""
    is_admin: bool = False


@dataclass(frozen=True, slots=True)
class OAuthApp:
    """An OAuth app, without its secret: listings never show one (V)."""

    id: int
    name: str
    client_id: str
    redirect_uris: tuple[str, ...]
    confidential: bool
    created_at: datetime | None = None  # None: it is not told


@dataclass(frozen=True, slots=True)
class NewOAuthApp:
    """An app together with its secret, which Forge tells only now (V)."""

    app: OAuthApp
    client_secret: Secret


@dataclass(frozen=True, slots=True)
class Release:
    """A release; `assets` are the names of its files.

    `etag` and `last_modified` are what the server calls this state of it, "" when it does not say: what it is asked for
    the next time.
    """

    tag: str
    name: str
    target_commitish: str
    published_at: str
    assets: tuple[str, ...] = ()
    etag: str = field(default="", compare=False)
    last_modified: str = field(default="", compare=False)


def account_of(body: Any) -> Account:
    """An account from a user's JSON."""
    login = _text(body, "login")
    login_name = str(body.get("login_name") or "")
    source = body.get("source_id")
    if source is None:
        # Older servers do not show the source; a local account's login name is empty or its own name there (P).
        source = 0 if login_name.lower() in ("", login.lower()) else UNKNOWN_SOURCE
    prohibited = body.get("prohibit_login")
    return Account(
        id=_number(body, "id"),
        login=login,
        email=str(body.get("email") or ""),
        full_name=str(body.get("full_name") or ""),
        prohibited=prohibited if isinstance(prohibited, bool) else None,
        source_id=int(source),
        login_name=login_name,
        is_admin=body.get("is_admin") is True,
    )


def app_of(body: Any) -> OAuthApp:
    """An OAuth app from its JSON."""
    return OAuthApp(
        id=_number(body, "id"),
        name=_text(body, "name"),
        client_id=_text(body, "client_id"),
        redirect_uris=tuple(str(uri) for uri in body.get("redirect_uris") or ()),
        confidential=body.get("confidential_client") is True,
        created_at=_moment(body.get("created")),
    )


def new_app_of(body: Any) -> NewOAuthApp:
    """An app and the secret that was just made. Without the secret the answer is worth nothing: ValueError."""
    return NewOAuthApp(app_of(body), Secret(_text(body, "client_secret")))


def release_of(body: Any, headers: Mapping[str, str] = MappingProxyType({})) -> Release:
    """A release from its JSON, and from the headers of the answer that held it."""
    return Release(
        tag=_text(body, "tag_name"),
        name=str(body.get("name") or ""),
        target_commitish=str(body.get("target_commitish") or ""),
        published_at=str(body.get("published_at") or ""),
        assets=tuple(str(asset["name"]) for asset in body.get("assets") or ()),
        etag=headers.get("ETag", ""),
        last_modified=headers.get("Last-Modified", ""),
    )


def if_changed(known: Release | None) -> dict[str, str]:
    """The headers that ask only for news. Of the two that say what we have, a server believes the ETag."""
    asked = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified} if known else {}
    return {name: value for name, value in asked.items() if value}


def latest_of(
    answers: Mapping[str, Release | BaseException | None], known: Mapping[str, Release]
) -> Mapping[str, Release]:
    """Component → its release, from one answer or failure each; an unclear answer leaves what is known.

    Raises a failure that leaves nothing to believe: of a component that is not known, of all of them, or one that says
    more than that this one question went wrong.
    """
    failures = [answer for answer in answers.values() if isinstance(answer, BaseException)]
    found = {}
    for name, answer in answers.items():
        unclear = isinstance(answer, Transient) and not isinstance(answer, Unreachable)
        if isinstance(answer, BaseException) and not (unclear and name in known and len(failures) < len(answers)):
            raise answer
        release = known[name] if isinstance(answer, BaseException) else answer
        if release is not None:
            found[name] = release
    return found


def _moment(told: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(told))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _text(body: Any, key: str) -> str:
    value = body[key]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is not a text")
    return value


def _number(body: Any, key: str) -> int:
    value = body[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{key} is not a number")
    return value
