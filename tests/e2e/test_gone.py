"""What leaves the Fleet: refused while it is in use, written off when it is gone for good, retired when it is an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from controller.running import Places
from examples.simulator.drift import Drift
from examples.simulator.invariants import accepting
from examples.simulator.server import serving
from examples.simulator.world import World
from tests.e2e.rig import ENGINES_AND_MAIL, FEW, SPEED, Fleet, controlling, fleet_document, save, tester_document


@asynccontextmanager
async def two_daemons(root: Path) -> AsyncIterator[tuple[Fleet, dict[str, Any]]]:
    """Alice, in a world of two daemons; and its Fleet's document."""
    state, places = root / "world", Places(root / "fleet", root / "state")
    world = World(seed=1, speed=SPEED, state_dir=state, daemons=2)
    async with serving(world, state) as addresses:
        document = fleet_document(addresses, **FEW, **ENGINES_AND_MAIL)
        places.folder.mkdir()
        save(places.folder / "fleet.yaml", document)
        save(places.folder / "alice.yaml", tester_document("alice"))
        async with controlling(world, addresses, places) as fleet:
            yield fleet, document


def rewrite(fleet: Fleet, document: dict[str, Any]) -> None:
    save(fleet.places.folder / "fleet.yaml", document)


async def errors(fleet: Fleet) -> tuple[str, ...]:
    source = await fleet.store.source()
    assert source is not None
    return source.errors


def place(fleet: Fleet) -> str:
    (found,) = [
        daemon.name
        for daemon in fleet.world.daemons.values()
        if any(vm.name.startswith("alice_") for vm in daemon.state.vms.values())
    ]
    return found


async def test_a_daemon_that_is_gone_for_good(tmp_path: Path) -> None:
    async with two_daemons(tmp_path) as (fleet, document):
        await fleet.ready("alice")
        dead = place(fleet)
        compute = document["spec"]["compute"]
        (row,) = [each for each in compute if each["name"] == dead]
        others = [each for each in compute if each["name"] != dead]

        rewrite(fleet, {**document, "spec": {**document["spec"], "compute": others}})

        async def is_refused() -> bool:
            return any(f"daemon {dead} is left out while in use by alice" in each for each in await errors(fleet))

        await fleet.until(is_refused, "the Fleet is refused")
        await fleet.round()
        await fleet.ready("alice")

        row["gone"] = True
        rewrite(fleet, document)

        async def is_elsewhere() -> bool:
            lost = [event for event in await fleet.told("alice") if event.reason == "LostForGood"]
            return len(lost) == 2 and len(fleet.vms("alice")) == 2

        await fleet.until(is_elsewhere, "a new machine at the other daemon")
        asked = len(fleet.world.log)
        await fleet.ready("alice")
        await fleet.settled()
        assert any(each.system == dead for each in fleet.world.log.entries[:asked])
        assert [each for each in fleet.world.log.entries[asked:] if each.system == dead] == []
        assert await errors(fleet) == ()

        rewrite(fleet, {**document, "spec": {**document["spec"], "compute": others}})

        async def is_taken() -> bool:
            last = await fleet.controller.engine.last_fleet()
            return last is not None and [each.name for each in last.spec.compute] == [each["name"] for each in others]

        await fleet.until(is_taken, "the Fleet without the daemon")
        await fleet.settled()


async def test_an_engine_is_retired_and_then_taken_out(tmp_path: Path) -> None:
    async with two_daemons(tmp_path) as (fleet, document):
        await fleet.ready("alice")
        assert accepting(fleet.world, "alice") == ["embedder", "voice"]
        embedder, voice = document["spec"]["engines"]
        rewrite(fleet, {**document, "spec": {**document["spec"], "engines": [voice]}})

        async def is_refused() -> bool:
            return any("engine embedder is left out while alice may have a token" in one for one in await errors(fleet))

        await fleet.until(is_refused, "the Fleet is refused")
        rewrite(fleet, {**document, "spec": {**document["spec"], "engines": [{**embedder, "retired": True}, voice]}})

        async def is_revoked() -> bool:
            sealed = await fleet.store.sealed_names()
            return accepting(fleet.world, "alice") == ["voice"] and "alice/engine_embedder" not in sealed

        await fleet.until(is_revoked, "the token is revoked")
        await fleet.ready("alice")
        drift = Drift(fleet.world)
        for key in ("HERO_EMBEDDER_URL", "SHARED_EMBEDDER_TOKEN"):
            assert drift.secret(fleet.vm("alice"), "cockpit", key) is None
        rewrite(fleet, {**document, "spec": {**document["spec"], "engines": [voice]}})

        async def is_taken() -> bool:
            last = await fleet.controller.engine.last_fleet()
            return last is not None and [each.name for each in last.spec.engines] == ["voice"]

        await fleet.until(is_taken, "the Fleet without the engine")
        await fleet.settled()
        assert await errors(fleet) == ()
