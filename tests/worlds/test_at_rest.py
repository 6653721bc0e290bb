"""A settled tester is compared with what it was before it is thought about; whatever drifts is noticed all the same."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.records import PutCondition, TesterBooks
from tests.lessons.conftest import LEAN, WITH_ENGINES
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

RESYNC = timedelta(minutes=10)
NOTICED = RESYNC * 1.2 + RESYNC / 4 + timedelta(minutes=1)
"""The longest pause between two looks, the oldest listing that will do then, and the look itself."""


def thoughts(w: Rig) -> list[str]:
    """Names whose books are read from now on: each stands for a pass, or a part of one."""
    found: list[str] = []
    books = w.store.books

    async def noted(name: str, **more: Any) -> TesterBooks | None:
        found.append(name)
        return await books(name, **more)

    w.store.books = noted  # type: ignore[method-assign]
    return found


def looks(w: Rig, since: int) -> int:
    return sum(each.method == "look" for each in w.world.log.entries[since:])


async def at_rest(w: Rig) -> None:
    await w.until(lambda: len(w.controller.engine.resting) == 1, "at rest", within=timedelta(hours=3))


@in_virtual_time
async def test_it_is_looked_at_as_often_as_ever_and_its_books_are_not_even_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.passes.resting.LONGEST", timedelta(hours=3))  # a day
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        await at_rest(w)
        since, found, commits = len(w.world.log), thoughts(w), w.store.commits
        await w.run_for(timedelta(hours=2))
        assert looks(w, since) >= 2 * 60 / 12
        assert found == []
        assert w.writes(since) == []
        outside = [each for each in w.world.log.entries[since:] if each.system.startswith("door")]
        assert 3 <= len(outside) <= 5
        assert w.store.commits - commits <= len(outside), "the hours of proofs are written down, and nothing else"
        seen = w.controller.engine.sightings.looked_at("alice")
        assert seen is not None
        assert w.clock.now() - seen < RESYNC * 1.3
        conditions = await w.conditions("alice")
        ages = w.controller.engine.sightings.of_conditions("alice", conditions)
        oldest = min(at for at in ages.values() if at is not None)
        assert w.clock.now() - oldest < RESYNC * 1.2 + RESYNC / 4 + timedelta(minutes=1)
        await w.run_for(timedelta(hours=1, minutes=15))
        assert found == ["alice"], "a whole pass each day, whatever happens"


@in_virtual_time
async def test_a_change_is_never_taken_for_rest(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=LEAN) as w:
        await w.ready("alice")
        await at_rest(w)
        w.edit("alice", expires="2030-01-01")
        await w.ready("alice", within=timedelta(minutes=5))
        await at_rest(w)
        w.controller.engine.queue.add("alice")
        found = thoughts(w)
        await w.run_for(timedelta(minutes=1))
        assert found == ["alice"], "who asks for a look gets a whole one"
        await at_rest(w)
        resting = w.controller.engine.resting
        assert w.controller.engine.world is not None
        now = w.clock.now()
        assert resting.of("alice", w.controller.engine.world, now) is not None
        assert resting.of("alice", w.controller.engine.world, now + timedelta(days=1)) is None, "its last day comes"
        await _write_about(w)
        assert len(resting) == 0, "somebody wrote about it"
        await _written_about_while_it_is_looked_at(w)
        await at_rest(w)
        w.controller.engine.drop(lambda name: name == "alice")
        assert len(w.controller.engine.resting) == 0, "another replica may write about it from now on"


async def _write_about(w: Rig) -> None:
    """Without anything being another."""
    await w.store.write(*(PutCondition(each) for each in (await w.conditions("alice")).values()))


async def _written_about_while_it_is_looked_at(w: Rig) -> None:
    read, engine = w.store.books, w.controller.engine

    async def and_written(name: str, **more: Any) -> TesterBooks | None:
        books = await read(name, **more)
        await _write_about(w)
        return books

    w.store.books = and_written  # type: ignore[method-assign]
    await engine.look("alice")
    assert len(engine.resting) == 0, "what was found is not of the books as they are"
    w.store.books = read  # type: ignore[method-assign]
    await engine.look("alice")
    assert len(engine.resting) == 1


def _rotate_key() -> None:
    os.environ["SIM_OPENROUTER"] = "sk-or-another-key-000000000"


DRIFTS: dict[str, Callable[[Rig], object]] = {
    "a service that died": lambda w: w.world.drift.kill_service(w.vm("alice"), "hero_books"),
    "a key that somebody added": lambda w: w.world.drift.add_authorized_key(
        w.vm("alice"), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDriftedIn someone@elsewhere"
    ),
    "a setting that somebody changed": lambda w: w.world.drift.set_secret(
        w.vm("alice"), "core", "FORGE_OAUTH_ISSUER", "x"
    ),
    "a domain that went": lambda w: w.world.drift.remove_domain(w.vm("alice"), w.fqdn("alice")),
    "an account that was disabled": lambda w: w.world.drift.disable_account("alice"),
    "an app that leads elsewhere": lambda w: w.world.drift.set_redirect(_app(w), "https://elsewhere.test/"),
    "a token that went": lambda w: w.world.drift.remove_tenant("embedder", _tenant(w)),
    "a provider's key that was rotated": lambda w: _rotate_key(),
    "a release": lambda w: w.world.drift.publish("hero_books", "v0.9.0"),
    "a gateway that went": lambda w: w.world.drift.delete_gateway(w.fqdn("alice").partition(".")[0]),
}


def _app(w: Rig) -> str:
    return next(app.name for app in w.world.state.forge.apps if "alice" in app.name)


def _tenant(w: Rig) -> str:
    return w.fqdn("alice").partition(".")[0]


@pytest.mark.long
@in_virtual_time
async def test_whatever_drifts_is_noticed_at_the_next_look(tmp_path: Path) -> None:
    fleet = {**WITH_ENGINES, "timing": {**WITH_ENGINES["timing"], "releasesEvery": "5m"}}
    async with world(tmp_path, {"alice": {"keys": {"providers": {"openrouter": "default"}}}}, fleet=fleet) as w:
        await w.ready("alice")
        for what, drift in DRIFTS.items():
            await at_rest(w)
            told = len(await w.events("alice"))
            drift(w)
            limit = NOTICED + (timedelta(minutes=15) if what == "a release" else timedelta(0))
            await w.until(_is_told_of(w, told), f"{what} is noticed", within=limit)
            await w.ready("alice")
        w.excuse("OpenDoor")  # a domain that goes opens it, until it is noticed


def _is_told_of(w: Rig, before: int) -> Callable[[], Awaitable[bool]]:
    async def told() -> bool:
        return len(await w.events("alice")) > before

    return told


@in_virtual_time
async def test_who_cannot_begin_is_quiet(tmp_path: Path) -> None:
    """There is no account to adopt: nothing is written down for as long, no room is taken from others and given back."""
    identity = {"email": "alice@example.org", "account": "nobody", "existing": True}
    async with world(tmp_path, {"alice": {"identity": identity}}, fleet=LEAN) as w:
        await w.run_for(timedelta(hours=1))
        assert (await w.conditions("alice"))["Account"].reason == "AccountMissing"
        passes, commits = w.controller.engine.passes, w.store.commits
        await w.run_for(timedelta(hours=3))
        assert w.controller.engine.passes > passes
        assert w.store.commits == commits
