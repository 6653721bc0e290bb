"""What the store keeps of who looks through the windows: bearer tokens of programs, and sessions of people that were ended.

Of both the hashes, never they themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A bearer token of a program that looks through the windows. `hash`: SHA-256 of the token, in hex."""

    name: str
    hash: str = field(repr=False)
    made_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = None  # to about ten minutes; None: never


@dataclass(frozen=True, slots=True)
class PutToken:
    """Insert or replace a bearer token."""

    record: TokenRecord


@dataclass(frozen=True, slots=True)
class DropToken:
    """A bearer token is revoked."""

    name: str


@dataclass(frozen=True, slots=True)
class NoteTokenUse:
    """A bearer token was used; nothing is done when it was revoked, or made anew, meanwhile."""

    name: str
    hash: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EndSession:
    """Nobody is signed in with it any more. `hash`: SHA-256 of its id, in hex; `until`: when it would have ended by itself."""

    hash: str
    until: datetime
