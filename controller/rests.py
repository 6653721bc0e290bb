"""What testers at rest rest on, as the store keeps it, so that after a start they need one look and one comparison only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BooksMark:
    """What stands for everything that the books say of one tester, but for the hours of its proofs.

    `digest` is another one as soon as anybody, of whatever version, has written something else. `hours`: by step, the facts
    that hold hours, as they lie there.
    """

    digest: bytes
    hours: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PutRest:
    """Insert or replace what a tester rests on. `mark`: over `body` and all that it may be believed with; neither tells anything
    secret."""

    tester: str
    mark: bytes
    body: str


@dataclass(frozen=True, slots=True)
class KeptRest:
    """A row as it was read, and the books of the same moment."""

    mark: bytes
    body: str
    books: BooksMark
