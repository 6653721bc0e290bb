"""Testers in every state that there is, as changes to the books: what pages are shown with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from controller.boards.tester import NEEDS
from controller.passes.outcomes import Kind as Ending
from controller.passes.outcomes import StepOutcome
from controller.passes.status import condition_type
from controller.records import (
    AddEvent,
    AddRun,
    Change,
    Condition,
    Event,
    JournalEntry,
    Outcome,
    Phase,
    PutCondition,
    PutFacts,
    PutJournal,
    PutObject,
    PutTester,
    Run,
    SetStatus,
    Severity,
    Status,
)
from reconcilers.actions import Finding
from reconcilers.facts import (
    AccountFacts,
    ComponentsFacts,
    EngineAccessFacts,
    FrontDoorFacts,
    GatewayFacts,
    InstallLogsFacts,
    KeptLog,
    MachineAccessFacts,
    MachineFacts,
    ObjectState,
    OutsideObject,
    SettingsFacts,
    SignInAppFacts,
    SignInGateFacts,
    StepFacts,
    SupervisorFacts,
    WelcomeFacts,
)
from tests.controller.fakes import a_tester, record_of

SHA = "3f2a1c9d04b7e6a85b1c2d3e4f5061728394a5b6"
BEFORE = "9b0c11d2aa47e6a85b1c2d3e4f5061728394a5b6"
NEWEST = "v0.3.1"
OLDER = "v0.3.0"
TOOK: Mapping[str, int] = {
    "account": 1,
    "engine_access": 3,
    "machine": 58,
    "machine_access": 171,
    "gateway": 74,
    "sign_in_app": 76,
    "supervisor": 197,
    "front_door": 214,
    "settings": 203,
    "components": 262,
    "sign_in_gate": 231,
    "welcome": 264,
}
"""Seconds after the beginning at which each step is usually done."""


_FINDINGS = ("SignInProtected", "InnerProtected", "PublicReachable", "ComponentsHealthy", "UpdateAvailable")


@dataclass(frozen=True)
class Lacking:
    """Why a step is not done yet."""

    reason: str
    message: str
    blames: str = ""
    since: timedelta = timedelta(minutes=2)
    until: timedelta | None = None  # from now
    retried: bool = False
    failures: int = 0


@dataclass(frozen=True)
class Person:
    """One tester. `lacks`: steps that are not done; those that need them have not had their turn."""

    name: str
    phase: Phase = Phase.READY
    age: timedelta = timedelta(days=3)
    node: str = "0001"
    lacks: Mapping[str, Lacking] = field(default_factory=dict)
    version: str = NEWEST
    spec: Mapping[str, Any] = field(default_factory=dict)
    row: Mapping[str, Any] = field(default_factory=dict)
    found: Mapping[str, tuple[Status, str, str]] = field(default_factory=dict)  # other conditions
    components: Mapping[str, str] = field(default_factory=dict)  # versions that differ
    unwell: tuple[str, ...] = ()
    failed: str = ""  # a component whose install failed
    installing: tuple[str, ...] = ()
    days_left: int | None = None  # until its last day, which is near


def changes(one: Person, number: int, now: datetime) -> Iterator[Change]:
    """Everything that the books hold of a tester."""
    began = now - one.age
    lacking = _lacking(one)
    done = [step for step in NEEDS if step not in lacking]
    first = next((step for step in NEEDS if step in one.lacks), "")
    ready = one.phase in (Phase.READY, Phase.PAUSED)
    if one.phase is Phase.REMOVING:
        gone = max((said.since for said in one.lacks.values()), default=timedelta(0)) + timedelta(minutes=1)
        one = replace(one, row={"removed_at": now - gone, **one.row})
    fields: dict[str, Any] = {
        "phase": one.phase,
        "progress": 100 * len(done) // len(NEEDS),
        "current": f"{first}: {one.lacks[first].message}" if first else "",
        "observed_generation": 1,
        "revision": SHA if one.age < timedelta(hours=1) else BEFORE,
        "added_at": began,
        "changed_at": began,
        "ready_at": began + timedelta(seconds=TOOK["welcome"]) if ready else None,
        **one.row,
    }
    spec = dict(one.spec)
    if one.days_left is not None:
        spec["expires"] = (now + timedelta(days=one.days_left)).date().isoformat()
    record = record_of(a_tester(one.name, **spec), uid=f"u{number:05d}", **fields)
    yield PutTester(record)
    yield SetStatus(one.name, record.phase, record.progress, record.current, 1, None, record.ready_at)
    for kind, status, said in _conditions(one, lacking, began, now):
        yield PutCondition(
            Condition(
                one.name,
                kind,
                status,
                said.reason,
                said.message,
                1,
                now - said.since,
                until=now + said.until if said.until is not None else None,
                blames=said.blames,
                failures=said.failures,
                retry_at=now + said.until if said.retried and said.until is not None else None,
            )
        )
    for facts in _facts(one, number, done, now):
        key = f"gent/{number:04d}" if facts.on_machine else ""
        yield PutFacts(one.name, facts, key, began + timedelta(seconds=TOOK.get(facts.step, 0)))
    yield from _history(one, number, done, began)


def outcomes(one: Person, now: datetime) -> list[StepOutcome]:
    """What the last pass came to: each step was looked at a while ago."""
    lacking = _lacking(one)
    found = []
    for number, step in enumerate(NEEDS):
        findings = tuple(Finding(kind, None, "", "") for kind in _FINDINGS) if step == "sign_in_gate" else ()
        kind = Ending.WAITING if step in one.lacks else Ending.IN_SYNC
        held = step in lacking and step not in one.lacks
        seen = now - timedelta(seconds=6 + 11 * number)
        found.append(StepOutcome(step, kind, "", "", left_alone=held, findings=findings, seen_at=seen, learnt=not held))
    return found


def _lacking(one: Person) -> dict[str, Lacking]:
    """With those that wait for them."""
    found = dict(one.lacks)
    for step, needed in NEEDS.items():
        before = [each for each in needed if each in found]
        if step not in found and before and one.phase not in (Phase.FAILING, Phase.REMOVING):
            found[step] = Lacking("NeedsFacts", f"needs {before[0]}", since=timedelta(0))
    return found


def _conditions(
    one: Person, lacking: Mapping[str, Lacking], began: datetime, now: datetime
) -> Iterator[tuple[str, Status, Lacking]]:
    for step in NEEDS:
        kind = condition_type(step)
        if step in lacking:
            yield kind, Status.FALSE if step in one.lacks else Status.UNKNOWN, lacking[step]
        else:
            age = now - began - timedelta(seconds=TOOK[step])
            yield kind, Status.TRUE, Lacking("InSync", "as the spec says", since=max(age, timedelta(seconds=1)))
    for kind, (status, reason, message) in one.found.items():
        yield kind, status, Lacking(reason, message, since=timedelta(minutes=6))
    if one.days_left is not None:
        last = (now + timedelta(days=one.days_left)).date()
        words = f"its last day is {last}; then it is removed, unless its file names a later one"
        yield "Lasting", Status.FALSE, Lacking("ExpiresSoon", words, since=timedelta(hours=20))
    first = next((step for step in NEEDS if step in one.lacks), "")
    if one.phase is Phase.REMOVING:
        yield "Ready", Status.FALSE, Lacking("Leaving", "the tester is being removed")
    elif one.phase in (Phase.READY, Phase.PAUSED):
        age = one.age - timedelta(seconds=TOOK["welcome"])
        yield "Ready", Status.TRUE, Lacking("Ready", "everything is as the spec says", since=age)
        yield (
            "SignInProtected",
            Status.TRUE,
            Lacking("Proven", "every path asks for sign-in, from outside and inside", since=age),
        )
        yield "ComponentsHealthy", Status.TRUE, Lacking("AllHealthy", "all 12 components answer", since=age)
        yield "PublicReachable", Status.TRUE, Lacking("Answers", "the public address answers", since=age)
        yield "InnerProtected", Status.TRUE, Lacking("Proven", "every path asks for sign-in", since=age)
    elif first:
        said = one.lacks[first]
        message = f"{condition_type(first)}: {said.message}"
        yield "Ready", Status.FALSE, Lacking(said.reason, message, since=said.since)
        if one.phase is Phase.STALLED:
            yield "Stalled", Status.TRUE, Lacking(said.reason, message, since=said.since)


def _facts(one: Person, number: int, done: list[str], now: datetime) -> Iterator[StepFacts]:
    label = f"{one.name}x{number:03d}"
    fqdn = f"{label}.gent01.grid.example.org"
    versions = {
        each: one.components.get(each, one.version) for each in _OTHERS if each not in (one.failed, *one.installing)
    }
    known: dict[str, StepFacts] = {
        "account": AccountFacts(account=one.name, forge_id=40 + number, made_by_us=True),
        "engine_access": EngineAccessFacts(
            tenant=one.name, engines=("embedder",), proven={"embedder": now - timedelta(minutes=4)}
        ),
        "machine": MachineFacts(
            daemon="gent",
            vm_id=f"{number:04d}",
            vm_name=f"{one.name}_u{number:05d}_1_1",
            node_sid=one.node,
            address=f"400:1:{number:x}::7",
        ),
        "machine_access": MachineAccessFacts(host_key="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE"),
        "gateway": GatewayFacts(daemon="gent", gateway_id=str(number), gateway_name=label, fqdn=fqdn),
        "sign_in_app": SignInAppFacts(
            app_id=number, client_id=f"client-{number}", redirect_uri=f"https://{fqdn}/oauth/callback", owner="robot"
        ),
        "supervisor": SupervisorFacts(version=one.version),
        "front_door": FrontDoorFacts(router=one.version, proxy=one.version),
        "settings": SettingsFacts(written=len(a_tester(one.name, **one.spec).settings)),
        "sign_in_gate": SignInGateFacts(
            proven="x" * 8, listening=True, checked_at=now - timedelta(minutes=3), public=True
        ),
        "welcome": WelcomeFacts(state="sent", kind="welcome", how="resend"),
    }
    for step in done:
        if step in known:
            yield known[step]
    if "supervisor" in done:
        unwell = {name: now - timedelta(minutes=9) for name in one.unwell}
        yield ComponentsFacts(versions=versions, unwell=unwell, healthy=not unwell)
    if one.failed:
        kept = KeptLog(
            machine=f"gent/{number:04d}",
            state="failed",
            rc=1,
            log=FAILED_LOG,
            began="2026-11-20T11:40:12Z",
            at=now - timedelta(minutes=6),
        )
        yield InstallLogsFacts(kept={f"component-{one.failed}": kept})


def _history(one: Person, number: int, done: list[str], began: datetime) -> Iterator[Change]:
    """The machine's row, the writes, the events and the run."""
    size = {"memory_mb": "8192", "disk_gb": "60"}
    placed = began + timedelta(seconds=2)
    if "machine" in done:
        told = {"daemon": "gent", "node_sid": one.node, "vm_id": f"{number:04d}", "placed": placed.isoformat(), **size}
        yield PutObject(
            OutsideObject(
                one.name, "machine", 1, 1, f"{one.name}_u{number:05d}_1_1", ObjectState.EXISTING, told, placed
            )
        )
    yield AddEvent(Event(one.name, "", "Added", f"{one.name}.yaml: taken in as generation 1", began))
    for step in sorted(done, key=lambda each: TOOK[each]):
        at = began + timedelta(seconds=TOOK[step])
        words = f"{condition_type(step)}: as the spec says"
        if step in ("machine", "gateway", "sign_in_gate"):
            yield AddEvent(Event(one.name, condition_type(step), "InSync", words, at))
        if step in ("account", "machine", "gateway", "sign_in_app", "welcome"):
            began_at = at - timedelta(seconds=min(TOOK[step], 50))
            yield PutJournal(
                JournalEntry(
                    f"{number:04d}{step:>28}".replace(" ", "0"),
                    one.name,
                    step,
                    "create",
                    f"{step} {one.name}",
                    began_at,
                    Outcome.DONE,
                    at,
                )
            )
    for step, said in one.lacks.items():
        severity = Severity.WARNING if said.failures or said.blames == "an admin" else Severity.NORMAL
        words = f"{condition_type(step)}: {said.message}"
        at = began + one.age - said.since
        yield AddEvent(Event(one.name, condition_type(step), said.reason, words, at, severity, 1, count=1))
    if one.phase in (Phase.READY, Phase.PAUSED):
        factor = 1 + (number % 5 - 2) * 0.09
        milestones = {condition_type(step): seconds * factor for step, seconds in TOOK.items()}
        took = TOOK["welcome"] * factor
        yield AddRun(Run(one.name, began + timedelta(seconds=took), took, milestones))


_OTHERS = (
    "hero_cockpit", "hero_db", "hero_indexer", "hero_agent", "hero_books", "hero_slides", "hero_whiteboard",
    "hero_planner", "hero_biz",
)  # fmt: skip
FAILED_LOG = """\
lab: resolving hero_indexer (latest)
lab: downloading hero_indexer v0.3.1 (18.2 MiB)
lab: checking sha256 … ok
lab: installing to /root/hero/bin/hero_indexer
error: cannot bind 127.0.0.1:8812: address already in use
lab: service hero_indexer start exited with 1
"""

MINUTES, HOURS = (lambda n: timedelta(minutes=n)), (lambda n: timedelta(hours=n))

USUAL: tuple[Person, ...] = (
    Person("alice", age=timedelta(days=12)),
    Person("ben", age=timedelta(days=9), components={"hero_books": "v0.2.9"},
           found={"UpdateAvailable": (Status.TRUE, "NewerPublished", "hero_books v0.2.9 → v0.3.1; not installed by itself")}),
    Person("carla", age=timedelta(days=8)),
    Person("dora", Phase.WAITING, timedelta(seconds=245), lacks={
        "components": Lacking("Installing", "installing hero_books, hero_slides and hero_planner", "machine of dora",
                              timedelta(seconds=41), MINUTES(29))},
           installing=("hero_books", "hero_slides", "hero_planner"),
           found={"ComponentsHealthy": (Status.UNKNOWN, "Installing",
                                        "not there yet: hero_books, hero_slides, hero_planner")}),
    Person("emil", Phase.PROGRESSING, timedelta(seconds=42), lacks={
        "machine": Lacking("OperationRunning", "create machine emil_u00005_1_1 on gent/0002", "compute gent",
                           timedelta(seconds=40), MINUTES(4))}, node="0002"),
    Person("fatima", Phase.STALLED, HOURS(2), lacks={
        "machine": Lacking("NoCapacity", "compute: node auto: no node has room for 64 GiB of memory and 60 GiB of disk: "
                           "the nearest, gent/0002, lacks 24 GiB of memory; remove a tester, add a node, or ask for less",
                           "an admin", HOURS(2))}, spec={"machine": {"memory": "64GiB", "keepAfterRemoval": "0s"}}),
    Person("georg", age=timedelta(days=6), node="0002"),
    Person("hanna", Phase.FAILING, timedelta(days=5), lacks={
        "components": Lacking("ComponentFailing", "hero_indexer: its install failed: cannot bind 127.0.0.1:8812",
                              "machine of hanna", MINUTES(47), timedelta(seconds=96), True, 4)}, failed="hero_indexer",
           found={"ComponentsHealthy": (Status.FALSE, "ComponentFailing", "hero_indexer: its install failed"),
                  "SignInProtected": (Status.TRUE, "Proven", "every path asks for sign-in")}),
    Person("ivo", age=timedelta(days=5), node="0002", version=OLDER, spec={"version": {"updates": "notify"}},
           found={"UpdateAvailable": (Status.TRUE, "NewerPublished", "hero_proc v0.3.0 → v0.3.1 and 11 more")}),
    Person("jana", age=timedelta(days=4), days_left=3),
    Person("kofi", Phase.PAUSED, timedelta(days=4), spec={"paused": {"reason": "demo on Friday", "by": "mik"}}),
    Person("lea", age=timedelta(days=2), unwell=("hero_whiteboard",), node="0002"),
    Person("milan", Phase.REMOVING, timedelta(days=20), lacks={
        "gateway": Lacking("Deleting", "the gateway milanx013 is still listed; looked for again", "compute gent",
                           MINUTES(1), MINUTES(5))}),
    Person("nora", age=HOURS(3), row={"source_error": "nora.yaml:9:14 spec.machine.memory: 8 GB is no size: write 8GiB"}),
)  # fmt: skip

DOOR = Person(
    "olga",
    Phase.FAILING,
    timedelta(days=1),
    lacks={
        "sign_in_gate": Lacking(
            "DoorOpen", "shutting the listener: a stranger was let in", "hero_proxy", timedelta(seconds=20)
        )
    },
    found={
        "SignInProtected": (
            Status.FALSE,
            "SeenOpen",
            "a stranger was let in from outside at /hero_books/web/ (HTTP 200); it is shut until it is proven anew",
        )
    },
)
