"""The terminal: where output goes, colours by meaning, foreign text made harmless, and progress where a person waits."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.words import safe

PIPE_WIDTH = 160  # of tables that go into a file or a pipe, where nothing has to fit a screen


class Output(StrEnum):
    """What a command prints: a table or text for people, or JSON for programs."""

    TEXT = "text"
    JSON = "json"


def out() -> Console:
    """Standard output."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error: complaints and progress."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(stderr=stderr, highlight=False, emoji=False, markup=False, width=PIPE_WIDTH)
    return console


def text(foreign: object, style: str = "") -> Text:
    """A cell or line with text that may come from anywhere."""
    return Text(safe(str(foreign)), style=style)


def link(address: str) -> Text:
    """An address that stays one to click on, also where a narrow terminal breaks it."""
    return text(address, f"link {safe(address)}" if address.startswith("https://") else "")


def table(*columns: str) -> Table:
    """An empty table without rules: it is to be read, and copied from."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def print_json(value: Any) -> None:
    """JSON that can be piped: never wrapped, never coloured."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Says what a person waits for, on a terminal only and never among the output."""
    console = err()
    if not console.is_terminal:
        yield
        return
    with console.status(text(what)):
        yield
