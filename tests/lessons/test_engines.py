"""Lesson 38: the tokens for the shared engines, proven in both directions."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from examples.simulator.engines import REGISTRY
from examples.simulator.invariants import accepting, stale_tenants
from tests.lessons.conftest import WITH_ENGINES, fault, told
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

ENGINES = ["embedder", "voice"]
AT_ONCE = timedelta(minutes=5)


def pings(w: Rig, engine: str) -> set[tuple[str, int]]:
    """As which tenant an engine was asked, and how it answered."""
    return {(each.who, each.status) for each in w.world.log if each.system == f"engine:{engine}"}


def restarts(w: Rig, since: int) -> Counter[str]:
    """How often each engine was told to read its registry anew, after entry number `since`."""
    told = (each.what.removeprefix("service restart hero_") for each in w.writes(since) if "restart" in each.what)
    return Counter(each for each in told if each in ENGINES)


@in_virtual_time
async def test_lesson_38_every_engine_is_seen_to_refuse_strangers_and_neighbours_and_to_know_its_tenant(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, ["alice"], fleet=WITH_ENGINES) as w:
        await w.ready("alice")
        assert accepting(w.world, "alice") == ENGINES
        (tenant,) = {who for who, status in pings(w, "voice") if status == 200}
        assert tenant.startswith("alice")
        for engine in ENGINES:
            nobody, wrong, ours, neighbours = ("nobody", 401), (tenant, 401), (tenant, 200), ("workshop", 403)
            assert pings(w, engine) == {nobody, wrong, ours, neighbours}
        proven = (await w.conditions("alice"))["EngineAccessProven"]
        assert (proven.status, proven.reason) == ("True", "Proven")
        machine = w.world.machine_named(w.vm("alice")).state.secrets["cockpit"]
        tokens = {machine[key] for key in ("SHARED_EMBEDDER_TOKEN", "SHARED_VOICE_TOKEN")}
        assert len(tokens) == 2, "each engine has a token of its own"
        held = [w.world.admin.state.secrets[engine][REGISTRY] for engine in ENGINES]
        assert not [token for token in tokens for row in held if token in row], "the registries hold no token in clear"


@pytest.mark.parametrize("kind", ["stands_open", "ignores_tenant"])
def test_lesson_38_an_engine_that_lets_strangers_in_is_told_and_nobody_is_ready_on_it(
    tmp_path: Path, kind: str
) -> None:
    @in_virtual_time
    async def life() -> None:
        async with world(
            tmp_path, ["alice"], fleet=WITH_ENGINES, faults=[fault("engine", "ping", kind, "voice", times=None)]
        ) as w:

            async def found() -> bool:
                condition = (await w.conditions("alice")).get("EngineAccessProven")
                return condition is not None and condition.status == "False"

            await w.until(found, "the proof fails", within=timedelta(minutes=15))
            await w.run_for(timedelta(minutes=10))
            conditions = await w.conditions("alice")
            assert conditions["EngineAccessProven"].reason == "EngineOpen"
            assert conditions["EngineAccessProven"].message.startswith("voice lets strangers in")
            assert conditions["Ready"].reason == "EngineOpen"
            assert conditions["Components"].status == "True", "an engine holds up nothing that does not need it"
            assert w.books()["mailbox"] == []
            w.world.drift.clear_faults()
            await w.ready("alice")
            assert len(w.books()["mailbox"]) == 1

    life()


@in_virtual_time
async def test_lesson_38_a_revoked_token_is_seen_to_be_refused_before_its_tester_is_gone(tmp_path: Path) -> None:
    """One engine goes on accepting what its registry has no more. Nobody else's token is touched."""
    async with world(tmp_path, ["alice", "carol"], fleet=WITH_ENGINES) as w:
        await w.ready("alice", "carol")
        w.world.drift.add_fault(**fault("engine", "start", "ignores_revocation", "voice"))
        since = len(w.world.log)
        w.remove("alice")
        stale = "voice still accepts the token of alice"
        await w.until(
            lambda: [each for each in stale_tenants(w.world) if each.startswith(stale)], "revoked, and accepted"
        )
        await w.until(lambda: restarts(w, since)["voice"] == 2, "it is told again", within=AT_ONCE)
        assert [record.phase for record in await w.store.testers()] == ["Removing", "Ready"]
        await w.gone("alice")
        assert accepting(w.world, "alice") == stale_tenants(w.world) == []
        assert restarts(w, since) == {"embedder": 1, "voice": 2}
        assert accepting(w.world, "carol") == ENGINES


@in_virtual_time
async def test_lesson_38_an_engine_that_cannot_be_reached_is_not_forgotten_and_holds_up_no_other(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, ["alice"], fleet=WITH_ENGINES) as w:
        await w.ready("alice")
        w.world.drift.add_fault(**fault("machine", "secret *", "secret_store_unreachable", "*/voice", times=None))
        w.remove("alice")
        await w.until(lambda: accepting(w.world, "alice") == ["voice"], "revoked where it can be", within=AT_ONCE)
        await w.run_for(timedelta(hours=3))
        assert w.books()["vms"] == 0, "and the machine goes meanwhile"
        assert [record.phase for record in await w.store.testers()] == ["Removing"]
        assert any("voice" in each for each in await told(w, "alice"))
        w.world.drift.clear_faults()
        await w.gone("alice", within=timedelta(hours=1))
        assert accepting(w.world, "alice") == []
