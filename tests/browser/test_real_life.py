"""A browser, windows, the whole controller and a make-believe world: sign-in at its Forge, and a life followed live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from playwright.async_api import BrowserContext, Page, expect

from api.access.access import Access
from api.access.sign_in import SignIn
from api.server import bound, make_app, place, serve
from api.window import Window
from controller.admission import Admission
from examples.simulator.forge_login import SIGN_IN_HEADER
from reconcilers.clock import SystemClock
from reconcilers.secret import Secret
from tests.browser.conftest import Complaints
from tests.browser.stage import answering
from tests.e2e.rig import FEW, Fleet, fleet_of

pytestmark = pytest.mark.long

WATCH = """
() => {
  window.mark = "the same page";
  window.seen = [];
  const look = () => {
    const row = document.querySelector("table.testers tbody tr");
    const part = (name) => row.querySelector(name).textContent.trim();
    const told = row ? part(".phase") + " " + part(".progress span") : "nobody";
    if (window.seen.at(-1) !== told) window.seen.push(told);
  };
  look();
  new MutationObserver(look).observe(document.getElementById("testers"), { childList: true, subtree: true, characterData: true });
}
"""


@dataclass
class SetClock(SystemClock):
    """Ticks as ours does, from another moment on: the make-believe Forge's tokens are of its own time."""

    ahead: timedelta

    def now(self) -> datetime:
        return super().now() + self.ahead


@dataclass(frozen=True)
class Open:
    """A running fleet and the address of its windows."""

    fleet: Fleet
    url: str


@asynccontextmanager
async def windows_of(fleet: Fleet) -> AsyncIterator[Open]:
    """Served as `testerctl run` does, with an application of ours that an admin made at the world's Forge."""
    sock, real = bound(place("127.0.0.1:0"))
    controller, forge = fleet.controller, fleet.addresses.forge_url
    body = {"name": "testers", "redirect_uris": [f"{real.url}/sign-in/callback"], "confidential_client": True}
    async with httpx.AsyncClient(
        headers={"Authorization": f"token {fleet.addresses.forge_token}"}, timeout=30
    ) as admin:
        made = (await admin.post(f"{forge}/api/v1/user/applications/oauth2", json=body)).raise_for_status().json()
    there = datetime.fromtimestamp(fleet.world.clock.now(), UTC)
    admission = Admission(fleet.store, SetClock(there - controller.clock.now()))
    secret = Secret(made["client_secret"])
    access = Access(
        admission, real.url, True, SignIn(admission, made["client_id"], secret, real.url, controller.options)
    )
    stop = asyncio.Event()
    serving = asyncio.ensure_future(serve(make_app(Window(controller), access=access), sock, stop))
    try:
        await answering(serving, real)
        yield Open(fleet, real.url)
    finally:
        stop.set()
        await serving


async def is_at_forge(context: BrowserContext, account: str) -> None:
    """The browser has a session of this account there: the make-believe Forge knows it by a header, and nobody else looks at
    that one."""
    await context.set_extra_http_headers({SIGN_IN_HEADER: account})


async def test_an_admin_signs_in_at_forge_and_follows_a_life_without_a_reload(
    tmp_path: Path, page: Page, complaints: Complaints
) -> None:
    async with fleet_of(tmp_path, {}, **FEW) as fleet, windows_of(fleet) as windows:
        await fleet.taken_in()
        await is_at_forge(page.context, "mik")
        await page.goto(windows.url)
        await page.get_by_role("link", name="Sign in with Forge").click()
        await page.wait_for_url(f"{windows.url}/")
        await expect(page.locator(".viewer")).to_contain_text("mik")
        await expect(page.get_by_text("Nobody is here yet")).to_be_visible()
        await expect(page.locator("#live")).to_contain_text("Live")

        await page.evaluate(WATCH)
        fleet.write("alice")
        row = page.locator("table.testers tbody tr")
        await expect(row).to_contain_text("Ready")
        await expect(row.get_by_role("link", name="Open")).to_have_attribute(
            "href", f"https://{fleet.fqdn('alice')}/hero_cockpit/web/"
        )
        seen = await page.evaluate("window.seen")
        steps = [int(each.rpartition(" ")[2].rstrip("%")) for each in seen if each.endswith("%")]
        assert seen[0] == "nobody"
        assert seen[-1] == "Ready 100%"
        assert len(set(steps)) >= 4, seen  # the way was followed, not only its end
        assert steps == sorted(steps)

        fleet.remove("alice")
        await expect(page.get_by_text("Nobody is here yet")).to_be_visible()
        assert await page.evaluate("window.mark") == "the same page"
    assert [said for said in complaints.of_pages() if "401" not in said] == []


async def test_who_is_no_admin_sees_nothing_of_the_fleet(tmp_path: Path, page: Page) -> None:
    idle = {"alice": {"paused": {"reason": "nobody uses it yet", "by": "mik"}}}
    async with fleet_of(tmp_path, idle, **FEW) as fleet, windows_of(fleet) as windows:
        await fleet.taken_in()
        await is_at_forge(page.context, "bob")
        await page.goto(f"{windows.url}/testers/alice")
        await page.get_by_role("link", name="Sign in with Forge").click()
        await expect(page.get_by_role("heading", name="Not signed in")).to_be_visible()
        await expect(page.locator("main")).to_contain_text("bob")
        answer = await page.goto(f"{windows.url}/testers/alice")
        assert answer is not None
        assert answer.status == 401
        assert "alice@example.org" not in await page.content()
