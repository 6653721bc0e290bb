"""A controller whose books are filled and whose world is a stand-in, served on loopback: what browsers are shown."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from api.access.access import Access
from api.access.sign_in import SignIn
from api.server import Place, bound, make_app, place, serve
from api.window import Window
from controller.admission import Admission
from controller.places import Places, opened_store
from controller.records import (
    AddEvent,
    Change,
    Condition,
    Event,
    Phase,
    PutCondition,
    PutRevision,
    PutSource,
    RevisionRecord,
    RevisionState,
    Severity,
    SourceState,
    Status,
)
from controller.running import Controller
from controller.store import Store
from controller.world import World
from reconcilers.backends.compute import Node
from reconcilers.backends.forge import Release
from reconcilers.backends.machine import SUPERVISOR_JOB, Job, JobState, MachineLook, install_job
from reconcilers.backends.opening import Options
from reconcilers.clock import Clock, SystemClock
from reconcilers.errors import Unreachable
from reconcilers.looks import Look, Looks, Published
from reconcilers.secret import Secret
from specs.catalogue import catalogue
from specs.fleet import Fleet, GridNode, NodeSid
from tests.browser.people import BEFORE, FAILED_LOG, NEWEST, SHA, USUAL, Lacking, Person, changes, outcomes
from tests.controller.fakes import FLEET

LOG = """\
lab: resolving {name} (latest)
lab: downloading {name} v0.3.1 (14.7 MiB)
lab: checking sha256 … ok
lab: installing to /root/hero/bin/{name}
lab: service {name} start
"""


@dataclass
class Machines:
    """Machines on which some components are being installed; they print a line with every look."""

    people: tuple[Person, ...]
    looks: int = 0

    async def look(self, address: Any, query: Any) -> MachineLook:
        self.looks += 1
        every = (SUPERVISOR_JOB, *(install_job(name) for name in catalogue()))
        jobs = {name: self._job(address.key, name) for name in query.logs or every}
        return MachineLook("ssh-ed25519 AAAA", jobs=jobs)

    async def job_log(self, address: Any, name: str) -> str:
        return self._job(address.key, name).log

    def _job(self, key: str, name: str) -> Job:
        component, person = name.removeprefix("component-"), self.people[int(key.rpartition("/")[2]) - 1]
        log, began = LOG.format(name=component), "2026-11-20T11:40:12Z"
        if component in person.installing:
            log += "".join(f"unpacking part {part} of 40\n" for part in range(1, self.looks + 12))
            return Job(name, JobState.RUNNING, None, log, began=began)
        if component == person.failed:
            return Job(name, JobState.FAILED, 1, FAILED_LOG, began=began)
        return Job(name, JobState.SUCCEEDED, 0, log, began=began)


@dataclass
class Daemon:
    """Two nodes, the second of which is nearly full."""

    dead: bool = False

    async def list_nodes(self) -> tuple[Node, ...]:
        if self.dead:
            raise Unreachable("no connection for list_nodes", system="compute gent")
        return (
            Node(NodeSid("0001"), GridNode("2"), True, 57344, (640, 820)),
            Node(NodeSid("0002"), GridNode("3"), True, 40960, (310,)),
            Node(NodeSid("0003"), GridNode("7"), False, 131072, (1800,)),
        )


class Backends:
    """As much of the outside as pages ask."""

    def __init__(self, people: tuple[Person, ...]) -> None:
        self.machines = Machines(people)
        self._daemon = Daemon()

    def daemon(self, name: str) -> Daemon:
        return self._daemon

    async def aclose(self) -> None:
        """Nothing was opened."""


@dataclass(frozen=True)
class Stage:
    """What is being served."""

    controller: Controller
    url: str

    @property
    def store(self) -> Store:
        return self.controller.store

    async def show(self, *people: Person, more: Iterable[Change] = ()) -> None:
        """Testers as they stand now. What happened is written down in the order in which it did."""
        now = self.store.clock.now()
        told = [each for each in more if isinstance(each, AddEvent)]
        await self.store.write(*(each for each in more if not isinstance(each, AddEvent)))
        for number, one in enumerate(people, 1):
            made = list(changes(one, number, now))
            told += [each for each in made if isinstance(each, AddEvent)]
            await self.store.write(*(each for each in made if not isinstance(each, AddEvent)))
            self.controller.engine.sightings.note(one.name, outcomes(one, now), now)
        await self.store.write(*sorted(told, key=lambda each: each.event.at))


async def answering(serving: asyncio.Future[None], where: Place) -> None:
    """Returns when somebody listens; raises what ended the serving."""
    async with asyncio.timeout(30):
        while True:
            if serving.done():
                serving.result()
            try:
                _, writer = await asyncio.open_connection(str(where.address), where.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


def the_fleet() -> Fleet:
    told = json.loads(FLEET.model_dump_json(by_alias=True))
    told["spec"]["compute"][0]["nodes"] = [
        {"sid": "0001", "gridNode": "2", "name": "first host"},
        {"sid": "0002", "gridNode": "3", "name": "second host"},
        {"sid": "0003", "gridNode": "7", "name": "spare"},
    ]
    return Fleet.model_validate(told)


def a_world(clock: Clock, people: tuple[Person, ...]) -> World:
    fleet, backends = the_fleet(), Backends(people)
    given: Any = backends
    world = World(fleet, given, Looks(given, clock, timedelta(seconds=30)), ())
    newest = {name: Release(NEWEST, NEWEST, "", "") for name, each in catalogue().items() if each.allowed}
    world.looks._kept["forge/releases/latest"] = Look(Published(newest, told=True), clock.now())
    world.looks._kept_until["forge/releases/latest"] = clock.now() + timedelta(days=365)
    return world


@asynccontextmanager
async def staged(
    folder: Path,
    *people: Person,
    clock: Clock | None = None,
    more: Iterable[Change] = (),
    access: Callable[[Controller, str], Access] | None = None,
) -> AsyncIterator[Stage]:
    """Serve until the end of the block. `more`: the source and its revisions, instead of the usual ones."""
    where, ticking = Places(folder / "fleet", folder / "state"), clock or SystemClock()
    async with opened_store(where, ticking) as store:
        controller = Controller(where, store, ticking)
        controller.engine._world = a_world(ticking, people)
        sock, real = bound(place("127.0.0.1:0"))
        stage = Stage(controller, real.url)
        await stage.show(*people, more=tuple(more or revisions(ticking.now())))
        who = access(controller, real.url) if access is not None else None
        serving = asyncio.ensure_future(serve(make_app(Window(controller), access=who), sock, controller.stop))
        try:
            await answering(serving, real)
            yield stage
        finally:
            controller.stop.set()
            await serving


def with_sign_in(controller: Controller, url: str) -> Access:
    """Windows that are shown to nobody who has not signed in at Forge."""
    admission = Admission(controller.store, controller.clock)
    return Access(admission, url, True, SignIn(admission, "testers", Secret("of the pictures"), url, Options()))


def revisions(now: datetime, errors: tuple[str, ...] = (), readable: bool = True) -> list[Change]:
    """Two commits, of which the second is in force."""
    source = "git repository https://forge.example.org/geomind/fleet.git, branch main"
    ago = lambda minutes: now - timedelta(minutes=minutes)  # noqa: E731
    return [
        PutRevision(
            RevisionRecord(
                BEFORE, source, ago(60 * 26), "Sara Lind", "Two more for the workshop", ago(60 * 26), (),
                ("lea", "jana"), RevisionState.SUCCESS, 11, 11, "11/11 testers ready", "success",
            )
        ),
        PutRevision(
            RevisionRecord(
                SHA, source, ago(3), "Mik de Vries", "Add dora and emil", ago(4), errors, ("dora", "emil"),
                RevisionState.PENDING, 0, 0, "", "pending",
            )
        ),
        PutSource(SourceState(source, SHA, ago(3), readable, errors, ())),
        AddEvent(Event("", "source", "RevisionRead", f"revision {SHA[:12]} by Mik de Vries: Add dora and emil", ago(3))),
    ]  # fmt: skip


def dead_forge(people: Iterable[Person] = USUAL) -> tuple[Person, ...]:
    """Everybody who was well waits for Forge."""
    why = Lacking(
        "Unreachable",
        "Forge: no connection for GET /api/v1/admin/users (connection refused)",
        "Forge",
        timedelta(minutes=14),
        timedelta(seconds=200),
        True,
        7,
    )
    return tuple(
        Person(one.name, Phase.FAILING, one.age, one.node, {"account": why}) if one.phase is Phase.READY else one
        for one in people
    )


def many(count: int) -> tuple[Person, ...]:
    """A thousand, say: nearly all well."""
    shape: Callable[[int], Person] = lambda n: (  # noqa: E731
        USUAL[n % len(USUAL)] if n % 9 == 0 else Person(f"t{n}", age=timedelta(days=1 + n % 40))
    )
    made = [shape(n) for n in range(count)]
    return tuple(
        Person(f"tester{n:04d}", one.phase, one.age, f"000{1 + n % 3}", one.lacks, one.version, one.spec)
        for n, one in enumerate(made)
    )


def fleet_trouble(now: datetime) -> list[Change]:
    """Something stands in the listings that nobody asked for."""
    words = "2 machines in the listings bear a name of ours and are in nobody's books: old_u00042_1_1, old_u00043_1_1"
    since = now - timedelta(hours=5)
    return [
        PutCondition(
            Condition("", "NothingOrphaned", Status.FALSE, "OrphansFound", words, 0, since, blames="an admin")
        ),
        AddEvent(Event("", "fleet", "OrphansFound", words, since, Severity.WARNING)),
    ]
