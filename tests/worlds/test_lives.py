"""A tester's whole life in virtual time: the real controller on its real store, from the file to the last thing gone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from controller.records import Change, FreshenFacts, PutCondition
from controller.store.store import AFTER_COMMIT
from examples.simulator.invariants import accepting, doubles, stale_tenants
from tests.lessons.conftest import LEAN, WITH_ENGINES
from tests.worlds.loop import in_virtual_time, run
from tests.worlds.rig import QUIET, Rig, world

NAMES = ("alice", "carol", "dave")
CREATES = ("/api/v1/admin/users", "/oauth2", "deploy_vm", "deploy_webgateway", "/emails")


def creates(w: Rig) -> Counter[str]:
    """How often each kind of thing was made."""
    return Counter(
        kind
        for entry in w.writes()
        for kind in CREATES
        if kind in entry.what and entry.status < 300 and entry.method == "POST"
    )


def changes_of(w: Rig) -> list[Change]:
    """Everything that is committed from now on."""
    seen: list[Change] = []

    async def hook(moment: str, changes: tuple[Change, ...]) -> None:
        if moment == AFTER_COMMIT:
            seen.extend(changes)

    w.store.hooks.append(hook)
    return seen


def everything(w: Rig) -> dict[str, int]:
    books = w.books()
    kinds = {"accounts": len(books["made_accounts"]), "apps": len(books["apps"]), "mails": len(books["mailbox"])}
    return {**kinds, "vms": books["vms"], "gateways": books["gateways"]}


@in_virtual_time
async def test_three_testers_come_to_life_and_all_is_quiet(tmp_path: Path) -> None:
    async with world(tmp_path, NAMES, fleet=WITH_ENGINES) as w:
        await w.ready(*NAMES, within=timedelta(minutes=15))
        assert everything(w) == dict.fromkeys(("accounts", "apps", "mails", "vms", "gateways"), 3)
        for name in NAMES:
            assert [(await w.sign_in(name, user))[0] for user in (name, "mik", "bob")] == [200, 200, 403]
            assert accepting(w.world, name) == ["embedder", "voice"]
        await w.settled()
        writes, changes = len(w.writes()), changes_of(w)
        await w.run_for(timedelta(hours=1))
        assert len(w.writes()) == writes
        assert {type(change) for change in changes} <= {*QUIET}  # when a door and an engine were proven last
        assert doubles(w.world) == stale_tenants(w.world) == []
        deployed = next(line for line in (await w.trace()).splitlines() if "deploy_vm" in line)
        assert 55 <= float(deployed.split()[0]) <= 65  # virtual seconds until it answered


@in_virtual_time
async def test_the_grid_takes_the_time_that_it_takes(tmp_path: Path) -> None:
    """Latencies are the world's: a machine takes a minute, and its network some more."""
    async with world(tmp_path, ["alice"]) as w:
        await w.until(lambda: w.books()["vms"], "a VM")
        assert w.elapsed < timedelta(seconds=30)
        await w.until(lambda: w.books()["gateways"], "a gateway")
        assert timedelta(seconds=55) < w.elapsed < timedelta(seconds=100)
        await w.ready("alice")
        assert timedelta(minutes=3) < w.elapsed < timedelta(minutes=15)


@in_virtual_time
async def test_drift_is_found_and_repaired(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice", "carol"], fleet=WITH_ENGINES) as w:
        await w.ready("alice", "carol")
        await w.settled()
        drift, vm = w.world.drift, w.vm("alice")
        drift.stop_service(vm, "hero_books")
        drift.set_secret(vm, "cockpit", "HERO_EMBEDDER_URL", "http://elsewhere.test")
        drift.disable_account("carol")
        before = len(w.world.log)

        def repaired() -> bool:
            services = w.books()["machines"][w.world.machine_named(vm).state.key]["services"]
            url = drift.secret(vm, "cockpit", "HERO_EMBEDDER_URL") or ""
            return services["hero_books"]["alive"] and "elsewhere" not in url and not w.books()["disabled_accounts"]

        await w.until(repaired, "the repair", within=timedelta(minutes=25))
        await w.ready("alice", "carol")
        await w.settled()
        for name in ("alice", "carol"):
            assert [event for event in await w.events(name) if event.message.startswith("drift: ")]
        assert not [entry for entry in w.writes(before) if "deploy" in entry.what]


@in_virtual_time
async def test_a_removed_tester_goes_whole_and_the_others_stay(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice", "carol"], fleet=WITH_ENGINES) as w:
        await w.ready("alice", "carol")
        w.remove("carol")
        await w.gone("carol")
        books = w.books()
        assert (books["vms"], books["gateways"], len(books["apps"])) == (1, 1, 1)
        assert accepting(w.world, "carol") == []
        assert books["disabled_accounts"] == ["carol"]
        await w.ready("alice")


# `make crash-points` kills it at every boundary of its life.
ENDS = [(after, True) for after in (0.5, 30, 62, 76, 230, 260)] + [(62, False), (230, False)]
MORE_ENDS = [pytest.param(after, False, marks=pytest.mark.long) for after in (0.5, 30, 76, 260)]


@pytest.mark.parametrize(("after", "graceful"), [*ENDS, *MORE_ENDS])
def test_ended_in_mid_work_and_begun_again_it_ends_the_same(tmp_path: Path, after: float, graceful: bool) -> None:
    async def life() -> None:
        async with world(tmp_path, ["alice"], fleet=LEAN) as w:
            await w.run_for(timedelta(seconds=after))
            if graceful:
                await w.stop()
            else:
                w.kill()
            await w.run_for(timedelta(seconds=20))
            await w.start()
            await w.ready("alice")
            await w.settled()
            assert everything(w) == dict.fromkeys(("accounts", "apps", "mails", "vms", "gateways"), 1)
            assert creates(w) == dict.fromkeys(CREATES, 1)
            assert doubles(w.world) == []

    run(life())


async def _eventful(root: Path) -> str:
    """A life with something of everything; its trace."""
    faults = [
        {"system": "forge", "method": "POST *", "kind": "http_502"},
        {"system": "compute", "method": "deploy_vm", "kind": "timeout_after_effect"},
        {"system": "machine", "method": "lab build", "kind": "install_fails", "target": "hero_books"},
    ]
    async with world(root, ["alice", "carol"], seed=7, faults=faults, fleet=LEAN) as w:
        await w.run_for(timedelta(minutes=4))
        await w.restart()
        await w.ready("alice", "carol")
        w.world.drift.delete_gateway(w.fqdn("alice"))
        w.remove("carol")
        await w.gone("carol")
        await w.ready("alice")
        return await w.trace()


@pytest.mark.on_a_file  # as the other process, to which nobody gives a server, has one
def test_the_same_seed_gives_the_same_trace_byte_for_byte(tmp_path: Path) -> None:
    """In another process, where sets have another order and everything lies elsewhere in memory."""
    first = run(_eventful(tmp_path / "one"))
    assert len(first.splitlines()) > 300
    assert (
        first.encode()
        == subprocess.run(
            [sys.executable, "-c", OTHERWISE, str(tmp_path / "two")],
            env={**os.environ, "PYTHONHASHSEED": "3", "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            check=True,
        ).stdout
    )


OTHERWISE = """
import sys
from pathlib import Path
from tests.worlds.loop import run
from tests.worlds.test_lives import _eventful
sys.stdout.buffer.write(run(_eventful(Path(sys.argv[1]))).encode())
"""


@in_virtual_time
async def test_it_is_settled_though_some_proof_is_always_due(tmp_path: Path) -> None:
    """Of three passes in a row, two write down when something was last proven; other commits are news."""
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        books = await w.store.books("alice")
        assert books is not None
        gate, ready = books.facts["sign_in_gate"], books.conditions["Ready"]

        async def again_and_again(change: Change) -> None:
            while True:
                await w.store.write(change)
                await w.run_for(timedelta(minutes=2))

        proven = FreshenFacts("alice", gate, gate, "", w.clock.now())
        for change, settles in ((proven, True), (PutCondition(ready), False)):
            writing = asyncio.ensure_future(again_and_again(change))
            if settles:
                await w.settled()
            else:
                with pytest.raises(AssertionError, match="rest"):
                    await w.settled(within=timedelta(hours=1))
            writing.cancel()
