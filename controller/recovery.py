"""What becomes of calls that were under way when an earlier process ended: unknown, so that the next look decides (law 2); but of
one that had not had its turn yet it is known that it was not sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from controller.passes.rows import UNSENT, never_sent
from controller.promises import longest_limits
from controller.records import AddEvent, Change, Event, JournalEntry, Outcome, PutJournal, PutObject, Severity
from reconcilers.facts import OutsideObject

ENDED = "the controller ended during the call"
NOT_SENT = "the controller ended before it was sent"


def known_now(entries: Sequence[JournalEntry], rows: Sequence[OutsideObject], now: datetime) -> list[Change]:
    """The changes that say so. `entries` without an end; `rows` that are intended."""
    waited = {row.identity[UNSENT] for row in rows if UNSENT in row.identity}
    unsent = {entry.id: entry for entry in entries if entry.id in waited}
    gone = [never_sent(row, now) for row in rows if row.identity.get(UNSENT) in unsent]
    others = [entry for entry in entries if entry.id not in unsent]
    left = [row for row in rows if row.identity.get(UNSENT) not in unsent]
    return [*_closed(unsent.values(), Outcome.FAILED, NOT_SENT, now), *gone, *_unknown(others, left, now)]


def _unknown(entries: Sequence[JournalEntry], rows: Iterable[OutsideObject], now: datetime) -> list[Change]:
    """A call may have been sent just before the end, so that its limit counts from now."""
    limits = longest_limits(entries)
    moved = [
        PutObject(replace(row, deadline=max(row.deadline, now + limit)))
        for row in rows
        if (limit := limits.get((row.tester, row.step))) is not None and row.deadline is not None
    ]
    return [*_closed(entries, Outcome.UNKNOWN, ENDED, now), *moved]


def _closed(entries: Iterable[JournalEntry], outcome: Outcome, why: str, now: datetime) -> list[Change]:
    unknown = outcome is Outcome.UNKNOWN
    reason, more = ("OutcomeUnknown", "; the next look decides") if unknown else ("ActionFailed", "")
    changes: list[Change] = []
    for entry in entries:
        text = f"{entry.verb} {entry.target}: {why}{more}"
        event = Event(entry.tester, entry.step, reason, text, now, Severity.WARNING, entry.generation)
        changes += [PutJournal(replace(entry, outcome=outcome, ended_at=now, detail=why)), AddEvent(event)]
    return changes
