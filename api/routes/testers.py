"""The testers: a list with filters, one of them whole, its events, plan and logs."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from fastapi import HTTPException, Query
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from api.board_models import Events, TesterInFull, Testers
from api.conditional import router as conditional_router
from api.examples import shown
from api.models import Plan, Tester
from api.outside_models import JobLog
from api.routes.access import Through
from api.routes.asked import (
    LARGEST_PAGE,
    NO_ANSWER,
    NO_WORLD,
    NOT_FOUND,
    UNCHANGED,
    Before,
    Component,
    Fields,
    Limit,
    Name,
    nobody,
)
from api.routes.events import events_of
from api.selecting import chosen_fields, each_only, only
from api.window import Window
from controller.boards.tester import tester_board
from controller.listing import BadCursor, ConditionWish, Sort, Wish
from controller.records import Phase, Status

router = conditional_router(tag="testers")

_CONDITION: Final = re.compile(r"(?P<type>\w{1,64})(=(?P<status>True|False|Unknown))?(:(?P<reason>\w{1,64}))?")
_SORTS = tuple(each for sort in Sort for each in (str(sort), f"-{sort}"))


WithPlan = Annotated[
    bool, Query(description="With what the next passes would do: it looks at the outside, and may take seconds.")
]


class Asked(BaseModel):
    """What a list may be asked for. All of it must hold; a parameter that there is not is refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    phase: list[Phase] = Field([], max_length=20)
    """Only these phases."""
    node: str = Field("", max_length=200)
    """A daemon, or one of its nodes (`gent/0001`); `-`: those that are on none yet."""
    condition: list[str] = Field([], max_length=20)
    """Who has this condition: `Type`, `Type=False`, `Type:Reason` or `Type=False:Reason`."""
    component: str = Field("", max_length=200)
    """Who should have it, or has it; `name@version`: who was seen to have that version."""
    text: str = Field("", max_length=200)
    """Part of a name, account, node, address, reason or message."""
    sort: Literal[_SORTS] = "name"  # type: ignore[valid-type]
    """With `-` before it, the other way round."""
    fields: str = Field("", max_length=1000)
    """Only these fields of each, by comma; all of them if none is named."""
    cursor: str = Field("", max_length=1000)
    """`next` of the page before."""
    limit: int = Field(100, ge=1, le=LARGEST_PAGE)
    """How many at most."""

    def wish(self) -> Wish:
        """Raises HTTPException 422."""
        component, _, version = self.component.partition("@")
        return Wish(
            phases=frozenset(self.phase),
            node=self.node,
            conditions=tuple(map(_condition, self.condition)),
            component=component,
            version=version,
            text=self.text,
            sort=Sort(self.sort.removeprefix("-")),
            descending=self.sort.startswith("-"),
            cursor=self.cursor,
            limit=self.limit,
        )


@router.get("/testers", response_model=Testers, responses={**UNCHANGED, **NO_WORLD, **shown(Testers)})
async def list_testers(window: Through, asked: Annotated[Asked, Query()]) -> Response:
    """The testers that fit everything asked for, those that are being removed included, page by page."""
    wanted = chosen_fields(asked.fields, Tester)
    try:
        page = Testers.of(await window.queries.listed(asked.wish()))
    except BadCursor as error:
        raise HTTPException(422, f"cursor: {error}") from error
    if not asked.fields:
        return Response(page.model_dump_json(), media_type="application/json")
    return JSONResponse({"items": each_only(page.items, wanted), "total": page.total, "next": page.next})


@router.get(
    "/testers/{name}",
    response_model=TesterInFull,
    responses={**UNCHANGED, **NOT_FOUND, **NO_WORLD, **shown(TesterInFull)},
)
async def one_tester(name: Name, window: Through, fields: Fields = "", plan: WithPlan = False) -> Response:
    """One tester: what it should have, what was seen of it and when, its way to Ready, and what was done."""
    wanted = chosen_fields(fields, TesterInFull)
    engine = window.controller.engine
    board = await tester_board(name, window.controller.store, window.queries, engine.world, window.clock.now())
    if board is None:
        raise nobody(name)
    preview = await window.plan(name) if plan or (fields and "plan" in wanted) else None
    found = TesterInFull.of_board(board, Plan.of(preview) if preview is not None else None)
    return (
        JSONResponse(only(found, wanted))
        if fields
        else Response(found.model_dump_json(), media_type="application/json")
    )


@router.get("/testers/{name}/events", responses={**UNCHANGED, **NOT_FOUND, **shown(Events)})
async def events_of_tester(name: Name, window: Through, limit: Limit = 100, before: Before = None) -> Events:
    """What happened to a tester, newest first; also of one that is gone, as long as the history is kept."""
    found = await events_of(window, name, limit, before)
    if not found.items and before is None and await window.queries.tester(name) is None:
        raise nobody(name)
    return found


@router.get("/testers/{name}/plan", responses={**UNCHANGED, **NOT_FOUND, **NO_WORLD, **shown(Plan)})
async def plan(name: Name, window: Through) -> Plan:
    """What the next passes would do. It looks at the outside, and changes nothing."""
    preview = await window.plan(name)
    if preview is None:
        raise nobody(name)
    return Plan.of(preview)


@router.get(
    "/testers/{name}/logs", responses={**UNCHANGED, **NOT_FOUND, **NO_WORLD, **NO_ANSWER, **shown(JobLog, many=True)}
)
async def logs(name: Name, window: Through) -> list[JobLog]:
    """The end of what the last install of each component printed (4 KiB each), asked of the machine now."""
    return await _logs(window, name, None)


@router.get(
    "/testers/{name}/logs/{component}", responses={**UNCHANGED, **NOT_FOUND, **NO_WORLD, **NO_ANSWER, **shown(JobLog)}
)
async def log_of(name: Name, component: Component, window: Through) -> JobLog:
    """All that the machine keeps of one component's last install (64 KiB)."""
    return (await _logs(window, name, component))[0]


async def _logs(window: Window, name: str, component: str | None) -> list[JobLog]:
    found = await window.logs(name, component)
    if found is None:
        raise nobody(name)
    return [JobLog.of(one) for one in found]


def _condition(asked: str) -> ConditionWish:
    """Raises HTTPException 422."""
    found = _CONDITION.fullmatch(asked)
    if found is None:
        raise HTTPException(
            422, "condition: write it like Gateway, Gateway=False, Ready:NoCapacity or Ready=False:NoCapacity"
        )
    status = found["status"]
    return ConditionWish(found["type"], Status(status) if status else None, found["reason"] or "")
