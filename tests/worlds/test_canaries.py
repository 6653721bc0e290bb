"""Secrets stay secret (law 10) when every system repeats what it was told: none is in what we write, keep, log or show."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from api.commands import describe, doctor, events
from api.models import TesterWhole
from api.plan_view import show_plan
from api.planning import Planned
from api.server import make_app
from api.window import Window
from controller.checkup.doctor import examine
from controller.queries import Queries
from controller.records import Change, Seal
from controller.store.store import AFTER_COMMIT
from reconcilers.secret import HIDDEN
from tests.e2e.rig import PROVIDER_KEY
from tests.lessons.conftest import WITH_ENGINES
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

ALICE = {
    "keys": {"providers": {"openrouter": "default"}},
    "identity": {"email": "alice@example.org", "whenRemoved": "delete"},
    "machine": {"keepAfterRemoval": "0s"},
}
WRITES = (
    ("forge", "POST *", '"password"', 403),
    ("forge", "P* *", '"password"', 400),
    ("forge", "DELETE *", "", 500),
    ("compute", "deploy_vm", '"secret"', -32602),
    ("compute", "deploy_*", '"secret"', -32000),
    ("compute", "delete_*", '"secret"', -32603),
    ("mail", "POST /emails", "One-time", 500),
    ("mail", "POST /emails", "One-time", 422),
    ("engine", "*", "", 403),
)
"""System, method, from where on the body is repeated, and how it is refused."""


def echo(system: str, method: str, after: str, code: int, times: int | None = 1) -> dict[str, Any]:
    options = {"after": after, "status": code, "code": code}
    return {"system": system, "method": method, "kind": "echo", "times": times, "options": options}


class Sealed:
    """Every secret that was ever sealed for her: passwords, tokens, client secrets, letters."""

    def __init__(self, w: Rig) -> None:
        self.values: dict[str, bytes] = {}
        w.store.hooks.append(self._hook)

    async def _hook(self, moment: str, changes: tuple[Change, ...]) -> None:
        if moment == AFTER_COMMIT:
            for change in changes:
                if isinstance(change, Seal):
                    self.values[f"{change.name} {len(self.values)}"] = change.value.reveal()


def given(w: Rig) -> dict[str, bytes]:
    """The secrets that the Fleet refers to."""
    at = w.addresses
    key = Path(at.installer_key_file).read_text().split("\n")[1:-2]
    named = {"Forge": at.forge_token, "daemon": at.compute[0].secret, "Resend": at.resend_key, "provider": PROVIDER_KEY}
    return {name: text.encode() for name, text in (*named.items(), *((f"key {one}", one) for one in key))}


async def answers(w: Rig) -> dict[str, str]:
    """What the windows show: the API, its problems among it, the page, and the commands."""
    transport, shown = httpx.ASGITransport(make_app(Window(w.controller)), raise_app_exceptions=False), {}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8484") as client:
        for path in (
            "",
            "/alice",
            "/alice/events",
            "/alice/plan",
            "/alice/logs",
            "/alice/logs/hero_books",
            "/nobody/logs",
        ):
            answer = await client.get(f"/api/v1/testers{path}")
            shown[f"GET {path}"] = f"{answer.status_code} {answer.text}"
        shown["page"] = (await client.get("/")).text
    shown["describe"], shown["describe, JSON"] = await described(w)
    shown["events"] = "\n".join(events.line(one).plain for one in await w.events())
    return shown


async def described(w: Rig) -> tuple[str, str]:
    detail = await Queries(w.store).tester("alice")
    assert detail is not None
    shown = printed(lambda console: describe._show(console, detail, w.clock.now()))
    return shown, TesterWhole.of(detail).model_dump_json()


def printed(show: Callable[[Console], None]) -> str:
    text = io.StringIO()
    show(Console(file=text, width=400))
    return text.getvalue()


async def previewed(w: Rig) -> str:
    found = await Window(w.controller).plan("alice")
    assert found is not None
    return printed(lambda console: show_plan(console, Planned(found)))


async def examined(w: Rig) -> str:
    """`testerctl doctor`, while everybody repeats everything."""
    assert w.controller.engine.world is not None
    fleet = w.controller.engine.world.fleet
    secrets = await w.controller.engine.references.resolve(fleet.spec.secrets())
    found = await examine(fleet, secrets, w.clock, w.options())
    return printed(lambda console: console.print(doctor.listing(found))) + repr(found)


def leaks(secrets: dict[str, bytes], texts: dict[str, bytes]) -> list[tuple[str, str]]:
    return [(name, where) for (name, value), (where, text) in product(secrets.items(), texts.items()) if value in text]


async def put_right(w: Rig, faults: Iterable[object]) -> None:
    """An admin edits her file whenever a while has gone by: what is refused is tried again when the spec changes."""
    for turn in range(40):
        if all(getattr(one, "times") == 0 for one in faults):  # noqa: B009
            return
        w.edit("alice", allowlist=["bob"] if turn % 2 else ["sara"])
        await w.run_for(timedelta(minutes=10))


@pytest.mark.on_a_file  # its bytes are searched, too
@in_virtual_time
async def test_nothing_is_told_though_everybody_repeats_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    writes = [echo(*one) for one in WRITES]
    async with world(tmp_path, {"alice": ALICE}, faults=writes, fleet=WITH_ENGINES) as w:
        sealed, faults = Sealed(w), list(w.world.faults.rows)
        await put_right(w, [one for one in faults if "DELETE" not in one.method and "delete" not in one.method])
        await w.ready("alice")
        w.edit("alice", identity={"passwordReset": 1})
        texts = {"plan": await previewed(w)}
        w.world.drift.add_fault(**echo("*", "*", '"secret"', 403, None))
        await w.run_for(timedelta(minutes=2))
        w.world.drift.set_reachable(w.vm("alice"), False)
        failing = await answers(w)
        w.world.drift.set_reachable(w.vm("alice"), True)
        assert f"cannot take token {HIDDEN}" in failing["GET /alice/plan"]
        assert {failing[f"GET {path}"][:3] for path in ("/alice/logs/hero_books", "/nobody/logs")} == {"502", "404"}
        texts |= {f"{name}, while all fail": text for name, text in failing.items()}
        texts["doctor"] = await examined(w)
        await w.run_for(timedelta(minutes=30))
        w.world.faults.rows.pop()
        await w.ready("alice")
        texts |= await answers(w)
        letter = w.world.drift.mail("alice@example.org")["text"]
        w.remove("alice")
        await w.gone("alice", within=timedelta(days=3))
        told = "\n".join(repr(one) for one in (*await w.events(), *await w.store.journal(limit=10_000)))
        texts |= {"told": told, "trace": await w.trace(), "log": caplog.text}
        assert [one for one in faults if one.times] == [], "each was met"
    for system in ("Forge", "compute compute1", "mail"):
        assert f"{system}: " in told
        assert any(f"{system}: " in line and HIDDEN in line for line in told.splitlines()), system
    assert HIDDEN in texts["doctor"]
    assert letter
    files = {path.name: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}
    assert "controller.db" in files
    password = {name: value for name, value in sealed.values.items() if name.startswith("alice/")}
    assert {name.split()[0] for name in password} >= {"alice/one_time_password", "alice/oauth_client_secret"}
    secrets = {**given(w), **password}
    assert all(len(value) >= 8 for value in secrets.values())
    assert leaks(secrets, {**files, **{name: text.encode() for name, text in texts.items()}}) == []
