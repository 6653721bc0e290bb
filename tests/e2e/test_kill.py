"""Ended in the middle of the work, again and again, on the same state: the same end as without, and nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.running import Places
from examples.simulator.invariants import accepting, stale_tenants
from examples.simulator.log import Entry
from examples.simulator.signin import sign_in
from examples.simulator.world import World
from tests.e2e.rig import ENGINES_AND_MAIL, FEW, LIMIT, Fleet, controlling, serving_world

NAMES = ("alice", "carol")
ENGINES = ("embedder", "voice")
CREATES = ("/api/v1/admin/users", "/api/v1/user/applications/oauth2", "deploy_vm", "deploy_webgateway", "POST /emails")


DEATHS = {
    "forge POST /api/v1/admin/users": signal.SIGKILL,
    "hero_proc secret set --quiet --context voice TENANT_TOKENS": signal.SIGKILL,
    "POST /rpc deploy_vm": signal.SIGKILL,
    "forge POST /api/v1/user/applications/oauth2": signal.SIGKILL,
    "hero_proc secret set --quiet --context core HERO_PROXY_SEED_GATEWAY_LISTENER": signal.SIGTERM,
    "mail POST /emails": signal.SIGKILL,
}
"""By call: when the world has done the first such call, and has not answered it, the life that made it ends so."""


def words(entry: Entry) -> str:
    return f"{entry.system} {entry.method} {entry.what}"


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


@dataclass
class Reaper:
    """Hears of each call that the world has done before its answer leaves, and ends the life that made it."""

    left: dict[str, signal.Signals] = field(default_factory=lambda: dict(DEATHS))
    process: asyncio.subprocess.Process | None = None
    sent: signal.Signals | None = None

    def hear(self, entry: Entry) -> None:
        for call in [call for call in self.left if entry.writing and call in words(entry)]:
            if self.process is not None and self.sent is None:
                self.sent = self.left.pop(call)
                self.process.send_signal(self.sent)
            elif self.sent is self.left[call] is signal.SIGKILL:
                del self.left[call]  # on its way when another call's death came: nobody hears of it either

    async def one_life(self, places: Places) -> None:
        """From its start to its death, of which it must die as it should."""
        self.sent, self.process = None, await begin(places)
        try:
            async with asyncio.timeout(LIMIT):
                code = await self.process.wait()
        except TimeoutError:
            raise AssertionError(f"never came: {list(self.left)}") from None
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()
        assert code == (0 if self.sent is signal.SIGTERM else -signal.SIGKILL)


@contextmanager
def heard(world: World, hear: Callable[[Entry], None]) -> Iterator[None]:
    """Each call is told to `hear` once it is in the world's log, which is before its answer leaves."""
    add = world.log.add

    def adding(*call: Any) -> None:
        add(*call)
        hear(world.log.entries[-1])

    world.log.add = adding  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        world.log.add = add  # type: ignore[method-assign]


def made(fleet: Fleet) -> Counter[str]:
    """How often each kind of thing was made, over all lives."""
    done = [words(entry) for entry in fleet.writes() if entry.status < 300 and entry.method not in ("PATCH", "DELETE")]
    return Counter(kind for text in done for kind in CREATES if kind in text)


def one_of_each(fleet: Fleet) -> None:
    books = fleet.books()
    assert sorted(books["made_accounts"]) == sorted(NAMES)
    assert (books["vms"], books["gateways"], len(books["apps"])) == (2, 2, 2)
    letters = Counter(address for mail in books["mailbox"] for address in mail["to"])
    assert letters == {f"{name}@example.org": 1 for name in NAMES}
    counts = made(fleet)
    assert counts.pop("POST /emails") >= len(NAMES)  # asked again with the same key, a letter is not sent again
    assert counts == dict.fromkeys(CREATES[:-1], len(NAMES))
    assert books["violations"] == []


def one_token_at_each_engine(fleet: Fleet) -> None:
    for engine in ENGINES:
        row = fleet.books()["engines"][engine]
        tenants = [tenant for tenant in row["registered"] if tenant.startswith(NAMES)]
        assert len(tenants) == len(NAMES)
        assert sorted(row["accepted"]) == sorted(row["registered"])
    assert [accepting(fleet.world, name) for name in NAMES] == [list(ENGINES)] * len(NAMES)
    assert stale_tenants(fleet.world) == []


async def test_ended_again_and_again_between_effect_and_answer_it_comes_to_the_same_end(tmp_path: Path) -> None:
    async with serving_world(tmp_path, {name: {} for name in NAMES}, **FEW, **ENGINES_AND_MAIL) as served:
        world, addresses, places = served
        reaper = Reaper()
        with heard(world, reaper.hear):
            while reaper.left:
                await reaper.one_life(places)
        async with controlling(world, addresses, places) as fleet:
            await fleet.ready(*NAMES)
            await fleet.settled()
            one_of_each(fleet)
            one_token_at_each_engine(fleet)
            for name in NAMES:
                assert (await sign_in(addresses, fleet.fqdn(name), name))[0] == 200
