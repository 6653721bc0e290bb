"""A pull request is planned against the live state, told at Forge, edited in place, and never applied."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from controller.telling import pulls
from examples.simulator.records import Comment
from tests.e2e.git_rig import NAME, OWNER, GitFleet, propose, pushed_fleet
from tests.e2e.rig import FEW

CONTEXT = "testers/plan"
IDLE = {"paused": {"reason": "nobody uses it yet", "by": "mik"}}


def comments(fleet: GitFleet) -> list[Comment]:
    repository = fleet.world.forge.repositories.find(OWNER, NAME)
    assert repository is not None
    return repository.comments


async def test_a_pull_request_is_planned_and_never_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pushed_fleet(tmp_path, {"bob": IDLE, "carol": IDLE}, comments=True, **FEW) as fleet:
        first = await fleet.clone.git("rev-parse", "HEAD")
        await fleet.verdict(first, "success")
        fleet.clone.write("dora")
        fleet.clone.remove("carol")
        sha = await propose(fleet, 7, "dora comes, carol goes")
        told = await fleet.verdict(sha, "success", CONTEXT)
        assert told.description.startswith("1 comes (dora), 1 leaves (carol)")

        async def commented() -> bool:
            return len(comments(fleet)) == 1

        await fleet.until(commented, "a comment")
        body = comments(fleet)[0].body
        assert "<b>dora</b> comes" in body
        assert "account dora" in body
        assert sha[:12] in body
        await it_follows_the_pull_request(fleet)
        await the_branch_goes_on_meanwhile(fleet, first)
        await a_fleet_of_theirs_is_not_believed(fleet)
        monkeypatch.setattr(pulls, "MOST_NEW", 1024**2)
        await what_is_too_large_is_not_fetched(fleet)
        assert {one.name for one in await fleet.store.testers()} == {"bob", "carol", "erin"}
        assert not [entry for entry in fleet.writes() if "dora" in f"{entry.what}"]
        assert not fleet.vms("dora")


async def it_follows_the_pull_request(fleet: GitFleet) -> None:
    """The same comment, edited; broken files with their place."""
    path = fleet.clone.folder / "dora.yaml"
    path.write_text(path.read_text() + "  nonsense: ```` @sara <b>\n")
    sha = await propose(fleet, 7, "a slip of the pen")
    told = await fleet.verdict(sha, "failure", CONTEXT)
    assert "dora.yaml:" in told.description

    async def edited() -> bool:
        return "cannot be taken in" in comments(fleet)[0].body

    await fleet.until(edited, "the comment edited in place")
    (comment,) = comments(fleet)
    assert comment.edits


async def the_branch_goes_on_meanwhile(fleet: GitFleet, first: str) -> None:
    """What others have pushed since is not planned away; a plan is made anew for what is in force by then."""
    await fleet.clone.git("reset", "--quiet", "--hard", first)
    fleet.clone.write("erin", **IDLE)
    await fleet.verdict(await fleet.clone.push("erin comes"), "success")
    await fleet.clone.git("reset", "--quiet", "--hard", first)
    fleet.clone.write("bob", **IDLE, allowlist=["sara", "carol"])
    sha = await propose(fleet, 8, "bob lets carol in")
    told = await fleet.verdict(sha, "success", CONTEXT)
    assert told.description.startswith("1 changes (bob)")
    assert "leaves" not in told.description


async def a_fleet_of_theirs_is_not_believed(fleet: GitFleet) -> None:
    """A Forge of their own, to which our token would go: nobody calls there."""
    called: list[bytes] = []

    async def heard(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(heard, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        path = fleet.clone.folder / "fleet.yaml"
        path.write_text(path.read_text().replace(fleet.addresses.forge_url, f"http://127.0.0.1:{port}"))
        fleet.clone.write("frank")
        sha = await propose(fleet, 9, "a better Forge")
        told = await fleet.verdict(sha, "success", CONTEXT)
        assert "frank" in told.description

        async def commented() -> bool:
            return any(one.pull == 9 and "The Fleet changes too" in one.body for one in comments(fleet))

        await fleet.until(commented, "the comment")
        assert called == []
        assert (await fleet.store.fleet() or ("", ""))[0].count(str(port)) == 0


async def what_is_too_large_is_not_fetched(fleet: GitFleet) -> None:
    """Said on its commit, once; smaller ones are planned on."""
    (fleet.clone.path / "film.bin").write_bytes(random.Random(1).randbytes(2 * 1024**2))
    sha = await propose(fleet, 10, "our film")
    told = await fleet.verdict(sha, "failure", CONTEXT)
    assert told.description == "not planned: it brings more than 1 MiB that are new"
    await fleet.clone.git("reset", "--quiet", "--hard", "HEAD~1")
    fleet.clone.write("grace")
    small = await propose(fleet, 11, "grace comes")
    assert "grace" in (await fleet.verdict(small, "success", CONTEXT)).description
    assert len(fleet.statuses(sha, CONTEXT)) == 1
