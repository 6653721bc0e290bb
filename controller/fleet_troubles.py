"""Troubles that are the whole fleet's: a credential that is refused, a daemon that its people must restart.

Every tester that comes upon one waits shortly and says so; what it is and what mends it is told once, as a condition of the
fleet (`BackendsUsable`). When it is over, everybody who waits for it goes on at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from controller.passes.outcomes import TOKEN_REFUSED, fleet_wide
from controller.records import AddEvent, Change, Condition, Event, PutCondition, Severity, Status
from controller.store import Store, StoreError
from controller.world import World
from reconcilers.clock import Clock
from reconcilers.errors import OutsideError

log = logging.getLogger("controller")

CONDITION = "BackendsUsable"

Trouble = tuple[str, str]
"""Its reason, and the system that it is about."""


@dataclass
class FleetTroubles:
    """Compares what testers wait for with what was told. `wake`: has a tester looked at now."""

    store: Store
    clock: Clock
    wake: Callable[[str], None]
    _waiting: dict[Trouble, frozenset[str]] = field(default_factory=dict)  # who did at the last comparison
    _compared: int = -1  # how many commits there had been by then

    async def look(self, world: World | None) -> None:
        """A store that cannot be read or written is tried the next time. Where nobody waited and nothing was written since,
        nobody waits: everybody's conditions are much to read once a minute."""
        commits = self.store.commits
        if world is None or (not self._waiting and commits == self._compared):
            return
        try:
            told = (*await self.store.conditions(""), *await self.store.failing_conditions())
            waiting = _by_trouble(told)
            over = [each for each in waiting if await self._is_over(each, waiting, world)]
            again = [condition for each in over for condition in waiting[each]]
            left = {trouble: found for trouble, found in waiting.items() if trouble not in over}
            released = [PutCondition(replace(condition, retry_at=None)) for condition in again]
            await self.store.write(*released, *self._news(told, left))
        except StoreError as error:
            log.warning("troubles of the fleet are not looked for: %s", error)
            return
        self._waiting = {trouble: _testers(found) for trouble, found in left.items()}
        self._compared = commits
        for name in {condition.tester for condition in again}:
            self.wake(name)

    async def _is_over(self, trouble: Trouble, waiting: Mapping[Trouble, Sequence[Condition]], world: World) -> bool:
        """Forge says so itself, to one who asks for all; of the others, when one of those who waited does not any more."""
        if trouble[0] != TOKEN_REFUSED:
            return bool(self._waiting.get(trouble, frozenset()) - _testers(waiting[trouble]))
        try:
            await world.backends.forge.whoami()
        except OutsideError:
            return False
        return True

    def _news(self, told: Sequence[Condition], left: Mapping[Trouble, Sequence[Condition]]) -> list[Change]:
        known = next((each for each in told if (each.tester, each.type) == ("", CONDITION)), None)
        if not left and (known is None or known.status is Status.TRUE):
            return []
        status = Status.FALSE if left else Status.TRUE
        reason = min(left)[0] if left else CONDITION
        text = "; ".join(map(in_words, sorted(left))) or "every backend takes our calls again"
        if known is not None and (known.status, known.reason, known.message) == (status, reason, text):
            return []
        now = self.clock.now()
        same = known is not None and (known.status, known.reason) == (status, reason)
        since = known.since if same and known is not None else now
        condition = Condition("", CONDITION, status, reason, text, 0, since, blames="an admin" if left else "")
        severity = Severity.WARNING if left else Severity.NORMAL
        return [PutCondition(condition), AddEvent(Event("", "fleet", reason, text, now, severity))]


def _by_trouble(told: Sequence[Condition]) -> dict[Trouble, list[Condition]]:
    """The steps that wait for each. What is derived from a step says the same, and has no next try."""
    found: dict[Trouble, list[Condition]] = {}
    for condition in told:
        if condition.tester and condition.failures and fleet_wide(condition.reason, condition.blames) is not None:
            found.setdefault((condition.reason, condition.blames), []).append(condition)
    return found


def _testers(found: Sequence[Condition]) -> frozenset[str]:
    return frozenset(condition.tester for condition in found)


def in_words(trouble: Trouble) -> str:
    reason, system = trouble
    known = fleet_wide(reason, system)
    return (
        ""
        if known is None
        else f"{system} {known.what}: {known.cure}; whoever needs it waits, and goes on by itself then"
    )
