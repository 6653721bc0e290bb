"""What `testerctl run` writes to standard error: one line per thing, UTC, and never an address with a secret in it."""

from __future__ import annotations

import logging
import sys
import time

FORMAT = "%(asctime)sZ %(levelname)-7s %(name)s: %(message)s"
# They tell of every request and connection; what matters of those is in events and errors.
TALKATIVE = ("httpx", "httpcore", "asyncssh", "apscheduler", "watchfiles", "aiosqlite", "uvicorn", "alembic")


def set_up(*, verbose: bool = False) -> None:
    """Send the program's log to standard error. `verbose`: what we ourselves do, too."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler], force=True)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
