"""Tells people what happens to testers, by mail and by webhooks: one letter for all that is new, never one twice.

What was told is an event of its tester, written down once everybody has been told. Who cannot be told now is told later;
after a crash in between somebody may be told again, rather than not at all.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from html import escape
from typing import Final

from controller.passes.status import LASTING, READY
from controller.queries import FleetSummary
from controller.records import AddEvent, Condition, Event, Phase
from controller.store import Store, StoreError
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
    _seen: tuple[int, Notify] | None = None  # commits of the store, and what was asked for, when it was looked last

    async def look(self) -> None:
        """Find what is new, and tell it. A store that cannot be used is tried the next time."""
        world = self.world()
        if world is None or not _wanted(world.fleet.spec.notify):
            return
        world.users += 1
        try:
            notify, now = world.fleet.spec.notify, self.clock.now()
            commits = self.store.commits
            found = () if self._is_quiet(commits, notify) else await self._new(notify, now)
            self._seen = commits, notify
            if found:
                self._batches.append(Batch(found, now, _recipients(notify), now))
            for batch in list(self._batches):
                await self._deliver(batch, world, now)
        except StoreError as error:
            log.warning("notices are not looked for: %s", error)
        finally:
            await world.leave()

    def _is_quiet(self, commits: int, notify: Notify) -> bool:
        """Nothing was written since the last look, and nothing becomes news by lasting."""
        lasting = self._ailing or self._ledger is None or self._ledger.open
        return self._seen == (commits, notify) and not lasting

    async def _new(self, notify: Notify, now: datetime) -> tuple[Notice, ...]:
        records = await self.store.testers()
        if self._ledger is None:
            events = await self.store.events_of_step(STEP, REMEMBERED)
            self._ledger = read(events, now)
            if all(event.reason != BEGUN for event in events):
                text = f"{', '.join(sorted(_recipients(notify)))} will be told from now on"
                await self.store.write(AddEvent(Event("", STEP, BEGUN, text, now)))
        names = {record.name for record in records}
        self._ledger.keep(names)
        self._ailing = {name: since for name, since in self._ailing.items() if name in names}
        ready, door = await self._of_type(READY), await self._of_type("SignInProtected")
        update, lasting = await self._of_type("UpdateAvailable"), await self._of_type(LASTING)
        found: list[Notice] = []
        for record in records:
            name = record.name
            self._follow(name, record.phase, ready.get(name), now)
            ailing = self._ailing.get(name)
            seen = Standing(record, ready.get(name), door.get(name), update.get(name), lasting.get(name), ailing)
            found += due(seen, self._ledger, notify, now)
        found += due_of_fleet(*await self._of_fleet(now), self._ledger, notify, now)
        for notice in found:
            self._ledger.put(notice, now)
        return tuple(found)

    async def _of_type(self, kind: str) -> Mapping[str, Condition]:
        return {each.tester: each for each in await self.store.conditions_of_type(kind)}

    def _follow(self, name: str, phase: Phase, ready: Condition | None, now: datetime) -> None:
        """How long it has been ailing, whatever it says of why by now."""
        if phase not in _AILING:
            self._ailing.pop(name, None)
        else:
            self._ailing.setdefault(name, min(now, ready.since) if ready is not None else now)

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
