"""One demo to a folder: its world and its specs are there as well as its books."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.complaint import Complaint


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Hold the folder's lock; it falls when the process ends, however it ends. Raises Complaint when somebody holds it."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state / "controller.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Complaint(
                f"Another demo runs in {state} already. "
                "Stop that one first, or give this one a folder of its own (--state)."
            ) from None
        yield
