"""One pass over one tester: read the books, run the steps along the graph, write what it comes to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from controller.backoff import MOST_JITTER
from controller.estimates import run_of
from controller.meters import Meters
from controller.passes.acting import Draining, Hands
from controller.passes.foreseeing import let_begin, outcomes, room_over
from controller.passes.graph import run_graph
from controller.passes.operations import Operation, Operations, UnderWay
from controller.passes.outcomes import Kind, StepOutcome, held
from controller.passes.proofs import Proofs
from controller.passes.rows import Judge
from controller.passes.snapshot import Snapshot
from controller.passes.status import (
    Clockwork,
    Verdict,
    condition_type,
    is_paused,
    judge_pass,
    judge_step,
    tell_progress,
    tell_step,
)
from controller.passes.turn import Turn
from controller.passes.turns import Turns
from controller.records import AddRun, Change, Condition, Phase, TesterBooks
from controller.sightings import Sightings
from controller.store import SpecChanged, Store
from controller.world import Step, World
from reconcilers.clock import Clock
from reconcilers.facts import FACTS, MachineFacts, RoomFacts
from reconcilers.looks import TesterLooks
from reconcilers.secret import Secret

Resolve = Callable[[TesterBooks], Awaitable[Mapping[str, Secret]]]


@dataclass
class Bench:
    """What every pass works with: the engine's parts that do not change from tester to tester."""

    store: Store
    clock: Clock
    operations: Operations
    chance: random.Random
    stopping: Callable[[], bool]
    resolve: Resolve  # the secrets that a tester's spec refers to
    sightings: Sightings
    meters: Meters = field(default_factory=Meters)
    proofs: Proofs | None = None  # None: every hour of a proof is written down at once

    def hands(self, world: World) -> Hands:
        return Hands(self.clock, self.operations, self.stopping, world, self.chance)


class Pass:
    """A pass under way: its snapshot of the tester, and the outcomes so far.

    `before`: operations that had not ended when the books were read. `now` is the pass's own: who is left alone must not
    change while steps wait for each other.
    """

    def __init__(
        self,
        books: TesterBooks,
        secrets: Mapping[str, Secret],
        world: World,
        bench: Bench,
        before: Sequence[Operation],
        is_resync: bool = False,
    ) -> None:
        self.snapshot = Snapshot(books, world.fleet, secrets, bench.store, bench.proofs)
        self.world = world
        self.bench = bench
        self.is_resync = is_resync  # nothing asked for it but the time
        self.looks: dict[str, TesterLooks] = {}  # of each step's last turn
        self.has_told = False  # something was written down while it went on
        self.ended: tuple[tuple[StepOutcome, ...], Verdict] | None = None
        self.under_way = UnderWay(bench.operations, books.record.name, tuple(before))
        self.now = bench.clock.now()
        self.works = Clockwork(world.fleet.spec.timing, bench.chance)
        self.outcomes: dict[str, StepOutcome] = {}
        self.judged: dict[str, Condition] = {}  # what the turns of this pass came to, by condition
        self.told: dict[str, Condition] = dict(books.conditions)  # what the books tell now
        self.outdated = False  # nothing more is begun: the spec is another one now, or the process stops
        # A door is looked at before anything else; the order of the others is the graph's.
        order = sorted(world.steps, key=lambda step: not step.watches)
        self.turns = Turns({step.name: step.needs for step in order}, self.snapshot.version)
        self._news = asyncio.Condition()
        self._untold: list[Change] = []
        self._telling = asyncio.Lock()

    @property
    def name(self) -> str:
        return self.snapshot.name

    def turn(self, step: Step, *, only_urgent: bool = False) -> Turn:
        bench, world = self.bench, self.world
        return Turn(
            step=step,
            snapshot=self.snapshot,
            world=world,
            hands=bench.hands(world),
            judge=Judge(bench.store, bench.clock, world.fleet),
            condition=self.condition(step),
            outcome_of=self.outcome_of,
            under_way=self.under_way,
            pass_began=self.now,
            only_urgent=only_urgent,
            first=step.name not in self.outcomes,
            is_resync=self.is_resync,
        )

    def condition(self, step: Step) -> Condition | None:
        return self.snapshot.conditions.get(condition_type(step.name))

    def lacking(self, step: Step) -> list[str]:
        """The steps whose facts it needs and nobody has recorded yet."""
        return [need for need in step.needs if not self.snapshot.has_facts(need)]

    def has_begun(self, step: Step) -> bool:
        """Whether it has recorded facts of its own: then there may be something of it, whatever its needs have lost."""
        return step.name in FACTS and self.snapshot.has_facts(step.name)

    async def came_to(self, step: Step, outcome: StepOutcome) -> None:
        """A turn has ended. What several turns of one pass did is added up."""
        earlier = self.outcomes.get(step.name)
        did = outcome.did + (earlier.did if earlier is not None else 0)
        async with self._news:
            self.outcomes[step.name] = replace(outcome, did=did)
            self.turns.end(step.name)
            self._news.notify_all()
        self._judge(outcome)
        await self._tell()

    async def is_outdated(self) -> None:
        """The spec is another one now, or the process stops: whoever waits for a turn of this pass waits no longer."""
        async with self._news:
            self.outdated = True
            self._news.notify_all()

    def _judge(self, outcome: StepOutcome) -> None:
        record, now = self.snapshot.record, self.bench.clock.now()
        condition = judge_step(record, self.snapshot.conditions, outcome, now, self.works)
        before = self.told.get(condition.type)
        self.judged[condition.type] = self.told[condition.type] = condition
        self._untold += tell_step(record, before, condition, now)
        self.has_told = self.has_told or bool(self._untold)

    async def _tell(self) -> None:
        """A pass may take long: what one step came to is told at once, what all of them come to when it ends. What other steps
        have come to while the last of it was being written goes along; what could not be written stays untold."""
        async with self._telling:
            changes, untold = [*self._untold], len(self._untold)
            record = self.snapshot.record
            if changes and record.phase is not Phase.READY:
                far = tell_progress(record, self.told, [each.name for each in self.world.steps])
                changes.append(far)
                self.snapshot.record = replace(record, phase=far.phase, progress=far.progress, current=far.current)
            await self.bench.store.write(*changes)
            del self._untold[:untold]

    async def outcome_of(self, name: str) -> StepOutcome | None:
        """How a step's last turn ended in this pass, once it has and the books say so; None when it takes none now, as in
        every removal. Of what it needs something else may be known since: then it was not in sync with that."""
        if self.snapshot.record.leaving:
            return None
        step = self.world.step(name)
        async with self._news:
            await self._news.wait_for(
                lambda: self._has_ended(name) or bool(self.lacking(step)) or self.left_alone(step) or self.outdated
            )
        await self._tell()
        outcome = self.outcomes.get(name)
        if outcome is None or outcome.kind is not Kind.IN_SYNC or self.turns.is_current(name):
            return outcome
        return replace(outcome, kind=Kind.WAITING)

    def _has_ended(self, name: str) -> bool:
        return name in self.outcomes and not self.turns.is_awaited(name)

    def left_alone(self, step: Step) -> bool:
        """A step that fails is left alone until its next try, unless the spec has changed; a door never is.

        A next try that is farther away than any of ours was written down before the clock was set back: it does not count.
        """
        known = self.condition(step)
        if known is None or known.retry_at is None or step.watches:
            return False
        farthest = self.now + self.world.fleet.spec.timing.backoff_ceiling * MOST_JITTER
        return known.generation == self.snapshot.record.generation and self.now < known.retry_at <= farthest

    def as_it_was(self, step: Step, known: Condition) -> StepOutcome:
        """The outcome of a step that is left alone. What failed is counted; what was refused is not."""
        kind = Kind.FAILING if known.failures else Kind.BLOCKED
        return StepOutcome(step.name, kind, known.reason, known.message, known.blames, left_alone=True)

    async def close(self, outcomes: Sequence[StepOutcome]) -> timedelta:
        """Write what the pass comes to, and note how old it is. Returns when to look again."""
        now = self.bench.clock.now()
        verdict = judge_pass(self.snapshot.record, self.told, outcomes, now, self.works, self.judged)
        over = room_over(self.snapshot, self.world, now)
        await self.bench.store.write(*verdict.changes, *await self._run(verdict, now), *over)
        self.snapshot.suppose(RoomFacts.step, *over)
        self.bench.sightings.note(self.name, outcomes, now)
        self.ended = tuple(outcomes), verdict
        return verdict.next_look

    async def _run(self, verdict: Verdict, now: datetime) -> tuple[AddRun, ...]:
        """What is learnt for the estimates when the tester is Ready for the first time on its machine."""
        record = self.snapshot.record
        if verdict.phase is not Phase.READY or record.phase is Phase.READY:
            return ()
        begun = await self.bench.store.begun(MachineFacts.step, (self.name,))
        run = run_of(record, verdict.steps, begun.get(self.name), now)
        return (AddRun(run),) if run is not None else ()


async def converge(one: Pass) -> timedelta:
    """Bring a tester that is wanted as far as it goes now. Returns when to look again: at once when its spec has changed
    meanwhile. Raises Draining, StoreError."""
    steps = {step.name: step for step in one.world.steps}
    paused = is_paused(one.snapshot.record, one.bench.clock.now())
    refused = {} if paused else await let_begin(one.snapshot, one.world, one.now)
    if refused:
        return await one.close(outcomes(refused, one.world))

    async def turn(name: str) -> None:
        step = steps[name]
        if one.left_alone(step):
            return
        began = one.bench.clock.now()
        taken = one.turn(step, only_urgent=paused)
        try:
            outcome = await taken.take()
        except (SpecChanged, Draining):  # the others' calls are seen to their end
            await one.is_outdated()
        else:
            if taken.looks is not None:
                one.looks[name] = taken.looks
            one.bench.meters.turned(name, outcome.kind, one.bench.clock.now() - began)
            await one.came_to(step, outcome)

    def can_run(name: str) -> bool:
        return not one.outdated and (not one.lacking(steps[name]) or one.left_alone(steps[name]))

    idle = await run_graph(one.turns, can_run=can_run, turn=turn, news=one.snapshot.news)
    if one.outdated and one.bench.stopping():
        raise Draining
    if one.outdated:
        return timedelta(0)
    return await one.close([_final(one, step, step.name in idle) for step in one.world.steps])


def _final(one: Pass, step: Step, idle: bool) -> StepOutcome:
    """The outcome of a step: its turn's; else that it waits for others, or is left alone as it was."""
    found = one.outcomes.get(step.name)
    if found is not None:
        return found
    known = one.condition(step)
    if not idle and known is not None:
        return one.as_it_was(step, known)
    return held(step.name, "WaitsForStep", f"waits for {', '.join(one.lacking(step))}")
