"""What a check-up asks of each system, and what comes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Of one question. UNKNOWN: it could not be asked, or there is nothing to ask."""

    GOOD = "good"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer. `detail`: what was seen, or what is wrong; `mend`: what to do about it, "" when `detail` says so."""

    system: str
    what: str
    verdict: Verdict
    detail: str = ""
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """`ask` returns what was seen, or raises Ailing, Untold or an OutsideError. `mend` is for the last of these."""

    what: str
    ask: Callable[[], Awaitable[str]]
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """The questions to one system: when the first one's answer is wrong, the others are not asked."""

    system: str
    first: Question
    others: tuple[Question, ...] = ()


class Ailing(Exception):
    """It answers, and something is wrong with it."""

    def __init__(self, detail: str, mend: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.mend = mend


class Untold(Exception):
    """It cannot be known now; the message says why."""


def demand(there: bool, why_not: str) -> None:
    """Raises Untold unless something is there without which nothing can be asked."""
    if not there:
        raise Untold(why_not)
