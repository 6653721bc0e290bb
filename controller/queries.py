"""What windows may ask: every read of the API, the command line and the pages goes through here, and none writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from controller.boards.components import versions_of
from controller.boards.ground import Ground, ground_of
from controller.estimates import Estimate, estimate, is_on_its_way
from controller.listing import Wish, chosen
from controller.passes.status import READY, STALLED
from controller.quarantine import IN_QUARANTINE, Quarantined, quarantined
from controller.records import (
    Condition,
    Event,
    JournalEntry,
    Phase,
    RevisionRecord,
    Run,
    Severity,
    SourceState,
    Status,
    TesterBooks,
    TesterRecord,
)
from controller.revisions import judged, revision_had, superseded
from controller.shelf import STEPS, Shelf
from controller.sightings import Sightings
from controller.store import Store
from controller.store.briefs import Brief
from controller.store.tables import MOST_REVISIONS
from reconcilers.facts import GatewayFacts, MachineFacts, OutsideObject, StepFacts

COCKPIT = "/hero_cockpit/web/"  # links always end here (lesson 16)
LOOKED_BACK = 100  # revisions, for which one a tester is as


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
    beside: tuple[str, ...] = ()  # what stands in quarantine, in words
    versions: Mapping[str, str] = field(default_factory=dict)  # seen to be installed, by component
    newer: str = ""  # which newer versions are published, in words
    # which it was last seen to be as, "" when unknown; `record.revision` is the one it should have
    has_revision: str = ""

    @property
    def version(self) -> str:
        """The one version of all components, "" when they differ or none is known."""
        known = set(self.versions.values())
        return known.pop() if len(known) == 1 else ""


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
    def quarantine(self) -> tuple[Quarantined, ...]:
        """What stands beside the things in use."""
        return quarantined(self.objects, (known.facts for known in self.facts))

    @property
    def estimate(self) -> Estimate | None:
        return self.summary.estimate


@dataclass(frozen=True, slots=True)
class Past:
    """What estimates are made from: the runs, and when the testers' present machines were begun."""

    runs: tuple[Run, ...]
    begun: Mapping[str, datetime]
    now: datetime
    revisions: tuple[RevisionRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """One page of a list. `total`: of all its pages; `next`: the cursor of the page behind it, "" when there is none."""

    items: tuple[TesterSummary, ...]
    total: int
    next: str


@dataclass(frozen=True, slots=True)
class FleetSummary:
    source: SourceState | None
    phases: dict[Phase, int]
    total: int
    conditions: tuple[Condition, ...] = ()  # of the fleet itself
    revision: RevisionRecord | None = None  # in force
    good_at: datetime | None = None  # when the source was last read without an error; None: not known here

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is not as it should be with the fleet itself, in words."""
        return tuple(_trouble(each) for each in self.conditions if _is_trouble(each))


def _is_trouble(one: Condition) -> bool:
    """All conditions say what should be, but for `Stalled`."""
    return one.status is (Status.TRUE if one.type == STALLED else Status.FALSE)


def _trouble(one: Condition) -> str:
    return f"{one.type}, {one.reason}: {one.message}" if one.type == STALLED else one.message


class Queries:
    """Reads of the store, shaped for people and programs.

    `sightings`: of the controller that runs in this very process; without them, when something was last seen is not known.
    `good_at`: when the source was last read without an error, as far as that is known here.
    `shelf`: likewise, of that controller; without it the books are read whole for every list.
    """

    def __init__(
        self,
        store: Store,
        sightings: Sightings | None = None,
        good_at: Callable[[], datetime | None] = lambda: None,
        shelf: Shelf | None = None,
    ) -> None:
        self._store = store
        self._sightings = sightings if sightings is not None else Sightings()
        self._good_at = good_at
        self._shelf = shelf

    async def briefs(self) -> Mapping[str, Brief]:
        """Every tester as lists show it, by name."""
        if self._shelf is not None:
            return await self._shelf.testers()
        return dict(sorted((await self._store.briefs(STEPS)).items()))

    async def fleet(self) -> FleetSummary:
        testers = (await self.briefs()).values()
        counted = Counter(one.record.phase for one in testers)
        source = await self._store.source()
        newest = await self.revisions(1, source)
        return FleetSummary(
            source,
            {phase: counted[phase] for phase in Phase},
            len(testers),
            await self._store.conditions(""),
            newest[0] if newest and source is not None and newest[0].revision == source.revision else None,
            self._good_at(),
        )

    async def testers(self) -> tuple[TesterSummary, ...]:
        """Every tester, by name."""
        return await self._summaries(tuple((await self.briefs()).values()))

    async def listed(self, wish: Wish) -> Listed:
        """One page of those asked for. Raises BadCursor."""
        found = chosen((await self.briefs()).values(), wish)
        return Listed(await self._summaries(found.items), found.total, found.next)

    async def summaries(self, names: Sequence[str]) -> tuple[TesterSummary, ...]:
        """Of some testers, in this order; without those that there are not any more."""
        if self._shelf is not None:
            known = await self._shelf.testers()
        else:
            known = await self._store.briefs(STEPS, names)
        return await self._summaries([known[name] for name in names if name in known])

    async def ground(self) -> Ground:
        """What pages of the whole fleet stand on."""
        testers = await self.briefs()
        return ground_of(testers.values(), await self._store.conditions(""), await self._store.source())

    async def revisions(self, limit: int = 50, source: SourceState | None = None) -> tuple[RevisionRecord, ...]:
        """What was read of the source, newest first, and what became of it as of now. `source`: if it is at hand."""
        source, found = source or await self._store.source(), await self._store.revisions(limit)
        if source is None or not found:
            return found
        testers, now = await self.briefs(), self._store.clock.now()
        records = [one.record for one in testers.values()]
        ready = {name: one.conditions[READY] for name, one in testers.items() if READY in one.conditions}
        return tuple(
            judged(each, source, records, ready, now)
            if each.revision == source.revision
            else superseded(each, source.revision)
            for each in found
        )

    async def revision(self, revision: str) -> RevisionRecord | None:
        """One of them, None when it is not known, or not any more."""
        return next((each for each in await self.revisions(MOST_REVISIONS) if each.revision == revision), None)

    async def tester(self, name: str) -> TesterDetail | None:
        books = await self._store.books(name)
        if books is None:
            return None
        (summary,) = await self._summaries((Brief(books.record, books.conditions, books.facts),))
        return TesterDetail(
            summary=summary,
            conditions=tuple(sorted(books.conditions.values(), key=lambda c: (c.since, c.type))),
            seen_at=self._sightings.of_conditions(name, books.conditions),
            facts=self._known_facts(books),
            objects=books.objects,
            journal=await self._store.journal(name, limit=50),
            events=await self._store.events(name, limit=100),
        )

    async def events(
        self,
        tester: str | None = None,
        limit: int = 100,
        before: int | None = None,
        *,
        severity: Severity | None = None,
        reason: str = "",
        step: str = "",
    ) -> tuple[Event, ...]:
        """Newest first; `before` is the id of the last one already seen. `tester` "": the fleet's own."""
        only = {"severity": severity, "reason": reason, "step": step}
        return await self._store.events(tester, limit, before, {key: value for key, value in only.items() if value})

    async def last_sign(self) -> datetime | None:
        """The newest moment that the books tell: a controller worked on them then. None: none ever did."""
        source, newest = await self._store.source(), await self._store.events(limit=1)
        moments = [source.read_at] if source is not None else []
        moments += [event.last_at or event.at for event in newest]
        return max(moments, default=None)

    async def source(self) -> SourceState | None:
        return await self._store.source()

    def _known_facts(self, books: TesterBooks) -> tuple[KnownFacts, ...]:
        name, at = books.record.name, books.facts_at
        return tuple(
            KnownFacts(facts, at[step], self._sightings.of_facts(name, step, at[step]))
            for step, facts in sorted(books.facts.items())
        )

    async def _summaries(self, testers: Sequence[Brief]) -> tuple[TesterSummary, ...]:
        past = await self._past([(one.record, one.conditions) for one in testers])
        return tuple(self._summary(one, past) for one in testers)

    def _summary(self, one: Brief, past: Past) -> TesterSummary:
        seen_at = self._sightings.of_conditions(one.record.name, one.conditions).get(READY)
        return replace(_summary(one.record, one.conditions, one.facts, past), seen_at=seen_at)

    async def _past(self, testers: Iterable[tuple[TesterRecord, Mapping[str, Condition]]]) -> Past:
        """Nothing is read for who is not on its way, and no revisions where everybody is as the present one says."""
        now, every = self._store.clock.now(), list(testers)
        names = [record.name for record, conditions in every if is_on_its_way(record, conditions, now)]
        behind = any(record.observed_generation not in (0, record.generation) for record, _ in every)
        revisions = await self._store.revisions(LOOKED_BACK) if behind else ()
        if not names:
            return Past((), {}, now, revisions)
        return Past(await self._store.runs(), await self._store.begun(MachineFacts.step, names), now, revisions)


def _summary(
    record: TesterRecord, conditions: Mapping[str, Condition], facts: Mapping[str, StepFacts], past: Past
) -> TesterSummary:
    ready = conditions.get("Ready")
    cause = _cause(ready, conditions)
    gateway, machine = facts.get("gateway"), facts.get("machine")
    newer = conditions.get("UpdateAvailable")
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
        beside=tuple(one.message for _, one in sorted(conditions.items()) if one.reason == IN_QUARANTINE),
        versions=versions_of(facts),
        newer=newer.message if newer is not None and newer.status is Status.TRUE else "",
        has_revision=revision_had(record, past.revisions),
    )


def _cause(ready: Condition | None, by_type: Mapping[str, Condition]) -> Condition | None:
    """The condition that Ready speaks of when it is not true: it names it first."""
    if ready is None or ready.status is Status.TRUE:
        return None
    return by_type.get(ready.message.partition(":")[0])
