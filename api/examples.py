"""An example of every answer, for the description of the API. They are made of the models, so that they cannot be wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from api import board_models as boards
from api import models, outside_models
from api.estimate_models import Estimate, UsualWait
from controller.boards.needs import Gravity
from controller.boards.tester import Health, StepState
from controller.estimates import Outlook
from controller.records import Outcome, Phase, RevisionState, Severity, Status
from reconcilers.actions import Disruption, Effect
from reconcilers.backends.machine import JobState
from reconcilers.facts import ObjectState


def _at(minute: int, second: int = 0) -> datetime:
    return datetime(2026, 11, 20, 9, minute, second, tzinfo=UTC)


_SHA = "4be1f0c2a97d3e6580b1c4d2f7a90e8b6c5d3f21"
_LINK = "https://alicex7k2p9.gent.example.org/hero_cockpit/web/"

_WAIT = UsualWait(
    type="Gateway", reason="OperationRunning", since=_at(4), until=_at(9), least_seconds=95.0, most_seconds=210.0
)
_ESTIMATE = Estimate(
    outlook=Outlook.KNOWN,
    least_seconds=130.0,
    most_seconds=235.0,
    over_seconds=None,
    after="MachineAccess",
    since=_at(5, 12),
    runs=14,
    needed_runs=3,
    wait=_WAIT,
)
_TESTER = models.Tester(
    name="alice",
    phase=Phase.PROGRESSING,
    ready=False,
    reason="OperationRunning",
    message="Gateway: deploy_webgateway alicex7k2p9 is under way",
    since=_at(4),
    seen_at=_at(5, 30),
    until=_at(9),
    blames="compute gent",
    estimate=_ESTIMATE,
    progress=41,
    current="gateway: deploy_webgateway alicex7k2p9 is under way",
    account="Alice-B",
    link=_LINK,
    node="gent/0001",
    generation=2,
    observed_generation=1,
    added_at=_at(0),
    changed_at=_at(3),
    removed_at=None,
    next_look_at=None,
    file="testers/alice.yaml",
    line=1,
    revision=_SHA,
    has_revision="91d0b7e4c2f85a3610de94b7c8a2f3e5d6b40c19",
    file_error=None,
    channel="latest",
    version="v0.3.1",
    newer="hero_books v0.3.1 → v0.3.2",
)
_CONDITION = models.Condition(
    type="Gateway",
    status=Status.FALSE,
    reason="OperationRunning",
    message="deploy_webgateway alicex7k2p9 is under way",
    generation=2,
    since=_at(4),
    seen_at=_at(5, 30),
    until=_at(9),
    blames="compute gent",
    failures=0,
)
_EVENT = models.Event(
    id=812,
    tester="alice",
    step="machine",
    reason="Created",
    message="deploy_vm alice_x7k2p9_1_1",
    severity=Severity.NORMAL,
    generation=2,
    at=_at(3, 40),
    count=1,
    last_at=_at(3, 40),
)
_REVISION = boards.Revision(
    revision=_SHA,
    source="git https://forge.example.org/ops/testers.git main",
    read_at=_at(3),
    author="Mik",
    subject="Give alice a larger machine",
    committed_at=_at(2, 58),
    errors=(),
    changed=("alice",),
    state=RevisionState.PENDING,
    ready=11,
    total=12,
    text="11/12 testers ready",
    told="pending: 11/12 testers ready",
)
_STEP = boards.Step(
    step="gateway",
    type="Gateway",
    needs=("machine",),
    state=StepState.RUNNING,
    condition=_CONDITION,
    after_seconds=None,
    least_seconds=180.0,
    most_seconds=320.0,
)
_READY = _STEP.model_copy(
    update={"step": "Ready", "type": "Ready", "needs": (), "state": StepState.BEFORE, "condition": None}
)
_WHOLE = boards.TesterInFull(
    tester=_TESTER,
    conditions=(_CONDITION,),
    facts=(models.Fact(step="machine", at=_at(3, 40), seen_at=_at(5, 30), values={"daemon": "gent", "vm_id": "0007"}),),
    objects=(
        models.Thing(
            step="machine",
            name="alice_x7k2p9_1_1",
            state=ObjectState.EXISTING,
            incarnation=1,
            attempt=1,
            identity={"vm_id": "0007", "daemon": "gent", "node_sid": "0001"},
            since=_at(3, 40),
        ),
    ),
    quarantine=(),
    writes=(
        models.Write(
            step="machine",
            verb="create",
            target="machine alice_x7k2p9_1_1",
            outcome=Outcome.DONE,
            detail="",
            began_at=_at(3, 5),
            ended_at=_at(3, 40),
        ),
    ),
    events=(_EVENT,),
    desired={
        "name": "alice",
        "account": {"name": "Alice-B"},
        "machine": {"memoryMb": 8192, "diskGb": 50, "node": "auto"},
    },
    compared=(
        boards.Compared(
            topic="Machine",
            field="memory",
            wanted="8192 MiB",
            seen="8192 MiB",
            agrees=True,
            changed_at=_at(3, 40),
            seen_at=_at(5, 30),
        ),
    ),
    components=(
        boards.ComponentOfTester(
            component="hero_books",
            wanted=None,
            version="v0.3.1",
            newest="v0.3.2",
            behind=True,
            health=Health.WELL,
            since=None,
        ),
    ),
    timeline=boards.Timeline(began=_at(3), passed_seconds=150.0, steps=(_STEP,), ready=_READY),
    steps=(_STEP,),
    revision=_REVISION,
    links=boards.Links(
        plan="/api/v1/testers/alice/plan",
        events="/api/v1/testers/alice/events",
        logs="/api/v1/testers/alice/logs",
        cockpit=_LINK,
    ),
)
_FLEET = boards.Fleet(
    total=12,
    phases={phase: {Phase.READY: 11, Phase.PROGRESSING: 1}.get(phase, 0) for phase in Phase},
    source=boards.Source(
        source=_REVISION.source,
        revision=_SHA,
        read_at=_at(3),
        good_at=_at(5),
        readable=True,
        errors=(),
        held=(),
    ),
    conditions=(),
    needs=(
        boards.Need(
            gravity=Gravity.STUCK,
            title="No node has room",
            text="No node has room for 8 GiB of memory",
            testers=("bob",),
            since=_at(4),
        ),
    ),
    revision=_REVISION,
)
_NODE = boards.NodeOfFleet(
    node="gent/0001",
    daemon="gent",
    sid="0001",
    grid_node="2",
    title=None,
    gone=False,
    online=True,
    read_at=_at(5),
    why=None,
    memory=boards.Room(used=32768, promised=8192, free=24576),
    disk=boards.Room(used=240, promised=60, free=900),
    largest_pool=600,
    testers=("alice", "carol"),
)
_COMPONENT = boards.ComponentOfFleet(
    component="hero_books",
    wanted=12,
    pinned=1,
    newest="v0.3.2",
    versions=(boards.VersionOfComponent(version="v0.3.1", newest=False, count=1, testers=("alice",)),),
    unwell=(),
)
_PLAN = models.Plan(
    tester="alice",
    new=False,
    leaving=False,
    changes=True,
    disruption=Disruption.REBUILD,
    steps=(
        models.PlannedStep(
            step="machine",
            actions=(
                models.PlannedAction(
                    verb="delete",
                    target="machine alice_x7k2p9_1_1",
                    effect=Effect.DELETE,
                    disruption=Disruption.REBUILD,
                    why="the spec asks for another size",
                    consequences=("everything on the machine is lost",),
                    changes=(models.FieldChange(path="memory", before="4096 MiB", after="8192 MiB"),),
                ),
            ),
            waits=(),
            known_after=(),
            findings=(),
            error=None,
            note=None,
        ),
    ),
)
_LOG = outside_models.JobLog(
    component="hero_books",
    state=JobState.FAILED,
    exit_code=1,
    began="2026-11-20T09:04:11Z",
    wanted="v0.3.2",
    result=None,
    log="lab: the asset hero_books-linux-x86_64 was not found",
    kept_at=None,
    kept_why=None,
    machine=None,
)

ONE, MANY = "example:", "examples:"

EXAMPLES: dict[type[BaseModel], BaseModel] = {
    type(each): each
    for each in (
        _WHOLE.model_copy(update={"plan": _PLAN}),
        _FLEET,
        _REVISION,
        _PLAN,
        _LOG,
        boards.Testers(items=(_TESTER,), total=12, next="WyJuYW1lIiwiYWxpY2UiLCJhbGljZSJd"),
        boards.Events(items=(_EVENT,), next=811),
        boards.Revisions(items=(_REVISION,)),
        boards.Nodes(items=(_NODE,)),
        boards.Components(items=(_COMPONENT,)),
    )
}


def shown(model: type[BaseModel], *, many: bool = False) -> dict[int | str, dict[str, Any]]:
    """The part of a route's description that shows the good answer; `many`: it is a list of them. The example itself comes
    with `with_examples`: on the way there, null would be lost."""
    return {200: {"content": {"application/json": {"example": f"{MANY if many else ONE}{model.__name__}"}}}}


def with_examples(schema: dict[str, Any]) -> dict[str, Any]:
    """The description of the API with the examples in their places."""
    known = {model.__name__: example.model_dump(mode="json") for model, example in EXAMPLES.items()}
    for methods in schema["paths"].values():
        for described in methods.values():
            content = described["responses"].get("200", {}).get("content", {}).get("application/json", {})
            place = content.get("example")
            if isinstance(place, str) and place.startswith((ONE, MANY)):
                one = known[place.removeprefix(ONE).removeprefix(MANY)]
                content["example"] = [one] if place.startswith(MANY) else one
    return schema
