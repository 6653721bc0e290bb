"""Whoever comes or goes, a settled tester need not be thought about anew: its books tell whether anybody wrote about it."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.records import PutCondition, PutTester, TesterBooks
from controller.replicas.crew import Crew
from controller.replicas.words import Word
from controller.rests import PutRest
from controller.store import Keyring, Store
from tests.controller.fakes import ManualClock, Outside, rig, until
from tests.controller.store.samples import a_condition, a_tester
from tests.lessons.conftest import LEAN
from tests.replicas.team import One, Team, lived, team

NAMES = ["t0", "t1", "t2"]


async def test_what_may_have_changed_is_read_again_and_not_forgotten() -> None:
    clock = ManualClock()
    store = await Store.open("sqlite://", Keyring.generate(), clock)
    for name in NAMES:
        await store.write(PutTester(a_tester(name)), PutRest(name, b"mark", "{}"))
    engine = rig(store, clock, [], Outside()).engine
    crew, resting = Crew(engine, "postgresql://nowhere/none", clock, random.Random(1)), engine.resting
    store.fence, heard = None, list(store.listeners)
    await resting.recall(NAMES)
    for generation, told in enumerate((crew.members_changed, lambda: crew._hear(Word(changed=None)))):
        before = dict(resting._kept)
        store.listeners[:] = []  # somebody else writes
        await store.write(PutCondition(replace(a_condition(of="t1"), generation=generation)))
        store.listeners[:] = heard
        told()
        assert not any(map(resting.is_recalled, NAMES)), "until they are read"
        await until(lambda: not crew._deeds)
        assert {name for name in NAMES if resting._kept[name] != before[name]} == {"t1"}
    await store.aclose()


def noted(one: One, found: list[str]) -> None:
    """Whose books it reads from now on, for a pass."""
    read = one.store.books

    async def books(name: str, **more: Any) -> TesterBooks | None:
        found.append(name)
        return await read(name, **more)

    one.store.books = books  # type: ignore[method-assign]


@pytest.mark.long
@pytest.mark.on_a_file
def test_who_comes_or_goes_costs_nobody_a_whole_pass(tmp_path: Path) -> None:
    async def at_rest(w: Team) -> None:
        """And written down."""

        def everybody() -> bool:
            return sum(len(one.controller.engine.resting) for one in w.living) == len(NAMES)

        await w.until(everybody, "at rest", timedelta(hours=1))
        for one in w.living:
            await one.life.run(one.controller.engine._write_down())

    async def life() -> None:
        async with team(tmp_path, NAMES, count=1, fleet=LEAN) as w:
            await w.ready(*NAMES)
            await at_rest(w)
            found: list[str] = []
            noted(w.replicas[0], found)
            noted(await w.begin(), found)
            await w.until(lambda: w.is_shared, "shared", timedelta(minutes=1))
            await at_rest(w)
            for befalls in (w.replicas[0].kill, w.server.restart):
                befalls()
                await w.run_for(timedelta(seconds=15))
                await at_rest(w)
            assert found == []

    lived(life())
