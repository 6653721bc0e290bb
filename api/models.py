"""What the read API and `-o json` answer: the controller's records in a form that is promised to programs.

Field names are camelCase as in the specs, moments are ISO 8601 in UTC, and what is not known is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from api.answer import Answer
from api.estimate_models import Estimate
from api.quarantine_models import Quarantined
from controller import records
from controller.passes.preview import Preview, StepPreview
from controller.queries import KnownFacts, TesterDetail, TesterSummary
from controller.records import Outcome, Phase, Severity, Status
from reconcilers.actions import Action, Disruption, Effect
from reconcilers.facts import ObjectState, OutsideObject


class Tester(Answer):
    """One tester, as a list shows it."""

    name: str
    phase: Phase
    ready: bool
    reason: str
    message: str
    since: datetime | None
    seen_at: datetime | None
    until: datetime | None
    blames: str | None
    estimate: Estimate | None
    progress: int
    current: str
    account: str
    link: str | None
    node: str | None
    generation: int
    observed_generation: int
    added_at: datetime
    changed_at: datetime
    removed_at: datetime | None
    next_look_at: datetime | None
    file: str
    line: int
    revision: str
    """The one that it should be as."""
    has_revision: str | None = None
    """The one that it was last seen to be as."""
    file_error: str | None
    quarantine: tuple[str, ...] = ()
    channel: str
    version: str | None
    """The one version of all components; null when they differ, or none was seen."""
    newer: str | None
    """Which newer versions are published, in words."""
    watched: bool = True
    """Whether a controller works on the books just now; else all of this is as old as its last sign of life."""

    @classmethod
    def of(cls, summary: TesterSummary) -> Tester:
        record = summary.record
        return cls(
            name=record.name,
            phase=record.phase,
            ready=summary.ready,
            reason=summary.reason,
            message=summary.message,
            since=summary.since,
            seen_at=summary.seen_at,
            until=summary.until,
            blames=summary.blames or None,
            estimate=Estimate.of(summary.estimate) if summary.estimate else None,
            progress=record.progress,
            current=record.current,
            account=record.desired.account.name,
            link=summary.link or None,
            node=summary.node or None,
            generation=record.generation,
            observed_generation=record.observed_generation,
            added_at=record.added_at,
            changed_at=record.changed_at,
            removed_at=record.removed_at,
            next_look_at=record.next_look_at,
            file=record.source_file,
            line=record.source_line,
            revision=record.revision,
            has_revision=summary.has_revision or None,
            file_error=record.source_error or None,
            quarantine=summary.beside,
            channel=record.desired.channel,
            version=summary.version or None,
            newer=summary.newer or None,
        )


class Condition(Answer):
    """One statement about a tester, the generation that it speaks of, and when it was last seen to be so."""

    type: str
    status: Status
    reason: str
    message: str
    generation: int
    since: datetime
    seen_at: datetime | None
    until: datetime | None
    blames: str | None
    failures: int

    @classmethod
    def of(cls, one: records.Condition, seen_at: datetime | None) -> Condition:
        return cls(
            type=one.type,
            status=one.status,
            reason=one.reason,
            message=one.message,
            generation=one.generation,
            since=one.since,
            seen_at=seen_at,
            until=one.until,
            blames=one.blames or None,
            failures=one.failures,
        )


class Event(Answer):
    """Something happened; `count` times, the last time at `lastAt`."""

    id: int
    tester: str | None
    step: str | None
    reason: str
    message: str
    severity: Severity
    generation: int
    at: datetime
    count: int
    last_at: datetime

    @classmethod
    def of(cls, one: records.Event) -> Event:
        return cls(
            id=one.id,
            tester=one.tester or None,
            step=one.step or None,
            reason=one.reason,
            message=one.message,
            severity=one.severity,
            generation=one.generation,
            at=one.at,
            count=one.count,
            last_at=one.last_at or one.at,
        )


class Fact(Answer):
    """What a step learnt, when that changed last (`at`), and when it was last seen to be so."""

    step: str
    at: datetime
    seen_at: datetime | None
    values: Mapping[str, Any]

    @classmethod
    def of(cls, known: KnownFacts) -> Fact:
        values = known.facts.shown()
        return cls(step=known.facts.step, at=known.changed_at, seen_at=known.seen_at, values=values)


class Thing(Answer):
    """One object outside that is, was or may be ours."""

    step: str
    name: str
    state: ObjectState
    incarnation: int
    attempt: int
    identity: Mapping[str, str]
    since: datetime | None

    @classmethod
    def of(cls, one: OutsideObject) -> Thing:
        return cls(
            step=one.step,
            name=one.name,
            state=one.state,
            incarnation=one.incarnation,
            attempt=one.attempt,
            identity=one.identity,
            since=one.since,
        )


class Write(Answer):
    """One outside write, written down before it was made."""

    step: str
    verb: str
    target: str
    outcome: Outcome
    detail: str
    began_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, one: records.JournalEntry) -> Write:
        return cls(
            step=one.step,
            verb=one.verb,
            target=one.target,
            outcome=one.outcome,
            detail=one.detail,
            began_at=one.began_at,
            ended_at=one.ended_at,
        )


class TesterWhole(Answer):
    """One tester with everything that is known of it."""

    tester: Tester
    conditions: tuple[Condition, ...]
    facts: tuple[Fact, ...]
    objects: tuple[Thing, ...]
    quarantine: tuple[Quarantined, ...]
    writes: tuple[Write, ...]
    events: tuple[Event, ...]

    @classmethod
    def of(cls, detail: TesterDetail) -> TesterWhole:
        return cls(
            tester=Tester.of(detail.summary),
            conditions=tuple(Condition.of(one, detail.seen_at[one.type]) for one in detail.conditions),
            facts=tuple(map(Fact.of, detail.facts)),
            objects=tuple(map(Thing.of, detail.objects)),
            quarantine=tuple(map(Quarantined.of, detail.quarantine)),
            writes=tuple(map(Write.of, detail.journal)),
            events=tuple(map(Event.of, detail.events)),
        )


class FieldChange(Answer):
    """One field; a secret's values show as (secret)."""

    path: str
    before: str | None
    after: str | None


class PlannedAction(Answer):
    """One outside write that would be made."""

    verb: str
    target: str
    effect: Effect
    disruption: Disruption
    why: str
    consequences: tuple[str, ...]
    changes: tuple[FieldChange, ...]

    @classmethod
    def of(cls, action: Action) -> PlannedAction:
        return cls(
            verb=action.verb,
            target=action.target,
            effect=action.effect,
            disruption=action.disruption,
            why=action.why,
            consequences=action.consequences,
            changes=tuple(FieldChange(path=one.path, before=one.before, after=one.after) for one in action.changes),
        )


class PlannedWait(Answer):
    """What would be waited for."""

    reason: str
    message: str
    blames: str


class PlannedFinding(Answer):
    """What a step sees not to be so now, beside what it would do."""

    type: str
    reason: str
    message: str


class PlannedStep(Answer):
    """One step's part of a plan; `knownAfter` names the steps that must come first for the rest to be known."""

    step: str
    actions: tuple[PlannedAction, ...]
    waits: tuple[PlannedWait, ...]
    known_after: tuple[str, ...]
    findings: tuple[PlannedFinding, ...]
    error: str | None
    note: str | None

    @classmethod
    def of(cls, step: StepPreview) -> PlannedStep:
        return cls(
            step=step.step,
            actions=tuple(map(PlannedAction.of, step.actions)),
            waits=tuple(PlannedWait(reason=one.reason, message=one.message, blames=one.blames) for one in step.waits),
            known_after=step.known_after,
            findings=tuple(
                PlannedFinding(type=one.type, reason=one.reason, message=one.message) for one in step.findings
            ),
            error=step.error or None,
            note=step.note or None,
        )


class Plan(Answer):
    """What the next passes would do to one tester. Making it changed nothing."""

    tester: str
    new: bool
    leaving: bool
    changes: bool
    disruption: Disruption
    steps: tuple[PlannedStep, ...]

    @classmethod
    def of(cls, preview: Preview, *, new: bool = False) -> Plan:
        return cls(
            tester=preview.tester,
            new=new,
            leaving=preview.leaving,
            changes=preview.changes,
            disruption=preview.disruption,
            steps=tuple(map(PlannedStep.of, preview.steps)),
        )


class Alive(Answer):
    """Whether the loop turns. `stuck`: testers are due, and nobody was taken up for too long."""

    alive: bool
    passes: int
    stuck: bool = False


class Check(Answer):
    """One of the things that must be well for the controller to work."""

    name: str
    ok: bool
    detail: str


class Ready(Answer):
    """Whether the controller can do its work."""

    ready: bool
    checks: tuple[Check, ...]


class Problem(Answer):
    """An error, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
