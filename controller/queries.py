"""What windows may ask: every read of the API, the command line and the pages goes through here, and none writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from controller.records import Condition, Event, JournalEntry, Phase, SourceState, Status, TesterRecord
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


@dataclass(frozen=True, slots=True)
class TesterDetail:
    """One tester whole."""

    summary: TesterSummary
    conditions: tuple[Condition, ...]
    facts: tuple[tuple[StepFacts, datetime], ...]  # each with its age
    objects: tuple[OutsideObject, ...]
    journal: tuple[JournalEntry, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class FleetSummary:
    source: SourceState | None
    phases: dict[Phase, int]
    total: int


class Queries:
    """Reads of the store, shaped for people and programs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def fleet(self) -> FleetSummary:
        records = await self._store.testers()
        phases = {phase: sum(record.phase is phase for record in records) for phase in Phase}
        return FleetSummary(await self._store.source(), phases, len(records))

    async def testers(self) -> tuple[TesterSummary, ...]:
        """Every tester, by name."""
        conditions: dict[str, list[Condition]] = {}
        for one in await self._store.conditions():
            conditions.setdefault(one.tester, []).append(one)
        facts = await self._store.facts_of_all(("machine", "gateway"))
        records = sorted(await self._store.testers(), key=lambda record: record.name)
        return tuple(
            _summary(record, conditions.get(record.name, ()), facts.get(record.name, {})) for record in records
        )

    async def tester(self, name: str) -> TesterDetail | None:
        books = await self._store.books(name)
        if books is None:
            return None
        summary = _summary(books.record, books.conditions.values(), books.facts)
        return TesterDetail(
            summary=summary,
            conditions=tuple(sorted(books.conditions.values(), key=lambda c: (c.since, c.type))),
            facts=tuple((fact, books.facts_at[step]) for step, fact in sorted(books.facts.items())),
            objects=books.objects,
            journal=await self._store.journal(name, limit=50),
            events=await self._store.events(name, limit=100),
        )

    async def events(self, tester: str | None = None, limit: int = 100, before: int | None = None) -> tuple[Event, ...]:
        """Newest first; `before` is the id of the last one already seen."""
        return await self._store.events(tester, limit, before)

    async def source(self) -> SourceState | None:
        return await self._store.source()


def _summary(record: TesterRecord, conditions: Iterable[Condition], facts: Mapping[str, StepFacts]) -> TesterSummary:
    by_type = {one.type: one for one in conditions}
    ready = by_type.get("Ready")
    cause = _cause(ready, by_type)
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
    )


def _cause(ready: Condition | None, by_type: Mapping[str, Condition]) -> Condition | None:
    """The condition that Ready speaks of when it is not true: it names it first."""
    if ready is None or ready.status is Status.TRUE:
        return None
    return by_type.get(ready.message.partition(":")[0])
