"""Whether a revision's Fleet may take the last good one's place: not while it leaves out what testers still use.

What such a Fleet leaves out could neither be looked after nor taken away. So the last good one stays in force, the error
says whose it is and what to do, and everything else of the revision counts: testers that leave do so under the last good
Fleet, and once nobody uses any more what is left out, the next reading of the same revision takes its Fleet in.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from typing import TypeVar

from pydantic import ValidationError

from controller.store import Store
from reconcilers.facts import EngineAccessFacts, GatewayFacts, MachineFacts, ObjectState, OutsideObject
from specs.fleet import Fleet
from specs.fleet_use import InUse, LeftOut, check_left_out, left_out
from specs.loading import Loaded

log = logging.getLogger("controller")

STANDING = (MachineFacts.step, GatewayFacts.step)
OPEN = frozenset(ObjectState) - {ObjectState.GONE}
ON_ITS_WAY = frozenset({ObjectState.INTENDED, ObjectState.RETIRING})  # a lost one without a place was never sent


async def kept_to_what_is_used(loaded: Loaded, store: Store) -> Loaded:
    """The revision, with its Fleet refused when it leaves out what testers use. Raises StoreError."""
    last = await last_good_fleet(store)
    if not loaded.readable or loaded.fleet is None or last is None:
        return loaded
    left = left_out(last, loaded.fleet)
    if not left:
        return loaded
    findings = check_left_out(left, loaded.fleet, await _in_use(left, store))
    return await asyncio.to_thread(loaded.refusing, findings, last) if findings else loaded


async def last_good_fleet(store: Store) -> Fleet | None:
    """That any source gave; None too when this program does not understand it any more. Raises StoreError."""
    known = await store.fleet()
    try:
        return None if known is None else Fleet.from_books(known[0])
    except ValidationError as error:
        log.error("the last good Fleet is not understood any more (%d errors)", error.error_count())
        return None


async def _in_use(left: LeftOut, store: Store) -> InUse:
    """Only what is asked for is read: a Fleet that leaves nothing out costs nothing."""
    daemons: defaultdict[str, set[str]] = defaultdict(set)
    nodes: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for step in STANDING if left.daemons or left.nodes else ():
        for row in await store.objects(step, OPEN):
            _count(row, left, daemons, nodes)
    engines: defaultdict[str, set[str]] = defaultdict(set)
    if left.engines:
        for tester, facts in (await store.facts_of_all((EngineAccessFacts.step,))).items():
            access = facts.get(EngineAccessFacts.step)
            for name in access.engines if isinstance(access, EngineAccessFacts) else ():
                engines[name].add(tester)
    return InUse(_sorted(daemons), _sorted(nodes), _sorted(engines))


def _count(
    row: OutsideObject, left: LeftOut, daemons: dict[str, set[str]], nodes: dict[tuple[str, str], set[str]]
) -> None:
    """What is being made and has no place yet may be on its way to any of those left out."""
    daemon, sid = row.identity.get("daemon"), row.identity.get("node_sid")
    if not daemon and row.state in ON_ITS_WAY:
        for name in left.daemons:
            daemons[name].add(row.tester)
        for node in left.nodes:
            nodes[node].add(row.tester)
    elif daemon:
        daemons[daemon].add(row.tester)
        if sid:
            nodes[daemon, sid].add(row.tester)


K = TypeVar("K", bound="str | tuple[str, str]")


def _sorted(users: dict[K, set[str]]) -> dict[K, tuple[str, ...]]:
    return {place: tuple(sorted(names)) for place, names in users.items()}
