"""Says when nobody keeps the books that are shown: whoever reads them must not take old state for new."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from api.books import places
from api.options import FLEET
from api.terminal import err, text
from api.words import ago
from controller.queries import Queries
from controller.store.working import at_work


@dataclass(frozen=True, slots=True)
class Watched:
    """Whether a controller works on the books now; else when there was last a sign of one, None when that is unknown."""

    now: bool
    last: datetime | None = None


async def watched(state: Path, ask: Queries) -> Watched:
    """Raises StoreError."""
    found = await at_work(places(FLEET, state).url)
    return Watched(True) if found.now else Watched(False, found.at or await ask.last_sign())


def tell(found: Watched, now: datetime) -> None:
    """One line to people, where nobody works on the books."""
    if found.now:
        return
    when = f"last sign of one: {ago(found.last, now)}" if found.last else "there is no sign that one ever did"
    words = f"No controller works on these books ({when}): what is shown was so then. Start one with `testerctl run`."
    err().print(text(words, "yellow"), soft_wrap=True)
