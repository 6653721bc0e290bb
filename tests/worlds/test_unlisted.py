"""Listings that leave out what stands: nothing is taken for gone, and nothing made anew, on the word of a listing alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.records import Phase
from examples.simulator.invariants import open_doors
from tests.lessons.conftest import LEAN, fault
from tests.worlds.crash_points import run_scenario
from tests.worlds.crash_scenarios import SCENARIOS, Scenario
from tests.worlds.loop import in_virtual_time, run
from tests.worlds.rig import Rig, world
from tests.worlds.test_doors import OpensAndFallsSilent
from tests.worlds.watch import Watch

HOUR = timedelta(hours=1)
GRACE = timedelta(minutes=2)
A_MOMENT = timedelta(seconds=30)
LEAVES_AT_ONCE: dict[str, Any] = {
    "identity": {"email": "alice@example.org", "whenRemoved": "delete"},
    "machine": {"keepAfterRemoval": "0s"},
}
GATEWAYS, APPS = ("compute", "list_webgateways"), ("forge", "GET /user/applications/oauth2")
LISTINGS = {
    "gateway": (*GATEWAYS, "alice*"),
    "sign_in_app": (*APPS, "Hero OS alice *"),
    "account": ("forge", "GET /admin/users", "alice"),
    "machine": ("compute", "list_vms", "alice_*"),
}


def omit(w: Rig, step: str, **more: Any) -> None:
    """From now on a listing does not show what alice has."""
    system, method, target = LISTINGS[step]
    w.world.drift.add_fault(**{**fault(system, method, "listing_omits", target, times=None), **more})


def until(w: Rig, span: timedelta) -> dict[str, float]:
    return {"until": w.world.clock.now() + span.total_seconds()}


def calls(w: Rig, *words: str) -> int:
    """Writing calls with any of these words."""
    return sum(any(word in f"{entry.method} {entry.what}" for word in words) for entry in w.writes())


MAKING = ("deploy_", "POST /api", "PATCH /api")


def gateways(w: Rig) -> list[str]:
    return [row.name for _, row in w.world.grid.gateways()]


def left_of_alice(w: Rig) -> list[str]:
    daemons, forge = w.world.state.daemons.values(), w.world.state.forge
    return [
        *(vm.name for one in daemons for vm in one.vms.values() if vm.name.startswith("alice")),
        *(name for name in gateways(w) if name.startswith("alice")),
        *(app.name for app in forge.apps if " alice " in app.name),
        *(name for name in forge.accounts if name == "alice"),
    ]


# ------------------------------------------------------------------ who leaves


@pytest.mark.parametrize("step", LISTINGS)
def test_who_leaves_while_a_listing_omits_what_it_has_leaves_nothing(tmp_path: Path, step: str) -> None:
    async def life() -> None:
        async with world(tmp_path, {"alice": LEAVES_AT_ONCE, "carol": {}}, fleet=LEAN) as w:
            watch = Watch(w)
            await w.ready("alice", "carol")
            omit(w, step)
            w.remove("alice")
            await w.gone("alice", within=timedelta(minutes=10))
            assert left_of_alice(w) == []
            assert calls(w, "delete_webgateway") == 1
            watch.raise_any()

    run(life())


@in_virtual_time
async def test_a_gateway_that_was_taken_away_by_hand_is_asked_for_once_and_holds_up_nobody(tmp_path: Path) -> None:
    async with world(tmp_path, {"alice": LEAVES_AT_ONCE}, fleet=LEAN) as w:
        await w.ready("alice")
        w.world.drift.delete_gateway(gateways(w)[0])
        w.remove("alice")
        await w.gone("alice", within=timedelta(minutes=1))
        assert calls(w, "delete_webgateway") == 1


@in_virtual_time
async def test_without_an_answer_it_is_asked_again_and_its_tester_is_not_called_gone(tmp_path: Path) -> None:
    async with world(tmp_path, {"alice": LEAVES_AT_ONCE}, fleet=LEAN) as w:
        await w.ready("alice")
        omit(w, "gateway")
        w.world.drift.add_fault(**fault("compute", "delete_webgateway", "http_502", times=None), **until(w, HOUR))
        w.remove("alice")
        await w.run_for(HOUR - A_MOMENT)
        assert len(gateways(w)) == 1
        assert (await w.store.tester("alice")) is not None
        assert 3 < calls(w, "delete_webgateway") < 20, "more and more seldom"
        await w.gone("alice", within=HOUR)
        assert left_of_alice(w) == []


@in_virtual_time
async def test_what_is_kept_for_a_while_is_not_told_to_go_before(tmp_path: Path) -> None:
    kept = {**LEAVES_AT_ONCE, "machine": {"keepAfterRemoval": "1h"}}
    async with world(tmp_path, {"alice": kept}, fleet=LEAN) as w:
        await w.ready("alice")
        omit(w, "gateway")
        w.remove("alice")
        await w.run_for(HOUR - A_MOMENT)
        assert (len(gateways(w)), calls(w, "delete_webgateway")) == (1, 0)
        await w.gone("alice")
        assert (left_of_alice(w), calls(w, "delete_webgateway")) == ([], 1)


@in_virtual_time
async def test_a_door_that_nobody_can_shut_is_cut_off_though_no_listing_shows_its_gateway(tmp_path: Path) -> None:
    kept = {**LEAVES_AT_ONCE, "machine": {"keepAfterRemoval": "24h"}}
    async with world(tmp_path, {"alice": kept}, fleet=LEAN) as w:
        await w.ready("alice")
        w.excuse("OpenDoor")
        omit(w, "gateway")
        await w.run_for(timedelta(minutes=1))  # no look from before is at hand
        wire = OpensAndFallsSilent(w, w.vm("alice"))
        w.hooks.append(wire)
        wire.silent = wire.done = True
        w.world.machine_named(w.vm("alice")).state.door.ungated = True
        w.world.changed()
        assert open_doors(w.world)
        w.remove("alice")
        await w.until(lambda: open_doors(w.world) == [], "nobody is let in", within=timedelta(minutes=5))
        await w.run_for(HOUR)
        assert calls(w, "delete_webgateway") == 1


@pytest.mark.on_a_file  # each death is a process of its own, with a copy of it
def test_wherever_it_dies_while_no_listing_shows_the_gateway_the_end_is_the_same() -> None:
    usual = SCENARIOS["removal"]

    def unlisted(w: Rig) -> None:
        omit(w, "gateway")
        w.remove("alice")

    told = run_scenario(
        Scenario("unlisted removal", unlisted, usual.goal, tester=usual.tester),
        lambda number, what: "delete_webgateway" in what or "gateway" in what,
        jobs=2,
    )
    print(told)
    assert told.deaths > 3
    assert not told.failures, "\n".join(told.failures)


# ------------------------------------------------------------------ who stays


@pytest.mark.parametrize("step", LISTINGS)
def test_what_a_settled_tester_has_is_not_made_anew_because_a_listing_omits_it(tmp_path: Path, step: str) -> None:
    async def life() -> None:
        async with world(tmp_path, ["alice"], fleet=LEAN) as w:
            watch = Watch(w)
            await w.ready("alice")
            await w.settled()
            had, made = left_of_alice(w), calls(w, *MAKING)
            omit(w, step, **until(w, HOUR))
            for _ in range(5):
                await w.run_for(timedelta(minutes=11))
                record = await w.store.tester("alice")
                assert record is not None
                assert record.phase is Phase.READY
            told = (await w.conditions("alice")).get("GatewayListed")
            assert (told.reason if told else "") == ("ListingIncomplete" if step == "gateway" else "")
            await w.run_for(timedelta(minutes=30))
            await w.settled()
            assert (left_of_alice(w), calls(w, *MAKING)) == (had, made)
            assert "GatewayListed" not in await w.conditions("alice")
            watch.raise_any()

    run(life())


@pytest.mark.parametrize("listing", [GATEWAYS, APPS, ("compute", "list_vms")], ids=lambda listing: str(listing[1]))
def test_a_listing_that_is_cut_short_makes_nothing_anew(tmp_path: Path, listing: tuple[str, str]) -> None:
    """Also where it lacks no more of ours than `safety.maxLost`."""

    async def life() -> None:
        async with world(tmp_path, ["alice", "carol"], fleet=LEAN) as w:
            watch = Watch(w)
            await w.ready("alice", "carol")
            await w.settled()
            made = calls(w, *MAKING, "delete", "DELETE")
            w.world.drift.add_fault(**fault(*listing, "listing_truncated", times=None), **until(w, HOUR))
            await w.run_for(timedelta(hours=2))
            await w.ready("alice", "carol")
            assert calls(w, *MAKING, "delete", "DELETE") == made
            watch.raise_any()

    run(life())


@pytest.mark.parametrize("address", ["auto", "alice"])
def test_one_that_is_omitted_and_leads_nowhere_is_made_anew_and_the_old_one_told_to_go(
    tmp_path: Path, address: str
) -> None:
    async def life() -> None:
        async with world(tmp_path, {"alice": {"address": address}}, fleet=LEAN) as w:
            watch = Watch(w)
            await w.ready("alice")
            await w.settled()
            ((_, old),) = w.world.grid.gateways()
            omit(w, "gateway", target=old.name, **until(w, HOUR))
            w.world.drift.break_gateway(old.name)
            began = w.elapsed
            await w.until(lambda: [one.sid for _, one in w.world.grid.gateways()] not in ([], [old.sid]), "a new one")
            await w.until(lambda: len(gateways(w)) == 1, "the old one is gone", within=timedelta(minutes=5))
            ((_, new),) = w.world.grid.gateways()
            assert new.sid != old.sid
            assert (new.name == old.name) is (address == "alice")
            assert w.elapsed - began < timedelta(minutes=20)
            await w.run_for(HOUR)
            await w.ready("alice")
            watch.raise_any()

    run(life())


@pytest.mark.parametrize("address", ["auto", "alice"])
def test_one_that_is_really_gone_is_made_anew_soon(tmp_path: Path, address: str) -> None:
    async def life() -> None:
        async with world(tmp_path, {"alice": {"address": address}}, fleet=LEAN) as w:
            await w.ready("alice")
            await w.settled()
            w.world.drift.delete_gateway(gateways(w)[0])

            async def missed() -> bool:
                return (await w.conditions("alice"))["Gateway"].reason == "Missing"

            await w.until(missed, "it is missed")
            await w.until(lambda: len(gateways(w)) == 1, "a new one", within=GRACE + A_MOMENT)
            await w.ready("alice")

    run(life())
