"""Which notices are due: each thing is told once, and that it is over only after it has stayed so. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from controller.records import Condition, Event, Phase, Status
from controller.store.briefs import Outline
from specs.notify import NoticeKind, Notify

STEP: Final = "notices"
"""Of the events that say who was told what."""
BEGUN: Final = "NoticesBegun"

READY: Final = "ToldReady"
FAILING: Final = "ToldFailing"
RECOVERED: Final = "ToldRecovered"
DOOR_OPEN: Final = "ToldDoorOpen"
DOOR_SHUT: Final = "ToldDoorProven"
UPDATE: Final = "ToldUpdate"
EXPIRING: Final = "ToldExpiring"

KIND_OF: Final[Mapping[str, NoticeKind]] = {
    READY: "ready",
    FAILING: "failing",
    RECOVERED: "failing",
    DOOR_OPEN: "door",
    DOOR_SHUT: "door",
    UPDATE: "update",
    EXPIRING: "expiring",
}
"""By the reason of the event that says that it was told."""

_AILING: Final = frozenset({Phase.FAILING, Phase.STALLED})


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell. `tester`: "" for the fleet. `since`: when it came about."""

    tester: str
    reason: str
    text: str
    since: datetime

    @property
    def kind(self) -> NoticeKind:
        return KIND_OF[self.reason]


@dataclass(frozen=True, slots=True)
class Standing:
    """A tester as notices see it. `ailing_since`: how long it has been failing or standing still, None when it is not."""

    record: Outline
    ready: Condition | None = None
    door: Condition | None = None
    update: Condition | None = None
    lasting: Condition | None = None
    ailing_since: datetime | None = None


@dataclass
class Ledger:
    """What was told last, by tester and kind: the reason, the words, and when. `begun`: who was added before is not told to
    be Ready."""

    begun: datetime
    told: dict[tuple[str, NoticeKind], tuple[str, str, datetime]] = field(default_factory=dict)
    awaited: set[str] = field(default_factory=set)
    """Who was seen before it was ever Ready."""

    @property
    def open(self) -> set[str]:
        """Of whom something was told that may be told to be over; "" for the fleet."""
        return {tester for (tester, _), (reason, _, _) in self.told.items() if reason in (FAILING, DOOR_OPEN)}

    def put(self, notice: Notice, at: datetime) -> None:
        self.told[notice.tester, notice.kind] = notice.reason, notice.text, at

    def keep(self, testers: Set[str], of: Set[str] | None = None) -> None:
        """Forget everybody else, or everybody else of these, but the fleet: what was told of a namesake who is gone counts for
        nobody."""
        known = {tester for tester, _ in self.told} | self.awaited if of is None else of
        gone = known - testers - {""}
        if gone:
            self.told = {about: what for about, what in self.told.items() if about[0] not in gone}
            self.awaited -= gone

    def last(self, tester: str, kind: NoticeKind, added: datetime | None = None) -> tuple[str, str]:
        """What was told of an earlier tester of the same name does not count."""
        reason, text, at = self.told.get((tester, kind), ("", "", None))
        return (reason, text) if at is None or added is None or at > added else ("", "")


def read(events: tuple[Event, ...], now: datetime) -> Ledger:
    """From the events of STEP, newest first."""
    ledger = Ledger(next((event.at for event in events if event.reason == BEGUN), now))
    for event in reversed(events):
        if event.reason in KIND_OF:
            about = event.tester, KIND_OF[event.reason]
            ledger.told[about] = event.reason, event.message, event.last_at or event.at
    return ledger


def due(seen: Standing, ledger: Ledger, notify: Notify, now: datetime) -> Iterator[Notice]:
    """What is to be told of one tester now."""
    record = seen.record
    if record.ready_at is None:
        ledger.awaited.add(record.name)
    if record.leaving:
        return
    every = (*_ready(seen, ledger), *_failing(seen, ledger, notify, now), *_door(seen, ledger, notify, now))
    for notice in (*every, *_told_by(seen, ledger)):
        if notice.kind in notify.about:
            yield notice


def _ready(seen: Standing, ledger: Ledger) -> Iterator[Notice]:
    record = seen.record
    new = record.added_at >= ledger.begun or record.name in ledger.awaited
    if record.phase is Phase.READY and record.ready_at is not None and new and not _last(seen, ledger, "ready")[0]:
        yield Notice(record.name, READY, f"{record.name} is ready", record.ready_at)


def _failing(seen: Standing, ledger: Ledger, notify: Notify, now: datetime) -> Iterator[Notice]:
    record, ready = seen.record, seen.ready
    told = _last(seen, ledger, "failing")[0] == FAILING
    if record.phase in _AILING and seen.ailing_since is not None and not told:
        stuck = record.phase is Phase.STALLED
        if stuck or now - seen.ailing_since >= notify.failing_for:
            why = ready.message if ready is not None else "not looked at yet"
            how = "waits for a person" if stuck else "has been failing"
            yield Notice(record.name, FAILING, f"{record.name} {how}: {why}", seen.ailing_since)
    well_since = _lastingly_so(ready, notify, now)
    if told and record.phase is Phase.READY and well_since is not None:
        yield Notice(record.name, RECOVERED, f"{record.name} is ready again", well_since)


def _door(seen: Standing, ledger: Ledger, notify: Notify, now: datetime) -> Iterator[Notice]:
    name, door = seen.record.name, seen.door
    told = _last(seen, ledger, "door")[0] == DOOR_OPEN
    if door is not None and door.status is Status.FALSE and not told:
        yield Notice(name, DOOR_OPEN, f"the door of {name} was found open: {door.message}", door.since)
    proven_since = _lastingly_so(door, notify, now)
    if told and proven_since is not None:
        yield Notice(name, DOOR_SHUT, f"the door of {name} is proven to ask for sign-in again", proven_since)


def _last(seen: Standing, ledger: Ledger, kind: NoticeKind) -> tuple[str, str]:
    return ledger.last(seen.record.name, kind, seen.record.added_at)


def _lastingly_so(condition: Condition | None, notify: Notify, now: datetime) -> datetime | None:
    """Since when it has been true, once that is long enough to be told."""
    if condition is None or condition.status is not Status.TRUE or now - condition.since < notify.recovered_for:
        return None
    return condition.since


def _told_by(seen: Standing, ledger: Ledger) -> Iterator[Notice]:
    """What has no end of its own: told again when it says something else."""
    name, update, lasting = seen.record.name, seen.update, seen.lasting
    if update is not None and update.status is Status.TRUE:
        text = f"{name}: {update.message}"
        if _last(seen, ledger, "update")[1] != text:
            yield Notice(name, UPDATE, text, update.since)
    if lasting is not None and lasting.status is Status.FALSE:
        text = f"{name}: {lasting.message}"
        if _last(seen, ledger, "expiring")[1] != text:
            yield Notice(name, EXPIRING, text, lasting.since)


def due_of_fleet(
    troubles: tuple[str, ...], since: datetime, ledger: Ledger, notify: Notify, now: datetime
) -> Iterator[Notice]:
    """Of the fleet itself: a trouble of everybody's, at once. `since`: when there came to be some, or none."""
    if "failing" not in notify.about:
        return
    told = ledger.last("", "failing")[0] == FAILING
    if troubles and not told:
        yield Notice("", FAILING, f"the fleet: {'; '.join(troubles)}", since)
    if told and not troubles and now - since >= notify.recovered_for:
        yield Notice("", RECOVERED, "the fleet: all is well again", since)
