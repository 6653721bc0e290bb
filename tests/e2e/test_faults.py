"""The real process over real sockets, under a mild profile of what befalls the worlds, and ended by kill -9 at any moment.

What befalls it is drawn as for the worlds in virtual time (`tests/worlds/mishaps.py`), and so is when each life ends: after
so many calls, before the last one is answered or a moment later. Over sockets a seed says what happens, not which call is
first: a failure need not come again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from controller.places import Places
from examples.simulator.invariants import doubles
from examples.simulator.log import Entry
from examples.simulator.signin import sign_in
from examples.simulator.world import World
from tests.e2e.lives import Cradle, cradle, heard
from tests.e2e.rig import LIMIT, Fleet, controlling, save, serving_world, tester_document
from tests.reconcilers.driver import by_resend
from tests.worlds.files import Disk, prepared
from tests.worlds.mishaps import KINDS, Mishap, draw, fate

if TYPE_CHECKING:
    from tests.worlds.rig import Rig

STAYS, LEAVES = NAMES = ("alice", "carol")
LEAN: dict[str, Any] = {"componentSets": {"demo": ["hero_books"]}, "mail": by_resend}
EDITED: dict[str, Any] = {"allowlist": ["bob"]}

MILD = (
    "timeout_after_effect",
    "timeout_before",
    "error_reported_though_created",
    "http_502",
    "throttled",
    "throttled_without_a_word",
    "cut_mid_answer",
    "half_json",
    "html_200",
    "slow",
    "listing_lags",
    "forge_down",
    "forge_read_only",
    "mail_answer_lost",
    "deploy_rolls_back",
    "gateway_failed_but_exists",
    "slow_chain",
    "daemon_restarted",
    "teardown_lags",
    "vm_cut_off",
    "outside_unroutable",
    "ssh_cut",
    "command_hangs",
    "start_races",
    "secret_reads_empty",
    "install_fails_once",
    "store_locked",
)
"""What the simulator can do over the wire and a controller has to bear without anybody's help."""
APART = timedelta(minutes=2)
"""Of simulated time: one mishap for each, on average."""
ROUND = timedelta(minutes=6)
"""The same: about what a life of the controller lasts."""
MOST_CALLS = 40
LATE = 0.03  # real seconds after an answer within which it may be taken in and written down
SECONDS_LOST, SECONDS_THROTTLED = 60, 1


def schedule_of(rng: random.Random, span: timedelta) -> list[Mishap]:
    weights = [KINDS[name].weight for name in MILD]
    count = round(span / APART)
    return [bearable(draw(rng, rng.choices(MILD, weights)[0], span, NAMES)) for _ in range(count)]


def bearable(mishap: Mishap) -> Mishap:
    """Where only the world's time is sped up: an answer that never comes would be waited for by the real clock."""
    options = dict(mishap.options)
    if mishap.kind.startswith("timeout_"):
        options.setdefault("seconds", SECONDS_LOST)
    if "retry_after" in options:
        options["retry_after"] = SECONDS_THROTTLED
    return replace(mishap, options=options)


@dataclass(frozen=True)
class Stage:
    """As much of the virtual worlds' rig as these mishaps need."""

    world: World
    disk: Disk
    begun: float

    @property
    def elapsed(self) -> timedelta:
        return timedelta(seconds=self.world.clock.now() - self.begun)

    async def run_for(self, span: timedelta) -> None:
        await self.world.clock.sleep(span.total_seconds())


@dataclass
class Death:
    """Counts the calls that the world has done, and ends the life that made them when there were enough."""

    rng: random.Random
    left: int = 0
    late: float = 0.0
    process: int | None = None

    def hear(self, _: Entry) -> None:
        """Some come before `begin` has told which process it is that makes them: the next one counts then."""
        self.left -= 1
        if self.process is None or self.left > 0:
            return
        process, self.process = self.process, None
        if self.late:
            asyncio.get_running_loop().call_later(self.late, os.kill, process, signal.SIGKILL)
        else:
            os.kill(process, signal.SIGKILL)

    async def one_life(self, cradle: Cradle, places: Places) -> None:
        """From its start to its death; it may not end in any other way."""
        self.left, self.late = self.rng.randint(1, MOST_CALLS), self.rng.choice((0.0, self.rng.uniform(0, LATE)))
        process = self.process = await cradle.begin(places)
        try:
            async with asyncio.timeout(LIMIT):
                code = await cradle.end()
        except TimeoutError:
            os.kill(process, signal.SIGKILL)
            raise AssertionError(f"{self.left} calls never came") from None
        finally:
            self.process = None
        assert code == -signal.SIGKILL


@dataclass
class Doubles:
    """The most that there ever were of each kind of thing of each tester at one time."""

    world: World
    most: Counter[tuple[str, str]] = field(default_factory=Counter)

    def look(self) -> None:
        for name in NAMES:
            for kind, number in things(self.world, name).items():
                self.most[name, kind] = max(self.most[name, kind], number)


def things(world: World, name: str) -> dict[str, int]:
    state = world.state
    return {
        "account": sum(account.name == name for account in state.forge.accounts.values()),
        "app": sum(f" {name} " in app.name for app in state.forge.apps),
        "machine": sum(vm.name.startswith(f"{name}_") for one in state.daemons.values() for vm in one.vms.values()),
        "gateway": sum(row.name.startswith(name) for _, row in world.grid.gateways()),
        "letter": sum(mail.to == [f"{name}@example.org"] for mail in world.mailbox),
    }


async def gone(fleet: Fleet, name: str) -> None:
    async def holds() -> bool:
        return await fleet.store.tester(name) is None

    await fleet.until(holds, f"{name} gone")


async def all_is_well(fleet: Fleet, most: Counter[tuple[str, str]]) -> None:
    """alice as she was edited, with one of each; nothing of carol but an account that nobody can use."""
    world = fleet.world
    assert things(world, STAYS) == dict.fromkeys(("account", "app", "machine", "gateway", "letter"), 1)
    left = things(world, LEAVES)
    assert (left["app"], left["machine"], left["gateway"]) == (0, 0, 0)
    assert fleet.books()["disabled_accounts"] == ([LEAVES] if left["account"] else [])
    assert {key: number for key, number in most.items() if number > 1} == {}
    assert doubles(world) == []
    assert fleet.books()["violations"] == []
    for user in (STAYS, "bob"):
        assert (await sign_in(fleet.addresses, fleet.fqdn(STAYS), user))[0] == 200


async def lived(root: Path, seed: int, rounds: int) -> None:
    """So many lives, an edit after two fifths of them and a removal after three; then one that nobody ends."""
    rng = random.Random(seed)
    schedule = schedule_of(rng, rounds * ROUND)
    async with serving_world(root, {name: {} for name in NAMES}, **LEAN) as served, cradle() as lives:
        world, addresses, places = served
        prepared(places)
        death, seen = Death(rng), Doubles(world)
        world.on_changed.append(seen.look)
        stage = cast("Rig", Stage(world, Disk(places), world.clock.now()))
        async with fate(stage, schedule):
            with heard(world, death.hear):
                for number in range(rounds):
                    if number == rounds * 2 // 5:
                        save(places.folder / f"{STAYS}.yaml", tester_document(STAYS, **EDITED))
                    if number == rounds * 3 // 5:
                        (places.folder / f"{LEAVES}.yaml").unlink()
                    await death.one_life(lives, places)
        world.drift.clear_faults()
        async with controlling(world, addresses, places) as fleet:
            await fleet.taken_in()
            await fleet.ready(STAYS)
            await gone(fleet, LEAVES)
            await fleet.settled()
            await all_is_well(fleet, seen.most)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_mild_faults_and_twenty_kills_leave_one_of_each(tmp_path: Path) -> None:
    await lived(tmp_path, seed=5, rounds=20)
