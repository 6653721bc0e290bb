"""Before anything of a tester is begun, whether all of it can be: a person for whose machine there is no room has no account
made, and no token registered (lessons 41, 42: nothing half-built).

Who is let begin has the room from then on, so that of several who come at once no more begin than fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from controller.passes import rows
from controller.passes.outcomes import StepOutcome, held, of_error
from controller.passes.snapshot import Snapshot
from controller.world import World
from reconcilers.engine_tokens import engine_facts
from reconcilers.errors import Blocked, OutsideError, Rejected
from reconcilers.facts import Promise

WAITS = "waits for {}: nothing is begun before all of it can be"


@dataclass
class Foreseen:
    """Room for those who were let begin, until their own rows tell where they are, or nothing has come of it for long.

    Forgotten with the process; the step that needs the room asks for it in any case.
    """

    _kept: dict[str, tuple[Promise, datetime]] = field(default_factory=dict)

    def keep(self, promise: Promise, until: datetime) -> None:
        self._kept[promise.tester] = promise, until

    def forget(self, tester: str) -> None:
        """Nothing has come of it: an account that cannot be made keeps nobody from the room."""
        self._kept.pop(tester, None)

    def beside(self, told: Iterable[Promise], now: datetime) -> tuple[Promise, ...]:
        """What the books tell, and those of whom they do not tell yet."""
        self._kept = {name: kept for name, kept in self._kept.items() if now < kept[1]}
        known = tuple(told)
        placed = {each.tester for each in known}
        return (*known, *(promise for name, (promise, _) in self._kept.items() if name not in placed))


async def refusals(snapshot: Snapshot, world: World, keep: Foreseen, now: datetime) -> Mapping[str, OutsideError]:
    """Which steps cannot be done, of a tester of whom nothing is begun; none of anybody else, and none that cannot be told."""
    if has_begun(snapshot, world):
        return {}
    found: dict[str, OutsideError] = {}
    for step in world.steps:
        try:
            promise = await step.foresee(snapshot.view(), world.looks_of_a_turn())
        except (Blocked, Rejected) as error:
            found[step.name] = error
        except OutsideError:
            continue  # the step itself will tell, and wait
        else:
            if promise is not None:
                keep.keep(promise, now + world.fleet.spec.timing.deploy_limit)
    return found


def has_begun(snapshot: Snapshot, world: World) -> bool:
    """Whether something of the tester's stands outside, or may."""
    made = any(rows.ours(snapshot, step.name) for step in world.steps if step.makes)
    return made or bool(engine_facts(snapshot.facts()).engines)


def outcomes(refused: Mapping[str, OutsideError], world: World) -> list[StepOutcome]:
    """What a pass comes to in which nothing is begun."""
    why = WAITS.format(", ".join(refused))
    return [
        of_error(step.name, refused[step.name], world.poll)
        if step.name in refused
        else held(step.name, "WaitsForStep", why)
        for step in world.steps
    ]
