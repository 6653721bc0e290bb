"""Logs of installs: from the machine to a person, bounded, harmless, without secrets; and what is new while one watches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from api.commands import logs
from api.commands.logs import kept_words, lines_of_news
from api.complaint import Complaint
from api.job_logs import OVERLAP, JobLog, NoLog, end_of_each, news, whole
from api.terminal import Output
from api.worlds import stored_fleet
from controller.records import PutFacts, PutFleet, TesterBooks
from controller.running import Controller
from controller.world import World
from reconcilers.backends.machine import SUPERVISOR_JOB, Job, JobState, MachineAddress, MachineLook, MachineQuery
from reconcilers.errors import Unreachable
from reconcilers.facts import InstallLogsFacts, KeptLog, MachineAccessFacts
from reconcilers.secret import HIDDEN, Secret
from tests.api.conftest import CANARY
from tests.controller.fakes import FLEET, START

BOOKS = Job("component-hero_books", JobState.FAILED, 7, "the end\n", "", "v0.3.1", "2026-11-20T11:50:00Z")
SUPERVISOR = Job(
    SUPERVISOR_JOB, JobState.SUCCEEDED, 0, f"a {CANARY} \x1b[2J\u202e\n", "v0.3.1", "", "2026-11-20T11:49:00Z"
)


@dataclass
class Machines:
    """One machine that remembers who was asked for."""

    jobs: dict[str, Job] = field(default_factory=lambda: {one.name: one for one in (BOOKS, SUPERVISOR)})
    log: str = f"all of it, {CANARY} too\n\x1b[2J"
    dead: bool = False
    asked: list[tuple[MachineAddress, str]] = field(default_factory=list)

    async def look(self, address: MachineAddress, query: MachineQuery) -> MachineLook:
        if self.dead:
            raise Unreachable("nobody there", system="machine of alice")
        self.asked.append((address, "look"))
        return MachineLook(host_key="", jobs=self.jobs)

    async def job_log(self, address: MachineAddress, job: str) -> str:
        self.asked.append((address, job))
        return self.log


@dataclass
class Outside:
    machines: Machines


@dataclass
class FakeWorld:
    """What logs need of a world."""

    backends: Outside
    fleet: Any = FLEET
    users: int = 0

    async def leave(self) -> None:
        self.users -= 1


@pytest.fixture
def machines() -> Machines:
    return Machines()


@pytest.fixture
def world(machines: Machines, controller: Controller) -> World:
    made = cast(World, FakeWorld(Outside(machines)))
    controller.engine._world = made
    return made


async def books_of(controller: Controller, name: str = "alice") -> TesterBooks:
    found = await controller.store.books(name)
    assert found is not None
    return found


async def test_the_end_of_each_takes_one_look_and_names_every_component(
    controller: Controller, world: World, machines: Machines
) -> None:
    await controller.store.write(PutFacts("alice", MachineAccessFacts(host_key="ssh-ed25519 AAAA"), "gent/0007", START))
    books = await books_of(controller)
    found = {one.component: one for one in await end_of_each(books, world, ())}
    assert set(found) == {one.name for one in books.record.desired.components}
    assert found["hero_books"].log == "the end\n"
    assert found["hero_db"].job is None
    ((address, _),) = machines.asked
    assert (address.host, address.host_key) == ("400::7", "ssh-ed25519 AAAA"), "the pinned key is demanded"


async def test_secrets_and_what_drives_a_terminal_are_taken_out(controller: Controller, world: World) -> None:
    books = await books_of(controller)
    (supervisor,) = [one for one in await end_of_each(books, world, ()) if one.component == "hero_proc"]
    assert supervisor.log.startswith(f"a {HIDDEN} ")
    one = await whole(books, world, (), "hero_books")
    assert HIDDEN in one.log
    shared = await whole(replace(books, sealed={}), world, (Secret(CANARY),), "hero_books")
    for log in (supervisor.log, one.log, shared.log):
        assert CANARY not in log
        assert "\x1b" not in log
        assert "\u202e" not in log


async def test_all_of_one_is_asked_under_the_name_of_its_job(
    controller: Controller, world: World, machines: Machines
) -> None:
    books = await books_of(controller)
    await whole(books, world, (), "hero_books")
    await whole(books, world, (), "hero_proc")
    assert [job for _, job in machines.asked if job != "look"] == ["component-hero_books", SUPERVISOR_JOB]
    with pytest.raises(NoLog, match=r"has no component '\.\./x'\. There are: hero_agent, "):
        await whole(books, world, (), "../x")


async def test_without_a_machine_there_is_no_log(controller: Controller, world: World) -> None:
    with pytest.raises(NoLog, match="bob has no machine yet"):
        await end_of_each(await books_of(controller, "bob"), world, ())


# ------------------------------------------------------------------------------------------------ the read API


async def test_the_api_answers_with_both(browser: httpx.AsyncClient, world: World) -> None:
    found = (await browser.get("/api/v1/testers/alice/logs")).json()
    (books,) = [one for one in found if one["component"] == "hero_books"]
    assert books == {
        "component": "hero_books",
        "state": "failed",
        "exitCode": 7,
        "began": "2026-11-20T11:50:00Z",
        "wanted": "v0.3.1",
        "result": None,
        "log": "the end\n",
        "keptAt": None,
        "keptWhy": None,
        "machine": None,
    }
    one = (await browser.get("/api/v1/testers/alice/logs/hero_books")).json()
    assert one["log"].startswith("all of it, ")
    assert CANARY not in str(found) + str(one)
    assert cast(FakeWorld, world).users == 0


@pytest.mark.parametrize(
    ("path", "dead", "status", "words"),
    [
        ("alice/logs/nonsense", False, 404, "no component"),
        ("bob/logs", False, 404, "no machine yet"),
        ("nobody/logs", False, 404, "nobody"),
        ("alice/logs", True, 502, "nobody there"),
    ],
)
async def test_the_api_says_no(
    browser: httpx.AsyncClient, world: World, machines: Machines, path: str, dead: bool, status: int, words: str
) -> None:
    machines.dead = dead
    answer = await browser.get(f"/api/v1/testers/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert words in answer.json()["detail"]
    assert cast(FakeWorld, world).users == 0


async def test_without_a_world_the_api_says_when_to_ask_again(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/api/v1/testers/alice/logs")).status_code == 503


# ------------------------------------------------------------------------------------------------ from our books


def kept(*jobs: str) -> InstallLogsFacts:
    log = KeptLog(machine="gent/0007", state="failed", rc=7, began=BOOKS.began, log=f"cause, {CANARY}\x1b\n", at=START)
    return InstallLogsFacts(kept=dict.fromkeys(jobs, log))


async def test_while_the_machine_is_away_our_books_tell_the_last_failures(
    controller: Controller, browser: httpx.AsyncClient, world: World, machines: Machines
) -> None:
    await controller.store.write(PutFacts("alice", kept("component-hero_books", "component-of_old"), "", START))
    machines.dead = True
    (one,) = (await browser.get("/api/v1/testers/alice/logs")).json()
    assert (one["component"], one["state"], one["exitCode"], one["machine"]) == ("hero_books", "failed", 7, "gent/0007")
    assert (datetime.fromisoformat(one["keptAt"]), one["keptWhy"]) == (START, "machine of alice: nobody there")
    assert one["log"].startswith(f"cause, {HIDDEN}")
    assert "\x1b" not in one["log"]
    assert (await browser.get("/api/v1/testers/alice/logs/hero_books")).json() == [one][0]
    assert (await browser.get("/api/v1/testers/alice/logs/hero_db")).status_code == 502, "of it nothing is kept"
    assert (await browser.get("/api/v1/testers/alice/logs/nonsense")).status_code == 404


async def test_what_the_machine_itself_tells_goes_before_what_our_books_kept(
    controller: Controller, world: World, machines: Machines
) -> None:
    await controller.store.write(PutFacts("alice", kept("component-hero_books", "component-hero_db"), "", START))
    found = {one.component: one for one in await logs.read(await books_of(controller), world, (Secret(CANARY),))}
    assert (found["hero_books"].log, found["hero_books"].kept_at) == ("the end\n", None)
    assert (found["hero_db"].kept_at, found["hero_db"].why) == (START, ""), "the machine of today never installed it"
    words = kept_words(found["hero_db"], START + timedelta(hours=3))
    assert words == "from our books, seen 3 h ago on gent/0007; the machine of today knows nothing of it"


# ------------------------------------------------------------------------------------------------ following


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "a\n", "a\n"),
        ("a\n", "a\n", ""),
        ("a\n", "a\nb\n", "b\n"),
        ("x" * 70_000 + "y" * OVERLAP, "x" * 10 + "y" * OVERLAP + "new\n", "new\n"),
        ("old\n", "another job\n", "another job\n"),
        ("z" * (OVERLAP + 1), "q" * (OVERLAP + 1), "q" * (OVERLAP + 1)),
    ],
)
def test_what_is_new_in_a_log(before: str, now: str, new: str) -> None:
    assert news(before, now) == new


def told(old: JobLog | None, one: JobLog) -> list[str]:
    return [line.plain for line in lines_of_news(old, one)]


def test_news_are_told_once_with_their_component_and_the_end_of_the_job() -> None:
    running = JobLog("hero_books", replace(BOOKS, state=JobState.RUNNING, rc=None), "one\n")
    ended = JobLog("hero_books", BOOKS, "one\ntwo\n")
    again = JobLog("hero_books", replace(BOOKS, began="2026-11-20T12:00:00Z"), "one\n")
    assert told(running, running) == []
    assert told(running, ended) == [
        "hero_books  two",
        "hero_books: failed exit code 7 began 2026-11-20T11:50:00Z",
    ]
    assert told(ended, again)[0] == "hero_books  one", "another job's log is not the rest of the last one's"


async def test_following_goes_on_while_the_machine_is_away(
    controller: Controller, world: World, machines: Machines
) -> None:
    books = await books_of(controller)
    before = await logs.read(books, world, (), "hero_books")
    machines.dead = True
    assert await logs.read_patiently(before, books, "hero_books", world, ()) == before
    with pytest.raises(Unreachable):
        await logs.read(books, world, ())


# ------------------------------------------------------------------------------------------------ the command


async def test_a_fleet_of_another_program_is_told_in_words(controller: Controller) -> None:
    await controller.store.write(PutFleet('{"kind": "of old"}', "r1"))
    with pytest.raises(Complaint, match="not read a Fleet yet that this program understands"):
        await stored_fleet(controller.store)


async def test_the_command_opens_the_fleet_that_was_taken_in_last(
    controller: Controller,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    opened = []

    @asynccontextmanager
    async def opening(fleet: object, folder: Path, *_: object) -> AsyncIterator[World]:
        opened.append((fleet, folder))
        yield world

    monkeypatch.setattr(logs, "opened_world", opening)
    with pytest.raises(Complaint, match="not read a Fleet yet that this program understands"):
        await logs._logs("alice", None, controller.places, Output.TEXT, follow=False)
    await controller.store.write(PutFleet(FLEET.model_dump_json(by_alias=True), "r1"))
    assert await stored_fleet(controller.store) == FLEET
    await logs._logs("alice", None, controller.places, Output.TEXT, follow=False)
    shown = capsys.readouterr().out
    assert opened == [(FLEET, controller.places.folder)]
    assert "hero_books: failed exit code 7 began 2026-11-20T11:50:00Z\n  the end\n" in shown
    assert "hero_db: nothing was installed yet" in shown
    assert CANARY not in shown
    with pytest.raises(Complaint, match="There is no tester zoe\\. Known: alice, bob\\."):
        await logs._logs("zoe", None, controller.places, Output.TEXT, follow=False)
