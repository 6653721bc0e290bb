"""What the read API answers of whole pictures: one tester in full, nodes, revisions, components, what needs a person."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from api.answer import Answer
from api.models import Condition, Event, Plan, Tester, TesterWhole
from controller.boards import compare, nodes
from controller.boards.components import ComponentBoard, VersionCount
from controller.boards.needs import Gravity
from controller.boards.needs import Need as KnownNeed
from controller.boards.tester import ComponentView, Health, StepState, StepView, TesterBoard
from controller.queries import FleetSummary, Listed
from controller.records import Phase, RevisionRecord, RevisionState, SourceState


class Testers(Answer):
    """One page of testers. `total`: on all pages; `next`: the `cursor` of the page behind it, null when there is none."""

    items: tuple[Tester, ...]
    total: int
    next: str | None

    @classmethod
    def of(cls, listed: Listed) -> Testers:
        return cls(items=tuple(map(Tester.of, listed.items)), total=listed.total, next=listed.next or None)


class Events(Answer):
    """One page of events, newest first. `next`: `before` of the page behind it, null when there is none."""

    items: tuple[Event, ...]
    next: int | None


class Revision(Answer):
    """What was read of the source, and what became of it: `ready` of `total` testers are as it says."""

    revision: str
    source: str
    read_at: datetime
    author: str | None
    subject: str | None
    committed_at: datetime | None
    errors: tuple[str, ...]
    changed: tuple[str, ...]
    state: RevisionState
    ready: int
    total: int
    text: str
    told: str | None
    """The status that was published last where it was pushed."""

    @classmethod
    def of(cls, one: RevisionRecord) -> Revision:
        return cls(
            revision=one.revision,
            source=one.source,
            read_at=one.read_at,
            author=one.author or None,
            subject=one.subject or None,
            committed_at=one.committed_at,
            errors=one.errors,
            changed=one.changed,
            state=one.state,
            ready=one.ready,
            total=one.total,
            text=one.text,
            told=one.told or None,
        )


class Need(Answer):
    """Something that needs a person now."""

    gravity: Gravity
    title: str
    text: str
    testers: tuple[str, ...]
    since: datetime | None

    @classmethod
    def of(cls, one: KnownNeed) -> Need:
        return cls(gravity=one.gravity, title=one.title, text=one.text, testers=one.testers, since=one.since)


class Revisions(Answer):
    """The newest revisions, newest first."""

    items: tuple[Revision, ...]


class Source(Answer):
    """Where the specs come from. `goodAt`: when they were last read without an error; `held`: whose removal is held back."""

    source: str
    revision: str
    read_at: datetime
    good_at: datetime | None = None
    readable: bool
    errors: tuple[str, ...]
    held: tuple[str, ...]

    @classmethod
    def of(cls, one: SourceState, good_at: datetime | None) -> Source:
        return cls(
            source=one.source,
            revision=one.revision,
            read_at=one.read_at,
            good_at=good_at,
            readable=one.readable,
            errors=one.errors,
            held=one.held,
        )


class Fleet(Answer):
    """All testers in numbers, how the fleet itself stands (`conditions`), what needs a person, the gravest first, and the
    revision in force."""

    total: int
    phases: Mapping[Phase, int]
    source: Source | None
    conditions: tuple[Condition, ...]
    needs: tuple[Need, ...]
    revision: Revision | None

    @classmethod
    def of(cls, summary: FleetSummary, needs: tuple[KnownNeed, ...]) -> Fleet:
        return cls(
            total=summary.total,
            phases=summary.phases,
            source=Source.of(summary.source, summary.good_at) if summary.source is not None else None,
            conditions=tuple(Condition.of(one, None) for one in summary.conditions),
            needs=tuple(map(Need.of, needs)),
            revision=Revision.of(summary.revision) if summary.revision is not None else None,
        )


class Step(Answer):
    """One step of the graph. `afterSeconds`: how long after the way began it came to be so; `least` to `most`: the same of
    eight of ten runs before."""

    step: str
    type: str
    needs: tuple[str, ...]
    state: StepState
    condition: Condition | None
    after_seconds: float | None
    least_seconds: float | None
    most_seconds: float | None

    @classmethod
    def of(cls, one: StepView) -> Step:
        return cls(
            step=one.name,
            type=one.type,
            needs=one.needs,
            state=one.state,
            condition=Condition.of(one.condition, one.seen_at) if one.condition is not None else None,
            after_seconds=_seconds(one.after),
            least_seconds=_seconds(one.usual.least if one.usual else None),
            most_seconds=_seconds(one.usual.most if one.usual else None),
        )


class Timeline(Answer):
    """The way to Ready: the present one while it is under way, else the last that is known. `ready`: its end."""

    began: datetime
    passed_seconds: float
    steps: tuple[Step, ...]
    ready: Step


class ComponentOfTester(Answer):
    """One component. `wanted`: the pinned version, null for the channel's newest; `newest`: as Forge told last."""

    component: str
    wanted: str | None
    version: str | None
    newest: str | None
    behind: bool
    health: Health
    since: datetime | None

    @classmethod
    def of(cls, one: ComponentView) -> ComponentOfTester:
        return cls(
            component=one.name,
            wanted=one.pinned or None,
            version=one.version or None,
            newest=one.newest or None,
            behind=one.behind,
            health=one.health,
            since=one.since,
        )


class Compared(Answer):
    """One field: what is wanted, what was seen (null: unknown), since when that is known, and when it was last seen."""

    topic: str
    field: str
    wanted: str | None
    seen: str | None
    agrees: bool | None
    changed_at: datetime | None
    seen_at: datetime | None

    @classmethod
    def of(cls, one: compare.Line) -> Compared:
        return cls(
            topic=one.topic,
            field=one.field,
            wanted=one.wanted or None,
            seen=one.seen or None,
            agrees=one.agrees,
            changed_at=one.changed_at,
            seen_at=one.seen_at,
        )


class Links(Answer):
    """Where there is more of a tester."""

    plan: str
    events: str
    logs: str
    cockpit: str | None


class TesterInFull(TesterWhole):
    """One tester with everything: what it should have (`desired`, everything resolved), what was seen of it (`facts`, `compared`,
    `components`), how it got there (`timeline`), who changed it last (`revision`), and, for who asks for it, what the next
    passes would do (`plan`)."""

    desired: Mapping[str, Any]
    compared: tuple[Compared, ...]
    components: tuple[ComponentOfTester, ...]
    timeline: Timeline | None
    steps: tuple[Step, ...]
    revision: Revision | None
    links: Links
    plan: Plan | None = None

    @classmethod
    def of_board(cls, board: TesterBoard, plan: Plan | None = None) -> TesterInFull:
        whole = TesterWhole.of(board.detail)
        steps = tuple(map(Step.of, board.steps))
        record = board.detail.summary.record
        here = f"/api/v1/testers/{record.name}"
        return cls(
            **dict(whole),
            desired=record.desired.model_dump(mode="json", by_alias=True),
            compared=tuple(map(Compared.of, board.lines)),
            components=tuple(map(ComponentOfTester.of, board.components)),
            timeline=_timeline(board, steps),
            steps=steps,
            revision=Revision.of(board.revision) if board.revision is not None else None,
            links=Links(
                plan=f"{here}/plan", events=f"{here}/events", logs=f"{here}/logs", cockpit=whole.tester.link or None
            ),
            plan=plan,
        )


def _timeline(board: TesterBoard, steps: tuple[Step, ...]) -> Timeline | None:
    if board.began is None or board.passed is None:
        return None
    passed = board.passed.total_seconds()
    return Timeline(began=board.began, passed_seconds=passed, steps=steps, ready=Step.of(board.ready))


class Room(Answer):
    """Memory in MiB or disk in GiB. `promised`: given away, and not in the node's own readout yet; `free`: what is left of
    that, null while the daemon has not told or the node is offline."""

    used: int
    promised: int
    free: int | None

    @classmethod
    def of(cls, one: nodes.Room) -> Room:
        return cls(used=one.used, promised=one.promised, free=one.free)


class NodeOfFleet(Answer):
    """One node that the Fleet names. `why`: what keeps its daemon from telling; `largestPool`: no disk spans two (GiB)."""

    node: str
    daemon: str
    sid: str
    grid_node: str
    title: str | None
    gone: bool
    online: bool | None
    read_at: datetime | None
    why: str | None
    memory: Room
    disk: Room
    largest_pool: int | None
    testers: tuple[str, ...]

    @classmethod
    def of(cls, one: nodes.NodeBoard) -> NodeOfFleet:
        return cls(
            node=one.name,
            daemon=one.daemon,
            sid=one.sid,
            grid_node=one.grid_node,
            title=one.title or None,
            gone=one.gone,
            online=one.online,
            read_at=one.read_at,
            why=one.why or None,
            memory=Room.of(one.memory),
            disk=Room.of(one.disk),
            largest_pool=one.largest_pool,
            testers=one.testers,
        )


class Nodes(Answer):
    """Every node, in the Fleet's order."""

    items: tuple[NodeOfFleet, ...]


class VersionOfComponent(Answer):
    """Who runs a version; null: who should have the component, and was not seen to have it yet."""

    version: str | None
    newest: bool
    count: int
    testers: tuple[str, ...]

    @classmethod
    def of(cls, one: VersionCount) -> VersionOfComponent:
        return cls(version=one.version or None, newest=one.newest, count=len(one.testers), testers=one.testers)


class ComponentOfFleet(Answer):
    """One component over all testers that should have it."""

    component: str
    wanted: int
    pinned: int
    newest: str | None
    versions: tuple[VersionOfComponent, ...]
    unwell: tuple[str, ...]

    @classmethod
    def of(cls, one: ComponentBoard) -> ComponentOfFleet:
        return cls(
            component=one.name,
            wanted=one.wanted,
            pinned=one.pinned,
            newest=one.newest or None,
            versions=tuple(map(VersionOfComponent.of, one.versions)),
            unwell=one.unwell,
        )


class Components(Answer):
    """Every component, by name."""

    items: tuple[ComponentOfFleet, ...]


def _seconds(span: timedelta | None) -> float | None:
    return span.total_seconds() if span is not None else None
