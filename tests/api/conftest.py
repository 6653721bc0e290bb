"""Books with a bit of everything in them, and the windows upon them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from api.cli import run_with
from api.server import make_app
from api.window import Window
from controller.places import Places, opened_store
from controller.records import (
    AddEvent,
    Condition,
    Event,
    JournalEntry,
    Outcome,
    Phase,
    PutCondition,
    PutFacts,
    PutJournal,
    PutObject,
    PutSource,
    PutTester,
    Seal,
    Severity,
    SourceState,
    Status,
)
from controller.running import Controller
from controller.store import Store
from reconcilers.facts import GatewayFacts, MachineFacts, ObjectState, OutsideObject
from reconcilers.secret import Secret
from tests.controller.fakes import START, ManualClock, a_tester, record_of

CANARY = "canary-4f1c-never-to-be-seen"
FQDN = "alicex7k2p9.gent.example.org"
LINK = f"https://{FQDN}/hero_cockpit/web/"
HOSTILE = '<script>alert("x")</script> \x1b[2J\u202e'


async def fill(store: Store) -> None:
    """alice is ready, bob stalls with hostile texts; both have secrets sealed."""
    ready = {"phase": Phase.READY, "progress": 100, "observed_generation": 1}
    bad = {"phase": Phase.STALLED, "progress": 30, "current": HOSTILE, "source_error": f"bob.yaml:3:1 {HOSTILE}"}
    machine = MachineFacts(daemon="gent", vm_id="0007", vm_name="alice_x7k2p9_1_1", node_sid="0001", address="400::7")
    gateway = GatewayFacts(daemon="gent", gateway_id="1", gateway_name="alicex7k2p9", fqdn=FQDN)
    at = START - timedelta(minutes=5)
    await store.write(
        PutTester(record_of(a_tester("alice"), **ready)),
        PutTester(record_of(a_tester("bob"), uid="y7k2p9", **bad)),
        PutFacts("alice", machine, "", at),
        PutFacts("alice", gateway, "", at),
        PutObject(
            OutsideObject("alice", "machine", 1, 1, "alice_x7k2p9_1_1", ObjectState.EXISTING, {"vm_id": "0007"}, at)
        ),
        PutCondition(Condition("alice", "Ready", Status.TRUE, "Ready", "everything is as the spec says", 1, at)),
        PutCondition(Condition("bob", "Ready", Status.FALSE, "NoCapacity", HOSTILE, 1, at)),
        PutCondition(Condition("bob", "Machine", Status.FALSE, "NoCapacity", HOSTILE, 1, at, blames="an admin")),
        PutJournal(JournalEntry("j1", "alice", "machine", "create", "machine alice", at, Outcome.DONE, at)),
        AddEvent(Event("alice", "machine", "MachineCreated", "create machine alice", at)),
        AddEvent(Event("bob", "machine", "NoCapacity", HOSTILE, at, Severity.WARNING)),
        AddEvent(Event("", "source", "SpecBroken", f"bob.yaml:3:1 {HOSTILE}", at, Severity.WARNING)),
        PutSource(SourceState("folder fleet", "r1", at, True, ("bob.yaml:3:1 bad",))),
        Seal("alice/one_time_password", Secret(CANARY), at),
        Seal("shared/openrouter", Secret(CANARY), at),
    )


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def controller(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Controller]:
    """A controller over filled books that does not run: no Fleet has been read yet."""
    where = Places(tmp_path / "fleet", tmp_path / "state")
    async with opened_store(where, clock) as store:
        await fill(store)
        yield Controller(where, store, clock)


@pytest.fixture
async def browser(controller: Controller) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody on the same machine."""
    async with asking(controller) as client:
        yield client


@asynccontextmanager
async def asking(controller: Controller, host: str = "127.0.0.1:8484") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make_app(Window(controller)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
        yield client


class Terminal:
    """`testerctl` as a person types it: the exit code, what it printed, what it complained."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = ""
        self.err = ""

    def __call__(self, *arguments: object) -> int:
        self._capsys.readouterr()
        code = run_with([str(one) for one in arguments])
        self.out, self.err = self._capsys.readouterr()
        return code


@pytest.fixture
def testerctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Terminal:
    """In an empty folder, 80 columns wide, without any of our variables."""
    ours = ("FLEET", "STATE", "SECRETS", "GIT", "PUBLIC_URL")
    for name in ("DATABASE_URL", "TESTER_SEALING_KEY", *(f"TESTERCTL_{word}" for word in ours)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return Terminal(capsys)
