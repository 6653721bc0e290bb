"""One tester as a page: its steps as a graph, its way to Ready against the usual one, its components, and who changed it last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from controller.boards.advice import Advice, advice, plainly, sentence
from controller.boards.compare import Line, compared
from controller.boards.components import failed_installs, published, unwell_of, versions_of
from controller.estimates import FEWEST_RUNS, Span, beginning, usual_span
from controller.passes.status import LASTING, NEEDED_FINDINGS, NOT_LOOKED_AT, READY, STALLED, UNDER_WAY, condition_type
from controller.queries import Queries, TesterDetail
from controller.records import Condition, Phase, RevisionRecord, Run, Status
from controller.store import Store
from controller.world import World
from reconcilers.facts import MachineFacts
from reconcilers.installs import jobs_of, same_version
from reconcilers.steps import all_steps

NEEDS: Mapping[str, tuple[str, ...]] = {step.name: step.needs for step in all_steps(None)}  # type: ignore[arg-type]
"""Step → the steps whose facts it uses, in the order of the graph."""


DOOR = "sign_in_gate"
"""The step that keeps the door."""


class StepState(StrEnum):
    """Where a step stands, for a picture."""

    DONE = "done"
    RUNNING = "running"  # something is being done or waited for now
    FAILING = "failing"  # tried again
    STUCK = "stuck"  # a person must act
    BEFORE = "before"  # not its turn yet
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class StepView:
    """One step. `after`: how long after the beginning it came to be so; `usual`: the same of the past."""

    name: str
    type: str
    state: StepState
    condition: Condition | None
    seen_at: datetime | None
    needs: tuple[str, ...]
    after: timedelta | None
    usual: Span | None


class Health(StrEnum):
    """Of a component."""

    WELL = "well"
    UNWELL = "does not answer"
    FAILED = "install failed"
    MISSING = "not there yet"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ComponentView:
    """One component of a tester. `version`: as last seen, "" when none was; `newest`: "" while Forge has not told."""

    name: str
    pinned: str
    version: str
    newest: str
    health: Health
    since: datetime | None  # of trouble

    @property
    def behind(self) -> bool:
        return bool(self.newest and self.version) and not same_version(self.newest, self.version)


@dataclass(frozen=True, slots=True)
class TesterBoard:
    """`began`: of the way that the timeline shows; None when nothing is known of it. `passed`: so long it has lasted, or took."""

    detail: TesterDetail
    steps: tuple[StepView, ...]
    began: datetime | None
    passed: timedelta | None
    ready: StepView
    components: tuple[ComponentView, ...]
    lines: tuple[Line, ...]
    revision: RevisionRecord | None
    seen_at: datetime | None  # of the components
    said: str  # how it stands, in words: of an open door, of what stops it, else of `Ready`
    open_door: bool  # was seen, and is not proven since
    advice: Advice | None  # what a person does now; None: nothing


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to Ready: when it began, and how long after that each condition came true."""

    began: datetime
    after: Mapping[str, timedelta]
    passed: timedelta


async def tester_board(name: str, store: Store, ask: Queries, world: World | None, now: datetime) -> TesterBoard | None:
    """None: no such tester. Raises StoreError."""
    detail = await ask.tester(name)
    if detail is None:
        return None
    record = detail.summary.record
    runs = await store.runs()
    begun = (await store.begun(MachineFacts.step, [name])).get(name)
    way = _way(detail, beginning(record, begun), runs, now)
    conditions = {one.type: one for one in detail.conditions}
    newest = published(world, record.desired.channel)
    seen = {known.facts.step: known.seen_at for known in detail.facts}
    return TesterBoard(
        detail=detail,
        steps=tuple(_step(step, detail, conditions, way, runs) for step in NEEDS),
        began=way.began if way else None,
        passed=way.passed if way else None,
        ready=_ready(detail, conditions, way, runs),
        components=_components(detail, conditions, newest),
        lines=compared(detail),
        revision=await store.revision(record.revision),
        seen_at=seen.get("components"),
        said=_said(detail, conditions),
        open_door=_open_door(conditions) is not None,
        advice=_advice(detail, conditions),
    )


def _said(detail: TesterDetail, conditions: Mapping[str, Condition]) -> str:
    door, stopped = _open_door(conditions), conditions.get(STALLED)
    if door is not None:
        return sentence(door.message)
    if stopped is not None and stopped.status is Status.TRUE:
        return plainly(stopped.message)
    return plainly(detail.summary.message)


def _open_door(conditions: Mapping[str, Condition]) -> Condition | None:
    found = (conditions[kind] for kind in NEEDED_FINDINGS if kind in conditions)
    return next((one for one in found if one.status is Status.FALSE), None)


def _advice(detail: TesterDetail, conditions: Mapping[str, Condition]) -> Advice | None:
    """An open door before all; then what stops the tester, or what is tried again and again."""
    summary, door = detail.summary, _open_door(conditions)
    if door is not None:
        return advice(door.reason)
    if summary.record.phase is Phase.STALLED:
        return advice(conditions[STALLED].reason if STALLED in conditions else summary.reason)
    if summary.record.phase is Phase.FAILING:
        return advice(summary.reason, tried_again=True)
    lasting = conditions.get(LASTING)
    if lasting is None or lasting.status is not Status.FALSE or summary.record.leaving:
        return None
    return advice(lasting.reason)


def _way(detail: TesterDetail, start: datetime | None, runs: Sequence[Run], now: datetime) -> _Way | None:
    """The present one while it is under way; else, and of who leaves, the last that is written down."""
    if start is not None and not detail.summary.record.leaving:
        true = [one for one in detail.conditions if one.status is Status.TRUE and one.since > start]
        return _Way(start, {one.type: one.since - start for one in true}, now - start)
    own = next((run for run in runs if run.tester == detail.summary.record.name), None)
    if own is None:
        return None
    after = {kind: timedelta(seconds=at) for kind, at in own.milestones.items()}
    length = timedelta(seconds=own.ready)
    return _Way(own.ready_at - length, {**after, READY: length}, length)


def _step(
    name: str, detail: TesterDetail, conditions: Mapping[str, Condition], way: _Way | None, runs: Sequence[Run]
) -> StepView:
    kind = condition_type(name)
    one = conditions.get(kind)
    open_door = name == DOOR and one is not None and _open_door(conditions) is not None
    return StepView(
        name=name,
        type=kind,
        state=StepState.FAILING if open_door else _state(one, detail.summary.record.phase),
        condition=one,
        seen_at=detail.seen_at.get(kind),
        needs=NEEDS[name],
        after=way.after.get(kind) if way else None,
        usual=_usual([run.milestones[kind] for run in runs if kind in run.milestones]),
    )


def _ready(
    detail: TesterDetail, conditions: Mapping[str, Condition], way: _Way | None, runs: Sequence[Run]
) -> StepView:
    one = conditions.get(READY)
    state = StepState.DONE if one is not None and one.status is Status.TRUE else StepState.BEFORE
    after = way.after.get(READY) if way else None
    return StepView(READY, READY, state, one, detail.summary.seen_at, (), after, _usual([run.ready for run in runs]))


def _state(one: Condition | None, phase: Phase) -> StepState:
    if one is None:
        return StepState.BEFORE
    if one.status is Status.TRUE:
        return StepState.DONE
    if one.status is Status.UNKNOWN:
        return StepState.UNKNOWN if phase in (Phase.READY, Phase.PAUSED) else StepState.BEFORE
    if one.reason not in UNDER_WAY and one.failures:
        return StepState.FAILING
    if one.blames in ("an admin", "the spec"):
        return StepState.STUCK
    return StepState.RUNNING


def _usual(lengths: Sequence[float]) -> Span | None:
    if len(lengths) < FEWEST_RUNS:
        return None
    return usual_span([timedelta(seconds=each) for each in lengths])


def _trouble(healthy: Condition) -> str:
    """Which components are not well, in the condition's words."""
    return "" if healthy.status is Status.TRUE else healthy.message


def _components(
    detail: TesterDetail, conditions: Mapping[str, Condition], newest: Mapping[str, str]
) -> tuple[ComponentView, ...]:
    facts = {known.facts.step: known.facts for known in detail.facts}
    versions, unwell = versions_of(facts), unwell_of(facts)
    kept = failed_installs(facts)
    desired = detail.summary.record.desired
    jobs = jobs_of(desired)
    healthy = conditions.get("ComponentsHealthy")
    found = []
    for component in desired.components:
        name, health, since = component.name, Health.UNKNOWN, None
        failed = kept.get(jobs.get(name, ""))
        if unwell & {name, *component.services}:
            health = Health.UNWELL
        elif failed is not None:
            health, since = Health.FAILED, failed.at
        elif name not in versions:
            health = Health.MISSING
        elif healthy is not None and healthy.reason != NOT_LOOKED_AT and name not in _trouble(healthy):
            health = Health.WELL
        view = ComponentView(name, component.version or "", versions.get(name, ""), newest.get(name, ""), health, since)
        found.append(view)
    return tuple(found)
