"""`testerctl describe`: everything that is known of one tester, each thing with the time since it changed."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.books import queries
from api.commands.events import show
from api.complaint import Complaint
from api.models import TesterWhole
from api.options import STATE, OutputForm, StateFolder
from api.plan_view import verb_words
from api.styles import PHASE_STYLE, STATUS_STYLE
from api.terminal import Output, link, out, print_json, table, text
from api.time_left import time_left, usual_wait
from api.waiting import paused, whom, whom_of
from api.watching import tell, watched
from api.words import ago, ahead, one_line, span
from controller.queries import TesterDetail, TesterSummary
from reconcilers.clock import SystemClock

NEWEST_EVENTS = 15
NEWEST_WRITES = 10
NOT_KNOWN_HERE = "unknown here: the running controller tells, on its page and in its API"


def command(
    name: Annotated[str, typer.Argument(help="The tester.")],
    state: StateFolder = STATE,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show one tester whole.

    Its conditions, facts, outside objects, writes, events.
    """
    asyncio.run(_describe(name, state, output))


async def _describe(name: str, state: Path, output: Output) -> None:
    async with queries(state) as ask:
        detail = await ask.tester(name)
        if detail is None:
            known = ", ".join(one.record.name for one in await ask.testers())
            raise Complaint(f"There is no tester {name}. Known: {known or 'none'}.")
        kept = await watched(state, ask)
    if output is Output.JSON:
        whole = TesterWhole.of(detail)
        summary = whole.tester.model_copy(update={"watched": kept.now})
        print_json(whole.model_copy(update={"tester": summary}).model_dump(mode="json"))
    else:
        _show(out(), detail, SystemClock().now())
        tell(kept, SystemClock().now())


def _show(console: Console, detail: TesterDetail, now: datetime) -> None:
    console.print(_head(detail, now))
    _section(console, "Conditions", _conditions(detail, now))
    _section(console, "Facts", _facts(detail, now))
    _section(console, "Outside", _objects(detail, now))
    _section(console, "Quarantine", _quarantine(detail, now))
    _section(console, "Writes", _writes(detail, now))
    if detail.events:
        console.print(text("\nEvents", "bold"))
        show(reversed(detail.events[:NEWEST_EVENTS]))


def _section(console: Console, title: str, content: Table) -> None:
    if content.row_count:
        console.print(text(f"\n{title}", "bold"))
        console.print(content)


def _head(detail: TesterDetail, now: datetime) -> Table:
    record, summary = detail.summary.record, detail.summary
    made = table("", "")
    made.show_header = False
    rows = {
        "Tester": text(record.name, "bold"),
        "Phase": text(f"{record.phase} ({record.progress}%)", PHASE_STYLE[record.phase]),
        "Paused": text(paused(record).removeprefix("paused "), "yellow"),
        "Reason": text(f"{summary.reason}: {one_line(summary.message)}"),
        "Since": text(ago(summary.since, now) if summary.since else ""),
        "Seen": text(ago(summary.seen_at, now) if summary.seen_at else NOT_KNOWN_HERE),
        "Waits for": text(whom(summary.blames, summary.until, now, retried=summary.retried)),
        "Time left": text(time_left(detail.estimate)),
        "Usually": text(usual_wait(detail.estimate.wait if detail.estimate else None)),
        "Now": text(one_line(record.current)),
        "Link": link(summary.link),
        "Account": text(record.desired.account.name),
        "Node": text(summary.node),
        "Spec": text(f"{record.source_file}:{record.source_line}"),
        "Revision": _revision(summary),
        "File": text(one_line(record.source_error), "yellow"),
        "Generation": text(f"{record.generation} (seen through: {record.observed_generation})"),
        "Added": text(ago(record.added_at, now)),
        "Changed": text(ago(record.changed_at, now)),
        "Removed": text(ago(record.removed_at, now) if record.removed_at else ""),
        "Next look": text(ahead(record.next_look_at, now)),
    }
    for label, words in rows.items():
        if words.plain:
            made.add_row(text(label, "dim"), words)
    return made


def _revision(summary: TesterSummary) -> Text:
    """The one that it should be as, and the one that it is as while that is another."""
    should, has = summary.record.revision, summary.has_revision
    if should == has:
        return text(f"{should[:12]}, as it should")
    return text(f"has {has[:12] or 'none yet, or one of long ago'}, should have {should[:12]}", "yellow")


def _conditions(detail: TesterDetail, now: datetime) -> Table:
    made = table("TYPE", "STATUS", "FOR", "WHY")
    made.columns[2].no_wrap = True
    for one in detail.conditions:
        why = text(f"{one.reason}: {one_line(one.message)}")
        who = whom_of(one, now)
        if who:
            why.append_text(text(f"\n→ {who}", "dim"))
        made.add_row(
            text(one.type), text(one.status, STATUS_STYLE[one.status]), text(span(now - one.since, units=1)), why
        )
    return made


def _facts(detail: TesterDetail, now: datetime) -> Table:
    made = table("STEP", "FACT", "VALUE", "CHANGED")
    for known in detail.facts:
        for key, value in known.facts.shown().items():
            if value not in ("", None, {}, []):
                when = text(ago(known.changed_at, now))
                made.add_row(text(known.facts.step), text(key), text(_value(value)), when)
    return made


def _value(value: object) -> str:
    """A mapping as `hero_books v0.3.1, hero_db v0.3.1`."""
    if isinstance(value, dict):
        value = ", ".join(f"{key} {one}" for key, one in value.items())
    return one_line(str(value))


def _objects(detail: TesterDetail, now: datetime) -> Table:
    made = table("STEP", "NAME", "STATE", "INCARNATION", "SINCE")
    for one in detail.objects:
        made.add_row(
            text(one.step),
            text(one.name),
            text(one.state),
            text(f"{one.incarnation}.{one.attempt}"),
            text(ago(one.since, now)),
        )
    return made


def _quarantine(detail: TesterDetail, now: datetime) -> Table:
    made = table("STEP", "BESIDE THE ONE IN USE", "FOR", "HOW IT CAME ABOUT")
    made.columns[2].no_wrap = True
    for one in detail.quarantine:
        how = text(one_line(one.how))
        how.append_text(text("\n→ goes after the grace" if one.ours else "\n→ an admin decides", "dim"))
        place = f"{one.where}/{one.id}" if one.id else one.where
        made.add_row(text(one.step), text(f"{one.name} ({place})"), text(span(now - one.since, units=1)), how)
    return made


def _writes(detail: TesterDetail, now: datetime) -> Table:
    made = table("WHEN", "STEP", "WHAT", "OUTCOME")
    for one in detail.journal[:NEWEST_WRITES][::-1]:
        what = f"{verb_words(one.verb)} {one_line(one.target)}"
        made.add_row(text(ago(one.began_at, now)), text(one.step), text(what), text(one.outcome))
    return made
