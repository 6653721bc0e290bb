"""What is everybody's trouble is told once, with what mends it; the testers wait, and go on by themselves."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.lessons.conftest import LEAN, asked, fault
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

NAMES = ("alice", "carol", "dave")
A_WHILE = timedelta(minutes=30)


async def fleet_says(w: Rig, status: str, reason: str) -> bool:
    found = (await w.conditions("")).get("BackendsUsable")
    return found is not None and (found.status, found.reason) == (status, reason)


async def events_of_the_fleet(w: Rig) -> list[str]:
    return [event.reason for event in await w.events("") if event.step == "fleet"]


@in_virtual_time
async def test_a_refused_token_is_told_once_and_everybody_goes_on_when_it_is_taken_again(tmp_path: Path) -> None:
    async with world(tmp_path, NAMES, fleet=LEAN) as w:
        await w.ready(*NAMES)
        held = dict(w.world.state.forge.tokens)
        w.world.state.forge.tokens.clear()
        await w.until(lambda: fleet_says(w, "False", "TokenRefused"), "it is told", within=A_WHILE)
        await w.run_for(A_WHILE)
        for name in NAMES:
            conditions = await w.conditions(name)
            assert (conditions["Account"].status, conditions["Account"].reason) == ("False", "TokenRefused")
            assert conditions["Account"].message.startswith("waits for Forge, which does not accept our token")
            assert conditions["Stalled"].status == "False", "nobody has to do anything about this tester"
            assert conditions["SignInProtected"].status == "True"
        assert (await events_of_the_fleet(w)).count("TokenRefused") == 1
        (told,) = [each for each in (await asked(w, "/api/v1/fleet"))["conditions"] if each["type"] == "BackendsUsable"]
        assert "puts it where the Fleet's spec points (spec.forge.token)" in told["message"]
        w.world.state.forge.tokens.update(held)
        await w.ready(*NAMES, within=timedelta(minutes=3))
        assert await fleet_says(w, "True", "BackendsUsable")
        assert await events_of_the_fleet(w) == ["TokenRefused", "BackendsUsable"]


@in_virtual_time
async def test_a_daemon_that_must_be_restarted_is_told_once_and_everybody_goes_on_when_it_was(tmp_path: Path) -> None:
    dead = fault("compute", "*", "restart_required", times=None)
    async with world(tmp_path, NAMES, faults=[dead], fleet=LEAN) as w:
        await w.until(lambda: fleet_says(w, "False", "DaemonConnectionDead"), "it is told", within=A_WHILE)
        await w.run_for(2 * A_WHILE)
        conditions = await w.conditions("carol")
        assert (conditions["Machine"].reason, conditions["Stalled"].status) == ("DaemonConnectionDead", "False")
        assert (await events_of_the_fleet(w)).count("DaemonConnectionDead") == 1
        assert "whoever runs it restarts it" in (await w.conditions(""))["BackendsUsable"].message
        w.world.drift.clear_faults()
        await w.until(lambda: fleet_says(w, "True", "BackendsUsable"), "it is over", within=timedelta(minutes=14))
        await w.ready(*NAMES, within=A_WHILE)
