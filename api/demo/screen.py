"""What a person sees of the demo: a table that moves while testers come to life, and one that stays when they have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.demo.checks import Check
from api.styles import PHASE_STYLE
from api.terminal import link, table, text
from api.words import one_line, span
from controller.queries import TesterDetail, TesterSummary
from controller.records import Status

BAR = 16  # columns

Testers = tuple[TesterSummary, ...]


class Screen:
    """The moving part. On anything but a terminal it prints a line whenever something changes."""

    def __init__(self, console: Console, began: datetime) -> None:
        self.console = console
        self._began = began
        self._told: dict[str, tuple[object, ...]] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, testers: Testers, errors: tuple[str, ...], now: datetime) -> None:
        """How things stand now."""
        if self._live is not None:
            self._live.update(Group(moving(testers), *wrong(errors), self._footer(now)), refresh=True)
            return
        if self._told.get("") != errors:
            self._told[""] = errors
            for error in wrong(errors):
                self.console.print(error, soft_wrap=True)
        for one in testers:
            state = (one.record.phase, one.record.progress, one.record.current)
            if self._told.get(one.record.name) != state:
                self._told[one.record.name] = state
                words = one.link if one.ready else one_line(one.record.current or one.message)
                phase, progress = state[:2]
                line = f"{span(now - self._began):>10}  {one.record.name:<8} {phase:<12} {progress:>3}%  {words}"
                self.console.print(text(line), soft_wrap=True)

    def say(self, line: str) -> None:
        """A line that stays, above the table where that moves."""
        self.console.print(text(f"⚡ {line}", "yellow"), soft_wrap=True)

    def _footer(self, now: datetime) -> Text:
        return text(f"\n{span(now - self._began)}; Ctrl-C stops, and the next start goes on from there", "dim")


def wrong(errors: tuple[str, ...]) -> list[Text]:
    """What is wrong with the specs."""
    return [text(one_line(error), "yellow") for error in errors]


def moving(testers: Testers) -> Table:
    """Narrow enough for 80 columns."""
    made = table("TESTER", "PHASE", "PROGRESS", "NOW")
    made.columns[0].no_wrap = made.columns[1].no_wrap = True
    for one in testers:
        record = one.record
        made.add_row(
            text(record.name, "bold"),
            text(record.phase, PHASE_STYLE[record.phase]),
            ProgressBar(total=100, completed=record.progress, width=BAR),
            link(one.link) if one.ready else text(one_line(record.current or one.message)),
        )
    return made


def finished(testers: Testers) -> Table:
    """The table that stays."""
    made = table("TESTER", "ACCOUNT", "MACHINE", "TOOK", "LINK")
    for one in testers:
        took = span(one.since - one.record.added_at) if one.since else ""
        made.add_row(
            text(one.record.name, "bold"),
            text(one.record.desired.account.name),
            text(one.node),
            text(took),
            link(one.link),
        )
    return made


def numbers(counts: Mapping[str, int]) -> str:
    """`3 accounts, 3 machines, …`"""
    return ", ".join(f"{number} {what}" for what, number in counts.items())


def show_checks(console: Console, found: tuple[Check, ...]) -> None:
    """One line each."""
    for one in found:
        console.print(text(f"{'✓' if one.ok else '✗'} {one.what}", "green" if one.ok else "bold red"), soft_wrap=True)


def show_reasons(console: Console, errors: tuple[str, ...], details: tuple[TesterDetail, ...]) -> None:
    """Why not everybody is ready: what is wrong with the specs, and every condition that is not true."""
    for line in wrong(errors):
        console.print(line, soft_wrap=True)
    for detail in details:
        record = detail.summary.record
        console.print(text(f"{record.name}: {record.phase}, {record.progress}%", "bold"))
        for one in detail.conditions:
            if one.status is not Status.TRUE and one.type not in ("Ready", "Stalled"):
                console.print(text(f"  {one.type} {one.reason}: {one_line(one.message)}"), soft_wrap=True)
