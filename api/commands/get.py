"""`testerctl get`: the testers in a table."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from api.books import queries
from api.complaint import Complaint
from api.models import Tester
from api.options import STATE, OutputForm, StateFolder
from api.styles import PHASE_STYLE
from api.terminal import Output, err, link, out, print_json, table, text
from api.time_left import time_left
from api.waiting import paused, whom
from api.watching import tell, watched
from api.words import ago, one_line, span
from controller.queries import FleetSummary, Queries, TesterSummary
from reconcilers.clock import Clock, SystemClock

LOOK_EVERY = 1.0  # seconds


def command(
    testers: Annotated[list[str] | None, typer.Argument(help="Only these.", show_default=False)] = None,
    state: StateFolder = STATE,
    output: OutputForm = Output.TEXT,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing until Ctrl-C.")] = False,
) -> None:
    """Show how the testers stand."""
    asyncio.run(_get(tuple(testers or ()), state, output, watch=watch))


async def _get(names: tuple[str, ...], state: Path, output: Output, *, watch: bool) -> None:
    clock = SystemClock()
    async with queries(state) as ask:
        found = chosen(await ask.testers(), names)
        kept = await watched(state, ask)
        if output is Output.JSON:
            told = {"watched": kept.now}
            print_json([Tester.of(one).model_copy(update=told).model_dump(mode="json") for one in found])
        elif watch:
            await _watch(ask, names, clock)
        elif found:
            out().print(listing(found, clock))
        else:
            out().print(text("no testers"))
        if output is Output.TEXT:
            tell(kept, clock.now())
            fleet = await ask.fleet()
            _tell_source(fleet, clock.now())
            for trouble in fleet.troubles:
                err().print(text(one_line(trouble), "yellow"), soft_wrap=True)


def _tell_source(fleet: FleetSummary, now: datetime) -> None:
    """How old a repository's copy is, and what is wrong with the files themselves, so that nobody misses a tester without a
    word."""
    source = fleet.source
    if source and fleet.good_at:
        words = f"From the {source.source}, revision {source.revision[:12]}; last good fetch {ago(fleet.good_at, now)}."
        err().print(text(one_line(words), "dim"), soft_wrap=True)
    for error in source.errors if source else ():
        err().print(text(one_line(error), "yellow"), soft_wrap=True)


def chosen(all_of_them: tuple[TesterSummary, ...], names: tuple[str, ...]) -> tuple[TesterSummary, ...]:
    """Those of the names, all for no names. Raises Complaint for a name that nobody has."""
    known = {one.record.name: one for one in all_of_them}
    strangers = [name for name in names if name not in known]
    if strangers:
        raise Complaint(f"There is no tester {', '.join(strangers)}. Known: {', '.join(known) or 'none'}.")
    return tuple(known[name] for name in dict.fromkeys(names)) if names else all_of_them


async def _watch(ask: Queries, names: tuple[str, ...], clock: Clock) -> None:
    """On a terminal the table changes in place; elsewhere it is printed again whenever a tester's state changes."""
    console = out()
    shown: tuple[object, ...] = ()
    with Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            found = chosen(await ask.testers(), names)
            if console.is_terminal:
                live.update(listing(found, clock), refresh=True)
            elif (now := tuple((one.record.name, one.record.phase, one.reason) for one in found)) != shown:
                shown = now
                console.print(listing(found, clock))
            await asyncio.sleep(LOOK_EVERY)


def listing(testers: tuple[TesterSummary, ...], clock: Clock) -> Table:
    """One line each: narrow enough for 80 columns, wider where there is room."""
    now = clock.now()
    made = table("TESTER", "PHASE", "FOR", "WHAT")
    made.columns[0].no_wrap = made.columns[1].no_wrap = made.columns[2].no_wrap = True
    for one in testers:
        record = one.record
        made.add_row(
            text(record.name, "bold"),
            text(record.phase if one.ready else f"{record.phase} {record.progress}%", PHASE_STYLE[record.phase]),
            text(span(now - one.since, units=1) if one.since else "unknown"),
            _what(one, now),
        )
    return made


def _what(one: TesterSummary, now: datetime) -> Text:
    """The link of who is ready, what the others wait for, whom and until when; and that a file is broken."""
    words = link(one.link) if one.ready else text(one_line(one.record.current or one.message))
    if pause := paused(one.record):
        words.append_text(text(f"; {pause}", "yellow"))
    who = whom(one.blames, one.until, now, retried=one.retried)
    if who:
        words.append_text(text(f" ({who})", "dim"))
    if left := time_left(one.estimate):
        words.append_text(text(f"; {left}", "cyan"))
    for beside in one.beside:
        words.append_text(text(f"; in quarantine: {one_line(beside)}", "yellow"))
    if one.record.source_error:
        words.append_text(text(f"; its file is broken: {one_line(one.record.source_error)}", "yellow"))
    return words
