"""The admin machine and its shared engines: who is let in, when a change counts, what may go wrong."""

import json
from typing import TYPE_CHECKING

import pytest

from examples.simulator.engines import REGISTRY, token_digest
from examples.simulator.http import Request
from examples.simulator.invariants import accepting, stale_tenants
from examples.simulator.records import Fault
from examples.simulator.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulator.conftest import Town, TownOf, Virtually

FOREIGN = {"workshop": token_digest("workshop-embedder-token")}


async def pinged(town: "Town", tenant: str, token: str | None, engine: str = "embedder") -> int | None:
    """The status of a probe; None: nobody listens."""
    headers = {"x-hero-context": tenant} | ({"authorization": f"Bearer {token}"} if token is not None else {})
    answer = await town.world.ask_engine(engine, Request("GET", "/v1/ping", headers=headers))
    return answer.status if answer else None


async def registered(town: "Town", **tenants: str) -> None:
    """What the controller does: writes the whole registry, restarts the engine, waits until it is up."""
    value = json.dumps({**FOREIGN, **tenants})
    await town.done(town.world.admin, "hero_proc", "secret", "set", "--quiet", "--context", "embedder", REGISTRY, value)
    await restarted(town)


async def restarted(town: "Town") -> None:
    await town.done(town.world.admin, "hero_proc", "service", "restart", "hero_embedder")
    while not town.world.engines.listens(town.world.engines.named("embedder")):
        await town.world.clock.sleep(1)


def test_only_a_tenants_own_token_under_its_own_name(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        await registered(town, alice=token_digest("a-token"), bob="b-token")
        asked = [("alice", "a-token"), ("bob", "b-token"), ("alice", None), ("alice", ""), ("alice", "x")]
        assert [await pinged(town, *one) for one in asked] == [200, 200, 401, 401, 401]
        assert [await pinged(town, "alice", "b-token"), await pinged(town, "", "a-token")] == [403, 403]
        assert await pinged(town, "alice", token_digest("a-token")) == 401
        assert await pinged(town, "alice", "a-token", "voice") == 401
        health = await town.world.ask_engine("embedder", Request("GET", "/health"))
        assert health is not None
        assert health.status == 200
        assert "a-token" not in json.dumps(town.world.books())

    virtually(scenario())


def test_the_registry_counts_from_the_next_start_on(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        town.world.drift.set_secret("admin", "embedder", REGISTRY, json.dumps({**FOREIGN, "alice": "t"}))
        assert await pinged(town, "alice", "t") == 401
        await restarted(town)
        assert await pinged(town, "alice", "t") == 200
        town.world.drift.set_secret("admin", "embedder", REGISTRY, json.dumps(FOREIGN))
        assert await pinged(town, "alice", "t") == 200
        assert stale_tenants(town.world) == ["embedder still accepts the token of alice"]
        await restarted(town)
        assert (await pinged(town, "alice", "t"), stale_tenants(town.world)) == (401, [])
        assert await pinged(town, "workshop", "workshop-embedder-token") == 200

    virtually(scenario())


def test_nobody_listens_while_the_service_is_down(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        town.world.drift.kill_service("admin", "hero_embedder")
        assert await pinged(town, "workshop", "workshop-embedder-token") is None
        assert await pinged(town, "workshop", "workshop-voice-token", "voice") == 200
        town.world.drift.set_reachable("admin", False)
        assert town.world.reachable_at(town.world.admin.state.mycelium_ip) is None

    virtually(scenario())


def test_revocation_that_one_engine_ignores(town: "Town", virtually: "Virtually") -> None:
    """Lesson 38: only another restart helps."""

    async def scenario() -> None:
        await registered(town, **{"alice-1": token_digest("t")})
        assert accepting(town.world, "Alice") == ["embedder"]
        town.world.faults.add(Fault(system="engine", method="start", kind="ignores_revocation", target="embedder"))
        await registered(town)
        assert await pinged(town, "alice-1", "t") == 200
        await restarted(town)
        assert (await pinged(town, "alice-1", "t"), accepting(town.world, "alice")) == (401, [])

    virtually(scenario())


def test_a_registry_that_cannot_be_reached(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        get = ["hero_proc", "secret", "get", "--context", "embedder", REGISTRY]
        away = {"system": "machine", "method": "secret *", "kind": "secret_store_unreachable", "target": "*/embedder"}
        town.world.faults.add(Fault(**away))
        silent = await town.tried(town.world.admin, *get)
        assert (silent.code, silent.out) == (69, b"")
        assert json.loads(await town.done(town.world.admin, *get)) == FOREIGN
        town.world.faults.add(Fault(system="engine", method="start", kind="registry_unreachable"))
        await restarted(town)
        assert await pinged(town, "workshop", "workshop-embedder-token") == 401
        await restarted(town)
        assert await pinged(town, "workshop", "workshop-embedder-token") == 200

    virtually(scenario())


@pytest.mark.parametrize(("kind", "seen"), [("stands_open", [200, 200, 200]), ("ignores_tenant", [401, 401, 200])])
def test_an_engine_that_protects_nothing(town: "Town", virtually: "Virtually", kind: str, seen: list[int]) -> None:
    async def scenario() -> None:
        town.world.faults.add(Fault(system="engine", method="ping", kind=kind, times=None))
        tokens = (None, "wrong", "workshop-embedder-token")
        assert [await pinged(town, "alice", token) for token in tokens] == seen

    virtually(scenario())


def test_a_lost_foreign_tenant_is_a_violation(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        town.world.drift.add_tenant("voice", "colleague", "c")
        assert town.world.violations == []
        town.world.drift.remove_tenant("voice", "colleague")
        assert town.world.violations == []
        write = ["hero_proc", "secret", "set", "--quiet", "--context", "embedder", REGISTRY, '{"alice": "t"}']
        await town.done(town.world.admin, *write)
        assert [(one.kind, one.what) for one in town.world.violations] == [
            ("TenantLost", "embedder has lost its tenant workshop")
        ]

    virtually(scenario())


def test_what_cannot_be_understood_lets_nobody_in(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        town.world.drift.set_secret("admin", "embedder", REGISTRY, "{half")
        await restarted(town)
        assert await pinged(town, "workshop", "workshop-embedder-token") == 401
        assert town.world.books()["engines"]["embedder"] == {"alive": True, "registered": [], "accepted": []}

    virtually(scenario())


def test_the_admin_machine_is_the_same_after_a_restart(
    virtually: "Virtually", town_of: "TownOf", tmp_path: "Path"
) -> None:
    async def scenario() -> None:
        town = town_of(World(speed=1.0, state_dir=tmp_path))
        await registered(town, alice="t")
        town.world.admit("ssh-ed25519 AAAA one")
        town.world.admit("ssh-ed25519 AAAA one")
        again = town_of(World(speed=1.0, state_dir=tmp_path))
        assert again.world.admin.state == town.world.admin.state
        await again.world.clock.sleep(10)
        assert await pinged(again, "alice", "t") == 200
        assert again.world.drift.authorized_keys("admin") == ["ssh-ed25519 AAAA one"]

    virtually(scenario())


def test_a_world_from_before_gets_an_admin_machine(virtually: "Virtually", tmp_path: "Path") -> None:
    async def scenario() -> None:
        World(speed=1.0, state_dir=tmp_path)
        held = json.loads((tmp_path / "world.json").read_text())
        for key in ("admin", "admin_reachable", "engines", "post"):
            del held[key]
        (tmp_path / "world.json").write_text(json.dumps(held))
        world = World(speed=1.0, state_dir=tmp_path)
        assert [engine.name for engine in world.state.engines] == ["embedder", "voice"]
        assert world.post.state.resend_key

    virtually(scenario())
