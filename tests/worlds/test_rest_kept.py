"""After a start a tester that was at rest is looked at once and compared: unless anything is another than it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from tests.lessons.conftest import LEAN
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world
from tests.worlds.test_at_rest import at_rest, looks, thoughts

HOUR = timedelta(hours=1)
PROGRAM = "controller.passes.resting.program_digest"
OWN = {"keys": {"providers": {"openrouter": "default"}}}


async def passed(w: Rig) -> list[str]:
    """A new life, until everybody was looked at: whose books were read."""
    await w.start()
    found, since = thoughts(w), len(w.world.log)
    engine = w.controller.engine
    await w.until(lambda: engine.sightings.looked_at("alice") is not None, "looked at", within=HOUR)
    assert looks(w, since) >= 1
    return found


async def rested(w: Rig) -> None:
    await w.ready("alice")
    await at_rest(w)


@in_virtual_time
async def test_after_a_start_it_is_looked_at_once_and_its_books_are_not_read(tmp_path: Path) -> None:
    async with world(tmp_path, {"alice": OWN}, fleet=LEAN) as w:
        await rested(w)
        await w.run_for(timedelta(minutes=40))  # its proofs go on, and their hours are written down
        for life in range(2):
            await w.stop()
            await w.clock.sleep(timedelta(minutes=20))
            since = len(w.world.log)
            assert await passed(w) == [], f"life {life}"
            assert looks(w, since) == 1
            conditions = await w.conditions("alice")
            ages = w.controller.engine.sightings.of_conditions("alice", conditions)
            assert set(ages) == set(conditions)
            assert all(at is not None and w.clock.now() - at < timedelta(minutes=5) for at in ages.values())
            found, commits = thoughts(w), w.store.commits
            await w.run_for(HOUR)
            outside = [each for each in w.world.log.entries[since:] if each.system.startswith("door")]
            assert 1 <= len(outside) <= 3, "proofs are due when they were"
            assert found == []
            assert w.store.commits - commits <= len(outside)


@in_virtual_time
async def test_a_kill_costs_whole_passes_of_those_who_came_to_rest_last_and_no_more(tmp_path: Path) -> None:
    async with world(tmp_path, {"alice": OWN}, fleet=LEAN) as w:
        await w.ready("alice")
        await at_rest(w)
        w.kill()
        assert await passed(w) == ["alice"]
        await at_rest(w)
        await w.run_for(HOUR)
        w.kill()
        assert await passed(w) == []


def _sql(w: Rig, *statements: str) -> None:
    file = Path(str(make_url(w.places.url).database))
    with sqlite3.connect(file) as connection:
        for statement in statements:
            assert connection.execute(statement).rowcount >= 1, statement


REASONS: dict[str, Callable[[Rig, pytest.MonkeyPatch], Any]] = {
    "a condition was written": lambda w, _: _sql(w, "UPDATE conditions SET blames = 'x' WHERE tester = 'alice'"),
    "a proof's hour is in the future": lambda w, _: _sql(
        w, "UPDATE facts SET body = json_set(body, '$.checked_at', '2030-01-01T00:00:00Z') WHERE step = 'sign_in_gate'"
    ),
    "what it rests on was written": lambda w, _: _sql(w, "UPDATE rests SET body = replace(body, 'A', 'B')"),
    "it has another mark": lambda w, _: _sql(w, "UPDATE rests SET mark = x'00'"),
    "nothing was kept": lambda w, _: _sql(w, "DELETE FROM rests"),
    "a secret was changed": lambda w, patch: patch.setenv("SIM_OPENROUTER", "sk-or-another-key-000000000"),
    "the Fleet was edited": lambda w, _: w.write_fleet(timing={"lookAge": "31s"}),
    "a credential of the Fleet was changed": lambda w, patch: patch.setenv("RESEND", "re_another"),
    "its file was edited": lambda w, _: w.edit("alice", allowlist=["bob"]),
    "a service died": lambda w, _: w.world.drift.kill_service(w.vm("alice"), "hero_books"),
    "its account was disabled": lambda w, _: w.world.drift.disable_account("alice"),
    "a day went by": lambda w, _: w.clock.sleep(timedelta(days=1)),
}


@pytest.mark.on_a_file
@in_virtual_time
async def test_it_has_a_whole_pass_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, {"alice": OWN}, fleet=LEAN) as w:
        for reason, happens in REASONS.items():
            await rested(w)
            await w.stop()
            told = happens(w, monkeypatch)
            if isinstance(told, Awaitable):
                await told
            assert "alice" in await passed(w), reason


@in_virtual_time
async def test_another_program_believes_nothing_and_one_that_does_not_know_itself_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = [(b"one", True), (b"one", False), (b"other", True), (b"other", False), (b"", True), (b"", True)]
    monkeypatch.setattr(PROGRAM, lambda: b"before")
    async with world(tmp_path, {"alice": OWN}, fleet=LEAN) as w:
        for program, whole in programs:
            await rested(w)
            await w.stop()
            monkeypatch.setattr(PROGRAM, lambda program=program: program)
            assert bool(await passed(w)) is whole, program
