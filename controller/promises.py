"""What the books and the journal tell of calls and machines that were promised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from controller.records import JournalEntry
from reconcilers.facts import ObjectState, OutsideObject, Promise, RoomFacts
from reconcilers.quarantine import PLACED

CLOCKS_APART = timedelta(minutes=1)
"""As far as those of two replicas may be: what one has just written down is the other's as well."""


def longest_limits(entries: Sequence[JournalEntry]) -> dict[tuple[str, str], timedelta]:
    """By tester and step, of which several calls may have been under way: an entry does not tell its row."""
    limits: dict[tuple[str, str], timedelta] = {}
    for entry in entries:
        if entry.limit_at is not None:
            key = entry.tester, entry.step
            limits[key] = max(limits.get(key, timedelta(0)), entry.limit_at - entry.began_at)
    return limits


def promise_of(row: OutsideObject, now: datetime) -> Promise | None:
    """What a machine's row says of the room that it was given; None for a row from before its place was chosen.

    Its age counts from then: what became of the row since, that it was answered, lost sight of or found again, makes it no
    younger, or a node's readout would have it as well. A row that does not tell counts from its last change.
    """
    told = row.identity
    if row.since is None or not {"daemon", "node_sid", "memory_mb", "disk_gb"} <= set(told):
        return None
    size = int(told["memory_mb"]), int(told["disk_gb"])
    placed = datetime.fromisoformat(told[PLACED]) if PLACED in told else row.since
    making = row.state is ObjectState.INTENDED
    return Promise(row.tester, told["daemon"], told["node_sid"], *size, now - placed, making)


def all_promises(
    rows: Iterable[OutsideObject], rooms: Mapping[str, RoomFacts], now: datetime, limit: timedelta
) -> tuple[Promise, ...]:
    """What rows of machines tell, and by tester the room of those of whom they do not tell yet. `limit`: how long it is kept."""
    told = [promise for row in rows if (promise := promise_of(row, now)) is not None]
    placed = {promise.tester for promise in told}
    kept = {name: room for name, room in rooms.items() if name not in placed and is_kept(room, now, limit)}
    return (*told, *(_foreseen(name, room) for name, room in kept.items()))


def is_kept(room: RoomFacts, now: datetime, limit: timedelta) -> bool:
    """Not what would be kept for longer than the limit: it was written down before the clock was set back."""
    return now < room.until <= now + limit + CLOCKS_APART


def room_of(promise: Promise, until: datetime) -> RoomFacts:
    """A promise to who is let begin, as the books keep it."""
    size = {"memory_mb": promise.memory_mb, "disk_gb": promise.disk_gb}
    return RoomFacts(daemon=promise.daemon, node_sid=promise.node_sid, until=until, **size)


def _foreseen(tester: str, room: RoomFacts) -> Promise:
    size = room.memory_mb, room.disk_gb
    return Promise(tester, room.daemon, room.node_sid, *size, timedelta(0), making=True, foreseen=True)
