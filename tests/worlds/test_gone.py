"""What leaves the Fleet: refused while it is in use, written off when it is gone for good, retired when it is an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from controller.in_use import last_good_fleet
from examples.simulator.invariants import accepting
from tests.lessons.conftest import WITH_ENGINES
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world


def named_in_the_fleet(w: Rig, what: str) -> list[dict[str, Any]]:
    """The daemons or engines of the Fleet's file."""
    found: list[dict[str, Any]] = yaml.safe_load((w.places.folder / "fleet.yaml").read_text())["spec"][what]
    return found


async def errors(w: Rig) -> tuple[str, ...]:
    source = await w.store.source()
    return source.errors if source is not None else ()


def place(w: Rig) -> str:
    """The daemon where alice's only machine is."""
    (found,) = [one.name for one in w.world.daemons.values() if one.state.vms]
    return found


async def refused(w: Rig, words: str) -> None:
    async def holds() -> bool:
        return any(words in each for each in await errors(w))

    await w.until(holds, "the Fleet is refused")


async def taken(w: Rig, what: str, names: list[str]) -> None:
    """Until the Fleet that is worked with names these, and nothing else of the kind."""

    async def holds() -> bool:
        last = await last_good_fleet(w.controller.store)
        return last is not None and [each.name for each in getattr(last.spec, what)] == names

    await w.until(holds, f"the Fleet with {what} {names}")


@in_virtual_time
async def test_a_daemon_that_is_gone_for_good(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=WITH_ENGINES, daemons=2) as w:
        await w.ready("alice")
        dead, compute = place(w), named_in_the_fleet(w, "compute")
        others = [each for each in compute if each["name"] != dead]
        w.write_fleet(compute=others)
        await refused(w, f"daemon {dead} is left out while in use by alice")
        await w.settled()
        await w.ready("alice")

        w.write_fleet(compute=[{**each, "gone": True} if each["name"] == dead else each for each in compute])

        async def is_elsewhere() -> bool:
            lost = [event for event in await w.events("alice") if event.reason == "LostForGood"]
            return len(lost) == 2 and sum(len(one.state.vms) for one in w.world.daemons.values()) == 2

        await w.until(is_elsewhere, "a new machine at the other daemon")
        asked = len(w.world.log)
        await w.ready("alice")
        await w.settled()
        assert any(each.system == dead for each in w.world.log.entries[:asked])
        assert [each for each in w.world.log.entries[asked:] if each.system == dead] == []
        assert await errors(w) == ()

        w.write_fleet(compute=others)
        await taken(w, "compute", [each["name"] for each in others])
        await w.settled()
        assert await errors(w) == ()


@in_virtual_time
async def test_an_engine_is_retired_and_then_taken_out(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=WITH_ENGINES) as w:
        await w.ready("alice")
        assert accepting(w.world, "alice") == ["embedder", "voice"]
        embedder, voice = named_in_the_fleet(w, "engines")
        w.write_fleet(engines=[voice])
        await refused(w, "engine embedder is left out while alice may have a token")
        w.write_fleet(engines=[{**embedder, "retired": True}, voice])

        async def is_revoked() -> bool:
            sealed = await w.store.sealed_names()
            return accepting(w.world, "alice") == ["voice"] and "alice/engine_embedder" not in sealed

        await w.until(is_revoked, "the token is revoked")
        await w.ready("alice")
        for key in ("HERO_EMBEDDER_URL", "SHARED_EMBEDDER_TOKEN"):
            assert w.world.drift.secret(w.vm("alice"), "cockpit", key) is None
        w.write_fleet(engines=[voice])
        await taken(w, "engines", ["voice"])
        await w.settled()
        assert await errors(w) == ()
