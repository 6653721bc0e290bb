"""Which reading of the source the books were compared with last. The very same one is not compared with ten thousand rows again
each minute, in which an edit would wait; as a net under what changes rows behind our back, it is from time to time."""

from __future__ import annotations

from datetime import datetime, timedelta

from controller.intake import Revision, Taken
from reconcilers.clock import Clock

AGAIN = timedelta(minutes=10)


class Compared:
    """Of one who follows the source: whoever does so after somebody else begins with a new one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: tuple[Revision, datetime] | None = None

    def tells_nothing_new(self, revision: Revision) -> bool:
        """Whether it is the very reading that was compared last, today and not long ago, of which everything was taken in."""
        if self._last is None:
            return False
        (last, at), now = self._last, self._clock.now()
        same = last.loaded is revision.loaded and (last.source, last.id) == (revision.source, revision.id)
        return same and not revision.rewrites and at <= now < at + AGAIN and at.date() == now.date()

    def note(self, revision: Revision, taken: Taken) -> None:
        """What came of comparing it. Where something is held back or wrong, the next reading may find that it need not be."""
        at: datetime | None = self._clock.now()
        if revision.edit is not None:  # nobody else was compared
            at = self._last[1] if self._last is not None and self._last[0].id == revision.edit.of else None
        self._last = (revision, at) if at is not None and not taken.held and not taken.errors else None
