"""What stands in quarantine is told by every window, with its age and how it came about."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest

from controller.places import Places, opened_store
from controller.quarantine import IN_QUARANTINE
from controller.records import Condition, PutCondition, PutFacts, PutObject, Status
from controller.running import Controller
from controller.store import Store
from reconcilers.clock import SystemClock
from reconcilers.facts import Double, MachineFacts, ObjectState, OutsideObject
from reconcilers.quarantine import APPEARED, NEVER_SEEN, PLACED
from tests.api.conftest import HOSTILE, Terminal, asking, fill

AT = SystemClock().now()
TWIN = Double(
    id="0009", where="gent", name="alice_x7k2p9_1_1", how=f"nobody knows {HOSTILE}", seen_at=AT - timedelta(hours=3)
)
LOST = OutsideObject(
    "alice",
    "gateway",
    1,
    1,
    "alicex7k2p9",
    ObjectState.LOST,
    {
        NEVER_SEEN: "never seen",
        APPEARED: (AT - timedelta(minutes=5)).isoformat(),
        PLACED: (AT - timedelta(hours=1)).isoformat(),
        "daemon": "gent",
    },
)


async def two_in_quarantine(store: Store) -> None:
    await fill(store)
    machine = MachineFacts(
        daemon="gent", vm_id="0007", vm_name="alice_x7k2p9_1_1", node_sid="0001", address="400::7", doubles=(TWIN,)
    )
    await store.write(
        PutFacts("alice", machine, "", AT),
        PutObject(LOST),
        PutCondition(Condition("alice", "OneMachine", Status.FALSE, IN_QUARANTINE, str(TWIN), 1, AT)),
    )


@pytest.fixture
def state(tmp_path: Path) -> Path:
    async def write() -> None:
        async with opened_store(Places(tmp_path, tmp_path / "state"), SystemClock()) as store:
            await two_in_quarantine(store)

    asyncio.run(write())
    return tmp_path / "state"


def test_describe_lists_it_with_age_and_how_it_came_about(testerctl: Terminal, state: Path) -> None:
    assert testerctl("describe", "alice", "--state", state) == 0
    words = " ".join(testerctl.out.split())
    assert "Quarantine" in words
    assert "3 h" in words
    assert "→ an admin decides" in words
    assert "→ goes after the grace" in words
    assert "\x1b" not in testerctl.out
    assert testerctl("describe", "bob", "--state", state) == 0
    assert "Quarantine" not in testerctl.out


def test_as_json_it_has_every_field(testerctl: Terminal, state: Path) -> None:
    assert testerctl("describe", "alice", "--state", state, "-o", "json") == 0
    twin, lost = json.loads(testerctl.out)["quarantine"]
    assert (twin["step"], twin["id"], twin["where"], twin["ours"]) == ("machine", "0009", "gent", False)
    assert (lost["step"], lost["name"], lost["id"], lost["ours"]) == ("gateway", "alicex7k2p9", None, True)
    assert "given up as lost" in lost["how"]
    assert twin["since"] < lost["since"]


def test_a_list_says_that_there_is_something(testerctl: Terminal, state: Path) -> None:
    assert testerctl("get", "--state", state) == 0
    assert "in quarantine: alice_x7k2p9_1_1" in " ".join(testerctl.out.split())
    assert testerctl("get", "alice", "--state", state, "-o", "json") == 0
    (told,) = json.loads(testerctl.out)
    assert told["quarantine"] == [str(TWIN)]


def test_the_page_says_so_too_and_foreign_words_stay_text(state: Path) -> None:
    async def shown(path: str) -> str:
        where = Places(state, state)
        async with opened_store(where, SystemClock()) as store, asking(Controller(where, store)) as browser:
            return (await browser.get(path)).text

    for path in ("/?part=needs", "/?part=testers", "/testers/alice"):
        text = asyncio.run(shown(path))
        assert "alice_x7k2p9_1_1" in text
        assert "<script>alert" not in text
