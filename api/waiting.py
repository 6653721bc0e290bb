"""What is waited for: by a tester, in words of its conditions; and by a person, until something holds of a tester."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from api.words import ahead, one_line, span
from controller.queries import TesterDetail
from controller.records import Condition, Phase, Status, TesterRecord

READY, REMOVED = "Ready", "Removed"


def whom(blames: str, until: datetime | None, now: datetime, *, retried: bool = False, failures: int = 0) -> str:
    """`Forge, next try in 12 s after 3 failures`, `grid, limit in 4 min`, `grid, 2 min over its limit`; "" for nobody."""
    parts = [one_line(blames)] if blames else []
    if until is not None and retried:
        after = f" after {failures} failure{'s' if failures > 1 else ''}" if failures else ""
        parts.append(f"next try {ahead(until, now)}{after}")
    elif until is not None:
        left = until - now
        parts.append(f"limit {ahead(until, now)}" if until > now else f"{span(-left)} over its limit")
    return ", ".join(parts)


def whom_of(one: Condition, now: datetime) -> str:
    """The same of a condition that is not true."""
    if one.status is Status.TRUE:
        return ""
    return whom(one.blames, one.until, now, retried=one.retry_at is not None, failures=one.failures)


def paused(record: TesterRecord) -> str:
    """`paused by mik until 2026-12-05: demo on Friday`; "" for who is not."""
    pause = record.desired.paused
    if record.phase is not Phase.PAUSED or pause is None:
        return ""
    until = f" until {pause.until}" if pause.until is not None else ""
    return one_line(f"paused by {pause.by}{until}: {pause.reason}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person waits for: `Ready`, `Removed`, or the type of a condition."""

    name: str
    what: str

    def means(self, word: str) -> bool:
        """Whether it is this word, however it is written."""
        return self.what.casefold() == word.casefold()


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with a wish. `final`: it cannot come true any more. `there`: somebody of that name is known."""

    holds: bool
    words: str
    there: bool = True
    final: bool = False


def standing(wish: Wish, detail: TesterDetail | None, now: datetime, *, seen: bool) -> Standing:
    """`seen`: the tester was there before."""
    if detail is None:
        return _absent(wish, seen=seen)
    if wish.means(REMOVED):
        return _removed(detail)
    if wish.means(READY):
        return _ready(detail, now)
    return _condition(wish, detail, now)


def _absent(wish: Wish, *, seen: bool) -> Standing:
    if wish.means(REMOVED):
        words = f"{wish.name} is removed." if seen else f"There is no tester {wish.name}: nothing is left to remove."
        return Standing(True, words, there=False)
    if seen:
        return Standing(False, f"{wish.name} was removed meanwhile.", there=False, final=True)
    return Standing(False, f"There is no tester {wish.name}.", there=False)


def _removed(detail: TesterDetail) -> Standing:
    record = detail.summary.record
    if record.phase is Phase.EXPIRED:
        words = f"{record.name} has expired and everything of it is gone; only {record.source_file} still names it."
        return Standing(True, words)
    if not record.leaving:
        return Standing(False, f"{record.name} is not being removed: {record.source_file} still asks for it.")
    return Standing(
        False, f"{record.name} is still being removed: {one_line(record.current or detail.summary.message)}"
    )


def _ready(detail: TesterDetail, now: datetime) -> Standing:
    record, summary = detail.summary.record, detail.summary
    if summary.ready and record.observed_generation == record.generation and not record.leaving:
        return Standing(True, f"{record.name} is Ready: {summary.link}")
    if summary.ready:
        return Standing(False, f"{record.name} is not Ready: its newest spec has not been looked through yet.")
    who = whom(summary.blames, summary.until, now, retried=summary.retried)
    told = f"{summary.reason}: {one_line(summary.message)}" + (f" ({who})" if who else "")
    return Standing(False, f"{record.name} is not Ready: {record.phase} {record.progress}%, {told}")


def _condition(wish: Wish, detail: TesterDetail, now: datetime) -> Standing:
    name, generation = detail.summary.record.name, detail.summary.record.generation
    found = next((one for one in detail.conditions if wish.means(one.type)), None)
    if found is None:
        known = ", ".join(sorted(one.type for one in detail.conditions)) or "none yet"
        return Standing(False, f"{name} has no condition {wish.what}; there are: {known}")
    if found.status is Status.TRUE and found.generation == generation:
        return Standing(True, f"{name}: {found.type} is True, {found.reason}: {one_line(found.message)}")
    if found.status is Status.TRUE:
        return Standing(False, f"{name}: {found.type} is True of an older spec; the newest is not looked through yet.")
    who = whom_of(found, now)
    told = f"{found.reason}: {one_line(found.message)}" + (f" ({who})" if who else "")
    return Standing(False, f"{name}: {found.type} is {found.status}, {told}")
