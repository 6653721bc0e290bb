"""What every board of the whole fleet stands on: rows, `Ready` and facts of all testers, made at most once between two commits.

A page of a thousand testers asks for parts of itself whenever something changes; all of them share one reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from controller.passes.status import LASTING, NEEDED_FINDINGS, READY, STALLED
from controller.quarantine import IN_QUARANTINE
from controller.records import Condition, SourceState, Status, TesterRecord
from controller.store.briefs import Brief
from reconcilers.facts import MachineFacts, StepFacts

_ONE_OF_EACH = ("OneMachine", "OneGateway", "OneSignInApp")


@dataclass(frozen=True)
class Ground:
    """All testers, by name; their `Ready`, what stops them, doors, doubles and last days; where machines and gateways are."""

    records: tuple[TesterRecord, ...]
    ready: Mapping[str, Condition]
    stopped: Mapping[
        str, Condition
    ]  # by tester: where nothing goes on until somebody acts, `Ready` may name another step
    open_doors: tuple[Condition, ...]
    quarantined: tuple[Condition, ...]
    expiring: tuple[Condition, ...]
    facts: Mapping[str, Mapping[str, StepFacts]]
    fleet: tuple[Condition, ...]
    source: SourceState | None

    def node_of(self, name: str) -> str:
        """`gent/0001`; "" while a tester has no machine."""
        machine = self.facts.get(name, {}).get(MachineFacts.step)
        return f"{machine.daemon}/{machine.node_sid}" if isinstance(machine, MachineFacts) else ""


@dataclass
class GroundKeeper:
    """Keeps the last one while there is no news. `position`: where they are (`controller.news`); `make`: how one is made
    (`controller.queries.Queries.ground`)."""

    position: Callable[[], str]
    make: Callable[[], Awaitable[Ground]]
    _kept: Ground | None = None
    _at: str = ""
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def now(self) -> Ground:
        """Raises StoreError."""
        async with self._making:
            at = self.position()  # before it is made, so that nothing is missed
            if self._kept is None or at != self._at:
                self._kept, self._at = await self.make(), at
            return self._kept


def ground_of(testers: Iterable[Brief], fleet: tuple[Condition, ...], source: SourceState | None) -> Ground:
    """From what is at hand already."""
    every = tuple(testers)
    told = [one for each in every for one in each.conditions.values()]
    return Ground(
        records=tuple(each.record for each in every),
        ready={each.record.name: each.conditions[READY] for each in every if READY in each.conditions},
        stopped={one.tester: one for one in told if one.type == STALLED and one.status is Status.TRUE},
        open_doors=tuple(one for one in told if one.type in NEEDED_FINDINGS and one.status is Status.FALSE),
        quarantined=tuple(one for one in told if one.type in _ONE_OF_EACH and one.reason == IN_QUARANTINE),
        expiring=tuple(one for one in told if one.type == LASTING and one.status is Status.FALSE),
        facts={each.record.name: each.facts for each in every},
        fleet=fleet,
        source=source,
    )
