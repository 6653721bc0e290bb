"""An eighth of all crash points, other ones each day; `make crash-points` dies at every one of them."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest

from controller.engine import Engine
from controller.passes import rows
from controller.passes.snapshot import Snapshot
from reconcilers.facts import ObjectState, OutsideObject
from tests.worlds import crash_points
from tests.worlds.crash_points import run_scenario, share_and_made
from tests.worlds.crash_scenarios import SCENARIOS
from tests.worlds.crash_state import differences
from tests.worlds.deaths import Awaits
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig
from tests.worlds.watch import Watch

pytestmark = pytest.mark.long

EVERY = 24
"""Boundaries: about three in a row are one and the same death. Beside those after every call that makes or deletes something."""
TODAY = date.today().toordinal()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SCENARIOS)
def test_wherever_it_dies_the_end_is_the_same(name: str) -> None:
    told = run_scenario(SCENARIOS[name], share_and_made(EVERY, TODAY), jobs=2)
    print(told)
    assert told.deaths > 0
    assert not told.failures, "\n".join((f"day {TODAY}", *told.failures))


def test_what_must_hold_is_asked_of_the_life_that_nobody_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def wary(rig: Rig) -> Watch:
        watch = Watch(rig)
        watch.violated("Doubled", "a thing", "two of it")
        return watch

    monkeypatch.setattr(crash_points, "Watch", wary)
    with pytest.raises(AssertionError, match=r"update, where nobody died: .*two of it"):
        run_scenario(SCENARIOS["update"], lambda number, what: False)


def test_a_death_that_leaves_something_behind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A next life that does not care what was under way leaves it open in the journal for ever."""

    async def careless(self: Engine, whose: object) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(Engine, "recover", careless)
    told = run_scenario(
        SCENARIOS["removal"], lambda number, what: what.startswith("before compute compute1: delete_vm")
    )
    (failure,) = told.failures
    assert "dead at" in failure
    assert "/books/open journal: 0 became" in failure


def test_a_create_without_a_look_for_what_was_begun_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A next life that does not look for what may have been made makes it once more."""

    def of_what_was_answered(snapshot: Snapshot, step: str) -> OutsideObject | None:
        return next((row for row in snapshot.rows(step) if row.state is ObjectState.EXISTING), None)

    monkeypatch.setattr(rows, "current", of_what_was_answered)
    told = run_scenario(SCENARIOS["cold-add"], lambda number, what: what == "after compute compute1: deploy_vm")
    (failure,) = told.failures
    assert "/world/made/vms: 1 became 2" in failure


class Noted:
    """Stands for the boundaries."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def reached(self, what: str) -> bool:
        self.seen.append(what)
        return False


@in_virtual_time
async def test_an_await_is_two_boundaries_and_nothing_else_changes() -> None:
    async def work(fails: bool) -> str:
        loop = asyncio.get_running_loop()
        refused = loop.create_future()
        loop.call_later(2, refused.set_exception, ConnectionError())
        await asyncio.sleep(1)
        try:
            await refused
        except ConnectionError:
            if fails:
                raise
        return "done"

    noted: Any = Noted()
    assert await Awaits(work(False), noted, "it") == "done"
    assert noted.seen == ["it, await 1", "it, await 1 over", "it, await 2", "it, await 2 over"]
    with pytest.raises(ConnectionError):
        await Awaits(work(True), noted, "it")


def test_what_differs_is_told_by_its_place() -> None:
    one = {"a": {"b": [1, {"c": 2}]}, "d": 3}
    assert differences(one, one) == []
    assert differences(one, {"a": {"b": [1, {"c": 4}]}}) == ["/a/b/1/c: 2 became 4", '/d: 3 became "–"']
