"""The page at `/`: whatever the outside says, it stays text."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from html.parser import HTMLParser

import httpx

from api.page import RENEWED_EVERY
from controller.outcomes import in_sync
from controller.records import Condition, PutCondition, Status
from controller.running import Controller
from tests.api.conftest import LINK
from tests.controller.fakes import START

ALLOWED = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "a", "br", "strong", "time", "progress"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


class Reader(HTMLParser):
    """The tags of a page, and its links with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: dict[str, dict[str, str | None]] = {}
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "a":
            found = dict(attrs)
            self.links[found.pop("href") or ""] = found


async def read(browser: httpx.AsyncClient) -> tuple[str, Reader, httpx.Headers]:
    answer = await browser.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    reader = Reader()
    reader.feed(answer.text)
    return answer.text, reader, answer.headers


async def test_foreign_text_stays_text(browser: httpx.AsyncClient) -> None:
    text, reader, _ = await read(browser)
    assert reader.tags <= ALLOWED
    assert not {name for name in reader.attributes if name.startswith("on") or name == "style"}
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


async def test_who_is_ready_has_a_link_and_nobody_else(browser: httpx.AsyncClient) -> None:
    _, reader, _ = await read(browser)
    assert "noreferrer" in (reader.links[LINK]["rel"] or "")
    assert {link for link in reader.links if link.startswith("http")} == {LINK}


async def test_the_policy_lets_in_exactly_the_style_that_is_there(browser: httpx.AsyncClient) -> None:
    text, _, headers = await read(browser)
    found = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert found is not None
    digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in headers["content-security-policy"]


async def test_it_renews_itself_and_shows_ages(browser: httpx.AsyncClient) -> None:
    text, _, _ = await read(browser)
    assert f'<meta http-equiv="refresh" content="{RENEWED_EVERY}">' in text
    assert '<time datetime="2026-11-20T11:55:00Z">5 min ago</time>' in text
    assert "bob.yaml:3:1 bad" in text


async def test_it_tells_when_everybody_was_last_seen_to_be_so(
    browser: httpx.AsyncClient, controller: Controller
) -> None:
    """Law 11: not when it changed; and nobody was seen before this controller has looked."""
    before, _, _ = await read(browser)
    assert before.count("<td>unknown</td>") == 2
    controller.engine.sightings.note("bob", [in_sync("machine")], START - timedelta(minutes=2))
    text, _, _ = await read(browser)
    assert text.count("<td>unknown</td>") == 1
    since, seen = re.findall(r"<td><time[^>]*>([^<]*)</time></td>", text.partition("<strong>bob</strong>")[2])[:2]
    assert (since, seen) == ("5 min ago", "2 min ago")


async def test_what_is_wrong_with_the_fleet_itself_is_told(browser: httpx.AsyncClient, controller: Controller) -> None:
    words = "1 in the listings bear a name of ours <b>"
    told = Condition("", "NothingOrphaned", Status.FALSE, "OrphansFound", words, 0, START)
    fine = Condition("", "SomethingElse", Status.TRUE, "AsEver", "nothing to tell", 0, START)
    await controller.store.write(PutCondition(told), PutCondition(fine))
    text, _, _ = await read(browser)
    assert '<p class="bad">1 in the listings bear a name of ours &lt;b&gt;</p>' in text
    assert "nothing to tell" not in text
    conditions = (await browser.get("/api/v1/fleet")).json()["conditions"]
    assert [(each["type"], each["status"], each["message"]) for each in conditions] == [
        ("NothingOrphaned", "False", words),
        ("SomethingElse", "True", "nothing to tell"),
    ]
