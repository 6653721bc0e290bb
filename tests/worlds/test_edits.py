"""The folder of specs in any order of edits: nobody is removed who is in it, a broken file removes nobody, and in the end
everybody is as it says."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.worlds.edits import FLEET, PAUSE, SPOILING, Asked, Desk, Edit, drawn, wishes
from tests.worlds.living import all_well
from tests.worlds.loop import START, VirtualLoop, in_virtual_time
from tests.worlds.rig import Rig, world

T = TypeVar("T")
NAMES = ("alice", "carol", "dave")
LEAN: dict[str, Any] = {
    "componentSets": {"demo": ["hero_books"]},
    "engines": [],
    "safety": {"maxRemovals": len(NAMES)},
    "timing": {"poll": "30s", "resync": "30m", "outsideProofEvery": "4h", "releasesEvery": "4h"},
}
EVENING = START + timedelta(hours=22)
THEN = st.sampled_from([5, 60, 600, 0, 0.5, 0.03])
SOME = st.integers(0, 2**32)


class Specs(RuleBasedStateMachine):
    """Somebody edits; `Desk` knows what the folder asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="specs-"))
        self.loop = VirtualLoop(EVENING)
        self.within = world(self.root, ["alice"], fleet=LEAN)
        self.rig: Rig = self.done(self.within.__aenter__())
        self.desk = Desk(self.rig, {"alice": {}})

    def done(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def do(self, then: float, kind: str, name: str, spec: dict[str, Any] | None = None) -> None:
        """And `then` so many seconds go by."""

        async def at_once() -> None:
            self.desk.do(Edit(timedelta(0), kind, name, spec or {}))
            await self.rig.run_for(timedelta(seconds=then))

        self.done(at_once())

    # -- what is done

    @initialize(seconds=st.sampled_from([0, 70, 400]))
    def so_far_it_has_come(self, seconds: int) -> None:
        self.done(self.rig.run_for(timedelta(seconds=seconds)))

    @rule(then=THEN, name=st.sampled_from(NAMES), seed=SOME)
    def add(self, then: float, name: str, seed: int) -> None:
        self.do(then, "add", name, wishes(random.Random(seed)))

    @rule(then=THEN, data=st.data(), seed=SOME)
    @precondition(lambda self: self.desk.present)
    def edit(self, then: float, data: st.DataObject, seed: int) -> None:
        self.do(then, "edit", self.one_of(data), wishes(random.Random(seed)))

    @rule(then=THEN, data=st.data())
    @precondition(lambda self: self.desk.present)
    def remove(self, then: float, data: st.DataObject) -> None:
        self.do(then, "remove", self.one_of(data))

    @rule(then=THEN, data=st.data())
    @precondition(lambda self: self.desk.absent)
    def put_back(self, then: float, data: st.DataObject) -> None:
        self.do(then, "put_back", data.draw(st.sampled_from(sorted(self.desk.absent))))

    @rule(then=THEN, data=st.data(), paused=st.booleans())
    @precondition(lambda self: self.desk.present)
    def pause_or_resume(self, then: float, data: st.DataObject, paused: bool) -> None:
        self.do(then, "pause", self.one_of(data), {"paused": PAUSE if paused else None})

    @rule(then=THEN, data=st.data(), days=st.sampled_from([0, 1, None]))
    @precondition(lambda self: self.desk.present)
    def expire_or_extend(self, then: float, data: st.DataObject, days: int | None) -> None:
        self.do(then, "expire", self.one_of(data), {"expires": days})

    @rule(then=THEN, data=st.data(), how=st.sampled_from(sorted(SPOILING)))
    @precondition(lambda self: self.desk.present)
    def break_a_file(self, then: float, data: st.DataObject, how: str) -> None:
        self.do(then, "break", self.one_of(data), {"how": how})

    @rule(then=THEN, data=st.data())
    @precondition(lambda self: self.desk.broken)
    def mend_it(self, then: float, data: st.DataObject) -> None:
        self.do(then, "mend", data.draw(st.sampled_from(sorted(self.desk.broken))))

    @rule(hours=st.sampled_from([1, 4]))
    def time_goes_by(self, hours: int) -> None:
        self.done(self.rig.run_for(timedelta(hours=hours)))

    def one_of(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.desk.present)))

    # -- what holds

    @invariant()
    def nobody_is_removed_who_is_in_the_folder(self) -> None:
        """A file that is there, broken or not, keeps its tester until its last day is over."""
        self.done(self.nobody_leaves_who_is_wanted())

    async def nobody_leaves_who_is_wanted(self) -> None:
        if not self.rig._all_taken_in():
            return
        asked = self.desk.asked(self.rig.clock.now().date())
        for row in await self.rig.store.testers():
            leaves = asked[row.name] in (Asked.GONE, Asked.EXPIRED)
            assert leaves or not row.leaving, f"{row.name} is being removed, and should be {asked[row.name]}"

    def teardown(self) -> None:
        """Everybody ends as the folder says, broken files being mended."""
        try:
            self.done(self.to_the_end())
        finally:
            self.loop.wind_up()
            self.loop.close()
            shutil.rmtree(self.root)

    async def to_the_end(self) -> None:
        try:
            self.desk.mend_all()
            assert await all_well(self.rig, self.desk) == ()
        except BaseException:
            self.rig.kill()
            raise
        await self.within.__aexit__(None, None, None)


TestSpecs = pytest.mark.timeout(600)(Specs.TestCase)
TestSpecs.settings = settings(
    max_examples=6,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    print_blob=True,
    phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


def test_a_schedule_of_edits_is_read_back_from_its_lines() -> None:
    for seed in range(50):
        edits = drawn(random.Random(seed), timedelta(hours=5), NAMES, count=20)
        assert edits == tuple(Edit.of_line(edit.line()) for edit in edits)
        assert list(edits) == sorted(edits, key=lambda edit: edit.at)
        assert edits == drawn(random.Random(seed), timedelta(hours=5), NAMES, count=20)
    kinds = {
        edit.kind for seed in range(50) for edit in drawn(random.Random(seed), timedelta(hours=5), NAMES, count=20)
    }
    assert {"add", "remove", "put_back", "pause", "resume", "break", "mend", "expire", "extend", "fleet"} <= kinds
    assert {"break_fleet", "mend_fleet", "vanish", "reappear"} <= kinds


@in_virtual_time
async def test_nobody_is_removed_by_an_empty_folder_or_by_more_going_at_once_than_may(tmp_path: Path) -> None:
    names = ["alice", "carol"]
    async with world(tmp_path, names, fleet={**LEAN, "safety": {"maxRemovals": 1}}) as w:
        desk = Desk(w, {name: {} for name in names})
        await w.until(w._all_taken_in, "the first reading")
        before = {file.name: file.read_bytes() for file in w.places.folder.glob("*.yaml")}
        for kind, spec in (("vanish", {}), ("vanish", {"but": FLEET}), ("break_fleet", {"how": "half"})):
            desk.do(Edit(timedelta(0), kind, "", spec))
            await w.run_for(timedelta(minutes=2))
            assert [(row.name, row.leaving) for row in await w.store.testers()] == [("alice", False), ("carol", False)]
            desk.mend_all()
            assert {file.name: file.read_bytes() for file in w.places.folder.glob("*.yaml")} == before
            await w.until(w._all_taken_in, "what it was")
        desk.do(Edit(timedelta(0), "vanish", "", {"but": FLEET}))
        desk.do(Edit(timedelta(0), "edit", "alice", {"allowlist": ["bob"]}))
        desk.do(Edit(timedelta(0), "remove", "carol"))
        desk.mend_all()
        assert sorted(file.name for file in w.places.folder.glob("*.yaml")) == ["alice.yaml", FLEET]
        assert "bob" in (w.places.folder / "alice.yaml").read_text()


@pytest.mark.parametrize("how", sorted(SPOILING))
def test_every_way_to_break_a_file_breaks_it(tmp_path: Path, how: str) -> None:
    @in_virtual_time
    async def broken() -> None:
        async with world(tmp_path, ["alice"], fleet=LEAN) as w:
            desk = Desk(w, {"alice": {}})
            await w.until(w._all_taken_in, "the first reading")
            desk.do(Edit(timedelta(0), "break", "alice", {"how": how}))
            await w.until(w._all_taken_in, "the broken reading")
            (row,) = await w.store.testers()
            source = await w.store.source()
            assert source is not None
            assert source.errors
            assert (row.source_error != "", row.leaving) == (True, False)
            desk.mend_all()
            await w.until(w._all_taken_in, "the mended one")
            (row,) = await w.store.testers()
            assert (row.source_error, row.leaving) == ("", False)

    broken()
