"""`testerctl logs`: what the installs on a tester's machine printed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from api.books import books, places
from api.complaint import Complaint
from api.job_logs import JobLog, asked, news, read
from api.options import FLEET, STATE, FleetFolder, OutputForm, SecretsFolder, StateFolder
from api.outside_models import JobLog as JobLogAnswer
from api.styles import JOB_STYLE
from api.terminal import Output, out, print_json, progress, text
from api.words import ago, one_line
from api.worlds import opened_world, stored_fleet
from controller.engine import fleet_references
from controller.places import Places
from controller.records import TesterBooks
from controller.references import References
from controller.store import Store
from controller.world import World
from reconcilers.backends.machine import Job
from reconcilers.clock import SystemClock
from reconcilers.errors import Transient
from reconcilers.secret import Secret
from specs.desired import needs_of_secret

LOOK_EVERY = 2.0  # seconds
NEVER = "nothing was installed yet"


def command(
    name: Annotated[str, typer.Argument(help="The tester.")],
    component: Annotated[
        str | None, typer.Argument(help="All that is kept of this one; without it the end of each.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is new until Ctrl-C.")] = False,
    fleet: FleetFolder = FLEET,
    state: StateFolder = STATE,
    secrets_folder: SecretsFolder = None,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show what the installs on a tester's machine printed."""
    if follow and output is Output.JSON:
        raise Complaint("--follow shows text only; for programs, ask again with -o json.")
    if fleet != FLEET and not fleet.is_dir():
        raise Complaint(f"There is no folder {fleet}: --fleet (or TESTERCTL_FLEET) names the folder of specs.")
    asyncio.run(_logs(name, component, places(fleet, state, secrets_folder), output, follow=follow))


async def _logs(name: str, component: str | None, where: Places, output: Output, *, follow: bool) -> None:
    async with books(where.state) as store:
        of_tester = await _books(store, name)
        clock = SystemClock()
        async with opened_world(await stored_fleet(store), where.files, store, clock) as world:
            with progress("asking the machine"):
                hidden = await _hidden(of_tester, world, store, where.files)
                found = await read(of_tester, world, hidden, component)
            if output is Output.JSON:
                print_json([JobLogAnswer.of(one).model_dump(mode="json") for one in found])
                return
            for one in found:
                _print(heading(one))
                if one.kept_at is not None:
                    _print(text(f"  {kept_words(one, clock.now())}", "yellow"))
                _print_log(one.log)
            while follow:
                await asyncio.sleep(LOOK_EVERY)
                of_tester = await _books(store, name)
                hidden = await _hidden(of_tester, world, store, where.files)
                found = tell_news(found, await read_patiently(found, of_tester, component, world, hidden))


async def read_patiently(
    before: tuple[JobLog, ...],
    of_tester: TesterBooks,
    component: str | None,
    world: World,
    hidden: tuple[Secret, ...],
) -> tuple[JobLog, ...]:
    """As `asked`; what was known before while the machine does not answer for a moment."""
    try:
        return await asked(of_tester, world, hidden, component)
    except Transient:
        return before


async def _books(store: Store, name: str) -> TesterBooks:
    found = await store.books(name)
    if found is None:
        known = ", ".join(one.name for one in await store.testers())
        raise Complaint(f"There is no tester {name}. Known: {known or 'none'}.")
    return found


async def _hidden(of_tester: TesterBooks, world: World, store: Store, folder: Path) -> tuple[Secret, ...]:
    """What must not be shown, should a program have printed it."""
    refs = [*fleet_references(world.fleet), *needs_of_secret(of_tester.record.desired)]
    return tuple((await References(store, folder).resolve(refs)).values())


def tell_news(before: tuple[JobLog, ...], now: tuple[JobLog, ...]) -> tuple[JobLog, ...]:
    """What is new since, each part under the heading of its component when its job is another or has ended."""
    known = {one.component: one for one in before}
    for one in now:
        old = known.get(one.component)
        for line in lines_of_news(old, one):
            _print(line)
    return now


def lines_of_news(old: JobLog | None, one: JobLog) -> Iterator[Text]:
    """Nothing when nothing happened."""
    anew = old is None or _began(old.job) != _began(one.job)
    more = one.log if old is None or anew else news(old.log, one.log)
    for line in more.splitlines():
        made = text(f"{one.component}  ", "dim")
        made.append_text(text(line))
        yield made
    if old is None or anew or _state(old.job) != _state(one.job):
        yield heading(one)


def heading(one: JobLog) -> Text:
    """`hero_books: succeeded v0.3.2, began 2026-12-01T09:30:12Z`."""
    made = text(one.component, "bold")
    if one.job is None:
        return made.append_text(text(f": {NEVER}", "dim"))
    parts = [one_line(one.job.result) if one.job.result else "", f"exit code {one.job.rc}" if one.job.rc else ""]
    made.append_text(text(f": {one.job.state} ", JOB_STYLE[one.job.state]))
    made.append_text(text(" ".join(part for part in (*parts, f"began {one_line(one.job.began)}") if part), "dim"))
    return made


def kept_words(one: JobLog, now: datetime) -> str:
    """`from our books, seen 3 h ago on gent/0007; the machine cannot be asked: …`"""
    why = f"the machine cannot be asked: {one_line(one.why)}" if one.why else "the machine of today knows nothing of it"
    return f"from our books, seen {ago(one.kept_at, now)} on {one_line(one.machine)}; {why}"


def _began(job: Job | None) -> str:
    return job.began if job else ""


def _state(job: Job | None) -> str:
    return job.state if job else ""


def _print_log(log: str) -> None:
    for line in log.splitlines():
        _print(text(f"  {line}"))


def _print(line: Text) -> None:
    out().print(line, soft_wrap=True)
