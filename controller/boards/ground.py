"""What every board of the whole fleet stands on: rows, `Ready` and facts of all testers, read at most once between two commits.

A page of a thousand testers asks for parts of itself whenever something changes; all of them share one reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.quarantine import IN_QUARANTINE
from controller.records import Condition, SourceState, Status, TesterRecord
from controller.status import NEEDED_FINDINGS, READY
from controller.store import Store
from controller.store.briefs import Brief
from reconcilers.facts import GatewayFacts, MachineFacts, StepFacts

OLDEST = timedelta(seconds=2)
"""So old a reading may be although this process has written nothing since: another one may have."""

_ONE_OF_EACH = ("OneMachine", "OneGateway", "OneSignInApp")


@dataclass(frozen=True)
class Ground:
    """All testers, by name; their `Ready`, open doors and quarantine by tester; where machines and gateways are."""

    records: tuple[TesterRecord, ...]
    ready: Mapping[str, Condition]
    open_doors: tuple[Condition, ...]
    quarantined: tuple[Condition, ...]
    facts: Mapping[str, Mapping[str, StepFacts]]
    fleet: tuple[Condition, ...]
    source: SourceState | None
    read_at: datetime

    def node_of(self, name: str) -> str:
        """`gent/0001`; "" while a tester has no machine."""
        machine = self.facts.get(name, {}).get(MachineFacts.step)
        return f"{machine.daemon}/{machine.node_sid}" if isinstance(machine, MachineFacts) else ""


@dataclass
class GroundKeeper:
    """Keeps the last reading while nothing was written."""

    store: Store
    _kept: Ground | None = None
    _commits: int = -1
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def now(self) -> Ground:
        """Raises StoreError."""
        async with self._reading:
            commits, now = self.store.commits, self.store.clock.now()
            kept = self._kept
            if kept is None or commits != self._commits or not kept.read_at <= now < kept.read_at + OLDEST:
                kept = self._kept = await _read(self.store, now)
                self._commits = commits
            return kept


async def _read(store: Store, now: datetime) -> Ground:
    ready = await store.conditions_of_type(READY)
    doors = [one for kind in NEEDED_FINDINGS for one in await store.conditions_of_type(kind)]
    beside = [one for kind in _ONE_OF_EACH for one in await store.conditions_of_type(kind)]
    return Ground(
        records=await store.testers(),
        ready={one.tester: one for one in ready},
        open_doors=tuple(one for one in doors if one.status is Status.FALSE),
        quarantined=tuple(one for one in beside if one.reason == IN_QUARANTINE),
        facts=await store.facts_of_all((MachineFacts.step, GatewayFacts.step)),
        fleet=await store.conditions(""),
        source=await store.source(),
        read_at=now,
    )


def ground_of(
    testers: Iterable[Brief], fleet: tuple[Condition, ...], source: SourceState | None, now: datetime
) -> Ground:
    """The same from what is at hand already."""
    every = tuple(testers)
    told = [one for each in every for one in each.conditions.values()]
    return Ground(
        records=tuple(each.record for each in every),
        ready={each.record.name: each.conditions[READY] for each in every if READY in each.conditions},
        open_doors=tuple(one for one in told if one.type in NEEDED_FINDINGS and one.status is Status.FALSE),
        quarantined=tuple(one for one in told if one.type in _ONE_OF_EACH and one.reason == IN_QUARANTINE),
        facts={each.record.name: each.facts for each in every},
        fleet=fleet,
        source=source,
        read_at=now,
    )
