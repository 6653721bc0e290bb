"""Pages as the server makes them: whatever the outside says stays text, every part stands alone, and trouble has a page too."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser

import httpx
import pytest

from api.pages import boards
from controller.boards.ground import Ground, GroundKeeper
from controller.passes.outcomes import in_sync
from controller.records import (
    Condition,
    Phase,
    PutCondition,
    PutFacts,
    PutRevision,
    PutSource,
    PutTester,
    RevisionRecord,
    RevisionState,
    SetStatus,
    SourceState,
    Status,
)
from controller.running import Controller
from controller.store import StoreError
from reconcilers.facts import ComponentsFacts, GatewayFacts
from tests.api.conftest import CANARY, HOSTILE, LINK
from tests.controller.fakes import START, a_tester, record_of

PAGES = (
    "/",
    "/testers/alice",
    "/testers/bob",
    "/testers/bob?log=hero_books",
    "/events",
    "/components",
    "/revisions",
    "/nodes",
    "/help/specs",
    "/help/forge",
    "/testers/nobody",
)
PARTS = {
    "/": ("revision", "needs", "counts", "capacity", "testers"),
    "/testers/alice": ("head", "steps", "timeline", "components", "log", "compare", "events", "outside"),
    "/events": ("events",),
    "/components": ("components",),
    "/revisions": ("revisions",),
    "/nodes": ("nodes",),
    "/help/specs": ("specs",),
    "/help/forge": ("forge",),
}


class Reader(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name]


async def read(browser: httpx.AsyncClient, path: str) -> tuple[str, Reader]:
    answer = await browser.get(path)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text, Reader(answer.text)


@pytest.mark.parametrize("path", PAGES)
async def test_foreign_text_stays_text_and_nothing_runs(browser: httpx.AsyncClient, path: str) -> None:
    text, page = await read(browser, path)
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert [attrs["src"] for attrs in scripts if (attrs["src"] or "").startswith("/static/")] == [scripts[0]["src"]]
    assert len(scripts) == 1
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on") or name == "style"]
    assert not [tag for tag, _ in page.tags if tag in ("style", "iframe", "object", "base", "img", "embed")]
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert CANARY not in text


async def test_hostile_words_are_shown_as_they_are(browser: httpx.AsyncClient) -> None:
    for path in ("/", "/testers/bob", "/events", "/help/specs"):
        text, _ = await read(browser, path)
        if path != "/help/specs":
            assert "&lt;script&gt;alert(" in text, path
        assert "<script>alert" not in text


async def test_a_hostile_answer_of_a_query_stays_where_it_is(browser: httpx.AsyncClient) -> None:
    for path in ("/?q=", "/?node=", "/events?tester=", "/testers/alice?log=", "/?sort=", "/?state="):
        text, page = await read(browser, path + "%22%3E%3Cscript%3Ealert(1)%3C/script%3E%0d%0aX: 1")
        assert "<script>alert" not in text
        assert sum(tag == "script" for tag, _ in page.tags) == 1


async def test_a_page_tells_from_where_the_stream_has_what_changed_since(
    browser: httpx.AsyncClient, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while it was read."""
    ground = boards.Boards.ground

    async def changed_meanwhile(sight: boards.Boards) -> Ground:
        found = await ground(sight)
        await controller.store.write(SetStatus("alice", Phase.READY, 100, "", 1, None))
        return found

    monkeypatch.setattr(boards.Boards, "ground", changed_meanwhile)
    _, page = await read(browser, "/")
    (position,) = page.attributes("data-position")
    since = browser._transport.app.state.window.news.since(position)  # type: ignore[attr-defined]
    assert [piece.topic.name for piece in since] == ["alice"]


async def test_the_policy_needs_no_exception(browser: httpx.AsyncClient) -> None:
    policy = (await browser.get("/")).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy


async def test_who_is_ready_has_a_link_and_nobody_else(browser: httpx.AsyncClient, controller: Controller) -> None:
    """An address alone is none: bob has one, and is not ready."""
    fqdn = "bobx.gent.example.org"
    gateway = GatewayFacts(daemon="gent", gateway_id="2", gateway_name="bobx", fqdn=fqdn)
    await controller.store.write(PutFacts("bob", gateway, "", START))
    for path, found in (("/", [LINK]), ("/testers/alice", [LINK]), ("/testers/bob", [])):
        _, page = await read(browser, path)
        leading_out = [attrs for tag, attrs in page.tags if tag == "a" and (attrs["href"] or "").startswith("http")]
        assert [attrs["href"] for attrs in leading_out] == found
        assert all("noreferrer" in (attrs["rel"] or "") for attrs in leading_out)


@pytest.mark.parametrize(("path", "names"), PARTS.items())
async def test_every_part_stands_alone_and_is_what_the_page_shows(
    browser: httpx.AsyncClient, path: str, names: tuple[str, ...]
) -> None:
    whole, page = await read(browser, path)
    ids = page.attributes("id")
    live = [attrs["id"] for _, attrs in page.tags if "data-on" in attrs]
    assert set(live) == set(names)
    for name in names:
        text, _ = await read(browser, f"{path}?part={name}")
        assert "<html" not in text
        assert ids.count(name) == 1
        if name != "log":  # the page does not ask a machine, the part does
            assert text.strip() in whole


async def test_a_part_that_there_is_not(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/?part=x")).status_code == 404


async def test_an_element_has_an_id_of_its_own(browser: httpx.AsyncClient) -> None:
    for path in PAGES:
        _, page = await read(browser, path)
        ids = page.attributes("id")
        assert len(ids) == len(set(ids)), path


async def test_ages_are_told_with_their_moment(browser: httpx.AsyncClient) -> None:
    text, _ = await read(browser, "/")
    assert '<time datetime="2026-11-20T11:55:00Z" title="2026-11-20T11:55:00Z">5 min ago</time>' in text
    assert '<noscript><meta http-equiv="refresh"' in text


async def test_it_tells_when_a_step_was_last_seen_to_be_so(browser: httpx.AsyncClient, controller: Controller) -> None:
    """Law 11: not when it changed; and nobody was seen before this controller has looked."""
    before, _ = await read(browser, "/testers/bob?part=timeline")
    assert "2 min ago" not in before
    controller.engine.sightings.note("bob", [in_sync("machine")], START - timedelta(minutes=2))
    text, _ = await read(browser, "/testers/bob?part=timeline")
    machine = text.partition("machine<span")[2].partition("</tr>")[0]
    assert "2 min ago" in machine


async def test_whatever_needs_a_person_says_what_to_do(browser: httpx.AsyncClient) -> None:
    needs, _ = await read(browser, "/?part=needs")
    assert needs.count('<li class="need') == needs.count('<p class="todo"><b>To do</b> <span>') == 2
    assert "No node has room" in needs
    head, _ = await read(browser, "/testers/bob?part=head")
    assert "add a node to the Fleet" in head
    ready, _ = await read(browser, "/testers/alice?part=head")
    assert "To do" not in ready


async def test_who_is_paused_says_so_although_everything_is_well(
    browser: httpx.AsyncClient, controller: Controller
) -> None:
    pause = {"reason": "demo on Friday", "by": "mik"}
    status = SetStatus("alice", Phase.PAUSED, 100, "", 1, None, START)
    await controller.store.write(PutTester(record_of(a_tester("alice", paused=pause))), status)
    for path in ("/?part=testers&q=alice", "/testers/alice?part=head"):
        text, _ = await read(browser, path)
        assert "demo on Friday" in text
        assert "mik" in text
        assert "as the spec says" not in text


async def test_the_revision_that_it_has_and_the_one_that_it_should_have(
    browser: httpx.AsyncClient, controller: Controller
) -> None:
    """Law 1: each tester shows both."""
    same, _ = await read(browser, "/testers/alice?part=head")
    assert "as it should" in same
    old, new = "a" * 40, "b" * 40
    behind = record_of(a_tester("alice"), generation=2, revision=new)
    tale = [
        RevisionRecord(sha, "folder fleet", at, "Mik", "x", at, (), ("alice",), RevisionState.PENDING, 0, 0, "", "")
        for sha, at in ((old, START - timedelta(hours=1)), (new, START))
    ]
    await controller.store.write(
        PutTester(behind), *map(PutRevision, tale), PutSource(SourceState("folder fleet", new, START, True))
    )
    text, _ = await read(browser, "/testers/alice?part=head")
    revision = text.partition("<dt>Revision</dt>")[2].partition("</div>")[0]
    assert revision.index("should be") < revision.index(new) < revision.index(old)


async def test_the_list_shows_what_runs(browser: httpx.AsyncClient, controller: Controller) -> None:
    def version(text: str) -> str:
        return re.sub(r"<[^>]+>", "", text.partition('<td class="version">')[2].partition("</td>")[0]).strip()

    assert version((await read(browser, "/?part=testers&q=alice"))[0]) == "latest"
    for versions, shown in (
        ({"hero_books": "v1"}, "v1 latest"),
        ({"hero_books": "v1", "hero_db": "v2"}, "several latest"),
    ):
        await controller.store.write(PutFacts("alice", ComponentsFacts(versions=versions), "gent/0007", START))
        assert version((await read(browser, "/?part=testers&q=alice"))[0]) == shown


async def test_trouble_has_a_page(
    browser: httpx.AsyncClient, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = await browser.get("/testers/nobody")
    assert (nobody.status_code, "There is no tester nobody" in nobody.text) == (404, True)
    assert 'href="/events?tester=nobody"' in nobody.text
    assert (await browser.get("/?p=0")).status_code == 422

    async def unreadable(self: GroundKeeper) -> None:
        raise StoreError("The store does not answer <b>.")

    monkeypatch.setattr(boards.GroundKeeper, "now", unreadable)
    answer = await browser.get("/")
    assert answer.status_code == 503
    assert "The store does not answer &lt;b&gt;." in answer.text


async def test_a_mistake_of_ours_shows_nothing_of_itself(
    browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: GroundKeeper) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(boards.GroundKeeper, "now", broken)
    answer = await browser.get("/")
    assert answer.status_code == 500
    assert CANARY not in answer.text


async def test_static_files_are_two_and_an_icon_and_no_path_leads_elsewhere(browser: httpx.AsyncClient) -> None:
    _, page = await read(browser, "/")
    style = next(each for each in page.attributes("href") if each.startswith("/static/style.css"))
    answer = await browser.get(style)
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]
    again = await browser.get(style, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    for path in ("/static/..%2fserver.py", "/static/../server.py", "/static/%2e%2e/server.py", "/static/x.css"):
        assert (await browser.get(path)).status_code == 404


# ------------------------------------------------------------------ lists


async def crowd(controller: Controller, count: int) -> None:
    rows = [record_of(a_tester(f"t{n:03d}"), uid=f"u{n:05d}", phase=Phase.READY, progress=100) for n in range(count)]
    await controller.store.write(*(PutTester(row) for row in rows))


def names(text: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="/testers/([^"]+)">', text)


async def test_a_long_list_comes_in_pages(browser: httpx.AsyncClient, controller: Controller) -> None:
    await crowd(controller, 250)
    first, _ = await read(browser, "/?part=testers")
    second, _ = await read(browser, "/?part=testers&p=2")
    assert (len(names(first)), len(names(second))) == (200, 52)
    assert names(first) + names(second) == sorted(names(first) + names(second))
    assert 'href="?p=2" rel="next"' in first
    assert "Page 2 of 2" in (await read(browser, "/?part=testers&p=99"))[0]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=ALICE", ["alice"]),
        ("q=alert", ["bob"]),
        ("state=stalled", ["bob"]),
        ("state=Ready&q=b", []),
        ("state=nonsense", ["alice", "bob"]),
        ("node=gent/0001", ["alice"]),
        ("sort=-name", ["bob", "alice"]),
        ("sort=state", ["bob", "alice"]),
        ("sort=-progress", ["alice", "bob"]),
        ("sort=nonsense", ["alice", "bob"]),
    ],
)
async def test_filter_and_sort(browser: httpx.AsyncClient, query: str, found: list[str]) -> None:
    text, _ = await read(browser, f"/?part=testers&{query}")
    assert names(text) == found


async def test_events_by_tester_by_weight_and_older(browser: httpx.AsyncClient) -> None:
    everything, _ = await read(browser, "/events?part=events")
    assert everything.count("<tr>") == 4  # the head too
    warnings, _ = await read(browser, "/events?part=events&only=warnings")
    assert "MachineCreated" not in warnings
    assert warnings.count("Warning: ") == 2
    mine, _ = await read(browser, "/events?part=events&tester=alice")
    assert "MachineCreated" in mine
    assert "NoCapacity" not in mine
    older, _ = await read(browser, "/events?part=events&before=2")
    assert "NoCapacity" not in older


# ------------------------------------------------------------------ pages that help


async def test_a_broken_spec_is_told_with_its_place(browser: httpx.AsyncClient, controller: Controller) -> None:
    errors = (f"bob.yaml:3:1 spec.x: bad {HOSTILE}", "no place at all")
    await controller.store.write(PutSource(SourceState("folder fleet", "r1", START, True, errors)))
    home, _ = await read(browser, "/?part=needs")
    assert 'href="/help/specs"' in home
    text, _ = await read(browser, "/help/specs")
    assert "<code>bob.yaml</code>" in text
    assert "line 3, column 1" in text
    assert "no place at all" in text
    assert "<script>alert" not in text


async def test_a_dead_forge_is_one_thing_however_many_wait(browser: httpx.AsyncClient, controller: Controller) -> None:
    why = "Account: Forge: no connection for GET /users"
    for name in ("carol", "dave"):
        await controller.store.write(
            PutTester(record_of(a_tester(name), uid=f"u{name}", phase=Phase.FAILING)),
            PutCondition(Condition(name, "Ready", Status.FALSE, "Unreachable", why, 1, START)),
        )
    needs, _ = await read(browser, "/?part=needs")
    assert needs.count("Forge does not answer as it should") == 1
    text, _ = await read(browser, "/help/forge")
    assert "2 of 4" in text
    assert "no connection for GET /users" in text
    for name in ("carol", "dave"):
        assert f'href="/testers/{name}"' in text


async def test_an_empty_fleet_says_how_to_begin(browser: httpx.AsyncClient, controller: Controller) -> None:
    from dataclasses import replace

    from controller.records import DropTester

    for record in await controller.store.testers():
        await controller.store.write(PutTester(replace(record, removed_at=START)), DropTester(record.name))
    text, _ = await read(browser, "/")
    assert "Nobody is here yet" in text
    assert "kind: Tester" in text
