"""Time left, as people and programs read it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from api.commands.get import listing
from api.estimate_models import Estimate as EstimateAnswer
from api.time_left import about, time_left, usual_wait
from controller.estimates import Estimate, Outlook, Span, UsualWait
from controller.places import Places, opened_store
from controller.queries import Queries
from controller.records import AddRun, Condition, Phase, PutCondition, PutTester, Run, Status
from controller.running import Controller
from controller.store import Store
from reconcilers.clock import SystemClock
from tests.api.conftest import Terminal, asking
from tests.controller.fakes import START, ManualClock, a_tester, record_of

KNOWN = Estimate(Outlook.KNOWN, 3, "Machine", START, left=Span(timedelta(seconds=125), timedelta(seconds=231)))
SLOWER = Estimate(Outlook.SLOWER, 12, "Machine", START, over=timedelta(seconds=95))
UNKNOWN = Estimate(Outlook.UNKNOWN, 1, "", START)
WAIT = UsualWait("Gateway", "SlowChain", START, None, Span(timedelta(seconds=40), timedelta(seconds=55)))


@pytest.mark.parametrize(
    ("least", "most", "words"),
    [
        (125, 231, "about 2 to 4 min"),
        (150, 170, "about 2 to 3 min"),
        (120, 120, "about 2 min"),
        (42, 52, "about 40 to 55 s"),
        (42, 119, "about 40 to 120 s"),
        (0, 230, "at most about 4 min"),
        (50, 230, "at most about 4 min"),
        (0, 0, "at most about 5 s"),
        (3_600, 3 * 3_600 - 1, "about 1 to 3 h"),
        (30 * 3_600, 50 * 3_600, "about 1 to 3 d"),
    ],
)
def test_a_range_is_as_rough_as_it_is_known(least: float, most: float, words: str) -> None:
    assert about(Span(timedelta(seconds=least), timedelta(seconds=most))) == words


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (KNOWN, "Ready in about 2 to 4 min"),
        (SLOWER, "slower than usual, by 1 min"),
        (UNKNOWN, "time left unknown yet: 1 of 3 runs"),
        (None, ""),
    ],
)
def test_the_time_left_in_words(known: Estimate | None, words: str) -> None:
    assert time_left(known) == words


def test_a_usual_wait_in_words() -> None:
    assert usual_wait(WAIT) == "Gateway, SlowChain: usually about 40 to 55 s"
    assert usual_wait(replace(WAIT, usual=None)) == "Gateway, SlowChain: usual time unknown yet"
    assert usual_wait(None) == ""


def test_programs_get_seconds_and_null_for_what_is_unknown() -> None:
    told = EstimateAnswer.of(replace(KNOWN, wait=WAIT)).model_dump(mode="json")
    assert (told["outlook"], told["leastSeconds"], told["mostSeconds"]) == ("Known", 125.0, 231.0)
    assert (told["overSeconds"], told["after"], told["neededRuns"]) == (None, "Machine", 3)
    assert (told["wait"]["leastSeconds"], told["wait"]["mostSeconds"]) == (40.0, 55.0)
    late = EstimateAnswer.of(SLOWER).model_dump(mode="json")
    assert (late["leastSeconds"], late["mostSeconds"], late["overSeconds"], late["wait"]) == (None, None, 95.0, None)
    unknown = EstimateAnswer.of(UNKNOWN).model_dump(mode="json")
    assert (unknown["leastSeconds"], unknown["after"], unknown["runs"]) == (None, None, 1)


# ------------------------------------------------------------------------------------------------ the windows


async def on_its_way(store: Store, runs: int = 3) -> None:
    """carol's machine came just now; from there it took the others two to four minutes."""
    now = store.clock.now()
    waiting = record_of(a_tester("carol"), phase=Phase.WAITING, changed_at=now - timedelta(minutes=5))
    starting = Condition("carol", "Gateway", Status.FALSE, "SlowChain", "it is written", 1, now - timedelta(minutes=1))
    past = [{"Machine": 60.0, "Gateway": 60.0 + after} for after in (130.0, 180.0, 235.0)]
    await store.write(
        PutTester(waiting),
        PutCondition(Condition("carol", "Machine", Status.TRUE, "InSync", "as the spec says", 1, now)),
        PutCondition(starting),
        *(AddRun(Run("x", START, each["Gateway"], each)) for each in past[:runs]),
    )


@pytest.fixture
async def way(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Controller]:
    where = Places(tmp_path / "fleet", tmp_path / "state")
    async with opened_store(where, clock) as store:
        await on_its_way(store)
        yield Controller(where, store, clock)


async def test_the_list_the_page_and_the_api_tell_it(way: Controller, clock: ManualClock) -> None:
    ask = Queries(way.store)
    testers = await ask.testers()
    (cell,) = listing(testers, clock).columns[3].cells
    assert "Ready in about 2 to 4 min" in str(cell)
    async with asking(way) as browser:
        assert "Ready in about 2 to 4 min" in (await browser.get("/")).text
        assert "Ready in about 2 to 4 min" in (await browser.get("/testers/carol")).text
        (listed,) = (await browser.get("/api/v1/testers")).json()["items"]
        whole = (await browser.get("/api/v1/testers/carol")).json()
    assert whole["tester"]["estimate"] == listed["estimate"]
    assert (listed["estimate"]["leastSeconds"], listed["estimate"]["mostSeconds"]) == (130.0, 235.0)
    assert listed["estimate"]["wait"]["type"] == "Gateway"


@pytest.mark.parametrize(("runs", "words"), [(3, "Ready in"), (1, "unknown yet: 1 of 3 runs")])
def test_describe_tells_it(testerctl: Terminal, tmp_path: Path, runs: int, words: str) -> None:
    async def fill() -> None:
        async with opened_store(Places(tmp_path, tmp_path / "state"), SystemClock()) as store:
            await on_its_way(store, runs)

    asyncio.run(fill())
    assert testerctl("describe", "carol", "--state", tmp_path / "state") == 0
    assert words in testerctl.out
    assert "Gateway, SlowChain: usual" in testerctl.out
    assert testerctl("get", "--state", tmp_path / "state") == 0
    assert words.split()[0] in testerctl.out
    assert testerctl("get", "-o", "json", "--state", tmp_path / "state") == 0
    (told,) = json.loads(testerctl.out)
    assert told["estimate"]["outlook"] == ("Known" if runs == 3 else "Unknown")
