"""The system's Chromium, and pages of it that complain about anything that goes wrong in them."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect

Needs = Callable[[str], str]
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage")


def chromium() -> str | None:
    """Where it is; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


expect.set_options(timeout=90_000)  # milliseconds: a whole life may have to pass on a machine that is busy


@dataclass
class Complaints:
    """What a browser said about pages: errors of scripts, of the policy, of what could not be loaded."""

    said: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        page.on("console", self._printed)
        page.on("pageerror", lambda error: self.said.append(str(error)))

    def of_pages(self) -> list[str]:
        """Without the plain fact that a page, or what ended with the server, was not there."""
        return [each for each in self.said if not each.startswith("Failed to load resource")]

    def _printed(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"{message.text} ({message.location.get('url', '')})")


async def serious(page: Page) -> list[str]:
    """What axe finds, worse than moderate or not."""
    found = await Axe().run(page)
    return [
        f"{each['id']} ({each['impact']}): {node['html'][:120]} {node['failureSummary'][:200]}"
        for each in found.response["violations"]
        for node in each["nodes"][:2]
    ]


@pytest.fixture
async def browser(needs: Needs) -> AsyncIterator[Browser]:
    path = needs("chromium")
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield opened
        await opened.close()


@pytest.fixture
async def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
async def page(browser: Browser, complaints: Complaints) -> AsyncIterator[Page]:
    """A window of a laptop's size."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    opened = await context.new_page()
    complaints.listen(opened)
    yield opened
    await context.close()
