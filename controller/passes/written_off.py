"""What is lost with a daemon, a node or an engine that the Fleet calls gone for good: written off, and never waited for.

Rows there are closed as gone and their facts forgotten, so that the same pass goes on as if they had never been: what is
wanted is made anew elsewhere, and who leaves has nothing left there. Only a person's word in the Fleet does this: nobody
looks after what may still run there after all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime

from controller.passes.operations import Operation, RowKey
from controller.passes.snapshot import Snapshot
from controller.records import AddEvent, Change, DropFacts, Event, PutObject, Severity, Unseal
from reconcilers.engine_rules import without
from reconcilers.engine_tokens import sealed_token
from reconcilers.facts import EngineAccessFacts, Facts, GatewayFacts, MachineFacts, ObjectState, OutsideObject
from specs.gone import Gone

STANDING = (GatewayFacts.step, MachineFacts.step)


async def write_off(snapshot: Snapshot, gone: Gone, under_way: Collection[Operation], now: datetime) -> None:
    """Write down what is lost. The end of an operation `under_way` comes before its row is closed. Raises StoreError."""
    busy = {(each.step, each.row) for each in under_way}
    for step, changes in losses(snapshot, gone, busy, now):
        await snapshot.commit(step, *changes)


def losses(
    snapshot: Snapshot, gone: Gone, busy: Collection[tuple[str, RowKey | None]], now: datetime
) -> list[tuple[str, tuple[Change, ...]]]:
    """Step and changes, for every step that loses something. `busy`: steps and their rows that are left alone. Pure."""
    return list(_losses(snapshot, gone, busy, now))


def _losses(
    snapshot: Snapshot, gone: Gone, busy: Collection[tuple[str, RowKey | None]], now: datetime
) -> Iterator[tuple[str, tuple[Change, ...]]]:
    facts = snapshot.facts()
    for step in STANDING:
        free = [row for row in snapshot.rows(step) if (step, (row.incarnation, row.attempt)) not in busy]
        lost = [row for row in free if _is_lost(row, gone)]
        if lost:
            changes = [change for row in lost for change in _closed(row, snapshot, now)]
            yield step, (*changes, *_forgotten(step, facts, gone))
    access = facts.get(EngineAccessFacts)
    if access is not None and gone.engines & set(access.engines):
        yield EngineAccessFacts.step, tuple(_tokens(access, snapshot, gone, now))


def _is_lost(row: OutsideObject, gone: Gone) -> bool:
    daemon = row.identity.get("daemon")
    return daemon is not None and gone.place(daemon, row.identity.get("node_sid", ""))


def _closed(row: OutsideObject, snapshot: Snapshot, now: datetime) -> tuple[Change, ...]:
    place = "/".join(part for part in (row.identity.get("daemon"), row.identity.get("node_sid")) if part)
    text = f"{row.step} {row.name} was at {place}, which is gone for good, the Fleet says: it is counted as lost"
    closed = replace(row, state=ObjectState.GONE, since=now, deadline=None, missing_since=None)
    return PutObject(closed), _told(snapshot, row.step, text, now)


def _forgotten(step: str, facts: Facts, gone: Gone) -> tuple[Change, ...]:
    """The facts of the present object, unless it stands elsewhere already."""
    machine, gateway = facts.get(MachineFacts), facts.get(GatewayFacts)
    known = {
        MachineFacts.step: machine is not None and gone.place(machine.daemon, machine.node_sid),
        GatewayFacts.step: gateway is not None and gone.place(gateway.daemon),
    }
    return (DropFacts(facts.tester, step),) if known[step] else ()


def _tokens(access: EngineAccessFacts, snapshot: Snapshot, gone: Gone, now: datetime) -> Iterator[Change]:
    for name in sorted(gone.engines & set(access.engines)):
        access = without(access, name)
        yield Unseal(f"{snapshot.name}/{sealed_token(name)}")
        text = f"engine {name} is gone for good, the Fleet says: the token there is counted as lost with it"
        yield _told(snapshot, EngineAccessFacts.step, text, now)
    yield snapshot.fact_change(access)


def _told(snapshot: Snapshot, step: str, text: str, now: datetime) -> AddEvent:
    return AddEvent(Event(snapshot.name, step, "LostForGood", text, now, Severity.WARNING, snapshot.record.generation))
