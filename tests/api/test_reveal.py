"""`testerctl reveal`: shown to whom it may be shown, written down, and nowhere else."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from api.commands.reveal import REVEALED, reveal
from api.complaint import Complaint
from controller.places import Places, opened_store
from controller.records import PutFacts, PutTester, Unseal
from controller.running import Controller
from reconcilers.clock import SystemClock
from reconcilers.facts import AccountFacts, StepFacts, WelcomeFacts
from tests.api.conftest import CANARY, Terminal, fill
from tests.controller.fakes import START, a_tester, record_of

MADE = AccountFacts(account="Alice-B", made_by_us=True)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    async def make() -> None:
        async with opened_store(Places(tmp_path, tmp_path / "state"), SystemClock()) as store:
            await fill(store)

    asyncio.run(make())
    return tmp_path / "state"


def test_it_is_not_shown_where_nobody_looks(testerctl: Terminal, state: Path) -> None:
    assert testerctl("reveal", "alice", "--state", state) == 1
    assert "--yes" in testerctl.err
    assert CANARY not in testerctl.out + testerctl.err
    testerctl("events", "alice", "--state", state)
    assert REVEALED not in testerctl.out, "nothing was shown, so nothing is written down"


def test_with_yes_the_password_alone_is_on_standard_output(testerctl: Terminal, state: Path) -> None:
    assert testerctl("reveal", "alice", "--yes", "--state", state) == 0
    assert testerctl.out == f"{CANARY}\n"
    assert CANARY not in testerctl.err


def test_on_a_terminal_it_needs_no_yes(testerctl: Terminal, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True, raising=False)
    assert testerctl("reveal", "alice", "--state", state) == 0
    assert CANARY in testerctl.out


async def test_every_showing_is_written_down_and_the_password_stays(
    controller: Controller, caplog: pytest.LogCaptureFixture
) -> None:
    store = controller.store
    with caplog.at_level(logging.DEBUG):
        first, password = await reveal("alice", store, controller.clock)
        again, _ = await reveal("alice", store, controller.clock)
    assert password.text() == CANARY
    assert "shown before" not in first
    assert "shown before" in again
    (event,) = [one for one in await store.events("alice") if one.reason == REVEALED]
    assert (event.step, event.count) == ("account", 2)
    assert CANARY not in event.message + first + again + caplog.text
    assert await store.sealed("alice/one_time_password") is not None


@pytest.mark.parametrize(
    ("identity", "facts", "words"),
    [
        ({"existing": True}, (), "we never had one"),
        ({}, (), "is not made yet"),
        ({}, (AccountFacts(account="Alice-B"),), "was not made by us"),
        ({}, (MADE, WelcomeFacts(state="sent")), "was mailed to alice@example.org and erased here"),
        ({}, (MADE,), "identity.passwordReset"),
    ],
)
async def test_it_says_why_there_is_none(
    controller: Controller, identity: dict[str, bool], facts: tuple[StepFacts, ...], words: str
) -> None:
    desired = a_tester("alice", identity={"email": "alice@example.org", **identity})
    told = (PutFacts("alice", one, "", START) for one in facts)
    await controller.store.write(Unseal("alice/one_time_password"), PutTester(record_of(desired)), *told)
    with pytest.raises(Complaint, match=words):
        await reveal("alice", controller.store, controller.clock)
    assert REVEALED not in {one.reason for one in await controller.store.events("alice")}


async def test_a_stranger_has_none(controller: Controller) -> None:
    with pytest.raises(Complaint, match="There is no tester nobody"):
        await reveal("nobody", controller.store, controller.clock)
