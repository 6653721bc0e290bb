"""What a running controller writes down as it goes: one line per thing, UTC, and never an address with a secret in it."""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from api.words import one_line, safe

FORMAT = "%(asctime)sZ %(levelname)-7s %(name)s: %(message)s"
# They tell of every request and connection; what matters of those is in events and errors.
TALKATIVE = ("httpx", "httpcore", "asyncssh", "apscheduler", "watchfiles", "uvicorn", "alembic")


class OneLine(logging.Formatter):
    """Nothing that somebody else said begins a line of its own, or drives the terminal that it is read in."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return safe(super().format(record))


def set_up(path: Path | None = None, *, verbose: bool = False) -> None:
    """Send the program's log to a file, or to standard error. `verbose`: details of what we ourselves do, too."""
    handler = logging.FileHandler(path) if path else logging.StreamHandler(sys.stderr)
    formatter = OneLine(FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
