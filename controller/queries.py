"""What windows may ask: every read of the API, the command line and the pages goes through here, and none writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from controller.estimates import Estimate, estimate, is_on_its_way
from controller.records import (
    Condition,
    Event,
    JournalEntry,
    Phase,
    Run,
    SourceState,
    Status,
    TesterBooks,
    TesterRecord,
)
from controller.sightings import Sightings
from controller.status import READY
from controller.store import Store
from reconcilers.facts import GatewayFacts, MachineFacts, OutsideObject, StepFacts

COCKPIT = "/hero_cockpit/web/"  # links always end here (lesson 16)


@dataclass(frozen=True, slots=True)
class TesterSummary:
    """One line of a list."""

    record: TesterRecord
    ready: bool
    reason: str
    message: str
    link: str  # "" while there is no address
    node: str
    since: datetime | None  # of the reason
    until: datetime | None = None  # the limit of the wait that the reason speaks of, or its next try
    blames: str = ""  # who is waited for, or who must act
    retried: bool = False  # `until` is the next try
    estimate: Estimate | None = None  # of the time left; None: it is not on its way, or on a way that nobody knows
    seen_at: datetime | None = None  # when `reason` was last seen to be so; None: not known here


@dataclass(frozen=True, slots=True)
class KnownFacts:
    """What a step learnt. `seen_at`: when it was last seen to be so; None: not known here, but not before `changed_at`."""

    facts: StepFacts
    changed_at: datetime
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class TesterDetail:
    """One tester whole."""

    summary: TesterSummary
    conditions: tuple[Condition, ...]
    seen_at: Mapping[str, datetime | None]  # by condition type: when it was last seen to be so
    facts: tuple[KnownFacts, ...]
    objects: tuple[OutsideObject, ...]
    journal: tuple[JournalEntry, ...]
    events: tuple[Event, ...]

    @property
    def estimate(self) -> Estimate | None:
        return self.summary.estimate


@dataclass(frozen=True, slots=True)
class Past:
    """What estimates are made from: the runs, and when the testers' present machines were begun."""

    runs: tuple[Run, ...]
    begun: Mapping[str, datetime]
    now: datetime


@dataclass(frozen=True, slots=True)
class FleetSummary:
    source: SourceState | None
    phases: dict[Phase, int]
    total: int
    conditions: tuple[Condition, ...] = ()  # of the fleet itself

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is not as it should be with the fleet itself, in words."""
        return tuple(each.message for each in self.conditions if each.status is Status.FALSE)


class Queries:
    """Reads of the store, shaped for people and programs.

    `sightings`: of the controller that runs in this very process; without them, when something was last seen is not known.
    """

    def __init__(self, store: Store, sightings: Sightings | None = None) -> None:
        self._store = store
        self._sightings = sightings if sightings is not None else Sightings()

    async def fleet(self) -> FleetSummary:
        records = await self._store.testers()
        phases = {phase: sum(record.phase is phase for record in records) for phase in Phase}
        return FleetSummary(await self._store.source(), phases, len(records), await self._store.conditions(""))

    async def testers(self) -> tuple[TesterSummary, ...]:
        """Every tester, by name."""
        conditions: dict[str, dict[str, Condition]] = {}
        for one in await self._store.conditions():
            conditions.setdefault(one.tester, {})[one.type] = one
        facts = await self._store.facts_of_all((MachineFacts.step, GatewayFacts.step))
        records = sorted(await self._store.testers(), key=lambda record: record.name)
        past = await self._past([(record, conditions.get(record.name, {})) for record in records])
        return tuple(
            self._summary(record, conditions.get(record.name, {}), facts.get(record.name, {}), past)
            for record in records
        )

    async def tester(self, name: str) -> TesterDetail | None:
        books = await self._store.books(name)
        if books is None:
            return None
        past = await self._past([(books.record, books.conditions)])
        return TesterDetail(
            summary=self._summary(books.record, books.conditions, books.facts, past),
            conditions=tuple(sorted(books.conditions.values(), key=lambda c: (c.since, c.type))),
            seen_at=self._sightings.of_conditions(name, books.conditions),
            facts=self._known_facts(books),
            objects=books.objects,
            journal=await self._store.journal(name, limit=50),
            events=await self._store.events(name, limit=100),
        )

    async def events(self, tester: str | None = None, limit: int = 100, before: int | None = None) -> tuple[Event, ...]:
        """Newest first; `before` is the id of the last one already seen."""
        return await self._store.events(tester, limit, before)

    async def source(self) -> SourceState | None:
        return await self._store.source()

    def _known_facts(self, books: TesterBooks) -> tuple[KnownFacts, ...]:
        name, at = books.record.name, books.facts_at
        return tuple(
            KnownFacts(facts, at[step], self._sightings.of_facts(name, step, at[step]))
            for step, facts in sorted(books.facts.items())
        )

    def _summary(
        self, record: TesterRecord, conditions: Mapping[str, Condition], facts: Mapping[str, StepFacts], past: Past
    ) -> TesterSummary:
        seen_at = self._sightings.of_conditions(record.name, conditions).get(READY)
        return replace(_summary(record, conditions, facts, past), seen_at=seen_at)

    async def _past(self, testers: Iterable[tuple[TesterRecord, Mapping[str, Condition]]]) -> Past:
        """Nothing is read for who is not on its way."""
        now = self._store.clock.now()
        names = [record.name for record, conditions in testers if is_on_its_way(record, conditions, now)]
        if not names:
            return Past((), {}, now)
        return Past(await self._store.runs(), await self._store.begun(MachineFacts.step, names), now)


def _summary(
    record: TesterRecord, conditions: Mapping[str, Condition], facts: Mapping[str, StepFacts], past: Past
) -> TesterSummary:
    ready = conditions.get("Ready")
    cause = _cause(ready, conditions)
    gateway, machine = facts.get("gateway"), facts.get("machine")
    return TesterSummary(
        record=record,
        ready=ready is not None and ready.status is Status.TRUE,
        reason=ready.reason if ready else "Pending",
        message=ready.message if ready else "not looked at yet",
        link=f"https://{gateway.fqdn}{COCKPIT}" if isinstance(gateway, GatewayFacts) else "",
        node=f"{machine.daemon}/{machine.node_sid}" if isinstance(machine, MachineFacts) else "",
        since=ready.since if ready else None,
        until=cause.until if cause else None,
        blames=cause.blames if cause else "",
        retried=cause is not None and cause.retry_at is not None,
        estimate=estimate(record, conditions, past.begun.get(record.name), past.runs, past.now),
    )


def _cause(ready: Condition | None, by_type: Mapping[str, Condition]) -> Condition | None:
    """The condition that Ready speaks of when it is not true: it names it first."""
    if ready is None or ready.status is Status.TRUE:
        return None
    return by_type.get(ready.message.partition(":")[0])
