"""Secrets stay secret (law 10): after a whole life, with drift and a fault, none is found in what was written or shown."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import httpx
import pytest

from api.server import make_app
from api.window import Window
from controller.queries import Queries
from tests.e2e.rig import ENGINES_AND_MAIL, FEW, PROVIDER_KEY, Fleet, fleet_of

ALICE = {"keys": {"providers": {"openrouter": "default"}}}
ENGINES = ("embedder", "voice")


def given(fleet: Fleet) -> dict[str, bytes]:
    """The secrets that the Fleet refers to, by what they open."""
    key = Path(fleet.addresses.installer_key_file).read_bytes().splitlines()[1:-1]
    return {
        "Forge's token": fleet.addresses.forge_token.encode(),
        "daemon's secret": fleet.addresses.compute[0].secret.encode(),
        "provider's key": PROVIDER_KEY.encode(),
        "mail's key": fleet.addresses.resend_key.encode(),
        **{f"installer's key, line {number}": line for number, line in enumerate(key)},
    }


async def made(fleet: Fleet, when: str) -> dict[str, bytes]:
    """The secrets that were made for her so far. Each must be what the outside has, or nothing would be proven."""
    sealed = {name: await fleet.store.sealed(f"alice/engine_{name}") for name in ENGINES}
    tokens = {f"token at engine {name}": secret.reveal() for name, secret in sealed.items() if secret is not None}
    machine = fleet.world.machine_named(fleet.vm("alice")).state.secrets["cockpit"]
    assert sorted(tokens.values()) == sorted(machine[f"SHARED_{name.upper()}_TOKEN"] for name in ENGINES)
    (app,) = fleet.world.state.forge.apps
    return {**tokens, f"client secret {when}": app.client_secret.encode()}


def password_of(letter: str) -> bytes:
    """The one-time password as her letter tells it."""
    (found,) = re.findall(r"one-time password: *(\S+)", letter, re.IGNORECASE)
    return str(found).encode()


async def shown(fleet: Fleet) -> dict[str, bytes]:
    """Everything that people and programs are shown."""
    queries = Queries(fleet.store)
    texts = {
        "all testers": repr(await queries.testers()),
        "the tester": repr(await queries.tester("alice")),
        "events": repr(await queries.events(limit=1000)),
        "journal": repr(await fleet.store.journal(limit=1000)),
        "books": repr(await fleet.store.books("alice")),
    }
    transport = httpx.ASGITransport(make_app(Window(fleet.controller)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8484") as client:
        for path in ("/", "/api/v1/testers", "/api/v1/testers/alice", "/api/v1/events", "/api/v1/testers/alice/plan"):
            answer = await client.get(path)
            assert answer.status_code == 200, f"{path}: {answer.text}"
            texts[path] = answer.text
    return {name: text.encode() for name, text in texts.items()}


async def plans(fleet: Fleet) -> list[str]:
    """The words of every action and error that the journal and the conditions hold."""
    words = [f"{entry.verb} {entry.target} {entry.detail}" for entry in await fleet.store.journal(limit=1000)]
    return words + [condition.message for condition in await fleet.store.conditions()]


def drift(fleet: Fleet, app: str) -> None:
    """A rotation in the middle of which Forge's answer is lost, and things that somebody changed."""
    world, vm = fleet.world.drift, fleet.vm("alice")
    world.do("add_fault", system="forge", method="PATCH *", kind="cut_mid_answer", times=1)
    world.do("set_redirect", app=app, uri="https://evil.example.org/oauth/callback")
    world.do("set_secret", vm=vm, context="cockpit", key="OPENROUTER_API_KEY", value="x")
    (tenant,) = [one for one in fleet.books()["engines"]["voice"]["registered"] if one.startswith("alice")]
    world.do("add_tenant", engine="voice", tenant=tenant, token="not hers")


@pytest.mark.long
async def test_no_secret_is_found_anywhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with fleet_of(tmp_path, {"alice": ALICE}, **FEW, **ENGINES_AND_MAIL) as fleet:
        await fleet.ready("alice")
        first = await made(fleet, "at first")
        (app,) = fleet.world.state.forge.apps
        drift(fleet, app.name)
        fleet.look_at("alice")

        async def rotated_twice() -> bool:
            told = [event.reason for event in await fleet.told("alice")]
            return "OutcomeUnknown" in told and "SignInAppRotated" in told

        await fleet.until(rotated_twice, "the rotation is lost and made again")
        await fleet.ready("alice")
        await fleet.settled()
        letter = fleet.world.drift.mail("alice@example.org")["text"]
        secrets = {**given(fleet), **first, **await made(fleet, "at last"), "one-time password": password_of(letter)}
        assert len(secrets) == len(given(fleet)) + len(ENGINES) + 3
        assert all(len(secret) >= 8 for secret in secrets.values())
        files = {path.name: path.read_bytes() for path in fleet.places.state.rglob("*") if path.is_file()}
        assert any(name.startswith("controller.db") for name in files)
        everything = {**files, **await shown(fleet), "log": caplog.text.encode()}
        everything["plans"] = json.dumps(await plans(fleet)).encode()
        found = [
            (name, where) for name, secret in secrets.items() for where, text in everything.items() if secret in text
        ]
        assert found == []
