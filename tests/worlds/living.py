"""A story (`story.py`) is lived: what happens, happens; then it is calm, and all must be well.

    outcome = live(tmp_path, Story.drawn(seed=17, testers=3, span=timedelta(hours=6)))
    assert outcome.failure is None, outcome.failure.text

When the last mishap has ended every broken file is mended. Within `BOUND` each tester must be where the folder wants it
(Ready, paused, expired, gone); who is not, must stand still by then for a reason that the story explains (`standing.py`), and
say which person must act. Then it must be quiet: two rounds, in which everybody is looked at, without a commit or a writing
call; and what stands is what the folder asks for (`ending.py`). What may never be is watched all the time (`watch.py`).

The same story gives the same outcome and the same trace, byte for byte. A story can be made up while it is lived, too, event by
event (`staged`, `happens`, `ends`; by `any_order.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from controller.queue import Urgency
from controller.records import Change, Phase, TesterRecord
from controller.store import KeySource, Store, StoreError
from examples.simulator.invariants import doubles
from reconcilers.facts import ObjectState, OutsideObject
from tests.worlds.canaries import Canaries, asked_at, canaries
from tests.worlds.edits import Asked, Desk, Edit
from tests.worlds.ending import wrong_at_the_end
from tests.worlds.loop import START, VirtualClock, run
from tests.worlds.mishaps import Fate, Mishap, fate
from tests.worlds.rig import QUIET, Rig, world
from tests.worlds.standing import stands
from tests.worlds.story import SECOND, Event, Kill, Story, line_of, names_of
from tests.worlds.trace import trace_of
from tests.worlds.watch import Watch

BOUND = timedelta(hours=3)
"""After the last mishap's end: an hour in which the grid may still take away what it was told to, half an hour until everybody
is looked at again, three of the longest waits after failures (10 min), and one machine that stays out of reach for as long
as it may (20 min) and is then built anew (15 min); the rest is for what befell several of these."""
ROUND = 660.0
"""Seconds for a round in which everybody is looked at: longer than the longest wait after failures."""
ROUNDS = 8
"""At most, until two in a row were quiet."""
A_MINUTE = 60.0
REVIVED = 10.0
"""Seconds after which the system starts a controller again that ended because it could not use its store."""
UNDER_WAY = frozenset({ObjectState.INTENDED, ObjectState.RETIRING})
PHASE_OF = {Asked.READY: Phase.READY, Asked.PAUSED: Phase.PAUSED, Asked.EXPIRED: Phase.EXPIRED}


@dataclass(frozen=True)
class Failure:
    """`kind` tells failures apart while a story is shortened: a shorter one must fail in the same way."""

    kind: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """What came of a story. `standing`: who stands still at the end, why, and who must act. `bit`: the kinds of the mishaps that
    found something to befall."""

    story: Story
    failure: Failure | None
    trace: str
    simulated: timedelta
    lives: int
    calls: int
    standing: tuple[str, ...]
    bit: tuple[str, ...]


class Failed(Exception):
    """The world is not as it should be."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.failure = Failure(kind, text)


@dataclass(frozen=True)
class Stage:
    """Where a story happens: the world, who edits, what befalls them, and who looks on."""

    rig: Rig
    desk: Desk
    fate: Fate
    watch: Watch
    canaries: Canaries


@dataclass
class Living:
    """A story while it is lived, and what is left of it when its loop has broken down."""

    story: Story
    rig: Rig | None = None
    fate: Fate | None = None
    happened: list[Event] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    failure: Failure | None = None
    trace: str = ""
    seconds: float = 0.0
    standing: tuple[str, ...] = ()
    up_at: float | None = None  # when the next life begins, while there is none

    def tell(self, text: str) -> None:
        self.seconds = asyncio.get_running_loop().time()
        self.told.append(f"+{self.seconds:.3f} -----  {text}\n")


def live(root: Path, story: Story) -> Outcome:
    """Live the story on a virtual loop of its own, with its files below `root`. What goes wrong is in the outcome."""
    begun = START + timedelta(hours=story.hour)
    living = Living(story)
    try:
        run(_lived(root, living), begun)
    except Exception as error:  # of the loop, or in its winding up
        living.failure = living.failure or _failure_of(error)
        if living.rig is not None and not living.trace:
            living.trace = run(_posthumous(living.rig, begun), begun)
    lives, calls = (living.rig.lives, len(living.rig.world.log)) if living.rig is not None else (0, 0)
    trace = "".join(sorted([*living.trace.splitlines(keepends=True), *living.told], key=_second))
    bit = living.fate.bit() if living.fate is not None else ()
    return Outcome(story, living.failure, trace, living.seconds * SECOND, lives, calls, living.standing, bit)


async def _lived(root: Path, living: Living) -> None:
    async with staged(root, living) as stage:
        try:
            for event in living.story.events:
                await happens(living, stage, event)
            await ends(living, stage)
        except Exception as error:
            living.failure = _failure_of(error)
            living.told.append(f"+{asyncio.get_running_loop().time():.3f} -----  {living.failure.kind}\n")
        living.trace = living.trace or await stage.rig.trace()


@asynccontextmanager
async def staged(root: Path, living: Living) -> AsyncIterator[Stage]:
    """The story's world, in which nothing has happened yet."""
    story, names = living.story, names_of(living.story.testers)
    async with world(root, names, seed=story.seed, fleet=story.fleet, daemons=story.daemons) as rig:
        living.rig, watch, desk = rig, Watch(rig), Desk(rig, {name: {} for name in names})
        async with canaries(rig, story.seed, asked_at(story.seed, story.events)) as seen, fate(rig) as living.fate:
            yield Stage(rig, desk, living.fate, watch, seen)


async def happens(living: Living, stage: Stage, event: Event) -> None:
    """The next event, when it is due. Raises Failed for what has gone wrong until then, or just by it."""
    await _until(living, stage.rig, event.at)
    living.tell(line_of(event))
    living.happened.append(event)
    if isinstance(event, Edit):
        stage.desk.do(event)
    elif isinstance(event, Kill):
        await _end(living, stage.rig, event)
    else:
        stage.fate.add(event)
    _check(stage.watch)


async def ends(living: Living, stage: Stage) -> None:
    """What has happened was all. Raises Failed unless all is well then."""
    ended = (each.ended for each in living.happened if isinstance(each, Mishap))
    await _until(living, stage.rig, max(ended, default=timedelta(0)))
    stage.desk.mend_all()
    await _well_and_quiet(living, stage.rig, stage.desk, stage.watch)
    living.trace = await stage.rig.trace()
    await stage.canaries.ask()
    if leaked := stage.canaries.leaks(living.trace):
        raise Failed("leak", "\n".join(leaked))


async def _well_and_quiet(living: Living, rig: Rig, desk: Desk, watch: Watch) -> None:
    await _up(living, rig)
    living.tell("it is calm from now on")
    living.standing = await all_well(rig, desk, living.happened)
    _check(watch)
    await _quiet(rig)
    living.tell("it is quiet")
    _check(watch)
    if twice := await _untold_doubles(rig):
        raise Failed("twice", "; ".join(twice))
    standing = {one.partition(":")[0] for one in living.standing}
    asked = {name: wanted for name, wanted in desk.asked(rig.clock.now().date()).items() if name not in standing}
    if wrong := wrong_at_the_end(watch, asked):
        raise Failed("end", "\n".join(wrong))


async def _until(living: Living, rig: Rig, moment: timedelta) -> None:
    """Until so much time of the world has passed. Whoever is down begins again when that is due."""
    loop, end = asyncio.get_running_loop(), moment / SECOND
    if living.up_at is not None and living.up_at <= end:
        await _up(living, rig)
    while (left := end - loop.time()) > 0:
        await asyncio.sleep(min(left, A_MINUTE))
        if living.up_at is None:
            await _alive(rig)


async def _up(living: Living, rig: Rig) -> None:
    """The next life, if there is none at present, when it is due."""
    if living.up_at is not None:
        await asyncio.sleep(max(0.0, living.up_at - asyncio.get_running_loop().time()))
        living.up_at = None
        await _begin(rig)


async def _end(living: Living, rig: Rig, kill: Kill) -> None:
    """The second of two while it is down only makes it longer."""
    if living.up_at is None and kill.graceful:
        await rig.stop()
    elif living.up_at is None:
        rig.kill()
    living.up_at = max(living.up_at or 0.0, asyncio.get_running_loop().time() + kill.down / SECOND)


async def _alive(rig: Rig) -> None:
    """As the system does: it starts a controller again that ended over its store. Raises Failed when it ended otherwise."""
    if rig._running is None:
        raise Failed("down", "there is no controller")
    while (running := rig._running).done():
        error = running.exception()
        if not isinstance(error, StoreError):
            raise Failed("ended", f"the controller ended by itself: {error!r}")
        rig.kill()
        await asyncio.sleep(REVIVED)
        await _begin(rig)


async def _begin(rig: Rig) -> None:
    while True:
        try:
            return await rig.start()
        except StoreError:
            await asyncio.sleep(REVIVED)


def _check(watch: Watch) -> None:
    """The watch's violations, and the world's own: as no mishap opens a door, one that is open was opened by us."""
    own = [(each.kind, f"{each.kind}: {each.what}") for each in watch.rig.world.violations]
    if found := [*((each.kind, str(each)) for each in watch.violations), *own]:
        raise Failed(f"violation: {min(found)[0]}", "\n".join(text for _, text in found))


# -- all is well


async def all_well(rig: Rig, desk: Desk, events: Sequence[Event] = ()) -> tuple[str, ...]:
    """Until everybody is where the folder wants it. Answers who stands still instead, why, and who must act.

    Raises Failed for who is neither in time; and for whom nothing that happened explains why (`standing.py`).
    """
    end = asyncio.get_running_loop().time() + BOUND / SECOND
    while missing := await _missing(rig, desk):
        if asyncio.get_running_loop().time() >= end:
            standing = {name: await stands(rig, name, events) for name in missing}
            if lost := sorted(name for name, why in standing.items() if not why):
                raise Failed("liveness", f"{_wanted(missing, lost)}\n{await rig.report()}")
            return tuple(f"{name}: {why}" for name, why in sorted(standing.items()))
        await _news(rig)
    return ()


async def _missing(rig: Rig, desk: Desk) -> Mapping[str, Asked]:
    """Who is not where the folder wants it, or still has something that is being made or is to go."""
    asked = desk.asked(rig.clock.now().date())
    if not rig._all_taken_in():
        return asked
    records = {record.name: record for record in await rig.store.testers()}
    rows = await rig.store.objects(states=UNDER_WAY)
    under_way = {row.tester for row in rows if not _waits_for_its_tester(row, asked)}
    return {name: wanted for name, wanted in asked.items() if name in under_way or not _is(records.get(name), wanted)}


def _waits_for_its_tester(row: OutsideObject, asked: Mapping[str, Asked]) -> bool:
    """What was on its way out when somebody paused the tester is seen to when that is over."""
    return row.state is ObjectState.RETIRING and asked.get(row.tester) is Asked.PAUSED


def _is(record: TesterRecord | None, wanted: Asked) -> bool:
    if record is None or wanted is Asked.GONE:
        return record is None and wanted in (Asked.GONE, Asked.EXPIRED)
    return record.phase is PHASE_OF[wanted] and record.observed_generation == record.generation


async def _news(rig: Rig) -> None:
    """Until something was committed; conditions that depend on the day are looked at now and then."""
    before, life = rig.store.commits, rig.lives
    for _ in range(10):
        await asyncio.sleep(6.0)
        await _alive(rig)
        if rig.store.commits != before or rig.lives != life:
            return


async def _untold_doubles(rig: Rig) -> list[str]:
    """A paused tester's double stays, since nothing is written for it; but then its condition tells what would be done."""
    told = [each.message for each in await rig.store.conditions_of_type("Ready") if each.reason == "Paused"]
    return [each for each in doubles(rig.world) if not any(_named(each) in message for message in told)]


def _named(double: str) -> str:
    """`OAuth app Hero OS carol tb15xs-1-1 of controller exists 2 times` → the thing, as a plan names what it would delete."""
    return f"delete_double {double.split(' of ')[0].split(' exists ')[0]}"


async def _quiet(rig: Rig) -> None:
    """Until two rounds have gone by in which nothing was written, outside or in the books. Raises Failed.

    When a door or an engine was last proven is written down at its time, and is no news.
    """
    quiet, changes = 0, list[Change]()

    def committed(made: tuple[Change, ...]) -> None:
        changes.extend(each for each in made if not isinstance(each, QUIET))

    rig.store.listeners.append(committed)
    for _ in range(ROUNDS):
        changes.clear()
        calls = len(rig.world.log)
        for name in await rig.store.names():
            rig.controller.engine.queue.add(name, timedelta(0), Urgency.FAILING)  # now, and at everything
        await asyncio.sleep(ROUND)
        await _alive(rig)
        written = [*map(repr, changes), *(f"{each.system} {each.method} {each.what}" for each in rig.writes(calls))]
        quiet = 0 if written else quiet + 1
        if quiet == 2:
            return
    raise Failed("quiet", "\n".join(["in the last round:", *written, await rig.report()]))


def _wanted(missing: Mapping[str, Asked], lost: list[str]) -> str:
    told = ", ".join(f"{name} is not {missing[name]}" for name in lost)
    return f"{BOUND} after the last mishap {told}"


# -- what is left


def _failure_of(error: Exception) -> Failure:
    if isinstance(error, Failed):
        return error.failure
    kind = (
        str(error.args[0]).split(":")[0][:40]
        if isinstance(error, AssertionError) and error.args
        else type(error).__name__
    )
    return Failure(kind, f"{type(error).__name__}: {error}")


async def _posthumous(rig: Rig, begun: datetime) -> str:
    """The trace of a world whose loop has broken down."""
    store = await Store.open(rig.places.url, KeySource({}, rig.places.key_file), VirtualClock())
    try:
        return await trace_of(rig.world, store, begun)
    finally:
        await store.aclose()


def _second(line: str) -> float:
    """`+12.3 …`; `+-12.3 …` is told by a clock of ours that was set back."""
    return float(line.partition(" ")[0].removeprefix("+"))
