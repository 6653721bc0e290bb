"""Before anything of a tester is begun, whether all of it can be: a person for whose machine there is no room has no account
made, and no token registered (lessons 41, 42: nothing half-built).

Who is let begin has the room from then on, so that of several who come at once, to whatever replica, no more begin than fit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime

from controller.passes import rows
from controller.passes.outcomes import StepOutcome, held, of_error
from controller.passes.snapshot import Snapshot
from controller.promises import is_kept, room_of
from controller.records import Change, DropFacts
from controller.world import Step, World
from reconcilers.backends.compute import Node
from reconcilers.engine_tokens import engine_facts
from reconcilers.errors import Blocked, OutsideError, Rejected, Throttled
from reconcilers.facts import MachineFacts, Promise, RoomFacts
from reconcilers.looks import Looks, TesterLooks

PATIENCE = 5.0  # seconds: whoever waits for others to have chosen holds a place of those who are looked at
WAITS = "waits for {}: nothing is begun before all of it can be"


class ToldOnce(TesterLooks):
    """Asks each daemon for its nodes once: whoever keeps all others from choosing must not wait for one that does not answer."""

    def __init__(self, shared: Looks) -> None:
        super().__init__(shared)
        self._nodes: dict[str, asyncio.Task[tuple[Node, ...]]] = {}

    async def nodes(self, daemon: str) -> tuple[Node, ...]:
        if daemon not in self._nodes:
            self._nodes[daemon] = asyncio.ensure_future(super().nodes(daemon))
        return await self._nodes[daemon]


async def refusals(snapshot: Snapshot, world: World) -> Mapping[str, OutsideError]:
    """Which steps cannot be done, of a tester of whom nothing is begun; none of anybody else, and none that cannot be told."""
    refused, _ = await _foreseen(snapshot, world, world.steps, world.looks_of_a_turn())
    return refused


async def let_begin(snapshot: Snapshot, world: World, now: datetime) -> Mapping[str, OutsideError]:
    """The same. Who is not refused has room from now on, written down before anybody else in the fleet may choose."""
    looks = ToldOnce(world.looks)
    refused, rooms = await _foreseen(snapshot, world, world.steps, looks)
    if refused or not rooms:
        return refused
    taking = [world.step(name) for name in rooms]
    async with AsyncExitStack() as chosen:
        try:
            async with asyncio.timeout(PATIENCE):
                await chosen.enter_async_context(world.looks.placing)
        except TimeoutError:
            busy = Throttled("others are being given a place", system="placement", retry_after=world.poll)
            return dict.fromkeys(rooms, busy)
        refused, rooms = await _foreseen(snapshot, world, taking, looks)  # others may have come between
        until = now + world.fleet.spec.timing.deploy_limit
        if not refused:
            for room in rooms.values():
                await snapshot.learn(RoomFacts.step, room_of(room, until))
    return refused


def room_over(snapshot: Snapshot, world: World, now: datetime) -> tuple[Change, ...]:
    """Room is kept no longer than until the machine is known, or nothing has come of it: an account that cannot be made keeps
    nobody from it."""
    room = snapshot.facts().get(RoomFacts)
    if room is None:
        return ()
    kept = is_kept(room, now, world.fleet.spec.timing.deploy_limit)
    wanted = kept and has_begun(snapshot, world) and not snapshot.has_facts(MachineFacts.step)
    return () if wanted else (DropFacts(snapshot.name, RoomFacts.step),)


async def _foreseen(
    snapshot: Snapshot, world: World, steps: Sequence[Step], looks: TesterLooks
) -> tuple[dict[str, OutsideError], dict[str, Promise]]:
    """By step, why it cannot be done, and the room that it will take."""
    refused: dict[str, OutsideError] = {}
    rooms: dict[str, Promise] = {}
    if has_begun(snapshot, world):
        return refused, rooms
    for step in steps:
        try:
            # A removed namesake may have left something.
            row = rows.current(snapshot, step.name) if step.makes else None
            room = await step.foresee(snapshot.view(row), looks)
            if room is not None:
                rooms[step.name] = room
        except (Blocked, Rejected) as error:
            refused[step.name] = error
        except OutsideError:
            continue  # the step itself will tell, and wait
    return refused, rooms


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
