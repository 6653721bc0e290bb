"""What a pass would do, without doing it: the same `observe` and the same `plan`, and nothing written (`testerctl plan`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from controller.passes import rows
from controller.passes.foreseeing import WAITS, refusals
from controller.passes.snapshot import Snapshot
from controller.passes.written_off import losses
from controller.records import TesterBooks
from controller.store import Store
from controller.world import Step, World
from reconcilers.actions import Action, Disruption, Finding, Wait
from reconcilers.errors import OutsideError
from reconcilers.facts import FACTS, Facts, OutsideObject
from reconcilers.secret import Secret

WORST_LAST = (Disruption.NONE, Disruption.RESTART, Disruption.REBUILD, Disruption.REMOVE)

GOOD_WHEN_FALSE = frozenset({"UpdateAvailable"})


@dataclass(frozen=True, slots=True)
class StepPreview:
    """One step's part. `known_after` names the steps whose facts are still missing; `error` says why it cannot tell."""

    step: str
    actions: tuple[Action, ...] = ()
    waits: tuple[Wait, ...] = ()
    known_after: tuple[str, ...] = ()
    error: str = ""
    note: str = ""
    findings: tuple[Finding, ...] = ()  # those that are not so now: a door seen open, an address that nobody answers at


@dataclass(frozen=True, slots=True)
class Preview:
    """All steps of one tester."""

    tester: str
    leaving: bool
    steps: tuple[StepPreview, ...] = field(default_factory=tuple)

    @property
    def changes(self) -> bool:
        return any(step.actions for step in self.steps)

    @property
    def errors(self) -> tuple[str, ...]:
        return tuple(f"{step.step}: {step.error}" for step in self.steps if step.error)

    @property
    def disruption(self) -> Disruption:
        """The worst of all actions."""
        found = [action.disruption for step in self.steps for action in step.actions]
        return max(found, key=WORST_LAST.index, default=Disruption.NONE)


async def preview(books: TesterBooks, secrets: Mapping[str, Secret], world: World, store: Store) -> Preview:
    """Observe everything that can be observed and plan every step. Writes nothing, neither outside nor to the store."""
    snapshot = Snapshot(books, world.fleet, secrets, store)
    for name, lost in losses(snapshot, world.gone, (), store.clock.now()):
        snapshot.suppose(name, *lost)
    leaving = books.record.leaving
    refused = {} if leaving else await refusals(snapshot, world)
    if refused:
        return Preview(books.record.name, leaving, tuple(_not_begun(step.name, refused) for step in world.steps))
    steps = [await _step(step, snapshot, world, leaving) for step in world.steps]
    return Preview(books.record.name, leaving, tuple(steps))


def _not_begun(step: str, refused: Mapping[str, OutsideError]) -> StepPreview:
    if step in refused:
        return StepPreview(step, error=str(refused[step]))
    return StepPreview(step, note=WAITS.format(", ".join(refused)))


async def _step(step: Step, snapshot: Snapshot, world: World, leaving: bool) -> StepPreview:
    lacking = tuple(need for need in step.needs if not snapshot.has_facts(need))
    if leaving and (step.leaves == "machine" or (lacking and not step.makes)):
        return StepPreview(step.name, note="goes with the machine" if step.leaves == "machine" else "")
    if leaving and step.makes:
        found = [
            await _planned(step, snapshot, world, row, lacking, wanted=False) for row in rows.ours(snapshot, step.name)
        ]
        return _joined(step.name, found)
    if not step.makes:
        return await _planned(step, snapshot, world, None, lacking, wanted=not leaving)
    row = rows.current(snapshot, step.name)
    if row is None:
        return await _planned(step, snapshot, world, rows.fresh(step, snapshot), lacking, wanted=True)
    if rows.named_as_wanted(step, snapshot, row):
        return await _planned(step, snapshot, world, row, lacking, wanted=True)
    going = [] if rows.KEPT in row.identity else [await _planned(step, snapshot, world, row, lacking, wanted=False)]
    coming = await _planned(step, snapshot, world, rows.fresh(step, snapshot), lacking, wanted=True)
    return _joined(step.name, [*going, coming])


async def _planned(
    step: Step, snapshot: Snapshot, world: World, row: OutsideObject | None, lacking: tuple[str, ...], *, wanted: bool
) -> StepPreview:
    facts = with_placeholders(snapshot.facts(row), lacking)
    view = replace(snapshot.view(row), facts=facts)
    findings: tuple[Finding, ...] = ()
    try:
        observed = None
        if not lacking:
            observed = await step.observe(view, world.looks_of_a_turn())
            learnt = step.learn(observed, facts) if observed is not None and wanted else None
            if learnt is not None:
                facts = replace(facts, steps={**facts.steps, step.name: learnt})
        planned = step.plan(view.desired, observed, facts) if wanted else rows.taking_away(step, observed, facts)
        if wanted and not lacking:
            findings = step.findings(view.desired, observed, facts)
    except OutsideError as error:
        return StepPreview(step.name, known_after=lacking, error=str(error))
    actions = tuple(one for one in planned if isinstance(one, Action))
    waits = tuple(one for one in planned if isinstance(one, Wait))
    untrue = tuple(one for one in findings if one.status is False and one.type not in GOOD_WHEN_FALSE)
    return StepPreview(step.name, actions, waits, lacking, findings=untrue)


def with_placeholders(facts: Facts, lacking: tuple[str, ...]) -> Facts:
    """Facts in which every missing need says after which step it will be known."""
    later = {need: FACTS[need].unknown() for need in lacking if need in FACTS}
    return replace(facts, steps={**facts.steps, **later})


def _joined(step: str, found: list[StepPreview]) -> StepPreview:
    return StepPreview(
        step,
        tuple(action for one in found for action in one.actions),
        tuple(wait for one in found for wait in one.waits),
        found[-1].known_after if found else (),
        "; ".join(one.error for one in found if one.error),
        findings=tuple(finding for one in found for finding in one.findings),
    )
