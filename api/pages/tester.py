"""`/testers/{name}`: one tester whole, and the log of its installs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import HTTPException, Path, Query, Request, Response

from api.job_logs import JobLog, NoLog
from api.pages.boards import Boards, PartName, Sight, page_router
from api.pages.graph import step_graph
from api.pages.render import page, part
from api.pages.timeline import rows
from api.window import NotOpen
from api.words import span
from controller.boards.tester import DOOR, StepState, StepView, TesterBoard, tester_board
from controller.store import SealingError, StoreError
from reconcilers.backends.machine import JobState
from reconcilers.errors import OutsideError

PARTS = {
    "head": "parts/tester_head.html",
    "steps": "parts/tester_steps.html",
    "timeline": "parts/tester_timeline.html",
    "compare": "parts/tester_compare.html",
    "components": "parts/tester_components.html",
    "events": "parts/tester_events.html",
    "outside": "parts/tester_outside.html",
    "log": "parts/tester_log.html",
}
LOG_END = 20_000  # characters that the page shows; the API has all that is kept
SHOWN_EVENTS = 20

router = page_router()


@router.get("/testers/{name}")
async def one_tester(
    request: Request,
    sight: Sight,
    name: Annotated[str, Path(max_length=64)],
    log: Annotated[str, Query(max_length=64)] = "",
    part_: Annotated[PartName, Query(alias="part")] = "",
) -> Response:
    """Everything that is known of one tester. `log`: the component whose install log is shown."""
    now = sight.now()
    board = await tester_board(name, sight.store, sight.ask, sight.world, now)
    if board is None:
        raise HTTPException(404, f"There is no tester {name}. It may have been removed; its events are still kept.")
    wants_log = part_ == "log" or (bool(log) and not part_)
    values = {
        "board": board,
        "one": board.detail.summary,
        "record": board.detail.summary.record,
        "detail": board.detail,
        "graph": step_graph(board.steps, {each.name: _words(each, board, now) for each in board.steps}),
        "rows": rows(board),
        "events": board.detail.events[:SHOWN_EVENTS],
        "log": await _log(sight, name, log) if wants_log else None,
        "log_of": log,
        "active": "fleet",
    }
    if part_:
        return part(request, PARTS, part_, now, **values)
    return page(request, "tester.html", now, **values)


def _words(step: StepView, board: TesterBoard, now: Any) -> str:
    """The second line of a step's box."""
    one = step.condition
    if one is None or step.state is StepState.BEFORE:
        return "not yet"
    if step.state is StepState.DONE:
        return f"in {span(step.after)}" if step.after is not None else "as it should be"
    if one.retry_at is not None:
        return f"again in {span(one.retry_at - now, units=1)}" if one.retry_at > now else "again now"
    if step.state is StepState.STUCK:
        return "needs a person"
    if step.state is StepState.FAILING:
        return "seen open" if board.open_door and step.name == DOOR else "is tried again"
    return f"for {span(now - one.since, units=1)}" if step.state is StepState.RUNNING else "unknown"


async def _log(sight: Boards, name: str, component: str) -> Mapping[str, Any]:
    """The jobs, and the end of what one of them printed: the one that is asked for, else the one that tells most.

    The machine is asked; that it does not answer is told in the place of the log.
    """
    try:
        jobs = await sight.window.logs(name) or ()
        chosen = _chosen(jobs, component)
        if component and chosen is not None and chosen.job is not None:
            chosen = ((await sight.window.logs(name, component)) or (chosen,))[0]
    except (NotOpen, NoLog, OutsideError, StoreError, SealingError) as error:
        return {"jobs": (), "chosen": None, "text": "", "why": str(error), "running": False}
    running = any(each.job is not None and each.job.state is JobState.RUNNING for each in jobs)
    text = chosen.log[-LOG_END:] if chosen is not None else ""
    return {"jobs": jobs, "chosen": chosen, "text": text, "why": chosen.why if chosen else "", "running": running}


def _chosen(jobs: tuple[JobLog, ...], component: str) -> JobLog | None:
    """What runs now, then what failed, then any that ever ran."""
    if component:
        return next((each for each in jobs if each.component == component), None)
    ran = [each for each in jobs if each.job is not None]
    order = (JobState.RUNNING, JobState.FAILED, JobState.DIED)
    for state in order:
        found = [each for each in ran if each.job is not None and each.job.state is state]
        if found:
            return found[0]
    return ran[-1] if ran else None
