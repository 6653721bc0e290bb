"""The folder of specs in any order of edits: a Hypothesis state machine makes up a story (`story.py`) while it is lived.

    make edits N=200 SEED=1             so many stories; each seed always makes up the same one
    fallen = lived(17)                  None: all was well; `fallen.story`: what had happened by then
    tell(17, Path(".worlds"))           what to print of it: the shortest story that fails so, for `make worlds REPLAY=…`

Its rules are what people do to the folder: to one file, to several in one revision, to the Fleet; beside them the mild mishaps,
and the ends of the process. Each happens when so much time has gone by, or the very moment that something was written down or has
changed outside: while a call is under way. What must hold in a seeded world must hold here, with the same watch at every instant
and the same checks at the end (`living.py`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import multiprocessing
import os
import random
import sys
from argparse import ArgumentParser
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.worlds.__main__ import PLACE
from tests.worlds.__main__ import tell as tell_story
from tests.worlds.edits import FLEET, FLEETS, KEY, PAUSE, SECOND, SPOILING, Desk, Edit
from tests.worlds.living import Living, Stage, ends, happens, staged
from tests.worlds.loop import START, VirtualLoop, virtual_loop
from tests.worlds.mishaps import draw, of_profile
from tests.worlds.rig import Rig
from tests.worlds.shrinking import MOST
from tests.worlds.story import Event, Kill, Story

T = TypeVar("T")
NAMES = ("alice", "carol", "dave")
"""The first is there from the beginning."""
FLEET_AT_FIRST: dict[str, Any] = {
    "componentSets": {"demo": ["hero_books"]},
    "safety": {"maxRemovals": 1},
    "timing": {"poll": "30s", "resync": "30m", "outsideProofEvery": "4h", "releasesEvery": "4h"},
}
SEED = 2
"""Of all of these worlds: what differs is what happens. An even one, in which not everything echoes."""
LONGEST = timedelta(minutes=20)
"""Of a mishap."""
STEPS = 16
LATER = timedelta(0)
"""The moment of an event that is not due yet."""

AFTER = st.sampled_from([0.03, 0.5, 5.0, 60.0, 600.0]) | st.integers(1, 30)
"""How long after what was done before: seconds; or, as a whole number, until so many things have happened of their own accord."""
NUMBER = st.integers(0, 2**32)
ENGINES = st.sampled_from(["embedder", "voice"])

FIELDS: tuple[dict[str, Any], ...] = (
    {"allowlist": ["bob"]},
    {"allowlist": ["bob", "mik"]},
    {"allowlist": []},
    {"components": {"add": ["hero_slides"], "publicPaths": []}},
    {"components": {"add": ["hero_whiteboard", "hero_planner"], "publicPaths": ["/hero_whiteboard/share/"]}},
    {"components": {"add": [], "publicPaths": []}},
    {"components": {"publicPaths": ["/hero_books/share/"]}},
    {"components": {"settings": {"hero_books": {"BOOKS_LIBRARIES": "hero,lib1"}}}},
    {"components": {"settings": None}},
    {"version": {"pin": {"hero_books": "v0.3.0"}}},
    {"version": {"pin": {"hero_books": "v0.3.1"}}},
    {"version": {"pin": None}},
    {"version": {"updates": "notify"}},
    {"version": {"updates": "apply"}},
    {"keys": {"ssh": [KEY]}},
    {"keys": {"ssh": []}},
    {"keys": {"rotateEngineTokens": 1}},
    {"keys": {"rotateEngineTokens": 2}},
    {"keys": {"providers": {"openrouter": "default"}}},
    {"keys": {"providers": {"openrouter": "own"}}},
    {"keys": {"providers": {"openrouter": "none"}}},
    {"identity": {"email": "NAME@elsewhere.org"}},
    {"identity": {"fullName": "NAME the Tester"}},
    {"identity": {"passwordReset": 1}},
    {"identity": {"whenRemoved": "keep"}},
    {"identity": {"whenRemoved": "disable"}},
    {"identity": {"whenRemoved": "delete"}},
    {"identity": {"whenRemoved": "purge"}},
    {"machine": {"memory": "16GiB", "cpu": 8}},
    {"machine": {"memory": None, "cpu": None}},
    {"machine": {"disk": "100GiB", "node": "compute1/0001"}},
    {"machine": {"disk": None, "node": None}},
    {"machine": {"rebuild": 1}},
    {"machine": {"rebuild": 2}},
    {"machine": {"keepAfterRemoval": "5m"}},
    {"machine": {"keepAfterRemoval": "40m"}},
    {"address": "NAMEs"},
    {"address": "auto"},
    {"welcomeEmail": False},
    {"welcomeEmail": True},
    {"welcomeEmail": {"send": True, "resend": 1}},
    {"welcomeEmail": {"send": True, "resend": 2}},
)
"""Every field that a person may write, with what she may want there; NAME is the tester's."""
WISH = st.sampled_from(FIELDS)

FLEET_WISH = st.sampled_from(
    (
        *FLEETS,
        {"admins": [{"account": "sara"}]},
        {"limits": {"forge": {"inFlight": 2, "perSecond": 5}, "machine": {"inFlight": 2, "perSecond": 5}}},
        {"limits": {"compute": {"inFlight": 1, "perSecond": 2}, "installs": 1}},
        {"safety": {"maxRemovals": 2}},
        {"safety": {"allowRemovals": 2}},
    )
)


class Fallen(AssertionError):
    """Something was not as it should be. `story`: what had happened by then."""

    def __init__(self, story: Story, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}\n{story.text()}")
        self.story = story


class Specs(RuleBasedStateMachine):
    """Somebody edits; `Desk` knows what the folder asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = ExitStack()
        self.living: Living | None = None  # before the world begins, and once it fell
        self.passed = timedelta(0)  # since what was done before, and not lived yet
        self.loop: VirtualLoop
        self.scene: AbstractAsyncContextManager[Stage]
        self.stage: Stage

    @initialize(hour=st.sampled_from([9, 22]), engines=st.booleans())
    def a_world_begins(self, hour: int, engines: bool) -> None:
        fleet = FLEET_AT_FIRST if engines else {**FLEET_AT_FIRST, "engines": []}
        root = self.kept.enter_context(TemporaryDirectory(prefix="specs-"))
        self.loop = self.kept.enter_context(virtual_loop(START + timedelta(hours=hour)))
        self.living = Living(Story(SEED, 1, timedelta(days=1), hour, fleet))
        self.scene = staged(Path(root), self.living)
        self.stage = self.loop.run_until_complete(self.scene.__aenter__())

    # -- one file

    @rule(after=AFTER, name=st.sampled_from(NAMES), wish=WISH)
    def add(self, after: float, name: str, wish: dict[str, Any]) -> None:
        self.do(after, "add", name, wish)

    @rule(after=AFTER, data=st.data(), wish=WISH)
    @precondition(lambda self: self.desk.present)
    def edit(self, after: float, data: st.DataObject, wish: dict[str, Any]) -> None:
        self.do(after, "edit", self.one_of(data, self.desk.present), wish)

    @rule(after=AFTER, data=st.data())
    @precondition(lambda self: self.desk.present)
    def remove(self, after: float, data: st.DataObject) -> None:
        self.do(after, "remove", self.one_of(data, self.desk.present))

    @rule(after=AFTER, data=st.data(), wish=WISH | st.just({}))
    @precondition(lambda self: self.desk.absent)
    def put_back(self, after: float, data: st.DataObject, wish: dict[str, Any]) -> None:
        self.do(after, "put_back", self.one_of(data, self.desk.absent), wish)

    @rule(after=AFTER, data=st.data(), paused=st.booleans())
    @precondition(lambda self: self.desk.present)
    def pause_or_resume(self, after: float, data: st.DataObject, paused: bool) -> None:
        self.do(after, "pause", self.one_of(data, self.desk.present), {"paused": PAUSE if paused else None})

    @rule(after=AFTER, data=st.data(), days=st.sampled_from([0, 1, None]))
    @precondition(lambda self: self.desk.present)
    def expire_or_extend(self, after: float, data: st.DataObject, days: int | None) -> None:
        self.do(after, "expire", self.one_of(data, self.desk.present), {"expires": days})

    @rule(after=AFTER, data=st.data(), how=st.sampled_from([*sorted(SPOILING), "copy"]))
    @precondition(lambda self: self.desk.present)
    def break_a_file(self, after: float, data: st.DataObject, how: str) -> None:
        name = self.one_of(data, self.desk.present)
        self.do(after, "copy", name) if how == "copy" else self.do(after, "break", name, {"how": how})

    @rule(after=AFTER, data=st.data())
    @precondition(lambda self: self.desk.broken)
    def mend_it(self, after: float, data: st.DataObject) -> None:
        self.do(after, "mend", self.one_of(data, self.desk.broken))

    @rule(after=AFTER, data=st.data(), to=st.sampled_from(["a-NAME.yaml", "z-NAME.yaml"]))
    @precondition(lambda self: self.desk.present)
    def call_the_file_otherwise(self, after: float, data: st.DataObject, to: str) -> None:
        self.do(after, "move", self.one_of(data, self.desk.present), {"to": to})

    # -- several, and the Fleet

    @rule(after=AFTER, data=st.data())
    @precondition(lambda self: self.desk.present and set(NAMES) - self.desk.present)
    def rename(self, after: float, data: st.DataObject) -> None:
        """The name in a file: in one revision one goes, and one comes."""
        old, new = self.one_of(data, self.desk.present), self.one_of(data, set(NAMES) - self.desk.present)
        comes = "put_back" if new in self.desk.specs else "add"
        self.happens(after, Edit(LATER, "remove", old), Edit(LATER, comes, new))

    @rule(after=AFTER, wishes=st.dictionaries(st.sampled_from(NAMES), WISH | st.none(), min_size=2))
    def a_revision_of_several(self, after: float, wishes: dict[str, dict[str, Any] | None]) -> None:
        """All of it at once, as a pull brings it; None takes somebody out."""
        self.happens(after, *(self.edit_of(name, wish) for name, wish in wishes.items()))

    @rule(after=AFTER, wish=FLEET_WISH)
    def edit_the_fleet(self, after: float, wish: dict[str, Any]) -> None:
        self.do(after, "fleet", "", wish)

    @rule(after=AFTER, name=ENGINES, does=st.sampled_from(["retire", "leave", "come", "tear"]))
    @precondition(lambda self: self.desk.engines)
    def an_engine_comes_or_goes(self, after: float, name: str, does: str) -> None:
        self.do(after, "engine", "", {"name": name, "does": does})

    @rule(after=AFTER, how=st.sampled_from(sorted(SPOILING)))
    def break_the_fleet(self, after: float, how: str) -> None:
        self.do(after, "break_fleet", "", {"how": how})

    @rule(after=AFTER, but=st.sampled_from([{}, {"but": FLEET}]))
    def the_folder_is_empty(self, after: float, but: dict[str, Any]) -> None:
        self.do(after, "vanish", "", but)

    @rule(after=AFTER)
    @precondition(lambda self: self.desk.lost)
    def what_was_gone_is_there_again(self, after: float) -> None:
        self.do(after, "reappear", "")

    # -- what nobody did

    @rule(after=AFTER, component=st.sampled_from(["hero_books", "hero_proxy"]), number=st.integers(0, 2))
    def a_release(self, after: float, component: str, number: int) -> None:
        self.do(after, "release", "", {"component": component, "version": f"v0.4.{number}"})

    @rule(after=AFTER, kind=st.sampled_from(of_profile("mild")), number=NUMBER)
    def something_befalls_them(self, after: float, kind: str, number: int) -> None:
        one = draw(random.Random(number), kind, LONGEST, sorted(self.desk.specs))
        moment = self.due(after)
        self.happens(moment, replace(one, until=moment + (one.ended - one.at)))

    @rule(after=AFTER, down=st.sampled_from([1, 30, 400]), graceful=st.booleans())
    def the_process_ends(self, after: float, down: int, graceful: bool) -> None:
        self.happens(after, Kill(LATER, down * SECOND, graceful))

    @rule(hours=st.sampled_from([1, 4]))
    def time_goes_by(self, hours: int) -> None:
        self.passed += timedelta(hours=hours)

    # -- how it is done

    @property
    def desk(self) -> Desk:
        return self.stage.desk

    @property
    def whole(self) -> Living:
        assert self.living is not None
        return self.living

    @property
    def now(self) -> timedelta:
        """As a story's lines tell it."""
        return math.ceil(self.loop.time() * 1000) * timedelta(milliseconds=1)

    def one_of(self, data: st.DataObject, names: Iterable[str]) -> str:
        return data.draw(st.sampled_from(sorted(names)))

    def do(self, after: float, kind: str, name: str, spec: dict[str, Any] | None = None) -> None:
        self.happens(after, Edit(LATER, kind, name, json.loads(json.dumps(spec or {}).replace("NAME", name))))

    def edit_of(self, name: str, wish: dict[str, Any] | None) -> Edit:
        kind = "remove" if wish is None else "edit" if name in self.desk.present else "add"
        return Edit(LATER, kind, name, json.loads(json.dumps(wish or {}).replace("NAME", name)))

    def happens(self, after: float | timedelta, *events: Event) -> None:
        """At one moment, which is now if it has been waited for."""
        moment = after if isinstance(after, timedelta) else self.due(after)

        async def all_of_it() -> None:
            for event in events:
                await happens(self.whole, self.stage, replace(event, at=moment))

        self.run(all_of_it())

    def due(self, after: float) -> timedelta:
        """When that is. What happens of its own accord is waited for at once, and while there is a controller."""
        passed, self.passed = self.passed, timedelta(0)
        if isinstance(after, int) and not passed and self.whole.up_at is None:
            self.run(news(self.stage.rig, after))
        return self.now + passed + (timedelta(milliseconds=1) if isinstance(after, int) else after * SECOND)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Raises Fallen."""
        living = self.whole
        try:
            return self.loop.run_until_complete(work)
        except Exception as error:
            self.living = None
            with suppress(Exception):
                self.loop.run_until_complete(self.scene.__aexit__(type(error), error, error.__traceback__))
            raise Fallen(living.story.of(living.happened), error) from error

    def teardown(self) -> None:
        """All is well, and all is quiet."""
        with self.kept:
            if self.living is not None and self.living.happened:
                self.run(ends(self.living, self.stage))
            if self.living is not None:
                self.run(self.scene.__aexit__(None, None, None))


async def news(rig: Rig, count: int) -> None:
    """Until the world has changed, or something was committed, so many times; but no longer than a minute."""
    heard = asyncio.Semaphore(0)

    def happened(*_: object) -> None:
        heard.release()

    listening: tuple[list[Any], ...] = rig.world.on_changed, rig.store.listeners
    for each in listening:
        each.append(happened)
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            for _ in range(count):
                await heard.acquire()
    for each in listening:
        each.remove(happened)


def lived(number: int, machine: type[Specs] = Specs) -> Fallen | None:
    """The story that this seed makes up. Hypothesis begins with one in which nothing happens."""
    of_chance = seed(number)(type("Specs", (machine,), {}))
    ways = settings(
        max_examples=2,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(of_chance, settings=ways)
    except Fallen as fallen:
        return fallen
    return None


def tell(number: int, place: Path = PLACE, tries: int = MOST) -> str:
    """What there is to say of the story that this seed makes up; nothing when all was well."""
    fallen = lived(number)
    if fallen is None:
        return ""
    told = tell_story(fallen.story, place=place, name=f"edits-{number}", tries=tries).failure
    return f"{told or f'{number} FAILED, {fallen}'}\n    as it was made up: make edits N=1 SEED={number}"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all is well."""
    parser = ArgumentParser(prog="tests.worlds.any_order", description="Specs edited in any order; see docs/worlds.md.")
    parser.add_argument("--stories", type=int, default=40, help="how many (default 40)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the first one's (default 1); the others have the next ones"
    )
    parser.add_argument("--place", type=Path, default=PLACE, help="where what fails is written (default .worlds)")
    words = parser.parse_args(arguments)
    numbers = range(words.seed, words.seed + words.stories)
    with multiprocessing.Pool(min(len(numbers), os.cpu_count() or 1)) as pool:
        told = [print(each, flush=True) for each in pool.imap(partial(tell, place=words.place), numbers) if each]
    print(f"FAILED: {len(told)} of {len(numbers)}" if told else f"{len(numbers)} stories, all well")
    return int(bool(told))


if __name__ == "__main__":
    logging.getLogger("controller").setLevel(logging.CRITICAL)
    sys.exit(main())
