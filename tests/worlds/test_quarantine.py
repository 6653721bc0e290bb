"""Quarantine: what stands beside the one in use is told with its age and how it came about, and only what is ours goes."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api.models import TesterWhole
from controller.quarantine import Quarantined
from controller.queries import Queries
from examples.simulator.records import App, Vm
from reconcilers.facts import ObjectState
from tests.lessons.conftest import LEAN
from tests.worlds.loop import in_virtual_time, run
from tests.worlds.rig import Rig, world
from tests.worlds.watch import Watch

HOUR = timedelta(hours=1)
GRACE = timedelta(minutes=2)
GONE_WITHIN = timedelta(minutes=13)  # the grace, and the next look after it


async def told(w: Rig) -> tuple[Quarantined, ...]:
    """What the windows tell of it."""
    detail = await Queries(w.store).tester("alice")
    assert detail is not None
    assert [each.name for each in TesterWhole.of(detail).quarantine] == [each.name for each in detail.quarantine]
    return detail.quarantine


async def until_told(w: Rig) -> Quarantined:
    async def holds() -> bool:
        return bool(await told(w))

    await w.until(holds, "it is told", within=HOUR)
    (one,) = await told(w)
    return one


def stands(w: Rig, step: str) -> list[str]:
    """Ids, by step."""
    daemon = next(iter(w.world.state.daemons.values()))
    ids = {
        "machine": list(daemon.vms),
        "gateway": list(daemon.gateways),
        "sign_in_app": [str(app.id) for app in w.world.state.forge.apps],
    }
    return ids[step]


def in_use(w: Rig, watch: Watch, step: str) -> str:
    key = {"machine": "vm_id", "gateway": "gateway_id", "sign_in_app": "app_id"}[step]
    (row,) = (
        row for at, row in watch.books.rows.items() if at[:2] == ("alice", step) and row.state is ObjectState.EXISTING
    )
    return row.identity[key]


CALLS: dict[str, dict[str, Any]] = {
    "machine": {"system": "compute", "method": "deploy_vm"},
    "gateway": {"system": "compute", "method": "deploy_webgateway"},
    "sign_in_app": {"system": "forge", "method": "POST */applications/oauth2"},
}
FIRST: dict[str, dict[str, Any]] = {
    "machine": {"system": "compute", "method": "list_vms", "target": "alice_??????_1_1"},
    "gateway": {"system": "compute", "method": "list_webgateways", "target": "alice??????"},
    "sign_in_app": {"system": "forge", "method": "GET /user/applications/oauth2", "target": "Hero OS alice ??????-1-1"},
}
"""What the first attempt makes, in its listing."""


@pytest.mark.parametrize("step", CALLS)
def test_a_lost_one_that_appears_after_all_is_told_for_the_grace_and_goes(tmp_path: Path, step: str) -> None:
    async def life() -> None:
        late = {**FIRST[step], "kind": "listing_omits", "times": None, "until": timedelta(minutes=40)}
        faults = [{**CALLS[step], "kind": "timeout_after_effect", "times": 1}, late]
        async with world(tmp_path, ["alice"], faults=faults, fleet=LEAN) as w:
            watch = Watch(w)
            await w.ready("alice", within=HOUR)
            assert len(stands(w, step)) == 2
            one = await until_told(w)
            kept, seen = in_use(w, watch, step), w.clock.now()
            assert (one.step, one.ours, one.since) == (step, True, one.since)
            assert "given up as lost, another one was made" in one.how
            assert seen - one.since < timedelta(seconds=5)
            await w.ready("alice", within=timedelta(minutes=1))
            await w.run_for(timedelta(seconds=10))  # until the pass that saw it has ended
            summary = (await Queries(w.store).testers())[0]
            assert one.name in summary.beside[0]
            await w.restart()
            await w.run_for(GRACE - timedelta(seconds=20))
            assert len(stands(w, step)) == 2
            await w.until(lambda: stands(w, step) == [kept], "it is gone", within=GONE_WITHIN)
            await w.settled()
            assert await told(w) == ()
            assert not (await Queries(w.store).testers())[0].beside
            watch.raise_any()

    run(life())


def twin(w: Rig, step: str, made: datetime) -> str:
    """Another thing under the very name of the one in use; its id."""
    if step == "machine":
        daemon = next(iter(w.world.state.daemons.values()))
        vm: Vm = next(iter(daemon.vms.values()))
        daemon.vms["7777"] = vm.model_copy(
            update={"sid": "7777", "mycelium_ip": "4ff:7777", "created_at": made.timestamp(), "reachable_at": None}
        )
        return "7777"
    apps: list[App] = w.world.state.forge.apps
    apps.append(apps[0].model_copy(update={"id": 7777, "client_id": "another", "created": made.timestamp()}))
    return "7777"


@pytest.mark.parametrize("step", ["machine", "sign_in_app"])
def test_a_twin_made_after_our_create_began_goes_after_the_grace(tmp_path: Path, step: str) -> None:
    async def life() -> None:
        async with world(tmp_path, ["alice"], fleet=LEAN) as w:
            watch = Watch(w)
            await w.ready("alice")
            await w.settled()
            kept = in_use(w, watch, step)
            other = twin(w, step, w.clock.now())
            one = await until_told(w)
            assert (one.id, one.ours) == (other, True)
            assert "after our create was begun" in one.how
            await w.run_for(GRACE - timedelta(seconds=30))
            assert set(stands(w, step)) == {kept, other}
            await w.until(lambda: stands(w, step) == [kept], "it is gone", within=GONE_WITHIN)
            await w.ready("alice")
            await w.settled()
            assert await told(w) == ()
            reasons = [event.reason for event in await w.events("alice")]
            assert "DoubleDeleted" in reasons
            watch.raise_any()

    run(life())


@pytest.mark.parametrize("step", ["machine", "sign_in_app"])
def test_a_strangers_look_alike_is_told_and_never_touched(tmp_path: Path, step: str) -> None:
    """It has our very name, and was there before our create began. Not even when its tester leaves, or ours has gone."""

    async def life() -> None:
        async with world(tmp_path, ["alice"], fleet=LEAN) as w:
            watch = Watch(w)
            await w.ready("alice")
            await w.settled()
            other = twin(w, step, w.clock.now() - timedelta(days=3))
            one = await until_told(w)
            assert (one.id, one.ours) == (other, False)
            assert "somebody else's" in one.how
            before = next(
                app.client_secret for app in w.world.state.forge.apps if str(app.id) == other or step == "machine"
            )
            await w.run_for(HOUR)
            assert (await told(w))[0].since == one.since
            assert other in stands(w, step)
            if step == "sign_in_app":
                w.world.state.forge.apps[:] = [app for app in w.world.state.forge.apps if str(app.id) == other]
                await w.run_for(HOUR)
                await w.ready("alice")
            w.remove("alice")
            await w.gone("alice")
            await w.run_for(HOUR)
            assert stands(w, step) == [other]
            if step == "sign_in_app":
                assert w.world.state.forge.apps[0].client_secret == before
            watch.raise_any()

    run(life())


@in_virtual_time
async def test_a_twin_that_is_ours_goes_with_its_tester(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        twin(w, "machine", w.clock.now())
        twin(w, "sign_in_app", w.clock.now())
        w.remove("alice")
        await w.gone("alice")
        assert (stands(w, "machine"), stands(w, "sign_in_app")) == ([], [])
