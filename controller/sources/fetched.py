"""When a mirror's branch was fetched last without an error: a line in a file of it, so that other processes can tell too."""

from __future__ import annotations

import contextlib
from datetime import datetime
from pathlib import Path
from typing import Final

FETCHED: Final = "fetched-at"


def note_fetched(mirror: Path, at: datetime) -> None:
    """Write it down, if that is possible: nothing hangs on it."""
    with contextlib.suppress(OSError):
        (mirror / FETCHED).write_text(at.isoformat())


def fetched_at(mirror: Path) -> datetime | None:
    """None: nobody knows."""
    try:
        return datetime.fromisoformat((mirror / FETCHED).read_text())
    except (OSError, ValueError):
        return None
