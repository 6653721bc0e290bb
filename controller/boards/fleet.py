"""The fleet as one page: counts, what needs a person, and a part of the testers, filtered and sorted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from controller.boards.ground import Ground
from controller.boards.needs import Need, needs
from controller.queries import Queries, TesterSummary
from controller.records import Phase, RevisionRecord, TesterRecord
from controller.revisions import judged
from controller.store import Store

ROWS: Final = 200
"""Testers on one page."""

GRAVEST_FIRST: Final = (
    Phase.STALLED,
    Phase.FAILING,
    Phase.REMOVING,
    Phase.WAITING,
    Phase.PROGRESSING,
    Phase.PENDING,
    Phase.PAUSED,
    Phase.READY,
    Phase.EXPIRED,
)


class Sort(StrEnum):
    """By what the list is sorted."""

    NAME = "name"
    STATE = "state"
    PROGRESS = "progress"
    NODE = "node"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Wishes:
    """Which testers, in which order. `page` counts from 1."""

    text: str = ""
    phase: Phase | None = None
    node: str = ""
    sort: Sort = Sort.NAME
    descending: bool = False
    page: int = 1


@dataclass(frozen=True, slots=True)
class FleetBoard:
    """`matched` testers are as wished for; `testers` are those on this page."""

    total: int
    phases: Mapping[Phase, int]
    nodes: tuple[str, ...]
    needs: tuple[Need, ...]
    revision: RevisionRecord | None
    testers: tuple[TesterSummary, ...]
    matched: int
    page: int
    pages: int


async def fleet_board(
    ground: Ground, store: Store, ask: Queries, wishes: Wishes, *, world_error: str, now: datetime
) -> FleetBoard:
    """Raises StoreError."""
    matching = _sorted([each for each in ground.records if _matches(each, wishes, ground)], wishes, ground)
    pages = max(1, -(-len(matching) // ROWS))
    page = min(max(wishes.page, 1), pages)
    shown = matching[(page - 1) * ROWS : page * ROWS]
    counts = Counter(each.phase for each in ground.records)
    return FleetBoard(
        total=len(ground.records),
        phases={phase: counts[phase] for phase in GRAVEST_FIRST if counts[phase]},
        nodes=tuple(sorted({node for each in ground.records if (node := ground.node_of(each.name))})),
        needs=needs(ground, world_error, now),
        revision=await _revision(ground, store, now),
        testers=await ask.summaries([each.name for each in shown]),
        matched=len(matching),
        page=page,
        pages=pages,
    )


async def _revision(ground: Ground, store: Store, now: datetime) -> RevisionRecord | None:
    """The one in force, as it stands now."""
    if ground.source is None or not ground.source.revision:
        return None
    known = await store.revision(ground.source.revision)
    return None if known is None else judged(known, ground.source, ground.records, ground.ready, now)


def _matches(record: TesterRecord, wishes: Wishes, ground: Ground) -> bool:
    if wishes.phase is not None and record.phase is not wishes.phase:
        return False
    if wishes.node and ground.node_of(record.name) != wishes.node:
        return False
    text = wishes.text.casefold()
    if not text:
        return True
    ready = ground.ready.get(record.name)
    told = (record.name, record.desired.account.name, record.current, ready.message if ready else "")
    return any(text in each.casefold() for each in told)


def _sorted(found: list[TesterRecord], wishes: Wishes, ground: Ground) -> list[TesterRecord]:
    """Equals stay by name, whichever way the list runs. The gravest, and what changed last, come first."""
    keys: dict[Sort, Callable[[TesterRecord], Any]] = {
        Sort.NAME: lambda one: one.name,
        Sort.STATE: lambda one: GRAVEST_FIRST.index(one.phase),
        Sort.PROGRESS: lambda one: one.progress,
        Sort.NODE: lambda one: ground.node_of(one.name),
        Sort.CHANGED: lambda one: -last_change(one, ground).timestamp(),
    }
    return sorted(found, key=keys[wishes.sort], reverse=wishes.descending)


def last_change(record: TesterRecord, ground: Ground) -> datetime:
    """Of its spec, or of how it stands."""
    ready = ground.ready.get(record.name)
    return max(record.changed_at, ready.since) if ready is not None else record.changed_at
