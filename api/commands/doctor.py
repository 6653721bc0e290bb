"""`testerctl doctor`: every endpoint and credential of the Fleet, what is wrong with it, and how to mend it."""

from __future__ import annotations

import asyncio

import typer
from rich.table import Table

from api.books import books_or_none, places
from api.examining import SIGNS, examine_folder
from api.git_options import Comments, GitUrl, refuse_idle
from api.options import FLEET, STATE, FleetFolder, OutputForm, SecretsFolder, StateFolder
from api.outside_models import Finding as FindingAnswer
from api.terminal import Output, err, out, print_json, progress, table, text
from api.words import one_line
from controller.checkup.doctor import Finding, Telling, Verdict
from controller.places import Places
from reconcilers.clock import SystemClock

WELL, AILING = 0, 1
VERDICT_STYLE = {Verdict.GOOD: "green", Verdict.WRONG: "bold red", Verdict.UNKNOWN: "dim"}


def command(
    fleet: FleetFolder = FLEET,
    state: StateFolder = STATE,
    secrets_folder: SecretsFolder = None,
    output: OutputForm = Output.TEXT,
    git: GitUrl = "",
    comment_plans: Comments = False,
) -> None:
    """Check all endpoints and credentials.

    With --git also whether the answers can be told there. Says what to mend. Exit code 0: all well, 1: something is wrong.
    """
    if not git:
        refuse_idle({"--comment-plans": comment_plans})
    with progress("asking everybody"):
        telling = Telling(git, comment_plans) if git else None
        found = asyncio.run(_examine(places(fleet, state, secrets_folder), telling))
    if output is Output.JSON:
        print_json([FindingAnswer.of(one).model_dump(mode="json") for one in found])
    else:
        _show(found)
    raise typer.Exit(AILING if _wrong(found) else WELL)


async def _examine(where: Places, telling: Telling | None) -> tuple[Finding, ...]:
    clock = SystemClock()
    async with books_or_none(where, clock) as store:
        return await examine_folder(where, store, clock, telling)


def _show(found: tuple[Finding, ...]) -> None:
    out().print(listing(found))
    wrong = _wrong(found)
    if wrong:
        err().print(text(f"{wrong} of {len(found)} are wrong: see the lines marked {SIGNS[Verdict.WRONG]}.", "yellow"))


def _wrong(found: tuple[Finding, ...]) -> int:
    return sum(one.verdict is Verdict.WRONG for one in found)


def listing(found: tuple[Finding, ...]) -> Table:
    """One line each; what to do stands below what is wrong."""
    made = table("", "SYSTEM", "WHAT", "SEEN, AND HOW TO MEND IT")
    made.columns[0].no_wrap = True
    for one in found:
        style = VERDICT_STYLE[one.verdict]
        seen = text(one_line(one.detail), style if one.verdict is Verdict.WRONG else "")
        if one.mend:
            seen.append_text(text(f"\n→ {one_line(one.mend)}"))
        made.add_row(
            text(SIGNS[one.verdict], style), text(one_line(one.system), "bold"), text(one_line(one.what)), seen
        )
    return made
