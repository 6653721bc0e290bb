"""A Fleet that leaves out what testers still use: kept out, with whose; the rest of the revision counts."""

from __future__ import annotations

import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.engine import Engine
from controller.in_use import last_good_fleet
from controller.intake import Revision, Taken
from controller.records import PutFacts, PutObject
from controller.store import Store
from controller.world import World
from reconcilers.facts import EngineAccessFacts, ObjectState, OutsideObject
from reconcilers.looks import Looks
from reconcilers.secret import Secret
from specs.fleet import Fleet
from specs.loading import load_folder
from tests.controller.fakes import FLEET, ManualClock

GENT: dict[str, Any] = {
    "name": "gent",
    "url": "http://127.0.0.1:1",
    "secret": "env:COMPUTE_SECRET",
    "gatewayDomain": "gent.example.org",
    "nodes": [{"sid": "0001", "gridNode": "2"}, {"sid": "0002", "gridNode": "3"}],
}
YORK = {**GENT, "name": "york", "url": "http://127.0.0.1:2"}
EMBEDDER: dict[str, Any] = {
    "name": "embedder",
    "url": "http://[400:1::1]:9100",
    "urlSetting": "HERO_EMBEDDER_URL",
    "tokenSetting": "SHARED_EMBEDDER_TOKEN",
    "registry": {"host": "400:1::1", "context": "embedder", "service": "hero_embedder"},
}
FULL: dict[str, Any] = {"compute": [GENT, YORK], "engines": [EMBEDDER], "safety": {"maxRemovals": 1}}


class Nobody:
    """Clients that are never asked anything."""

    async def aclose(self) -> None: ...


class Town:
    """A folder, a store, and an engine."""

    def __init__(self, folder: Path, store: Store, clock: ManualClock) -> None:
        self.folder, self.store, self.clock = folder, store, clock

        def open_world(fleet: Fleet, secrets: dict[str, Secret]) -> World:
            backends: Any = Nobody()
            return World(fleet, backends, Looks(backends, clock, fleet.spec.timing.look_age), ())

        self.engine = Engine(store, clock, open_world, folder, random.Random(1))

    def fleet(self, **spec: Any) -> None:
        body = FLEET.model_dump(mode="json", by_alias=True, exclude_unset=True)
        body["spec"] |= deepcopy({**FULL, **spec})
        (self.folder / "fleet.yaml").write_text(yaml.safe_dump(body))

    def tester(self, name: str, more: str = "") -> None:
        head = f"apiVersion: hero.tester/v1\nkind: Tester\nmetadata: {{name: {name}}}\n"
        (self.folder / f"{name}.yaml").write_text(f"{head}spec:\n  identity: {{email: {name}@example.org}}\n{more}")

    async def read(self) -> Taken:
        known = frozenset(record.name for record in await self.store.testers())
        loaded = load_folder(self.folder, self.clock.now().date(), known, await last_good_fleet(self.store))
        return await self.engine.take_in(Revision("folder", str(loaded.files), loaded))

    async def has(self, tester: str, step: str, state: ObjectState = ObjectState.EXISTING, **identity: str) -> None:
        await self.store.write(PutObject(OutsideObject(tester, step, 1, 1, f"{step}-{tester}", state, identity)))

    async def daemons(self) -> list[str]:
        """Of the last good Fleet."""
        last = await last_good_fleet(self.store)
        assert last is not None
        return [daemon.name for daemon in last.spec.compute]


@pytest.fixture
async def town(tmp_path: Path, store: Store, clock: ManualClock) -> Town:
    (tmp_path / "fleet").mkdir()
    made = Town(tmp_path / "fleet", store, clock)
    made.fleet()
    for name in ("alice", "bob", "carol"):
        made.tester(name)
    await made.read()
    return made


async def test_a_daemon_in_use_stays_and_the_error_says_whose(town: Town) -> None:
    await town.has("alice", "machine", daemon="gent", node_sid="0001")
    await town.has("bob", "gateway", daemon="gent")
    await town.has("carol", "machine", daemon="york", node_sid="0001")
    town.fleet(compute=[YORK])
    taken = await town.read()
    (error,) = taken.errors
    assert error.startswith("fleet.yaml:")
    assert "spec.compute: daemon gent is left out while in use by alice, bob; put it back" in error
    assert await town.daemons() == ["gent", "york"]
    assert town.engine.world is not None
    assert [each.name for each in town.engine.world.fleet.spec.compute] == ["gent", "york"]
    commits = town.store.commits
    assert (await town.read()).errors == taken.errors
    assert town.store.commits == commits, "said once"


async def test_what_nobody_uses_may_leave(town: Town) -> None:
    await town.has("alice", "machine", ObjectState.GONE, daemon="gent", node_sid="0001")
    await town.has("bob", "machine", daemon="york", node_sid="0001")
    await town.has("carol", "machine", ObjectState.LOST)  # it was given up before it had a place
    town.fleet(compute=[YORK], engines=[])
    assert (await town.read()).errors == ()
    assert await town.daemons() == ["york"]


@pytest.mark.parametrize("state", [ObjectState.INTENDED, ObjectState.RETIRING])
async def test_what_has_no_place_yet_may_be_on_its_way_to_any(town: Town, state: ObjectState) -> None:
    await town.has("alice", "machine", state)
    town.fleet(compute=[YORK])
    (error,) = (await town.read()).errors
    assert "daemon gent is left out while in use by alice;" in error
    town.fleet(compute=[{**GENT, "nodes": GENT["nodes"][:1]}, YORK])
    (error,) = (await town.read()).errors
    assert "node gent/0002 is left out while in use by alice;" in error
    await town.has("alice", "machine", state, daemon="york", node_sid="0001")
    assert (await town.read()).errors == ()


@pytest.mark.parametrize("state", [state for state in ObjectState if state is not ObjectState.GONE])
async def test_what_is_on_its_way_or_watched_is_in_use(town: Town, state: ObjectState) -> None:
    await town.has("alice", "machine", state, daemon="gent", node_sid="0001")
    town.fleet(compute=[YORK])
    assert len((await town.read()).errors) == 1


async def test_a_node_in_use_stays(town: Town) -> None:
    await town.has("alice", "machine", daemon="gent", node_sid="0002")
    await town.has("bob", "gateway", daemon="gent")
    town.fleet(compute=[{**GENT, "nodes": GENT["nodes"][:1]}, YORK])
    (error,) = (await town.read()).errors
    assert "spec.compute[0].nodes: node gent/0002 is left out while in use by alice;" in error
    town.fleet(compute=[{**GENT, "nodes": GENT["nodes"][1:]}, YORK])
    assert (await town.read()).errors == ()


async def test_an_engine_with_tokens_of_ours_stays(town: Town) -> None:
    access = EngineAccessFacts(tenant="bob", engines=("embedder",))
    await town.store.write(PutFacts("bob", access, "", town.clock.now()))
    town.fleet(engines=[])
    (error,) = (await town.read()).errors
    assert "spec.engines: engine embedder is left out while bob may have a token there; put it back" in error
    town.fleet(engines=[{**EMBEDDER, "retired": True}])
    assert (await town.read()).errors == ()
    await town.store.write(PutFacts("bob", EngineAccessFacts(tenant="bob"), "", town.clock.now()))
    town.fleet(engines=[])
    assert (await town.read()).errors == ()


async def test_the_other_testers_changes_come_in(town: Town) -> None:
    await town.has("alice", "machine", daemon="gent", node_sid="0001")
    town.fleet(compute=[YORK])
    town.tester("bob", "  allowlist: [eve]\n")
    town.tester("dora")
    assert (await town.read()).changed == ("bob", "dora")
    assert "alice" not in {record.name for record in await town.store.testers() if record.leaving}


async def test_a_daemon_and_its_testers_may_go_in_one_revision_the_testers_first(town: Town) -> None:
    await town.has("alice", "machine", daemon="gent", node_sid="0001")
    town.fleet(compute=[YORK])
    (town.folder / "alice.yaml").unlink()
    taken = await town.read()
    assert (taken.changed, len(taken.errors)) == (("alice",), 1)
    assert [record.name for record in await town.store.testers() if record.leaving] == ["alice"]
    await town.has("alice", "machine", ObjectState.GONE, daemon="gent", node_sid="0001")
    assert (await town.read()).errors == ()
    assert await town.daemons() == ["york"], "the same revision, read again"


async def test_the_brake_and_its_override_hold_in_such_a_revision(town: Town) -> None:
    await town.has("alice", "machine", daemon="gent", node_sid="0001")
    for name in ("alice", "bob"):
        (town.folder / f"{name}.yaml").unlink()
    town.fleet(compute=[YORK], safety={"maxRemovals": 5})
    assert (await town.read()).held == ("alice", "bob"), "its own maxRemovals is not in force"
    town.fleet(compute=[YORK], safety={"maxRemovals": 1, "allowRemovals": 2})
    assert (await town.read()).changed == ("alice", "bob")


async def test_called_gone_for_good_it_is_taken_in(town: Town) -> None:
    await town.has("alice", "machine", daemon="gent", node_sid="0001")
    town.fleet(compute=[{**GENT, "gone": True}, YORK])
    assert (await town.read()).errors == ()
    town.fleet(compute=[YORK])
    assert len((await town.read()).errors) == 1, "not written off yet"
    await town.has("alice", "machine", ObjectState.GONE, daemon="gent", node_sid="0001")
    assert (await town.read()).errors == ()
