"""Signing in as a person does it: from a page to Forge and back, and out again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from playwright.async_api import BrowserContext, Page, Route, expect

from api.access.access import Access
from api.access.sign_in import SignIn
from controller.admission import Admission
from controller.records import PutFleet
from controller.running import Controller
from reconcilers.backends.opening import Options
from reconcilers.secret import Secret
from tests.api.access_rig import CLIENT, CODE, FORGE, SECRET, FakeForge
from tests.browser.conftest import Complaints, serious
from tests.browser.people import Person
from tests.browser.stage import staged
from tests.controller.fakes import FLEET, ManualClock

pytestmark = pytest.mark.long


async def signs_in_at(context: BrowserContext, forge: FakeForge) -> None:
    """Forge knows the browser already, and sends it straight back."""

    async def authorise(route: Route) -> None:
        location = route.request.url
        forge.let_in(location)
        asked = dict(parse_qsl(urlsplit(location).query))
        back = f"{asked['redirect_uri']}?{urlencode({'code': CODE, 'state': asked['state']})}"
        await route.fulfill(status=302, headers={"Location": back})

    await context.route(f"{FORGE}/**", authorise)


async def test_sign_in_leads_back_to_the_page_and_out_again(tmp_path: Path, page: Page, complaints: Complaints) -> None:
    clock, forge = ManualClock(), FakeForge()

    def access(controller: Controller, url: str) -> Access:
        admission = Admission(controller.store, clock)
        way = Options(transports={"forge": httpx.MockTransport(forge.answer)})
        return Access(admission, url, True, SignIn(admission, CLIENT, Secret(SECRET), url, way))

    await signs_in_at(page.context, forge)
    async with staged(tmp_path, Person("alice"), clock=clock, access=access) as stage:
        await stage.store.write(PutFleet(FLEET.model_dump_json(), "r1"))
        await page.goto(f"{stage.url}/testers/alice")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert await page.get_by_text("alice").count() == 0
        assert await serious(page) == []
        await page.get_by_role("link", name="Sign in with Forge").click()
        await page.wait_for_url(f"{stage.url}/testers/alice")
        await expect(page.locator("h1")).to_contain_text("alice")
        await expect(page.locator("#live")).to_contain_text("Live")
        await expect(page.locator(".viewer")).to_contain_text("mik")
        other = await page.context.new_page()
        await other.goto(stage.url)
        await expect(other.locator("#live")).to_contain_text("Live")
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Signed out")).to_be_visible()
        assert await serious(page) == []
        await stage.show(Person("alice", age=timedelta(days=1)))
        await expect(other.locator("#live")).to_contain_text(
            "Signed out: reload"
        )  # it does not go on as if it were live
        await page.goto(f"{stage.url}/testers/alice")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert [said for said in complaints.of_pages() if "401" not in said] == []
