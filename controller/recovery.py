"""What becomes of calls that were under way when an earlier process ended: unknown, so the next look decides (law 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from controller.promises import longest_limits
from controller.records import AddEvent, Change, Event, JournalEntry, Outcome, PutJournal, PutObject, Severity
from reconcilers.facts import OutsideObject

ENDED = "the controller ended during the call"


def unknown_now(entries: Sequence[JournalEntry], rows: Iterable[OutsideObject], now: datetime) -> list[Change]:
    """The changes that say so. `entries` without an end; `rows` that are intended: a call may have been sent just before the end,
    so that its limit counts from now."""
    closed = [PutJournal(replace(entry, outcome=Outcome.UNKNOWN, ended_at=now, detail=ENDED)) for entry in entries]
    limits = longest_limits(entries)
    moved = [
        PutObject(replace(row, deadline=max(row.deadline, now + limit)))
        for row in rows
        if (limit := limits.get((row.tester, row.step))) is not None and row.deadline is not None
    ]
    return [*closed, *moved, *(AddEvent(_told(entry, now)) for entry in entries)]


def _told(entry: JournalEntry, now: datetime) -> Event:
    text = f"{entry.verb} {entry.target}: {ENDED}; the next look decides"
    return Event(entry.tester, entry.step, "OutcomeUnknown", text, now, Severity.WARNING, entry.generation)
