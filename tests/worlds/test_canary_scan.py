"""The search for secrets is not blind: whatever leaks, wherever, however it is written, is found; and nothing else."""

from __future__ import annotations

import json
import logging
import random
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha256
from html import escape
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from controller.records import AddEvent, Event, JournalEntry, PutJournal
from reconcilers.errors import Transient
from tests.worlds import canary_windows as windows
from tests.worlds.canaries import IN_CLEAR, Canaries, asked_at, canaries
from tests.worlds.canary_scan import leaks
from tests.worlds.living import Outcome, live
from tests.worlds.loop import in_virtual_time
from tests.worlds.mishaps import Mishap
from tests.worlds.rig import Rig, world
from tests.worlds.story import Story

PASSWORD = b"o8kb!BkOMl_6UL-krA.6p+4="
TEXT = PASSWORD.decode()
PRIVATE = b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\nQyNTUxOQAAACDt3Nt0vUqz\n-----END\n"


@pytest.mark.parametrize(
    "written",
    [
        TEXT,
        repr(PASSWORD),
        json.dumps({"password": TEXT}),
        json.dumps(TEXT).replace("+", "\\u002b").replace("=", "\\u003d").replace("!", "\\u0021"),
        escape(f'<b title="{TEXT}">'),
        "".join(one if one.isalnum() else f"&#{ord(one)};" for one in TEXT),
        quote(TEXT, safe=""),
        quote_plus(TEXT),
        f"https://a.test/?next=%2F&p={quote(TEXT)}",
        PASSWORD.hex(),
        *(b64encode(before + PASSWORD + b"x").decode() for before in (b"", b"a", b"ab")),
        urlsafe_b64encode(b"client:" + PASSWORD).decode(),
        f"the first half, {TEXT[:12]}…",
        f"{TEXT[12:]}: the last half",
        "x" * 700 + TEXT + "x" * 700,
    ],
)
def test_however_it_is_written_it_is_found(written: str) -> None:
    places = {"here": f"said: {written} twice".encode(), "there": b"nothing at all, " * 40}
    assert leaks({"password": PASSWORD, "another": b"gto_0123456789abcdef"}, places) == ["password in here"]


def test_of_a_private_key_each_line_counts_and_of_a_database_every_byte() -> None:
    page = b"\0" * 3000 + b"ACDt3Nt0vUqz" + b"\0" * 1000
    assert leaks({"key": PRIVATE}, {"db": page, "log": b"OPENSSH PRIVATE, b3BlbnNza"}) == ["key in db"]


# -- in each place, in a world


async def log(rig: Rig, secret: str) -> None:
    logging.getLogger("controller").debug("told %s", secret)


async def httpx_log(rig: Rig, secret: str) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET https://forge.test/?token=%s", secret)


async def logged_traceback(rig: Rig, secret: str) -> None:
    try:
        raise ValueError(secret)
    except ValueError:
        logging.getLogger("api").exception("it failed")


async def error(rig: Rig, secret: str) -> None:
    Transient(f"refused: {secret}", system="Forge")


async def cause(rig: Rig, secret: str) -> None:
    try:
        try:
            raise ValueError(secret)
        except ValueError as inner:
            raise Transient("refused", system="Forge") from inner
    except Transient:
        pass


async def event(rig: Rig, secret: str) -> None:
    await rig.store.write(AddEvent(Event("alice", "machine", "Failed", f"with {secret}", rig.clock.now())))


async def journal(rig: Rig, secret: str) -> None:
    now = rig.clock.now()
    entry = JournalEntry("1", "alice", "machine", "create", "vm", now, detail=f"--key {secret}")
    await rig.store.write(PutJournal(entry))


async def file(rig: Rig, secret: str) -> None:
    (rig.places.state / "notes.txt").write_text(secret)


Plant = Callable[[Rig, str], Awaitable[None]]
PLANTED: dict[Plant, set[str]] = {
    log: {"log"},
    httpx_log: {"log"},
    logged_traceback: {"log"},
    error: {"errors", "tracebacks"},
    cause: {"tracebacks"},
    event: {"commits", "trace", "controller.db-wal", "GET /api/v1/testers/alice", "GET /api/v1/events"},
    journal: {"commits", "trace", "controller.db-wal", "GET /api/v1/testers/alice"},
    file: {"notes.txt"},
}


@pytest.mark.on_a_file
@in_virtual_time
async def test_wherever_it_leaks_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "paths", lambda *_, **__: ["/api/v1/testers/alice", "/api/v1/events", "/"])
    monkeypatch.setattr(windows, "WORDS", 0)
    async with world(tmp_path, ["alice"]) as w, canaries(w, 2) as seen:
        await w.run_for(timedelta(seconds=5))
        await seen.ask()
        assert seen.leaks(await w.trace()) == []
        for plant in PLANTED:
            secret = sha256(plant.__name__.encode()).hexdigest()[:32]
            seen.held.add(plant.__name__, secret)
            await plant(w, secret)
        await seen.ask()
        found = [one.rpartition(") in ")[::2] for one in seen.leaks(await w.trace())]
    for plant, places in PLANTED.items():
        assert {where for what, where in found if what.startswith(f"{plant.__name__} (")} == places, plant.__name__


@in_virtual_time
async def test_everything_that_opens_something_is_known_as_soon_as_it_is_there(tmp_path: Path) -> None:
    openrouter = {"keys": {"providers": {"openrouter": "default"}}}
    async with world(tmp_path, {"alice": openrouter}) as w, canaries(w, 1) as seen:
        await w.ready("alice")
        (app,) = w.world.state.forge.apps
        machine = w.world.machine_named(w.vm("alice")).state
        held = set(seen.held.values.values())
    at = w.addresses
    password = next(value for name, value in seen.held.values.items() if "one_time_password" in name)
    assert password.decode() in w.world.drift.mail("alice@example.org")["text"]
    cockpit = machine.secrets["cockpit"]
    keys = [
        cockpit[key] for key in ("OPENROUTER_API_KEY", "GROQ_API_KEY", "SHARED_EMBEDDER_TOKEN", "SHARED_VOICE_TOKEN")
    ]
    clear = [at.forge_token, at.compute[0].secret, at.resend_key, app.client_secret, machine.host_key, IN_CLEAR]
    clear += [Path(at.installer_key_file).read_text()]
    assert held >= {*keys, *(each.encode() for each in clear)}
    assert not any(value in (b"hero", b"1", b"alice,mik,sara") for value in held)


def test_every_window_is_asked_in_some_world() -> None:
    asked = {path for seed in range(200) for path in windows.paths(["alice"], random.Random(seed))}
    assert asked == {*windows.OF_THE_FLEET, *(path.format("alice") for path in (windows.OF_EACH, *windows.OF_ONE))}


def test_the_windows_are_asked_while_everything_echoes() -> None:
    minutes = [timedelta(minutes=number) for number in range(9)]
    slow, echoes = Mishap(minutes[1], minutes[3], "slow"), Mishap(minutes[4], minutes[8], "server_echoes")
    assert (asked_at(2, [slow, echoes]), asked_at(3, [slow, echoes])) == ([minutes[6]], [minutes[2]])
    assert (asked_at(2, [slow]), asked_at(3, [])) == ([], [])


def test_a_world_that_leaks_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Canaries, "leaks", lambda self, trace: ["a token in log"] if "deploy_vm" in trace else [])
    outcome: Outcome = live(tmp_path, Story(2, 1, timedelta(hours=1), 0, {"engines": []}, ()))
    assert outcome.failure is not None
    assert (outcome.failure.kind, outcome.failure.text) == ("leak", "a token in log")
