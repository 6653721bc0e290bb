"""The dashboard in a real browser: it follows, filters, fits a phone, works by keyboard and without any script."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, expect

from controller.records import Phase
from tests.browser.conftest import Complaints, serious
from tests.browser.people import DOOR, SHA, USUAL, Person
from tests.browser.stage import Stage, dead_forge, fleet_trouble, revisions, staged

pytestmark = pytest.mark.long

PAGES = (
    "/",
    "/testers/dora",
    "/testers/hanna?log=hero_indexer",
    "/testers/fatima",
    "/testers/olga",
    "/testers/milan",
    "/testers/kofi",
    "/events",
    "/components",
    "/revisions",
    f"/revisions/{SHA}",
    "/nodes",
    "/help/specs",
    "/help/forge",
    "/testers/nobody",
)
DORA = next(one for one in USUAL if one.name == "dora")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path, *USUAL, DOOR) as served:
        await served.store.write(*fleet_trouble(served.store.clock.now()))
        yield served


async def test_the_list_follows_a_tester_without_a_reload(tmp_path: Path, page: Page, complaints: Complaints) -> None:
    emil = next(one for one in USUAL if one.name == "emil")
    async with staged(tmp_path, emil) as stage:
        await page.goto(stage.url)
        await page.evaluate("window.mark = 'the same page'")
        row = page.locator("tbody tr")
        await expect(row).to_contain_text("Progressing")
        await expect(page.locator("#live")).to_contain_text("Live")
        await stage.show(replace(DORA, name="emil"))
        await expect(row).to_contain_text("Waiting")
        await expect(row).to_contain_text("83%")
        await stage.show(Person("emil", age=timedelta(minutes=5)))
        await expect(row).to_contain_text("Ready")
        await expect(row.get_by_role("link", name="Open")).to_have_attribute("href", re.compile("^https://emil"))
        await expect(page.locator("#counts")).to_contain_text("Ready")
        assert await page.evaluate("window.mark") == "the same page"
    assert complaints.of_pages() == []


async def test_what_changes_before_the_stream_is_there_is_not_missed(tmp_path: Path, page: Page) -> None:
    async with staged(tmp_path, DORA) as stage:

        async def late(route: Route) -> None:
            await stage.show(Person("dora", age=timedelta(minutes=6)))
            await route.continue_()

        await page.route("**/api/v1/stream?*", late)
        await page.goto(stage.url)
        await expect(page.locator("tbody tr")).to_contain_text("Ready")


async def test_who_comes_appears_and_who_goes_disappears(tmp_path: Path, page: Page) -> None:
    async with staged(tmp_path) as stage:
        await page.goto(stage.url)
        await expect(page.get_by_text("Nobody is here yet")).to_be_visible()
        await expect(page.locator("#live")).to_contain_text("Live")
        await stage.show(Person("alice"))
        await expect(page.get_by_role("link", name="alice", exact=True)).to_be_visible()


async def test_a_testers_page_follows_its_steps_and_its_log(tmp_path: Path, page: Page, complaints: Complaints) -> None:
    async with staged(tmp_path, DORA) as stage:
        await page.goto(f"{stage.url}/testers/dora")
        log = page.locator("pre.log")
        await expect(log).to_contain_text("unpacking part")
        await expect(page.locator(".graph .step.running")).to_contain_text("components")
        await expect(log).to_contain_text("unpacking part 20 of 40")
        await stage.show(Person("dora", age=timedelta(minutes=6)))
        await expect(page.locator(".graph .step.running")).to_have_count(0)
        await expect(page.locator("h1")).to_contain_text("Ready")
        await expect(page.locator("#timeline")).to_contain_text("ready after")
    assert complaints.of_pages() == []


async def test_what_somebody_does_survives_what_comes_in(tmp_path: Path, page: Page) -> None:
    """Focus, what was typed, and what was opened."""
    async with staged(tmp_path, DORA, Person("alice")) as stage:
        await page.goto(f"{stage.url}/testers/dora")
        await page.get_by_text("Writes, newest first").click()
        await expect(page.locator("#outside details[open]")).to_have_count(1)
        await stage.show(Person("dora", age=timedelta(minutes=6)))
        await expect(page.locator("h1")).to_contain_text("Ready")
        await expect(page.locator("#outside")).to_contain_text("welcome dora")
        await expect(page.locator("#outside details[open]")).to_have_count(1)

        await page.goto(stage.url)
        await expect(page.locator("#live")).to_contain_text("Live")
        await page.locator("#q").fill("al")
        link = page.get_by_role("link", name="alice", exact=True)
        await link.focus()
        await stage.show(replace(DORA, phase=Phase.PROGRESSING), Person("alice"))
        await expect(page.locator("tbody")).to_contain_text("Progressing")
        await expect(link).to_be_focused()
        await expect(page.locator("#q")).to_have_value("al")


async def test_filter_by_text_state_and_node(stage: Stage, page: Page, complaints: Complaints) -> None:
    await page.goto(stage.url)
    rows = page.locator("table.testers tbody tr")
    await expect(rows).to_have_count(15)
    await page.locator("#q").fill("hero_indexer")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("hanna")
    await page.goto(stage.url)
    await page.locator("#state").select_option("Stalled")
    await expect(rows).to_have_count(1)
    await expect(rows).to_contain_text("fatima")
    await page.goto(stage.url)
    await page.locator("#counts").get_by_role("link", name="Ready").click()
    await expect(rows).to_have_count(8)
    await page.locator("#node").select_option("gent/0002")
    await expect(rows).to_have_count(3)
    await page.get_by_role("link", name="Changed").click()
    await expect(page.locator("th[aria-sort=ascending]")).to_contain_text("Changed")
    await expect(rows.first).to_contain_text("lea")
    assert complaints.of_pages() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_page_has_a_serious_issue_or_complains(
    stage: Stage, browser: Browser, complaints: Complaints, scheme: str
) -> None:
    context = await browser.new_context(
        viewport={"width": 1280, "height": 900},
        reduced_motion="reduce",
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = await context.new_page()
    complaints.listen(page)
    for path in PAGES:
        await page.goto(stage.url + path)
        if await page.locator("[data-late]").count():
            await expect(page.locator("#log").locator("pre, .banner, .tabs").first).to_be_visible()
        assert await serious(page) == [], path
    await context.close()
    assert complaints.of_pages() == []


async def test_pages_that_help_have_no_serious_issue_either(tmp_path: Path, page: Page) -> None:
    now_broken = ("nora.yaml:9:14 spec.machine.memory: 8 GB is no size",)
    async with staged(tmp_path / "a", *dead_forge()) as stage:
        await page.goto(f"{stage.url}/help/forge")
        await expect(page.locator("main")).to_contain_text("What goes on without it")
        assert await serious(page) == []
        await stage.store.write(*revisions(stage.store.clock.now(), now_broken))
        await page.goto(f"{stage.url}/help/specs")
        await expect(page.locator("main")).to_contain_text("line 9, column 14")
        assert await serious(page) == []
    async with staged(tmp_path / "b") as stage:
        await page.goto(stage.url)
        await expect(page.locator("main")).to_contain_text("kind: Tester")
        assert await serious(page) == []


@pytest.mark.parametrize("width", [390, 320])
async def test_a_phone_shows_every_page_without_scrolling_sideways(stage: Stage, browser: Browser, width: int) -> None:
    context = await browser.new_context(viewport={"width": width, "height": 800}, has_touch=True, is_mobile=True)
    page = await context.new_page()
    for path in PAGES:
        await page.goto(stage.url + path)
        wider = await page.evaluate(
            "[document.documentElement, ...document.querySelectorAll('.bar-head')].map(it => it.scrollWidth - it.clientWidth)"
        )
        assert max(wider) <= 0, (path, wider)
    await page.goto(stage.url)
    await expect(page.get_by_role("link", name="dora", exact=True).first).to_be_visible()
    assert await serious(page) == []
    await context.close()


async def test_everything_is_reached_by_keyboard(stage: Stage, page: Page) -> None:
    await page.goto(stage.url)
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    await page.goto(f"{stage.url}/testers/hanna?log=hero_indexer")
    reached: set[str] = set()
    for _ in range(60):
        await page.keyboard.press("Tab")
        reached.add(
            await page.evaluate("document.activeElement.className || document.activeElement.textContent.trim()")
        )
    assert {"scroll", "log", "skip"} <= reached  # what scrolls can be scrolled, too
    assert {"Fleet", "Events"} <= reached


async def tab_to(page: Page, name: str) -> None:
    """Press Tab until the element of this name has the focus; wherever the focus is on the way, it can be seen."""
    for _ in range(150):
        await page.keyboard.press("Tab")
        here = await page.evaluate(
            """() => {
              const one = document.activeElement;
              const label = one.labels && one.labels[0] ? one.labels[0].textContent : one.textContent;
              return [label.trim(), getComputedStyle(one).outlineStyle, one.tagName];
            }"""
        )
        assert here[1] != "none" or here[2] == "BODY", f"nobody sees that {here[0]!r} has the focus"
        if here[0].startswith(name):
            return
    raise AssertionError(f"Tab never came to {name!r}")


async def test_a_walk_with_tab_and_enter_alone(stage: Stage, page: Page) -> None:
    rows = page.locator("table.testers tbody tr")
    await page.goto(stage.url)
    await tab_to(page, "dora")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/testers/dora")
    await tab_to(page, "Log of hero_slides")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**log=hero_slides#log")
    await expect(page.locator(".tabs [aria-current]")).to_contain_text("hero_slides")
    await tab_to(page, "Writes, newest first")
    await page.keyboard.press("Enter")
    await expect(page.locator("#outside details[open]")).to_have_count(1)

    await page.goto(stage.url)
    await tab_to(page, "Changed")
    await page.keyboard.press("Enter")
    await expect(page.locator("th[aria-sort]")).to_contain_text("Changed")
    await tab_to(page, "State")
    await page.keyboard.press("S")  # Stalled; another letter might come when the list has forgotten this one
    await page.wait_for_url("**state=Stalled**")
    await expect(rows).to_have_count(1)
    await tab_to(page, "Find testers")
    await page.keyboard.type("nobody like that")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("No tester is like that")).to_be_visible()
    await tab_to(page, "Show all")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(15)


async def test_every_page_works_without_a_script_by_reload(tmp_path: Path, browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    async with staged(tmp_path, DORA) as stage:
        for path in ("/", "/nodes", "/components", "/revisions", "/events", "/help/specs", "/help/forge"):
            answer = await page.goto(stage.url + path)
            assert answer is not None
            assert answer.status == 200
            await expect(page.locator("h1")).to_be_visible()
            await expect(page.locator("#live")).to_contain_text("As of")  # nobody claims to be live
        await page.goto(f"{stage.url}/testers/dora")
        await expect(page.locator("h1")).to_contain_text("Waiting")
        await stage.show(Person("dora", age=timedelta(minutes=6)))
        await page.reload()
        await expect(page.locator("h1")).to_contain_text("Ready")
        await page.goto(f"{stage.url}/components")
        await page.locator("details.version summary").first.click()
        await expect(page.locator("details[open]").get_by_role("link", name="dora")).to_be_visible()
    await context.close()


async def test_it_works_without_a_script(stage: Stage, browser: Browser) -> None:
    context = await browser.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(stage.url)
    await expect(page.locator("table.testers tbody tr")).to_have_count(15)
    await page.locator("#q").fill("dora")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator("table.testers tbody tr")).to_have_count(1)
    await page.get_by_role("link", name="dora").first.click()
    await expect(page.locator(".graph")).to_be_visible()
    await page.get_by_role("link", name="Ask the machine").click()
    await expect(page.locator("pre.log")).to_be_visible()
    assert await page.locator("noscript meta[http-equiv=refresh]").count() == 1
    await context.close()


async def test_it_goes_on_by_reading_where_there_is_no_stream(tmp_path: Path, page: Page) -> None:
    async with staged(tmp_path, DORA) as stage:
        await page.route("**/api/v1/stream?*", lambda route: route.fulfill(status=503, body=""))
        await page.goto(stage.url)
        await expect(page.locator("#live")).to_contain_text("Read every 5 s")
        await stage.show(Person("dora", age=timedelta(minutes=6)))
        await expect(page.locator("tbody tr")).to_contain_text("Ready")
