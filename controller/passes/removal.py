"""A pass over a tester who is leaving: access first, then what stands, each until it is seen to be gone.

What lives on the machine goes with it; the door there is shut and the tester's keys are taken at once, if it answers. What
is still being made is not waited for: the call is cut off, its outcome is unknown, and what appears late is deleted before
the row falls. During `keepAfterRemoval` the gateway and the machine stay with the door shut, so that putting the file back
restores them. The tester's row is the finaliser: it falls when nothing of ours is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from controller.passes import rows
from controller.passes.acting import Draining, key_of
from controller.passes.converging import Pass
from controller.passes.operations import Operation
from controller.passes.outcomes import Kind, StepOutcome, in_sync, waiting
from controller.records import AddEvent, Change, DropTester, Event, PutObject
from controller.store import SpecChanged, StoreError
from controller.world import Step
from reconcilers.actions import Wait
from reconcilers.facts import FACTS, OutsideObject

ACCESS = "access"
STANDING = "standing"


async def remove(one: Pass) -> timedelta | None:
    """Take away what can be taken now. Returns when to look again, None when nothing is left and the row is dropped."""
    # In reverse: what was made last goes first, and the door before everything.
    steps = list(reversed(one.world.steps))
    steps.sort(key=_on_machine)  # a machine that does not answer holds up nothing that is elsewhere
    steps.sort(key=lambda step: not step.watches)
    steps.sort(key=lambda step: step.leaves == STANDING)
    steps = [step for step in steps if step.leaves in (ACCESS, STANDING)]
    kept_until = _kept_until(one)
    kept = one.bench.clock.now() < kept_until
    stays = [step for step in steps if kept and step.leaves == STANDING]
    if await _preempt(one, [step for step in steps if step not in stays]):
        return timedelta(0)  # the books were read before that
    outcomes: list[StepOutcome] = []
    in_front: Operation | None = None
    for step in steps:
        if step in stays:
            outcomes += [_kept(step, kept_until, one)] if one.snapshot.rows(step.name) else []
            continue
        if not await _still_leaving(one):
            return timedelta(0)  # put back: the next pass goes the other way
        try:
            outcomes.append(await _leave(one, step, in_front if step.leaves == STANDING else None))
        except SpecChanged:
            return timedelta(0)
        if outcomes[-1].kind is not Kind.IN_SYNC:
            in_front = in_front or _first_try(one, step)
    if not kept:
        outcomes = _excused(one, outcomes)
    if all(outcome.kind is Kind.IN_SYNC for outcome in outcomes):
        if not await _still_leaving(one):
            return timedelta(0)
        if one.snapshot.record.named:
            return await one.close(outcomes)
        await one.bench.operations.cut_off(one.bench.operations.of(one.name), "what it was about is seen to be gone")
        await _finalise(one)
        return None
    next_look = await one.close(outcomes)
    if not kept or not _waits_only(outcomes):
        return next_look
    return min(next_look, max(kept_until - one.bench.clock.now(), timedelta(0)))


async def _still_leaving(one: Pass) -> bool:
    record = await one.bench.store.tester(one.name)
    return record is not None and record.leaving


async def _preempt(one: Pass, steps: Sequence[Step]) -> bool:
    """Stop waiting for what these steps are making. Deletes go on: they are what a removal wants."""
    names = {step.name for step in steps}
    operations = [op for op in one.bench.operations.of(one.name) if op.makes and op.step in names]
    await one.bench.operations.cut_off(operations, "the tester leaves")
    return bool(operations)


async def _leave(one: Pass, step: Step, in_front: Operation | None) -> StepOutcome:
    """Make one step's things go, after the operation in front of it. IN_SYNC means that nothing of it is left."""
    if one.left_alone(step):
        known = one.condition(step)
        if known is not None:
            return one.as_it_was(step, known)
    if not step.makes:
        if one.lacking(step) and not one.has_begun(step):
            return in_sync(step.name)  # it never came so far that there could be anything
        return await one.turn(step).leave()
    if in_front is not None and not one.under_way.of(step.name) and rows.ours(one.snapshot, step.name):
        return waiting(step.name, rows.wait_for(in_front), one.world.poll)
    return await _leave_rows(one, step)


def _first_try(one: Pass, step: Step) -> Operation | None:
    """A delete under way whose answer is waited for by what goes after it. Only of the first try: what cannot go does not
    keep the rest."""
    known = one.condition(step)
    if known is not None and known.failures:
        return None
    return next(iter(one.under_way.of(step.name)), None)


async def _leave_rows(one: Pass, step: Step) -> StepOutcome:
    turn = one.turn(step)
    ended = one.bench.operations.take_failed(one.name, step.name)
    errors = {op.row: op.error for op in ended if not op.makes}  # what an old wish came to does not matter any more
    left: list[OutsideObject] = []
    failed: StepOutcome | None = None
    for row in rows.ours(one.snapshot, step.name):
        earlier = errors.get(key_of(row))
        try:
            if earlier is not None:
                failed = failed or turn.told(earlier)
            elif not await turn.settle(row):
                left.append(row)
        except (Draining, SpecChanged, StoreError):
            raise
        except Exception as error:  # one row that cannot go does not hold up the others
            failed = failed or turn.failed(error)
    if failed is not None:
        return turn.completed(failed)
    return turn.completed(_going(one, step, left))


def _going(one: Pass, step: Step, left: Sequence[OutsideObject]) -> StepOutcome:
    """What the rows that are left wait for: an answer, or to be seen to be gone."""
    if not left:
        return in_sync(step.name)
    operation = next(iter(one.under_way.of(step.name)), None)
    if operation is not None:
        return waiting(step.name, rows.wait_for(operation), one.world.poll)
    timing = one.world.fleet.spec.timing
    limit = timing.deploy_limit + 3 * timing.listing_grace  # the call's own, a listing that lags, and seen twice
    names = ", ".join(row.name for row in left)
    wait = Wait("Removing", f"until {names} is seen to be gone", limit, step.name)
    return waiting(step.name, wait, one.world.poll)


def _excused(one: Pass, outcomes: Sequence[StepOutcome]) -> list[StepOutcome]:
    """A dead machine is no obstacle: once the gateway and the machine are gone, there is no door left to shut, and no key."""
    gone = {outcome.step for outcome in outcomes if outcome.kind is Kind.IN_SYNC}
    standing = {step.name for step in one.world.steps if step.leaves == STANDING}
    gone_with_it = {step.name for step in one.world.steps if step.watches or _on_machine(step)}
    if not standing <= gone:
        return list(outcomes)
    return [in_sync(outcome.step) if outcome.step in gone_with_it else outcome for outcome in outcomes]


def _on_machine(step: Step) -> bool:
    """Whether what it keeps lives there, as its facts do."""
    return step.name in FACTS and FACTS[step.name].on_machine


def _kept_until(one: Pass) -> datetime:
    record = one.snapshot.record
    began = record.removed_at or one.bench.clock.now()
    return began + record.desired.machine.keep_after_removal


def _kept(step: Step, until: datetime, one: Pass) -> StepOutcome:
    keep = one.snapshot.record.desired.machine.keep_after_removal
    text = f"kept until {until:%Y-%m-%d %H:%M} UTC (keepAfterRemoval); putting the file back restores it"
    return waiting(
        step.name, Wait("KeptAfterRemoval", text, keep, "the spec"), max(until - one.bench.clock.now(), one.world.poll)
    )


def _waits_only(outcomes: Sequence[StepOutcome]) -> bool:
    return all(outcome.kind in (Kind.IN_SYNC, Kind.WAITING) for outcome in outcomes)


async def _finalise(one: Pass) -> None:
    now = one.bench.clock.now()
    text = f"{one.name} is removed: everything that was made for it is seen to be gone, or kept as the spec says"
    event = Event(one.name, "", "Removed", text, now, generation=one.snapshot.record.generation)
    await one.bench.store.write(AddEvent(event), *_marked_as_kept(one), DropTester(one.name))
    one.bench.operations.forget(one.name)


def _marked_as_kept(one: Pass) -> list[Change]:
    """What stays on purpose must not be taken for the next tester's of that name."""
    stays = [row for step in one.world.steps for row in rows.ours(one.snapshot, step.name)]
    uid = one.snapshot.record.uid
    return [PutObject(replace(row, identity={**row.identity, rows.KEPT: uid})) for row in stays]
