"""The testers: all, one, one's events, one's plan."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query

from api.models import Event, Fleet, Plan, Problem, Tester, TesterWhole
from api.outside_models import JobLog
from api.routes.access import Through
from api.window import Window

LARGEST_PAGE = 500

router = APIRouter(prefix="/api/v1")

Name = Annotated[str, Path(description="A tester's name.", max_length=64)]
Component = Annotated[str, Path(description="A component of the tester's.", max_length=64)]
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="How many at most.")]
Before = Annotated[int | None, Query(ge=1, description="Only events older than the one of this id: the next page.")]
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such tester."}}
NO_WORLD: dict[int | str, dict[str, Any]] = {503: {"model": Problem, "description": "No usable Fleet yet."}}

NO_ANSWER: dict[int | str, dict[str, Any]] = {502: {"model": Problem, "description": "The machine does not answer."}}


@router.get("/fleet")
async def fleet(window: Through) -> Fleet:
    """All testers in numbers, and where the specs come from."""
    return Fleet.of(await window.queries.fleet())


@router.get("/testers")
async def testers(window: Through) -> list[Tester]:
    """Every tester, by name, those that are being removed included."""
    return [Tester.of(one) for one in await window.queries.testers()]


@router.get("/testers/{name}", responses=NOT_FOUND)
async def tester(name: Name, window: Through) -> TesterWhole:
    """One tester with conditions, facts, outside objects, the latest writes and events."""
    detail = await window.queries.tester(name)
    if detail is None:
        raise nobody(name)
    return TesterWhole.of(detail)


@router.get("/testers/{name}/events", responses=NOT_FOUND)
async def events_of_tester(name: Name, window: Through, limit: Limit = 100, before: Before = None) -> list[Event]:
    """What happened to a tester, newest first; also of one that is gone, as long as the history is kept."""
    found = await _events(window, name, limit, before)
    if not found and before is None and await window.queries.tester(name) is None:
        raise nobody(name)
    return found


@router.get("/events")
async def events(window: Through, limit: Limit = 100, before: Before = None) -> list[Event]:
    """What happened to anybody, newest first."""
    return await _events(window, None, limit, before)


@router.get("/testers/{name}/plan", responses={**NOT_FOUND, **NO_WORLD})
async def plan(name: Name, window: Through) -> Plan:
    """What the next passes would do. It looks at the outside, and changes nothing."""
    preview = await window.plan(name)
    if preview is None:
        raise nobody(name)
    return Plan.of(preview)


@router.get("/testers/{name}/logs", responses={**NOT_FOUND, **NO_WORLD, **NO_ANSWER})
async def logs(name: Name, window: Through) -> list[JobLog]:
    """The end of what the last install of each component printed (4 KiB each), asked of the machine now."""
    return await _logs(window, name, None)


@router.get("/testers/{name}/logs/{component}", responses={**NOT_FOUND, **NO_WORLD, **NO_ANSWER})
async def log_of(name: Name, component: Component, window: Through) -> JobLog:
    """All that the machine keeps of one component's last install (64 KiB)."""
    return (await _logs(window, name, component))[0]


async def _logs(window: Window, name: str, component: str | None) -> list[JobLog]:
    found = await window.logs(name, component)
    if found is None:
        raise nobody(name)
    return [JobLog.of(one) for one in found]


def nobody(name: str) -> HTTPException:
    return HTTPException(404, f"there is no tester {name!r}")


async def _events(window: Window, name: str | None, limit: int, before: int | None) -> list[Event]:
    return [Event.of(one) for one in await window.queries.events(name, limit, before)]
