"""Which revision a tester has and which it should have, and how old the last good fetch is, in every window."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from controller.places import Places, opened_store
from controller.records import PutRevision, PutSource, PutTester, RevisionRecord, SourceState
from controller.running import Controller
from controller.sources.fetched import note_fetched
from controller.store import Store
from reconcilers.clock import SystemClock
from tests.api.conftest import Terminal, fill
from tests.controller.fakes import START

OLD, NEW = "a" * 40, "b" * 40


async def pushed(store: Store) -> None:
    """alice is as the old revision says, and should be as the new one."""
    await fill(store)
    alice = await store.tester("alice")
    assert alice is not None
    await store.write(PutTester(replace(alice, generation=2, observed_generation=1, revision=NEW)))
    for number, sha in enumerate((OLD, NEW)):
        at = START + number * timedelta(minutes=1)
        await store.write(PutRevision(RevisionRecord(sha, "git", at, "Mik", "a change", at, changed=("alice",))))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    async def make() -> None:
        async with opened_store(Places(tmp_path, tmp_path / "state"), SystemClock()) as store:
            await pushed(store)

    asyncio.run(make())
    return tmp_path / "state"


def test_describe_tells_both(testerctl: Terminal, state: Path) -> None:
    assert testerctl("describe", "alice", "--state", state) == 0
    assert f"has {OLD[:12]}, should have {NEW[:12]}" in " ".join(testerctl.out.split())
    assert testerctl("describe", "bob", "--state", state) == 0
    assert "should have r1" in testerctl.out


def test_get_tells_the_age_of_the_last_good_fetch(testerctl: Terminal, state: Path) -> None:
    assert testerctl("get", "--state", state) == 0
    assert "last good fetch" not in testerctl.err  # a folder is not fetched
    (state / "mirror.git").mkdir()
    note_fetched(state / "mirror.git", datetime.now(UTC) - timedelta(hours=3))
    assert testerctl("get", "--state", state) == 0
    assert re.search(r"last good fetch 3 h( \d+ s)? ago", " ".join(testerctl.err.split()))


async def test_the_api_tells_both_and_the_age(controller: Controller, browser: httpx.AsyncClient) -> None:
    await pushed(controller.store)
    controller.source.good_at = START
    alice = (await browser.get("/api/v1/testers/alice")).json()["tester"]
    assert (alice["revision"], alice["hasRevision"]) == (NEW, OLD)
    fleet = (await browser.get("/api/v1/fleet")).json()
    assert fleet["source"]["goodAt"] == START.isoformat().replace("+00:00", "Z")


async def test_each_revision_has_a_page_where_its_commits_link_leads(
    controller: Controller, browser: httpx.AsyncClient
) -> None:
    await pushed(controller.store)
    many = tuple(f"tester{number}" for number in range(40))
    wrong = ("alice.yaml, line 3, column 5: <b>wrong</b>", "bob.yaml, line 1, column 1: wrong too")
    record = RevisionRecord(NEW, "git", START, "Mik", "a change", START, changed=many, errors=wrong)
    await controller.store.write(PutRevision(record))
    page = (await browser.get(f"/revisions/{NEW}")).text
    assert f"<title>Revision {NEW[:10]}" in page
    assert 'href="/testers/tester39"' in page
    assert "bob.yaml, line 1, column 1: wrong too" in page
    assert "<b>wrong</b>" not in page
    assert OLD not in page
    part = await browser.get(f"/revisions/{NEW}?part=revisions")
    assert (part.status_code, OLD in part.text, NEW in part.text) == (200, False, True)
    assert f'href="/revisions/{OLD}"' in (await browser.get("/revisions")).text
    assert (await browser.get("/revisions/unknown")).status_code == 404


async def test_pages_tell_both_and_the_age_while_the_source_cannot_be_read(
    controller: Controller, browser: httpx.AsyncClient
) -> None:
    await pushed(controller.store)
    head = (await browser.get("/testers/alice?part=head")).text
    assert NEW in head
    assert OLD in head
    controller.source.good_at = START - timedelta(hours=7)
    pages = ("/?part=revision", "/revisions?part=revisions", "/help/specs?part=specs", f"/revisions/{NEW}")
    assert ["last read well" in (await browser.get(page)).text for page in pages] == [False] * 4
    await controller.store.write(PutSource(SourceState("git x", NEW, START, False, ("gone",))))
    for page in pages:
        text = (await browser.get(page)).text
        assert re.search(r"last read well <time datetime=\"2026-11-20T05:00", text), page
