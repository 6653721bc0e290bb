"""Kill -9 in the middle of the work, again and again, on the same state: the same end as without, and nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from controller.running import Places
from examples.simulator.server import serving
from examples.simulator.signin import sign_in
from examples.simulator.world import World
from tests.e2e.rig import LIMIT, SPEED, Fleet, controlling, fleet_document, save, tester_document

NAMES = ("alice", "carol")
CREATES = ("/api/v1/admin/users", "oauth2", "deploy_vm", "deploy_webgateway")
DEATHS = (1, 9, 24, 40)
"""After so many writing calls of all together the process is killed; chosen to fall into every part of the way."""


async def begin(places: Places) -> asyncio.subprocess.Process:
    """`testerctl run`, as a process of its own."""
    return await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "testerctl"),
        "run",
        "--fleet",
        str(places.folder),
        "--state",
        str(places.state),
        "--listen",
        "127.0.0.1:0",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ},
    )


async def written(world: World, count: int, process: asyncio.subprocess.Process) -> None:
    """Until the world has seen so many writing calls."""
    async with asyncio.timeout(LIMIT):
        while len(world.log.writes()) < count:
            assert process.returncode is None, "the controller ended by itself"
            await asyncio.sleep(0.02)


async def life(places: Places, world: World, until: int) -> None:
    """One life, ended by kill -9 once the world has seen so many writing calls."""
    process = await begin(places)
    try:
        await written(world, until, process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


def creates(fleet: Fleet) -> Counter[str]:
    """How often each kind of thing was made, over all lives."""
    return Counter(
        kind
        for entry in fleet.writes()
        for kind in CREATES
        if kind in entry.what and entry.status < 300 and entry.method not in ("PATCH", "DELETE")
    )


async def test_killed_again_and_again_it_ends_as_if_never_killed(tmp_path: Path) -> None:
    world = World(seed=1, speed=SPEED, state_dir=tmp_path / "world")
    async with serving(world, tmp_path / "world") as addresses:
        places = Places(tmp_path / "fleet", tmp_path / "state")
        places.folder.mkdir()
        save(places.folder / "fleet.yaml", fleet_document(addresses))
        for name in NAMES:
            save(places.folder / f"{name}.yaml", tester_document(name))
        for writes in DEATHS:
            await life(places, world, writes)
        async with controlling(world, addresses, places) as fleet:
            await fleet.ready(*NAMES)
            await fleet.settled()
            books = fleet.books()
            assert sorted(books["made_accounts"]) == sorted(NAMES)
            assert (books["vms"], books["gateways"], len(books["apps"])) == (2, 2, 2)
            assert creates(fleet) == dict.fromkeys(CREATES, 2)
            assert books["violations"] == []
            for name in NAMES:
                status, _ = await sign_in(addresses, fleet.fqdn(name), name)
                assert status == 200


async def test_sigterm_ends_it_in_the_middle_of_the_work_with_exit_code_0(tmp_path: Path) -> None:
    world = World(seed=1, speed=SPEED, state_dir=tmp_path / "world")
    async with serving(world, tmp_path / "world") as addresses:
        places = Places(tmp_path / "fleet", tmp_path / "state")
        places.folder.mkdir()
        save(places.folder / "fleet.yaml", fleet_document(addresses))
        save(places.folder / "alice.yaml", tester_document("alice"))
        process = await begin(places)
        try:
            await written(world, 8, process)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(LIMIT):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        writes = len(world.log.writes())
        async with controlling(world, addresses, places) as fleet:
            await fleet.ready("alice")
            assert len(fleet.writes()) > writes
            assert creates(fleet) == dict.fromkeys(CREATES, 1)
