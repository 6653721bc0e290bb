"""Our clock is set back by a day: moments that the books have written down lie in the future then, and nobody waits for
them once more."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from reconcilers.facts import ObjectState, OutsideObject
from tests.lessons.conftest import LEAN, fault
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

DAY = timedelta(days=1)
A_WHILE = timedelta(minutes=40)


def set_back(w: Rig, span: timedelta = DAY) -> None:
    """The controller's clock; the world's goes on."""
    before = w.clock.now

    def now() -> datetime:
        return before() - span

    w.clock.now = now  # type: ignore[method-assign]


async def row_of(w: Rig, step: str, state: ObjectState) -> OutsideObject | None:
    return next((row for row in await w.store.objects(step) if row.state is state), None)


def calls(w: Rig, method: str, since: int = 0) -> int:
    return sum(entry.what == f"/rpc {method}" for entry in w.world.log.entries[since:])


@in_virtual_time
async def test_a_create_whose_answer_was_lost_is_given_up_in_its_usual_time(tmp_path: Path) -> None:
    lost = fault("compute", "deploy_vm", "timeout_before", seconds=1)
    async with world(tmp_path, ["alice"], faults=[lost], fleet=LEAN) as w:

        async def begun() -> bool:
            conditions = await w.conditions("alice")
            return "Machine" in conditions and conditions["Machine"].reason == "OutcomeUnknown"

        await w.until(begun, "the answer is lost")
        assert await row_of(w, "machine", ObjectState.INTENDED) is not None
        set_back(w)
        await w.ready("alice", within=A_WHILE)
        assert w.books()["vms"] == 1


@in_virtual_time
async def test_what_is_missing_in_the_listing_is_made_anew_in_its_usual_time(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        w.world.drift.delete_gateway(w.fqdn("alice").partition(".")[0])

        async def noticed() -> bool:
            row = await row_of(w, "gateway", ObjectState.EXISTING)
            return row is not None and row.missing_since is not None

        await w.until(noticed, "it is missed", within=A_WHILE)
        set_back(w)
        await w.until(lambda: w.books()["gateways"], "a new one", within=timedelta(minutes=10))
        await w.ready("alice")


@in_virtual_time
async def test_what_must_go_and_is_not_seen_any_more_is_let_go_of_in_its_usual_time(tmp_path: Path) -> None:
    """Its delete was never confirmed: it has to be missing for as long as the grace."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        w.world.drift.add_fault(**fault("compute", "delete_vm", "timeout_after_effect"))
        w.edit("alice", machine={"rebuild": 1})

        async def noticed() -> bool:
            row = await row_of(w, "machine", ObjectState.RETIRING)
            return row is not None and row.missing_since is not None

        await w.until(noticed, "it is not seen any more", within=A_WHILE)
        set_back(w)
        await w.run_for(timedelta(minutes=10))
        assert await row_of(w, "machine", ObjectState.RETIRING) is None


@in_virtual_time
async def test_listings_are_shared_as_before(tmp_path: Path) -> None:
    """A row that was written down in the future demands looks that are newer than it: none would ever do."""
    names = ("alice", "carol")
    async with world(tmp_path, names, fleet=LEAN) as w:
        await w.ready(*names)
        await w.settled()
        await w.run_for(timedelta(minutes=30))
        since = len(w.world.log)
        await w.run_for(timedelta(hours=3))
        usual = calls(w, "list_vms", since)
        set_back(w)
        await w.run_for(timedelta(minutes=30))
        since = len(w.world.log)
        await w.run_for(timedelta(hours=3))
        assert calls(w, "list_vms", since) <= usual * 1.2
        now = w.clock.now()
        assert [row for row in await w.store.objects() if row.since is not None and row.since > now] == []
