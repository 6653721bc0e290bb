"""`testerctl replicas`: who works on what, as the server's locks tell it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.cli import run_with
from controller.records import PutTester
from controller.replicas.shares import LEADER, SHARDS, SOURCE, shard_of
from controller.store import Keyring, Store
from controller.store.address import normal
from controller.store.locks import LOCKS, Card, LockSession
from controller.store.roll import roll_of
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import a_tester

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


async def holding(url: str, name: str, keys: list[int], passes: int) -> LockSession:
    session, taken = await LockSession.open(normal(url), name, timedelta(minutes=1)), set[int]()
    async with asyncio.timeout(30):
        while missing := [key for key in keys if key not in taken]:  # somebody may have ended just now
            taken |= {*await session.take(LOCKS, missing, len(missing))}
    await session.raise_epochs(keys, name)
    await session.show(Card(name, f"process 1 on {name}", "1.2.3", BEGAN, passes))
    return session


@pytest.fixture
def shared(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Two replicas, one of which is gone; alice is nobody's."""
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    with asyncio.Runner() as runner:

        async def begin() -> LockSession:
            store = await Store.open(postgres_url, Keyring.generate(), ManualClock())
            await store.write(*(PutTester(a_tester(name)) for name in ("alice", "bob", "carol")))
            await store.aclose()
            shards = [shard for shard in range(SHARDS) if shard != shard_of("alice")]
            gone = await holding(postgres_url, "gone", [SOURCE], 7)
            await gone.aclose()
            return await holding(postgres_url, "here", [*shards, SOURCE, LEADER], 12)

        session = runner.run(begin())
        yield postgres_url
        runner.run(session.aclose())


def test_it_shows_who_works_on_what(
    shared: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run_with(["replicas", "--state", str(tmp_path), "-o", "json"]) == 0
    gone, here = json.loads(capsys.readouterr().out)
    assert [gone["alive"], gone["shards"], gone["readsSource"], gone["passes"]] == [False, [], False, 7]
    assert [here["alive"], len(here["shards"]), here["readsSource"], here["leads"]] == [True, 63, True, True]
    assert [here["testers"], here["passes"], here["version"]] == [2, 12, "1.2.3"]
    assert {each["epoch"] for each in here["shards"]} == {1}
    assert here["heardSecondsAgo"] < 60

    assert run_with(["replicas", "--state", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "process 1 on here" in told.out
    assert "gone, " in told.out
    assert "reads the source, leads" in " ".join(told.out.split())
    assert "1 of 3 testers are nobody's at this moment" in " ".join(told.err.split())


async def test_a_file_has_no_replicas(tmp_path: Path) -> None:
    assert await roll_of(f"sqlite:///{tmp_path}/controller.db") is None


@pytest.mark.on_a_file
def test_which_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_with(["replicas", "--state", str(tmp_path)]) == 0
    assert "there are no replicas" in capsys.readouterr().err
