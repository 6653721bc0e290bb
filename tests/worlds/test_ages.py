"""What is told of a tester is as old as the look that it rests on, also where one look served several testers (law 11)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from controller.passes.snapshot import Snapshot
from controller.queries import Queries, TesterDetail
from reconcilers.backends.limits import Call
from reconcilers.looks import TesterLooks
from reconcilers.machine_look import Seen
from tests.lessons.conftest import LEAN
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

LOOK_AGE = timedelta(seconds=30)


class Asked:
    """When VMs were listed, and machines looked at."""

    def __init__(self, w: Rig) -> None:
        self.w = w
        self.listed: list[datetime] = []
        self.looked: list[datetime] = []

    async def before(self, call: Call) -> None:
        if call.name == "list_vms":
            self.listed.append(self.w.clock.now())
        elif call.name == "look":
            self.looked.append(self.w.clock.now())

    async def after(self, call: Call, failure: BaseException | None) -> None: ...


async def of(w: Rig, name: str) -> TesterDetail:
    detail = await Queries(w.store, w.controller.engine.sightings).tester(name)
    assert detail is not None
    return detail


def age_of(detail: TesterDetail, step: str) -> datetime | None:
    return next(known.seen_at for known in detail.facts if known.facts.step == step)


async def pass_over(w: Rig, name: str) -> None:
    passes = w.controller.engine.passes
    w.controller.engine.queue.add(name)
    await w.until(lambda: w.controller.engine.passes > passes, f"a pass over {name}", within=timedelta(minutes=1))


@in_virtual_time
async def test_a_fact_from_a_shared_listing_is_as_old_as_the_listing(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice", "carol"], fleet=LEAN) as w:
        asked = Asked(w)
        w.hooks.append(asked)
        await w.ready("alice", "carol")
        await w.settled()
        await w.until(lambda: w.clock.now() - asked.listed[-1] > LOOK_AGE, "no listing is at hand")
        await pass_over(w, "alice")
        listings, moment = len(asked.listed), asked.listed[-1]
        await w.run_for(LOOK_AGE / 2)
        await pass_over(w, "carol")
        assert len(asked.listed) == listings, "what alice was answered served carol"
        for detail in (await of(w, "alice"), await of(w, "carol")):
            assert age_of(detail, "machine") == detail.seen_at["Machine"] == moment
        assert w.clock.now() - moment > LOOK_AGE / 2


@in_virtual_time
async def test_a_machine_is_seen_at_the_moment_of_the_look_whoever_asks_later(tmp_path: Path) -> None:
    """What steps remember of it, as when its door was seen shut, counts from there."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        asked = Asked(w)
        w.hooks.append(asked)
        await w.ready("alice")
        await w.settled()
        await w.until(lambda: w.clock.now() - asked.looked[-1] > LOOK_AGE, "no look is at hand")
        first = await seen(w, "front_door")
        looks = len(asked.looked)
        await w.run_for(LOOK_AGE / 2)
        second = await seen(w, "components")
        assert len(asked.looked) == looks
        assert first.at == second.at == asked.looked[-1] < w.clock.now() - LOOK_AGE / 3


async def seen(w: Rig, step: str) -> Seen:
    """What a step sees when it asks now, through the looks that all share."""
    ours, books = w.controller.engine.world, await w.store.books("alice")
    assert ours is not None
    assert books is not None
    view = Snapshot(books, ours.fleet, {}, w.store).view(None)
    found = await ours.step(step).observe(view, TesterLooks(ours.looks))
    assert isinstance(found, Seen)
    return found
