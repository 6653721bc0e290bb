"""`testerctl events`: what happened, oldest first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from api.books import queries
from api.complaint import Complaint
from api.models import Event as EventAnswer
from api.options import STATE, OutputForm, StateFolder
from api.styles import SEVERITY_STYLE
from api.terminal import Output, out, print_json, text
from api.words import one_line
from controller.queries import Queries
from controller.records import Event

LOOK_EVERY = 1.0  # seconds


def command(
    name: Annotated[str | None, typer.Argument(help="Only this tester's.", show_default=False)] = None,
    state: StateFolder = STATE,
    output: OutputForm = Output.TEXT,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest to show.")] = 50,
) -> None:
    """Show what happened, oldest first."""
    if follow and output is Output.JSON:
        raise Complaint("--follow shows text only; for programs, ask again with -o json.")
    asyncio.run(_events(name, state, output, limit=limit, follow=follow))


async def _events(name: str | None, state: Path, output: Output, *, limit: int, follow: bool) -> None:
    async with queries(state) as ask:
        found = await ask.events(name, limit)
        if not found and name is not None and await ask.tester(name) is None:
            raise Complaint(f"There is no tester {name}, and nothing is written down about one of that name.")
        if output is Output.JSON:
            print_json([EventAnswer.of(one).model_dump(mode="json") for one in found])
            return
        show(reversed(found))
        if follow:
            await _follow(ask, name, {one.id: one.count for one in found})


async def _follow(ask: Queries, name: str | None, seen: dict[int, int]) -> None:
    """An event that repeats itself is shown again with its count."""
    while True:
        await asyncio.sleep(LOOK_EVERY)
        newest = await ask.events(name, 200)
        show(one for one in reversed(newest) if seen.get(one.id) != one.count)
        seen = {one.id: one.count for one in newest}


def show(events: Iterable[Event]) -> None:
    """One line each."""
    for one in events:
        out().print(line(one), soft_wrap=True)


def line(one: Event) -> Text:
    """`2026-12-01 09:30:12Z alice DriftRepaired  message (3 times)`."""
    at = (one.last_at or one.at).strftime("%Y-%m-%d %H:%M:%SZ")
    made = text(f"{at}  ", "dim")
    made.append_text(text(f"{one.tester or 'fleet':<10} ", "bold"))
    made.append_text(text(f"{one.reason}  ", SEVERITY_STYLE[one.severity] or "cyan"))
    made.append_text(text(one_line(one.message)))
    if one.count > 1:
        made.append_text(text(f" ({one.count} times)", "dim"))
    return made
