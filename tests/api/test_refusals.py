"""HEAD is GET without its body; and who is refused is told so in a form that helps: a page for people, a problem for programs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from html import unescape

import httpx
import pytest

from controller.running import Controller
from controller.store import StoreError
from tests.api.access_rig import BASE, PAGE, Rig, windows
from tests.controller.fakes import ManualClock

ADDRESSES = (
    "/",
    "/testers/alice",
    "/nodes",
    "/help/specs",
    "/static/style.css",
    "/api/v1/fleet",
    "/api/v1/testers",
    "/api/v1/testers/alice",
    "/api/v1/revisions",
    "/api/v1/nodes",
    "/metrics",
    "/healthz",
    "/openapi.json",
    "/testers/nobody",
    "/api/v1/testers/nobody",
    "/nowhere",
)


@pytest.fixture
async def rig(controller: Controller, clock: ManualClock) -> AsyncIterator[Rig]:
    async with windows(controller, clock) as made:
        yield made


async def test_head_is_get_without_its_body(browser: httpx.AsyncClient) -> None:
    for path in ADDRESSES:
        whole, head = await browser.get(path), await browser.head(path)
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        assert head.headers == whole.headers, path


async def test_head_of_what_never_ends_does(browser: httpx.AsyncClient, controller: Controller) -> None:
    """And its place among those that follow is free again."""
    app = browser._transport.app  # type: ignore[attr-defined]
    async with asyncio.timeout(30):
        head = await browser.head("/api/v1/stream")
    assert not app.state.streams
    assert head.headers["content-type"].startswith("text/event-stream")


async def test_head_tells_nobody_more_than_get(rig: Rig) -> None:
    assert (await rig.browser.head("/api/v1/fleet")).status_code == 401
    assert (await rig.browser.head("/", headers=PAGE)).status_code == 401


REFUSALS = {
    400: ("GET", "/?token=x", {}),
    403: ("POST", "/sign-out", {"Sec-Fetch-Site": "cross-site"}),
    404: ("GET", "/nowhere", {}),
    405: ("POST", "/events", {}),
    413: ("GET", "/", {"Content-Length": "99999999"}),
    414: ("GET", "/" + "a" * 9000, {}),
    421: ("GET", "/", {"Host": "evil.example"}),
    422: ("GET", "/sign-in?next=" + "a" * 4001, {}),
}


async def test_who_is_refused_gets_what_they_can_read(rig: Rig) -> None:
    await rig.signed_in()
    for status, (method, path, headers) in REFUSALS.items():
        page = await rig.browser.request(method, path, headers={**PAGE, **headers})
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert "<h1>" in page.text
        way = f"{BASE}/" if status == 421 else "/"
        assert f'href="{way}">To the fleet' in page.text, status
        problem = await rig.browser.request(method, path, headers=headers)
        assert (problem.status_code, problem.headers["content-type"]) == (status, "application/problem+json")
        assert problem.json()["detail"][1:] in unescape(page.text), status


async def test_programs_are_told_as_programs_whatever_they_take(browser: httpx.AsyncClient) -> None:
    for path in ("/api/v1/nowhere", "/api/v1/testers/nobody", "/api/v1/fleet?token=x"):
        assert (await browser.get(path, headers=PAGE)).headers["content-type"] == "application/problem+json", path


async def test_a_store_that_cannot_be_read_has_a_page_before_anybody_is_let_in(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.signed_in()

    async def unreadable() -> None:
        raise StoreError("no")

    monkeypatch.setattr(rig.access.admission, "fleet", unreadable)
    answer = await rig.browser.get("/", headers=PAGE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "Not just now" in answer.text


async def test_no_address_leads_on_to_another_by_its_slash(browser: httpx.AsyncClient) -> None:
    """It would lead to the host that was asked for, and in clear."""
    for path in ("/api/v1/testers/", "/events/", "/testers/alice/"):
        assert (await browser.get(path)).status_code == 404, path


MISSPELT = {
    "events?sevrity=Warning": "sevrity; there are before, limit, reason, severity, step, tester",
    "fleet?x=1": "x; there are none",
    "testers/alice?field=name": "field; there are fields, plan",
    "testers/alice/events?sort=name": "sort",
    "revisions?cursor=x": "cursor",
    "testers?phse=Ready": "phse",
}


async def test_what_is_misspelt_is_not_passed_over(browser: httpx.AsyncClient) -> None:
    for address, words in MISSPELT.items():
        answer = await browser.get(f"/api/v1/{address}")
        assert (answer.status_code, words in answer.json()["detail"]) == (422, True), address
