"""Doors in virtual time: one that cannot be shut is tried again at once, one out of reach loses its gateway, and no look from
before a cut counts as one from after it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from examples.simulator.invariants import open_doors
from reconcilers.backends.limits import Call
from reconcilers.backends.machine import install_job
from reconcilers.errors import OutcomeUnknown, Unreachable
from reconcilers.facts import SignInGateFacts
from tests.lessons.conftest import SELDOM, fault
from tests.worlds.loop import in_virtual_time, run
from tests.worlds.rig import Rig, world
from tests.worlds.watch import Watch

LEAN: dict[str, Any] = {"componentSets": {"demo": ["hero_books"]}, "engines": []}
"""With the usual timings: doors are about them."""
PATIENT: dict[str, Any] = {**LEAN, "timing": SELDOM}
"""For what takes many minutes, whatever a poll takes."""
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SOON, A_WHILE = 2 * MINUTE, 40 * MINUTE
LISTENER = "HERO_PROXY_SEED_GATEWAY_LISTENER"


class NoWrites:
    """The connection is lost in every script that writes on a machine, before anything was written."""

    def __init__(self, w: Rig) -> None:
        self.w = w
        self.broken = False
        self.tried: list[timedelta] = []

    async def before(self, call: Call) -> None:
        if self.broken and call.system.startswith("machine ") and call.writing:
            self.tried.append(self.w.elapsed)
            raise OutcomeUnknown("the connection was lost", system=call.system, reason="ConnectionLost")

    async def after(self, call: Call, failure: BaseException | None) -> None: ...


class OpensAndFallsSilent:
    """Once armed: the restart that opens the listener forgets the gate, and SSH never answers again; the overlay does."""

    def __init__(self, w: Rig, vm: str) -> None:
        self.w = w
        self.vm = vm
        self.silent = False
        self.done = False

    async def before(self, call: Call) -> None:
        if self.silent and call.system.startswith("machine "):
            raise Unreachable("no SSH connection", system=call.system)

    async def after(self, call: Call, failure: BaseException | None) -> None:
        opening = self.w.world.drift.secret(self.vm, "core", LISTENER) == "1"
        if call.name == "restart_service hero_proxy" and opening and not self.done:
            self.w.world.machine_named(self.vm).state.door.ungated = True
            self.w.world.changed()
            self.silent = self.done = True


async def ungate(w: Rig) -> None:
    """The door lets everybody in; a pass begins that has to look anew."""
    await w.run_for(timedelta(minutes=1))
    w.world.machine_named(w.vm("alice")).state.door.ungated = True
    w.world.changed()
    w.controller.engine.queue.add("alice")


def calls(w: Rig, method: str) -> int:
    """How often a method of a daemon was called."""
    return sum(entry.what == f"/rpc {method}" for entry in w.world.log)


async def gate(w: Rig) -> SignInGateFacts:
    books = await w.store.books("alice")
    assert books is not None
    facts = books.facts["sign_in_gate"]
    assert isinstance(facts, SignInGateFacts)
    return facts


@in_virtual_time
async def test_an_open_door_that_cannot_be_shut_is_tried_at_every_poll_however_many_tries_have_failed(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        wire = NoWrites(w)
        w.hooks.append(wire)
        await w.ready("alice")
        wire.broken = True
        await ungate(w)
        await w.until(lambda: len(wire.tried) > 21, "many tries", within=timedelta(minutes=7))
        pauses = [after - before for before, after in pairwise(wire.tried)]
        assert max(pauses) < timedelta(seconds=15), "a poll, and the time that the looks take"
        assert open_doors(w.world)
        wire.broken = False
        await w.until(lambda: not open_doors(w.world), "it is shut", within=timedelta(seconds=20))
        await w.ready("alice")
        w.excuse("OpenDoor")


@in_virtual_time
async def test_a_door_that_stays_open_whatever_its_machine_is_told_loses_its_gateway(tmp_path: Path) -> None:
    """It answers, and takes no writes; when it does again, the door is shut and gets a new gateway."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        watch = Watch(w)
        wire = NoWrites(w)
        w.hooks.append(wire)
        await w.ready("alice")
        fqdn = w.fqdn("alice")
        wire.broken = True
        await ungate(w)
        await w.until(lambda: not w.books()["gateways"], "its gateway goes", within=timedelta(minutes=7))
        assert len(wire.tried) > 21
        await w.run_for(timedelta(minutes=10))
        assert (w.books()["gateways"], calls(w, "deploy_webgateway"), w.books()["vms"]) == (0, 1, 1)
        wire.broken = False
        await w.ready("alice")
        assert w.fqdn("alice") != fqdn
        assert open_doors(w.world) == []
        watch.raise_any()
        w.excuse("OpenDoor")


@in_virtual_time
async def test_a_machine_out_of_reach_with_its_door_open_has_no_gateway_before_its_door_was_seen_shut(
    tmp_path: Path,
) -> None:
    """Looks from before the cut, which show the listener off, are still at hand when the gateway is gone."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        wire, fqdn, made = OpensAndFallsSilent(w, w.vm("alice")), w.fqdn("alice"), calls(w, "deploy_webgateway")
        w.hooks.append(wire)
        await ungate(w)
        await w.until(lambda: wire.silent, "it is shut, opened again, and out of reach", within=timedelta(minutes=40))
        opened = w.elapsed
        await w.until(lambda: not w.books()["gateways"], "the gateway goes", within=SOON)
        assert w.elapsed - opened < SOON
        assert (await gate(w)).cut
        await w.run_for(timedelta(minutes=10))
        assert calls(w, "deploy_webgateway") == made, "nobody has seen the door shut"
        assert (await w.conditions("alice"))["Gateway"].reason == "DoorCut"
        assert w.books()["vms"] == 1, "the machine is left as it is"
        wire.silent = False
        await w.ready("alice")
        assert w.fqdn("alice") != fqdn
        await w.run_for(timedelta(minutes=10))
        assert open_doors(w.world) == []
        w.excuse("OpenDoor")


@in_virtual_time
async def test_a_proxy_that_only_waits_for_its_turn_to_be_updated_is_restarted_all_the_same(tmp_path: Path) -> None:
    """All places for installs on the machine are taken, for as long as that may be."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        vm = w.vm("alice")
        places = w.yard.named(vm).places
        assert places is not None
        while not places.locked():
            await places.acquire()
        w.world.drift.publish("hero_proxy", "v9.9.9")
        job = install_job("hero_proxy")
        await w.until(lambda: w.yard.named(vm).jobs[job].log.startswith("waits for one of"), "the update's turn")
        w.world.drift.set_secret(vm, "core", "FORGE_OAUTH_CLIENT_SECRET", "somebody else's")
        w.world.drift.restart_proxy(vm)
        assert (await w.sign_in("alice", "alice"))[0] == 502
        await w.until(lambda: _signs_in(w), "sign-in works again", within=timedelta(minutes=12))
        assert w.yard.named(vm).jobs[job].log.startswith("waits for one of")
        assert w.yard.named(vm).jobs[job].state == "running"
        for _ in range(4):
            places.release()
        await w.until(
            lambda: w.world.machine_named(vm).state.components["hero_proxy"].version == "v9.9.9", "the update"
        )
        await w.ready("alice")


async def _signs_in(w: Rig) -> bool:
    return (await w.sign_in("alice", "alice"))[0] == 200


# ------------------------------------------------------------------ a gateway that leads nowhere, for good


@pytest.mark.parametrize(("listed", "least", "most"), [(True, 5, 17), (False, 20, 32)])
def test_a_gateway_that_leads_nowhere_for_good_is_made_anew(
    tmp_path: Path, listed: bool, least: int, most: int
) -> None:
    """Sooner when the grid calls it failed, too."""

    async def life() -> None:
        async with world(tmp_path, ["alice"], fleet=PATIENT) as w:
            await w.ready("alice")
            fqdn, vm = w.fqdn("alice"), w.vm("alice")
            w.world.drift.break_gateway(fqdn, listed=listed)
            await w.until(lambda: _says(w, "PublicReachable", "GridRouting"), "it is noticed")
            noticed = w.elapsed
            await w.until(lambda: _says(w, "GatewayAnswers", "GridRouting"), "it is told when", within=A_WHILE)
            await w.until(lambda: calls(w, "delete_webgateway"), "it goes", within=A_WHILE)
            assert timedelta(minutes=least) <= w.elapsed - noticed <= timedelta(minutes=most)
            await w.ready("alice")
            assert (w.fqdn("alice") != fqdn, w.vm("alice") == vm) == (True, True)
            assert calls(w, "deploy_webgateway") == 2
            assert "GatewayAnswers" not in await w.conditions("alice")
            assert await _signs_in(w)
            (why,) = [event.message for event in await w.events("alice") if event.reason == "GatewayDeleted"]
            assert "the machine answers, and its public name has not since" in why

    run(life())


@in_virtual_time
async def test_an_address_of_ones_own_is_freed_before_it_is_made_anew(tmp_path: Path) -> None:
    async with world(tmp_path, {"alice": {"address": "alicescloud"}}, fleet=PATIENT) as w:
        await w.ready("alice")
        w.world.drift.break_gateway("alicescloud")
        await w.until(lambda: calls(w, "deploy_webgateway") == 2, "another one")
        await w.ready("alice")
        assert [row.name for _, row in w.world.grid.gateways()] == ["alicescloud"]


@in_virtual_time
async def test_the_next_one_that_leads_nowhere_is_given_twice_as_long(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet={**LEAN, "timing": {**SELDOM, "reachableLimit": "4m"}}) as w:
        await w.ready("alice")
        moments: list[timedelta] = []
        w.world.drift.add_fault(**fault("compute", "gateway", "outside_unroutable", times=None))
        for many in (1, 2):
            await w.until(partial(_deleted, w, many), f"number {many} goes", within=HOUR)
            moments.append(w.elapsed)
        first, second = moments
        assert 8 * MINUTE <= second - first <= 14 * MINUTE
        w.world.drift.clear_faults()
        await w.ready("alice")


@in_virtual_time
async def test_when_many_gateways_lead_nowhere_at_once_none_is_made_anew(tmp_path: Path) -> None:
    """The grid's routing, or our own way out: more than safety.maxLost at once are no matter of theirs."""
    async with world(tmp_path, ["alice", "bob2"], fleet={**PATIENT, "safety": {"maxLost": 1}}) as w:
        await w.ready("alice", "bob2")
        w.world.drift.add_fault(**fault("compute", "gateway", "outside_unroutable", times=None))
        await w.until(lambda: _says(w, "GatewayAnswers", "TooManyUnrouted"), "it is told why not")
        await w.run_for(HOUR)
        assert calls(w, "delete_webgateway") == 0
        assert "safety.maxLost (1)" in (await w.conditions("alice"))["GatewayAnswers"].message
        w.world.drift.clear_faults()
        await w.ready("alice", "bob2")
        assert calls(w, "delete_webgateway") == 0


def _deleted(w: Rig, many: int) -> bool:
    return calls(w, "delete_webgateway") == many


async def _says(w: Rig, kind: str, reason: str) -> bool:
    found = (await w.conditions("alice")).get(kind)
    return found is not None and found.reason == reason


@in_virtual_time
async def test_another_version_of_hero_proxy_starts_with_the_door_shut_though_nobody_lives_to_look(
    tmp_path: Path,
) -> None:
    """Its install is a job of the machine's own: it restarts hero_proxy whether or not we are there to see what that lets in."""
    async with world(tmp_path, {"alice": {}}, fleet=LEAN) as w:
        await w.ready("alice")
        vm = w.vm("alice")
        w.world.drift.add_fault(**fault("machine", "hero_proxy start", "listener_opens_ungated"))
        w.world.drift.publish("hero_proxy", "v0.9.0")
        job = install_job("hero_proxy")
        known = w.yard.named(vm).jobs[job]
        await w.until(lambda: w.yard.named(vm).jobs[job] is not known, "its update is begun")
        w.kill()
        opened: list[object] = []
        for _ in range(300):
            await w.run_for(timedelta(seconds=1))
            opened += open_doors(w.world)
        assert w.world.machine_named(vm).state.components["hero_proxy"].version == "v0.9.0"
        assert opened == []
        await w.start()

        async def says_why() -> bool:
            return (await w.conditions("alice"))["SignInGate"].reason == "DoorNotAsking"

        await w.until(says_why, "it is not opened", within=A_WHILE)
        w.world.drift.restart_proxy(vm)  # what was forgotten is remembered
        await w.ready("alice", within=A_WHILE)
        assert w.world.drift.secret(vm, "core", LISTENER) == "1"


class ShutsLate(NoWrites):
    """While broken, nothing is written but what starts a service."""

    def __init__(self, w: Rig) -> None:
        super().__init__(w)
        self.started: list[tuple[str, bool]] = []  # with whether a door stood open

    async def before(self, call: Call) -> None:
        if call.name.startswith("start_service "):
            self.started.append((call.name.partition(" ")[2], bool(open_doors(self.w.world))))
        else:
            await super().before(call)


@in_virtual_time
async def test_a_service_that_somebody_stopped_behind_an_open_door_is_started_when_that_is_shut(tmp_path: Path) -> None:
    """Both are seen in one look: whoever is let in would be let in there as well."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        wire = ShutsLate(w)
        w.hooks.append(wire)
        wire.broken = True
        await ungate(w)
        w.world.drift.stop_service(w.vm("alice"), "hero_books")
        await w.until(lambda: len(wire.tried) > 3, "the door is tried", within=SOON)
        assert not wire.started
        assert (await w.conditions("alice"))["Components"].reason == "DoorOpen"
        wire.broken = False
        await w.until(lambda: bool(wire.started), "it is started again", within=SOON)
        assert wire.started == [("hero_books", False)]
        await w.ready("alice")
        w.excuse("OpenDoor")
