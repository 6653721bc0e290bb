"""Specs that are pushed to a real git server: the tick on the commit, and what a push can and cannot do to the fleet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from controller.records import Phase, RevisionState
from reconcilers.clock import SystemClock
from tests.e2e.git_rig import DASHBOARD, GitFleet, pushed_fleet
from tests.e2e.rig import FEW

IDLE = {"paused": {"reason": "nobody uses it yet", "by": "mik"}}
"""For testers that only have to be there: nothing is made for them."""
NAMES = ("alice", "bob", "carol", "dave", "erin")
DAY = timedelta(days=1)


@dataclass
class JumpingClock(SystemClock):
    """The machine's clock, which a test may set forward."""

    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


async def test_from_a_push_to_the_tick(tmp_path: Path) -> None:
    clock = JumpingClock()
    testers = {"alice": {}} | dict.fromkeys(NAMES[1:], IDLE)
    async with pushed_fleet(tmp_path, testers, clock=clock, safety={"maxRemovals": "50%"}, **FEW) as fleet:
        first = await fleet.clone.git("rev-parse", "HEAD")
        await the_tick(fleet, first)
        await a_broken_file_harms_nobody(fleet)
        await three_of_five_at_once_are_held(fleet)
        await history_rewritten(fleet, first)
        await the_server_gone_for_a_day(fleet, clock)
        assert fleet.books()["violations"] == []


async def the_tick(fleet: GitFleet, sha: str) -> None:
    done = await fleet.verdict(sha, "success")
    told = fleet.statuses(sha)
    *before, last = [(one.state, one.description) for one in told]
    assert last == ("success", "1/1 testers ready")
    # How many there are is known once everybody was looked at: who is paused does not count.
    assert {state for state, _ in before} == {"pending"}
    assert all(words.startswith("0/") and words.endswith(" testers ready") for _, words in before)
    assert done.target_url == f"{DASHBOARD}/revisions/{sha}"
    record = await fleet.store.tester("alice")
    assert record is not None
    assert (record.phase, record.revision) == (Phase.READY, sha)


async def everybody(fleet: GitFleet) -> dict[str, tuple[Phase, int, bool]]:
    return {one.name: (one.phase, one.generation, one.leaving) for one in await fleet.store.testers()}


async def a_broken_file_harms_nobody(fleet: GitFleet) -> None:
    before, writes = await everybody(fleet), len(fleet.writes())
    path = fleet.clone.folder / "bob.yaml"
    path.write_text(path.read_text() + "  nonsense: true\n")
    sha = await fleet.clone.push("a slip of the pen")
    told = await fleet.verdict(sha, "failure")
    assert "bob.yaml:" in told.description
    assert "nonsense" in told.description
    assert told.description.split("bob.yaml:")[1][0].isdigit()
    await fleet.round()
    assert await everybody(fleet) == before
    ours = [entry for entry in fleet.writes()[writes:] if "/statuses/" not in entry.what]
    assert ours == []
    fleet.clone.write("bob", **IDLE)
    await fleet.verdict(await fleet.clone.push("mended"), "success")


async def three_of_five_at_once_are_held(fleet: GitFleet) -> None:
    before = await everybody(fleet)
    fleet.clone.remove("carol", "dave", "erin")
    sha = await fleet.clone.push("tidied up")
    told = await fleet.verdict(sha, "failure")
    assert "TooManyRemovals" in told.description
    source = await fleet.store.source()
    assert source is not None
    assert source.held == ("carol", "dave", "erin")
    assert await everybody(fleet) == before
    await fleet.clone.git("revert", "--no-edit", "HEAD")
    await fleet.verdict(await fleet.clone.push("put back"), "success")
    source = await fleet.store.source()
    assert source is not None
    assert source.held == ()
    assert await everybody(fleet) == before


async def history_rewritten(fleet: GitFleet, first: str) -> None:
    """The branch is taken as it is now; who is in it stays, with what it says."""
    old = await fleet.clone.git("rev-parse", "HEAD")
    await fleet.clone.git("reset", "--quiet", "--hard", first)
    fleet.clone.remove("erin")
    sha = await fleet.clone.push("another history", "--force")
    await fleet.verdict(sha, "success")
    told = [event.message for event in await fleet.told("") if event.reason == "SourceRewritten"]
    assert [sha[:12] in words and old[:12] in words for words in told] == [True]

    async def holds() -> bool:
        return set(await everybody(fleet)) == set(NAMES) - {"erin"}

    await fleet.until(holds, "erin gone, and nobody else")


async def the_server_gone_for_a_day(fleet: GitFleet, clock: JumpingClock) -> None:
    before = set(await everybody(fleet))
    in_force, good = await fleet.controller._in_force(), fleet.controller.source.good_at
    assert good is not None
    await fleet.server.stop()
    for _ in range(3):
        fleet.controller.source.rescan()
        await unreadable(fleet)
        clock.ahead += DAY / 3
    source = await fleet.store.source()
    assert source is not None
    assert (source.revision, source.readable) == (in_force, False)
    assert f"last good fetch: {good:%Y-%m-%d %H:%M} UTC" in source.errors[0]
    assert fleet.controller.source.good_at == good
    await fleet.round()
    await fleet.ready("alice")
    assert set(await everybody(fleet)) == before
    await fleet.server.start()
    path = fleet.clone.folder / "alice.yaml"
    path.write_text(path.read_text() + "  allowlist: [bob]\n")
    sha = await fleet.clone.push("bob may look")
    told = await fleet.verdict(sha, "success")
    assert told.description == "1/1 testers ready"
    record = await fleet.store.tester("alice")
    assert record is not None
    assert record.revision == sha
    assert clock.now() - good > DAY


async def unreadable(fleet: GitFleet) -> None:
    async def holds() -> bool:
        source = await fleet.store.source()
        return source is not None and not source.readable

    await fleet.until(holds, "an unreadable source")
    assert (await fleet.store.revisions(1))[0].state is RevisionState.SUCCESS
