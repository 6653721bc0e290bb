"""What became of a revision, told where it was pushed: a status of its commit.

Whatever changes in the books may change the verdict; it is told when it says something else than what was told last. Telling
it twice does no harm, so nothing is written down before the call. Who cannot be told now is told later; no tester waits for it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from controller.records import PutRevision, RevisionRecord, RevisionState
from controller.revisions import newest_judged
from controller.store import Store, StoreError
from reconcilers.clock import Clock
from reconcilers.errors import OutsideError, Rejected

log = logging.getLogger("controller")

EVERY: Final = timedelta(seconds=2)
RETRY: Final = timedelta(minutes=1)
COUNTS_EVERY: Final = timedelta(seconds=10)
"""While a revision is on its way, its count is told no oftener: a thousand testers are not a thousand statuses."""
MOST_REFUSALS: Final = 5
"""So often a verdict is offered, each time after twice as long."""
LOOKED_BACK: Final = 20
"""So many revisions may still be told that a newer one has taken their place."""

Tell = Callable[[RevisionRecord], Awaitable[bool]]
"""Publishes a verdict. False: there is nowhere to. Raises OutsideError."""


@dataclass(frozen=True)
class Refusal:
    """A verdict that Forge did not take, so many times, and when it is offered again."""

    words: str
    times: int
    again: datetime


@dataclass
class Publisher:
    """`tell` is asked only for verdicts that were not told yet."""

    store: Store
    clock: Clock
    tell: Tell
    _seen: int = -1  # commits of the store when it was judged last
    _not_before: datetime | None = None
    _counted: datetime | None = None  # when a count was told last
    _owing: bool = False  # something waits for its time
    _refused: dict[str, Refusal] = field(default_factory=dict)  # by revision

    async def look(self) -> None:
        """Judge the revision in force, and tell what is new. A store that cannot be used is tried the next time."""
        now, commits = self.clock.now(), self.store.commits
        retried = self._not_before is not None and now >= self._not_before
        if commits == self._seen and not retried and not self._owing:
            return
        try:
            untold = await self._judge(now)
            if self._not_before is None or retried:
                await self._publish(untold, now)
            self._seen = commits  # what was written meanwhile, by ourselves too, is looked at the next time
        except StoreError as error:
            log.warning("what became of the revision is not told now: %s", error)

    async def _judge(self, now: datetime) -> list[RevisionRecord]:
        """Write down what has changed; those whose verdict was not told yet, oldest first."""
        records = await self.store.revisions(LOOKED_BACK)
        news = await newest_judged(self.store, LOOKED_BACK, now)
        known = {each.revision: each for each in records}
        await self.store.write(*(PutRevision(new) for new in news if known.get(new.revision, new) != new))
        self._refused = {each.revision: self._refused[each.revision] for each in news if each.revision in self._refused}
        untold = [each for each in news if in_words(each) != each.told and not self._is_given_up(each)]
        due = [each for each in reversed(untold) if self._is_due(each, now)]
        self._owing = len(due) < len(untold)
        return due

    def _refusal(self, record: RevisionRecord) -> Refusal | None:
        """Of this very verdict."""
        known = self._refused.get(record.revision)
        return known if known is not None and known.words == in_words(record) else None

    def _is_given_up(self, record: RevisionRecord) -> bool:
        known = self._refusal(record)
        return known is not None and known.times >= MOST_REFUSALS

    def _is_due(self, record: RevisionRecord, now: datetime) -> bool:
        refused = self._refusal(record)
        if refused is not None and now < refused.again:
            return False
        only_counts = record.state is RevisionState.PENDING and record.told.startswith(f"{RevisionState.PENDING}:")
        return not only_counts or self._counted is None or now - self._counted >= COUNTS_EVERY

    async def _publish(self, untold: list[RevisionRecord], now: datetime) -> None:
        """What fails is tried again in a while. What is refused a few times more: Forge may know a commit a little later than
        its repository does."""
        self._not_before = None
        for record in untold:
            try:
                if await self.tell(record):
                    self._counted = now
                    await self.store.write(PutRevision(replace(record, told=in_words(record))))
            except Rejected as error:
                known = self._refusal(record)
                times = 1 if known is None else known.times + 1
                self._refused[record.revision] = Refusal(in_words(record), times, now + RETRY * 2 ** (times - 1))
                self._owing = True
                log.warning("the status of %s is not taken: %s", record.revision[:12], error)
            except OutsideError as error:
                self._not_before = now + RETRY
                log.warning("the status of %s is not told yet: %s", record.revision[:12], error)
                return


def in_words(record: RevisionRecord) -> str:
    """What is told, in one line: equal lines are told once."""
    return f"{record.state}: {record.text}"
