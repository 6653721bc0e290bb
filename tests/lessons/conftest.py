"""What the tests of the lessons share: harm in few words, and what an admin reads."""

from __future__ import annotations

from typing import Any

import httpx

from api.server import make_app
from api.window import Window
from controller.checkup.doctor import Finding, examine
from controller.in_use import last_good_fleet
from controller.references import References
from tests.worlds.rig import Rig

SELDOM = {"poll": "10s", "releasesEvery": "12h"}
"""Timing of a Fleet: what is waited for is looked at every ten seconds and not every two, and twenty releases are not asked
for four times an hour. Passes and calls are what a life costs."""
LEAN: dict[str, Any] = {"componentSets": {"demo": ["hero_books"]}, "engines": [], "timing": SELDOM}
"""For a Fleet: the least that a tester can be, where neither apps nor engines nor seconds are what a test is about."""
SMALL: dict[str, Any] = {**LEAN, "componentSets": {"demo": ["hero_books", "hero_slides"]}}
"""The same with another app, for what befalls one and not the other."""
WITH_ENGINES: dict[str, Any] = {"componentSets": LEAN["componentSets"], "timing": SELDOM}
"""The least with the shared engines."""


def fault(
    system: str, method: str, kind: str, target: str = "*", *, times: int | None = 1, **options: Any
) -> dict[str, Any]:
    """For `world(faults=…)` and `w.world.drift.add_fault`. `times` None: always."""
    return {"system": system, "method": method, "kind": kind, "target": target, "times": times, "options": options}


async def told(w: Rig, name: str | None = None) -> list[str]:
    """`Reason: message` of every event, oldest first."""
    return [f"{event.reason}: {event.message}" for event in await w.events(name)]


async def asked(w: Rig, path: str) -> Any:
    """What the read API answers, e.g. at `/api/v1/testers/alice/plan`."""
    transport = httpx.ASGITransport(make_app(Window(w.controller)))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8484") as client:
        answer = await client.get(path)
    answer.raise_for_status()
    return answer.json()


async def doctor(w: Rig) -> list[Finding]:
    """What `testerctl doctor` finds about the Fleet in the folder."""
    fleet = await last_good_fleet(w.controller.store)
    assert fleet is not None
    secrets = await References(w.store, w.places.folder).resolve(fleet.spec.secrets())
    return list(await examine(fleet, secrets, w.clock, w.options()))
