"""`make screenshots`: every page, light and dark, and some as a phone shows them, into docs/screens."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from playwright.async_api import Browser, Page, async_playwright

from reconcilers.clock import SystemClock
from tests.browser.conftest import ARGUMENTS, chromium
from tests.browser.people import DOOR, USUAL
from tests.browser.small import smaller
from tests.browser.stage import Stage, dead_forge, fleet_trouble, revisions, staged, with_sign_in

FOLDER: Final = Path(__file__).parents[2] / "docs" / "screens"
LAPTOP, PHONE = (1280, 860), (390, 844)
TALLEST: Final = 3200  # pixels: what comes below is more of the same
FIRST: Final = 1100  # what is seen first, where the rest is as on another picture
Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Shot:
    """One page. `schemes`: in which it is taken."""

    name: str
    path: str
    size: tuple[int, int] = LAPTOP
    schemes: tuple[Scheme, ...] = ("light",)
    tall: int = TALLEST


BROKEN: Final = ("nora.yaml:9:14 spec.machine.memory: 8 GB is no size: write 8GiB or 512MiB",)
BOTH: tuple[Scheme, ...] = ("light", "dark")
SHOTS: Final[dict[str, tuple[Shot, ...]]] = {
    "usual": (
        Shot("fleet", "/", schemes=BOTH),
        Shot("tester", "/testers/dora", schemes=BOTH),
        Shot("tester-ready", "/testers/alice"),
        Shot("tester-failing", "/testers/hanna?log=hero_indexer"),
        Shot("tester-blocked", "/testers/fatima", tall=FIRST),
        Shot("tester-door", "/testers/olga", schemes=BOTH, tall=FIRST),
        Shot("tester-leaving", "/testers/milan", tall=FIRST),
        Shot("tester-paused", "/testers/kofi", tall=FIRST),
        Shot("tester-expiring", "/testers/jana", tall=FIRST),
        Shot("not-found", "/testers/nobody"),
        Shot("events", "/events", schemes=BOTH),
        Shot("components", "/components", schemes=BOTH),
        Shot("revisions", "/revisions", schemes=BOTH),
        Shot("nodes", "/nodes", schemes=BOTH),
        Shot("fleet-phone", "/", PHONE, BOTH),
        Shot("tester-phone", "/testers/dora", PHONE),
        Shot("tester-door-phone", "/testers/olga", PHONE, tall=FIRST),
        Shot("revisions-phone", "/revisions", PHONE),
        Shot("events-phone", "/events", PHONE),
        Shot("components-phone", "/components", PHONE),
        Shot("nodes-phone", "/nodes", PHONE),
    ),
    "empty": (Shot("fleet-empty", "/"),),
    "broken": (Shot("specs-broken", "/help/specs"), Shot("fleet-broken", "/")),
    "forge": (Shot("forge-dead", "/help/forge"), Shot("fleet-forge-dead", "/")),
    "closed": (Shot("sign-in", "/testers/alice", schemes=BOTH), Shot("sign-in-phone", "/", PHONE)),
}


@dataclass(frozen=True)
class StandingClock(SystemClock):
    """However long the pictures take, all show the same moment."""

    moment: datetime = field(default_factory=SystemClock().now)

    def now(self) -> datetime:
        return self.moment


def _stage(kind: str, folder: Path) -> AbstractAsyncContextManager[Stage]:
    clock = StandingClock()
    now = clock.now()
    if kind == "empty":
        return staged(folder, clock=clock)
    if kind == "broken":
        errors = (
            *BROKEN,
            "workshop/otto.yaml:4:3 spec.identity.emial: there is no such field; did you mean `email`?",
        )
        return staged(folder, *USUAL, clock=clock, more=revisions(now, errors))
    if kind == "closed":
        return staged(folder, clock=clock, access=with_sign_in)
    if kind == "forge":
        return staged(folder, *dead_forge(), clock=clock)
    return staged(folder, *USUAL, DOOR, clock=clock, more=[*revisions(now, BROKEN), *fleet_trouble(now)])


async def take(only: str = "") -> None:
    """All, or those whose name begins so."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        blank = await browser.new_page()
        for kind, shots in SHOTS.items():
            wanted = [each for each in shots if each.name.startswith(only)]
            if not wanted:
                continue
            with tempfile.TemporaryDirectory() as folder:
                async with _stage(kind, Path(folder)) as stage:
                    for shot in wanted:
                        for scheme in shot.schemes:
                            await _shoot(browser, blank, stage, shot, scheme)
        await browser.close()


async def _shoot(browser: Browser, blank: Page, stage: Stage, shot: Shot, scheme: Scheme) -> None:
    width, height = shot.size
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    page = await context.new_page()
    await page.goto(stage.url + shot.path)
    late = page.locator("[data-late] pre.log, [data-late] .banner, [data-late] .tabs")
    if await page.locator("[data-late]").count():
        await late.first.wait_for()
    file = FOLDER / f"{shot.name}{'-dark' if scheme == 'dark' else ''}.png"
    tall = min(await page.evaluate("document.documentElement.scrollHeight"), shot.tall)
    picture = await page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": tall})
    file.write_bytes(await smaller(blank, picture))
    await context.close()
    print(f"{file.relative_to(FOLDER.parents[1])} {file.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    if chromium() is None:
        sys.exit("there is no Chromium: apt-get install chromium")
    asyncio.run(take(sys.argv[1] if len(sys.argv) > 1 else ""))
