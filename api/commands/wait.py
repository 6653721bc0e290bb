"""`testerctl wait`: until a tester is ready, or gone, or a condition of its holds; for scripts and impatient people."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from api.books import queries
from api.complaint import Complaint
from api.options import STATE, StateFolder
from api.terminal import err, out, text
from api.waiting import Standing, Wish, standing
from api.watching import tell, watched
from api.words import one_line, span
from controller.queries import Queries
from reconcilers.clock import Clock, SystemClock
from specs.quantities import parse_duration

LOOK_EVERY = timedelta(milliseconds=500)
APPEARS_WITHIN = timedelta(seconds=30)  # a file that was just saved may not have been taken in yet


def command(
    name: Annotated[str, typer.Argument(help="The tester.")],
    what: Annotated[
        str, typer.Option("--for", help="Ready, Removed, or the type of any condition that `describe` shows.")
    ] = "Ready",
    timeout: Annotated[str, typer.Option(help="How long at most, like 90s, 10m or 1h.")] = "10m",
    state: StateFolder = STATE,
) -> None:
    """Wait for a tester. Exit code 0: it is so; 1: it is not, with the reason why."""
    wish = Wish(name, what)
    said = asyncio.run(_wait(wish, _duration(timeout), state))
    out().print(text(said), soft_wrap=True)


def _duration(words: str) -> timedelta:
    try:
        return parse_duration(words)
    except ValueError as error:
        raise Complaint(f"--timeout: {error}") from error


async def _wait(wish: Wish, limit: timedelta, state: Path) -> str:
    async with queries(state) as ask:
        tell(await watched(state, ask), SystemClock().now())
        return await until(wish, limit, ask, SystemClock())


async def until(wish: Wish, limit: timedelta, ask: Queries, clock: Clock) -> str:
    """What is so at last. Raises Complaint with the reason when the time is up, or when it cannot be any more."""
    began, told, seen = clock.now(), "", False
    while True:
        now = clock.now()
        found = standing(wish, await ask.tester(wish.name), now, seen=seen)
        if found.holds:
            return found.words
        seen = seen or found.there
        left = (limit if seen else min(limit, APPEARS_WITHIN)) - (now - began)
        if found.final or left <= timedelta(0):
            raise Complaint(await _why_not(wish, found, ask, now - began))
        if found.words != told:
            told = found.words
            _tell(told, now - began)
        await clock.sleep(min(LOOK_EVERY, left))


def _tell(words: str, after: timedelta) -> None:
    """On a terminal, where a person waits, a line whenever something changes."""
    if err().is_terminal:
        err().print(text(f"{span(after):>10}  {one_line(words)}", "dim"), soft_wrap=True)


async def _why_not(wish: Wish, found: Standing, ask: Queries, waited: timedelta) -> str:
    if found.there or found.final:
        return f"{found.words} (Waited {span(waited)} for {wish.what}.)"
    known = ", ".join(one.record.name for one in await ask.testers())
    return f"{found.words} Known: {known or 'none'}."
