"""Which testers a list shows, in which order, page by page. Pure: it chooses among what the books tell.

A page ends with a cursor: the place of its last line in the order asked for. The next page begins behind that place, so that
nobody is skipped or shown twice because others came, went or moved meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controller.boards.components import versions_of
from controller.passes.status import READY
from controller.records import Condition, Phase, Status
from controller.store.briefs import Brief
from reconcilers.facts import GatewayFacts, MachineFacts

NO_NODE: Final = "-"
"""Asks for those whose machine is on no node yet."""

LARGEST_CURSOR: Final = 1000
"""Characters. Ours are far shorter."""

Key = str | float


class BadCursor(ValueError):
    """It is none of ours, or belongs to another order."""


class Sort(StrEnum):
    """What a list may be ordered by; the name decides between equals."""

    NAME = "name"
    PHASE = "phase"  # who needs somebody first
    PROGRESS = "progress"
    CHANGED = "changed"  # when the spec did
    SINCE = "since"  # when the reason did
    NODE = "node"
    REASON = "reason"


@dataclass(frozen=True, slots=True)
class ConditionWish:
    """Testers that have a condition, of this status and reason if they are given."""

    type: str
    status: Status | None = None
    reason: str = ""

    def fits(self, known: Mapping[str, Condition]) -> bool:
        one = known.get(self.type)
        if one is None:
            return False
        return self.status in (None, one.status) and self.reason in ("", one.reason)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; all of it must hold. `node`: a daemon, one of its nodes (`gent/0001`), or NO_NODE. `component`: in the
    spec or on the machine; `version`: that it is seen to have. `text`: part of a name, account, node, address or reason,
    whatever the case. `cursor`: where the last page ended."""

    phases: frozenset[Phase] = frozenset()
    node: str = ""
    conditions: tuple[ConditionWish, ...] = ()
    component: str = ""
    version: str = ""
    text: str = ""
    sort: Sort = Sort.NAME
    descending: bool = False
    cursor: str = ""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Chosen:
    """One page. `total`: of all pages; `next`: the cursor of the page behind it, "" when there is none."""

    items: tuple[Brief, ...]
    total: int
    next: str


def chosen(testers: Iterable[Brief], wish: Wish) -> Chosen:
    """Raises BadCursor."""
    key = _KEYS[wish.sort]
    fitting = [(key(one), one.record.name, one) for one in testers if fits(one, wish)]
    fitting.sort(key=lambda each: each[:2], reverse=wish.descending)
    total = len(fitting)
    if wish.cursor:
        behind = _place(wish)
        fitting = [each for each in fitting if (each[:2] < behind if wish.descending else each[:2] > behind)]
    page = fitting[: wish.limit]
    more = len(fitting) > len(page)
    return Chosen(tuple(one for _, _, one in page), total, _cursor(wish, *page[-1][:2]) if more and page else "")


def fits(one: Brief, wish: Wish) -> bool:
    """Whether a tester is among those asked for; the cheapest questions come first."""
    if wish.phases and one.record.phase not in wish.phases:
        return False
    if wish.node and not _is_on(node_of(one), wish.node):
        return False
    if not all(each.fits(one.conditions) for each in wish.conditions):
        return False
    if wish.component and not _has(one, wish.component, wish.version):
        return False
    return not wish.text or wish.text.casefold() in _words(one)


def node_of(one: Brief) -> str:
    """`gent/0001`; "" while there is no machine."""
    machine = one.facts.get(MachineFacts.step)
    return f"{machine.daemon}/{machine.node_sid}" if isinstance(machine, MachineFacts) else ""


def _is_on(node: str, wanted: str) -> bool:
    if wanted == NO_NODE:
        return not node
    return node == wanted or node.partition("/")[0] == wanted


def _has(one: Brief, component: str, version: str) -> bool:
    if version:
        return versions_of(one.facts).get(component) == version
    return any(each.name == component for each in one.record.desired.components) or component in versions_of(one.facts)


def _words(one: Brief) -> str:
    ready, gateway = one.conditions.get(READY), one.facts.get(GatewayFacts.step)
    told = (ready.reason, ready.message) if ready is not None else ()
    address = (gateway.fqdn,) if isinstance(gateway, GatewayFacts) else ()
    record = one.record
    words = (record.name, record.desired.account.name, record.current, record.source_error, node_of(one))
    return "\n".join((*words, *told, *address)).casefold()


_GRAVITY: Final = {
    phase: float(place)
    for place, phase in enumerate(
        (
            Phase.STALLED,
            Phase.FAILING,
            Phase.WAITING,
            Phase.PROGRESSING,
            Phase.PENDING,
            Phase.REMOVING,
            Phase.PAUSED,
            Phase.EXPIRED,
            Phase.READY,
        )
    )
}


def _since(one: Brief) -> float:
    ready = one.conditions.get(READY)
    return ready.since.timestamp() if ready is not None else 0.0


def _reason(one: Brief) -> str:
    ready = one.conditions.get(READY)
    return ready.reason if ready is not None else ""


_KEYS: Final[Mapping[Sort, Callable[[Brief], Key]]] = {
    Sort.NAME: lambda one: one.record.name,
    Sort.PHASE: lambda one: _GRAVITY[one.record.phase],
    Sort.PROGRESS: lambda one: float(one.record.progress),
    Sort.CHANGED: lambda one: one.record.changed_at.timestamp(),
    Sort.SINCE: _since,
    Sort.NODE: node_of,
    Sort.REASON: _reason,
}

_TEXTS: Final = frozenset({Sort.NAME, Sort.NODE, Sort.REASON})


def _order(wish: Wish) -> str:
    return f"-{wish.sort}" if wish.descending else str(wish.sort)


def _cursor(wish: Wish, key: Key, name: str) -> str:
    told = json.dumps([_order(wish), key, name], separators=(",", ":"))
    return base64.urlsafe_b64encode(told.encode()).decode().rstrip("=")


def _place(wish: Wish) -> tuple[Key, str]:
    """Raises BadCursor."""
    try:
        padded = wish.cursor[:LARGEST_CURSOR] + "=" * (-len(wish.cursor[:LARGEST_CURSOR]) % 4)
        order, key, name = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise BadCursor("the cursor is none of ours: take `next` of the page before, as it is") from None
    if order != _order(wish):
        raise BadCursor("the cursor belongs to a list in another order: ask for that one, or begin anew")
    right = isinstance(key, str) if wish.sort in _TEXTS else isinstance(key, float | int)
    if not right or not isinstance(name, str):
        raise BadCursor("the cursor is none of ours: take `next` of the page before, as it is")
    return key, name
