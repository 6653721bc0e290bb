"""Whether a controller works on a store just now: for whoever reads the books and must not mistake old ones for new."""

from __future__ import annotations

import fcntl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from controller.store.address import is_in_memory, is_postgres, normal, place_of
from controller.store.alone import LOCK, WHO, lock_path
from controller.store.errors import readable


@dataclass(frozen=True, slots=True)
class AtWork:
    """`at`: when a controller was last seen to be (UTC); None: that is not known, or one is."""

    now: bool
    at: datetime | None = None


async def at_work(url: str) -> AtWork:
    """Never waits for who holds the store. Raises StoreError when a server cannot be asked."""
    address = normal(url)
    if is_in_memory(address):
        return AtWork(False)
    if not is_postgres(address):
        return _file(lock_path(address))
    from controller.store.postgres import holding_engine  # slow to import: only who has a server pays for its driver

    engine = holding_engine(address, "testerctl")
    try:
        async with engine.connect() as connection:
            return AtWork((await connection.execute(WHO, {"lock": LOCK})).first() is not None)
    except SQLAlchemyError as error:
        raise readable(place_of(address), error) from error
    finally:
        await engine.dispose()


def _file(path: Path) -> AtWork:
    """Held for an instant to see whether it is free; who begins to work just then tries again."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return AtWork(False, datetime.fromtimestamp(path.stat().st_mtime, UTC))
    except BlockingIOError:
        return AtWork(True)
    except OSError:
        return AtWork(False)
