"""Tells people what happens to testers, by mail and by webhooks: one letter for all that is new, never one twice.

What was told is an event of its tester, written down once everybody has been told. Who cannot be told now is told later;
after a crash in between somebody may be told again, rather than not at all.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from typing import Final

from controller.news import Kind, News, news_of
from controller.passes.status import LASTING, READY
from controller.queries import FleetSummary
from controller.records import AddEvent, Event, Phase
from controller.store import Store, StoreError
from controller.store.briefs import Outline
from controller.telling.notices import BEGUN, STEP, Ledger, Notice, Standing, due, due_of_fleet, read
from controller.world import World
from reconcilers.backends.mail import Letter
from reconcilers.backends.notice_hooks import Delivery
from reconcilers.clock import Clock
from reconcilers.errors import OutsideError, Rejected
from specs.notify import Notify

log = logging.getLogger("controller")

EVERY: Final = timedelta(seconds=30)
RETRY: Final = timedelta(minutes=1)
GIVEN_UP: Final = timedelta(days=1)
NAMED: Final = 50
"""So many notices stand in one letter; of the others there is the number."""
REMEMBERED: Final = 20_000
"""Events that are read at the start."""
TYPES: Final = (READY, "SignInProtected", "UpdateAvailable", LASTING)
"""Of the conditions that notices tell of."""
_AILING: Final = (Phase.FAILING, Phase.STALLED)


@dataclass
class Batch:
    """Notices that go out together, and who still waits for them (`mail …`, `webhook …`)."""

    notices: tuple[Notice, ...]
    made_at: datetime
    waiting: set[str]
    not_before: datetime


@dataclass
class Noticing:
    """`world`: the one in force. `dashboard`: the public address of the pages, "" for none."""

    store: Store
    clock: Clock
    world: Callable[[], World | None]
    dashboard: str = ""
    _ledger: Ledger | None = None
    _ailing: dict[str, datetime] = field(default_factory=dict)
    _fleet: tuple[bool, datetime] | None = None  # whether it has troubles, and since when
    _batches: list[Batch] = field(default_factory=list)
    _seen: tuple[str, Notify] | None = None  # where the news were, and what was asked for, when it was looked last

    async def look(self) -> None:
        """Find what is new, and tell it. A store that cannot be used is tried the next time."""
        world = self.world()
        if world is None or not _wanted(world.fleet.spec.notify):
            return
        world.users += 1
        try:
            notify, now = world.fleet.spec.notify, self.clock.now()
            news = news_of(self.store)
            position, names = news.position, self._may_be_told(news, notify)
            found = await self._new(names, notify, now) if names is None or names else ()
            self._seen = position, notify
            if found:
                self._batches.append(Batch(found, now, _recipients(notify), now))
            for batch in list(self._batches):
                await self._deliver(batch, world, now)
        except StoreError as error:
            log.warning("notices are not looked for: %s", error)
        finally:
            await world.leave()

    def _may_be_told(self, news: News, notify: Notify) -> Set[str] | None:
        """Of whom there may be something to tell: who was written about since the last look, and what becomes a notice by
        lasting. "" is the fleet; None: everybody."""
        if self._ledger is None or self._seen is None or self._seen[1] != notify:
            return None
        written = news.since(self._seen[0])
        if written is None:
            return None
        topics = (piece.topic for piece in written)
        told_of = {topic.name for topic in topics if topic.kind in (Kind.TESTER, Kind.FLEET)}
        return told_of | self._ailing.keys() | self._ledger.open

    async def _new(self, names: Set[str] | None, notify: Notify, now: datetime) -> tuple[Notice, ...]:
        outlines = await self.store.outlines(TYPES, names)
        if self._ledger is None:
            events = await self.store.events(limit=REMEMBERED, only={"step": STEP})
            self._ledger = read(events, now)
            if all(event.reason != BEGUN for event in events):
                text = f"{', '.join(sorted(_recipients(notify)))} will be told from now on"
                await self.store.write(AddEvent(Event("", STEP, BEGUN, text, now)))
        self._ledger.keep(outlines.keys(), names)
        self._ailing = {name: since for name, since in self._ailing.items() if name in outlines}
        found: list[Notice] = []
        for name, outline in outlines.items():
            self._follow(outline, now)
            ready, door, update, lasting = map(outline.conditions.get, TYPES)
            seen = Standing(outline, ready, door, update, lasting, self._ailing.get(name))
            found += due(seen, self._ledger, notify, now)
        found += due_of_fleet(*await self._of_fleet(now), self._ledger, notify, now)
        for notice in found:
            self._ledger.put(notice, now)
        return tuple(found)

    def _follow(self, outline: Outline, now: datetime) -> None:
        """How long it has been ailing, whatever it says of why by now."""
        ready = outline.conditions.get(READY)
        if outline.phase not in _AILING:
            self._ailing.pop(outline.name, None)
        else:
            self._ailing.setdefault(outline.name, min(now, ready.since) if ready is not None else now)

    async def _of_fleet(self, now: datetime) -> tuple[tuple[str, ...], datetime]:
        troubles = FleetSummary(None, {}, 0, await self.store.conditions("")).troubles
        if self._fleet is None or self._fleet[0] != bool(troubles):
            self._fleet = bool(troubles), now
        return troubles, self._fleet[1]

    async def _deliver(self, batch: Batch, world: World, now: datetime) -> None:
        if now < batch.not_before:
            return
        for recipient in sorted(batch.waiting):
            try:
                await self._tell(recipient, batch, world)
            except Rejected as error:
                log.warning("%s takes no notice: %s", recipient, error)
            except OutsideError as error:
                log.warning("%s is not told yet: %s", recipient, error)
                continue
            batch.waiting.discard(recipient)
        if batch.waiting and now - batch.made_at < GIVEN_UP:
            batch.not_before = now + RETRY
            return
        self._batches.remove(batch)
        await self.store.write(
            *(AddEvent(Event(each.tester, STEP, each.reason, each.text, now)) for each in batch.notices)
        )

    async def _tell(self, recipient: str, batch: Batch, world: World) -> None:
        way, _, whom = recipient.partition(" ")
        subject, text = in_words(batch.notices, self.dashboard)
        key = hashlib.sha256(f"{recipient}\n{batch.made_at}\n{text}".encode()).hexdigest()[:32]
        if way == "mail":
            html = "".join(f"<p>{escape(line)}</p>" for line in text.splitlines() if line)
            await world.backends.mail.send(Letter(whom, subject, text, html, key))
            return
        hook = world.backends.hooks.get(whom)
        if hook is None:  # the Fleet names it no more
            return
        told = [
            {"kind": each.kind, "reason": each.reason, "tester": each.tester or None, "message": each.text}
            | {"since": each.since.isoformat()}
            for each in batch.notices
        ]
        await hook.send(Delivery(f"{subject}\n{text}", told, key))


def in_words(notices: tuple[Notice, ...], dashboard: str) -> tuple[str, str]:
    """Subject and text."""
    lines = [f"{each.text} (since {each.since:%Y-%m-%d %H:%M} UTC)" for each in notices[:NAMED]]
    if len(notices) > NAMED:
        lines.append(f"… and {len(notices) - NAMED} more")
    subject = notices[0].text if len(notices) == 1 else f"{len(notices)} notices on testers"
    return "".join(sign if sign.isprintable() else " " for sign in subject)[:150], "\n".join(
        [*lines, *([f"\n{dashboard}"] if dashboard else [])]
    )


def _wanted(notify: Notify) -> bool:
    return bool(notify.mail or notify.hooks)


def _recipients(notify: Notify) -> set[str]:
    return {*(f"mail {address}" for address in notify.mail), *(f"webhook {hook.name}" for hook in notify.hooks)}
