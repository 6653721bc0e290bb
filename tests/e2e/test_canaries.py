"""Secrets stay secret (law 10): after a whole life, with drift and a fault, none is found in what was written or shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.server import make_app
from api.window import Window
from controller.queries import Queries
from tests.e2e.rig import Fleet, fleet_of

ALICE = {"keys": {"providers": {"openrouter": "default"}}}


def canaries(fleet: Fleet, password: bytes, spent: list[str]) -> Iterator[bytes]:
    """Every secret that went through our hands."""
    yield password
    yield fleet.addresses.forge_token.encode()
    yield fleet.addresses.compute[0].secret.encode()
    yield b"sk-or-canary-1234567890"
    yield from (line for line in Path(fleet.addresses.installer_key_file).read_bytes().splitlines()[1:-1])
    yield from (app.client_secret.encode() for app in fleet.world.state.forge.apps)
    yield from (secret.encode() for secret in spent)


async def shown(fleet: Fleet) -> Iterator[bytes]:
    """Everything that people and programs are shown."""
    queries = Queries(fleet.store)
    texts = [repr(await queries.testers()), repr(await queries.tester("alice")), repr(await queries.events(limit=1000))]
    texts += [repr(await fleet.store.journal(limit=1000)), repr(await fleet.store.books("alice"))]
    transport = httpx.ASGITransport(make_app(Window(fleet.controller)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8484") as client:
        for path in ("/", "/api/v1/testers", "/api/v1/testers/alice", "/api/v1/events", "/api/v1/testers/alice/plan"):
            answer = await client.get(path)
            assert answer.status_code == 200, f"{path}: {answer.text}"
            texts.append(answer.text)
    return (text.encode() for text in texts)


async def test_no_secret_is_found_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with fleet_of(tmp_path, {"alice": ALICE}) as fleet:
        await fleet.ready("alice")
        await fleet.settled()
        sealed = await fleet.store.sealed("alice/one_time_password")
        assert sealed is not None
        (app,) = fleet.world.state.forge.apps
        spent = [app.client_secret]
        # A rotation in the middle of which Forge's answer is lost, and a setting that somebody changed.
        fleet.world.drift.do("add_fault", system="forge", method="PATCH *", kind="cut_mid_answer", times=1)
        fleet.world.drift.do("set_redirect", app=app.name, uri="https://evil.example.org/oauth/callback")
        fleet.world.drift.do("set_secret", vm=fleet.vm("alice"), context="cockpit", key="OPENROUTER_API_KEY", value="x")

        async def rotated_twice() -> bool:
            told = [event.reason for event in await fleet.told("alice")]
            return "OutcomeUnknown" in told and "SignInAppRotated" in told

        await fleet.until(rotated_twice, "the rotation is lost and made again")
        await fleet.ready("alice")
        secrets = set(canaries(fleet, sealed.reveal(), spent))
        assert all(len(secret) >= 8 for secret in secrets)
        files = {path.name: path.read_bytes() for path in fleet.places.state.rglob("*") if path.is_file()}
        assert any(name.startswith("controller.db") for name in files)
        everything = [
            *files.values(),
            *await shown(fleet),
            caplog.text.encode(),
            json.dumps(await plans(fleet)).encode(),
        ]
        for secret in secrets:
            for text in everything:
                assert secret not in text


async def plans(fleet: Fleet) -> list[str]:
    """The words of every action and error that the journal and the conditions hold."""
    words = [f"{entry.verb} {entry.target} {entry.detail}" for entry in await fleet.store.journal(limit=1000)]
    return words + [condition.message for condition in await fleet.store.conditions()]
