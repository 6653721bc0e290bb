"""Ended in the middle of the work, again and again, on the same state: the same end as without, and nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.places import Places
from examples.simulator.invariants import accepting, stale_tenants
from examples.simulator.log import Entry
from examples.simulator.signin import sign_in
from tests.e2e.lives import Cradle, cradle, heard, words
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


@dataclass
class Reaper:
    """Hears of each call that the world has done before its answer leaves, and ends the life that made it."""

    left: dict[str, signal.Signals] = field(default_factory=lambda: dict(DEATHS))
    process: int | None = None
    sent: signal.Signals | None = None

    def hear(self, entry: Entry) -> None:
        for call in [call for call in self.left if entry.writing and call in words(entry)]:
            if self.process is not None and self.sent is None:
                self.sent = self.left.pop(call)
                os.kill(self.process, self.sent)
            elif self.sent is self.left[call] is signal.SIGKILL:
                del self.left[call]  # on its way when another call's death came: nobody hears of it either

    async def one_life(self, cradle: Cradle, places: Places) -> None:
        """From its start to its death, of which it must die as it should."""
        self.sent, self.process = None, await cradle.begin(places)
        try:
            async with asyncio.timeout(LIMIT):
                code = await cradle.end()
        except BaseException as error:
            os.kill(self.process, signal.SIGKILL)
            if isinstance(error, TimeoutError):
                raise AssertionError(f"never came: {list(self.left)}") from None
            raise
        assert code == (0 if self.sent is signal.SIGTERM else -signal.SIGKILL)


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


@pytest.mark.long
async def test_ended_again_and_again_between_effect_and_answer_it_comes_to_the_same_end(tmp_path: Path) -> None:
    async with serving_world(tmp_path, {name: {} for name in NAMES}, **FEW, **ENGINES_AND_MAIL) as served:
        world, addresses, places = served
        reaper = Reaper()
        async with cradle() as lives:
            with heard(world, reaper.hear):
                while reaper.left:
                    await reaper.one_life(lives, places)
        async with controlling(world, addresses, places) as fleet:
            await fleet.ready(*NAMES)
            await fleet.settled()
            one_of_each(fleet)
            one_token_at_each_engine(fleet)
            for name in NAMES:
                assert (await sign_in(addresses, fleet.fqdn(name), name))[0] == 200
