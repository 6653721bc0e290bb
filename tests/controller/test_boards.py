"""What pages are made from: what needs a person, room on nodes, versions, a tester's way, desired against observed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from controller.boards.advice import ADVICE, sentence
from controller.boards.components import component_boards
from controller.boards.ground import GroundKeeper
from controller.boards.needs import Gravity, Need, Topic, needs
from controller.boards.nodes import node_boards
from controller.boards.tester import NEEDS, Health, StepState, TesterBoard, tester_board
from controller.news import Kind, news_of
from controller.news import Topic as News
from controller.places import Places, opened_store
from controller.queries import Queries
from controller.records import Condition, Phase, PutCondition, PutSource, SourceState, Status
from controller.shelf import STEPS
from controller.store import Store
from controller.world import World
from tests.browser.people import DOOR, NEWEST, TOOK, USUAL, Lacking, Person, changes
from tests.browser.stage import a_world, dead_forge, fleet_trouble, revisions
from tests.controller.fakes import START, ManualClock

BY_NAME = {one.name: one for one in USUAL}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def store(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Store]:
    async with opened_store(Places(tmp_path / "fleet", tmp_path / "state"), clock) as opened:
        yield opened


async def show(store: Store, *people: Person) -> World:
    await store.write(*revisions(START))
    for number, one in enumerate(people, 1):
        await store.write(*changes(one, number, START))
    return a_world(store.clock, people)


async def needed(store: Store, world_error: str = "") -> list[Need]:
    return list(needs(await Queries(store).ground(), world_error, START))


# ------------------------------------------------------------------ what needs a person


async def test_an_open_door_comes_before_everything(store: Store) -> None:
    await show(store, *USUAL, DOOR)
    await store.write(*fleet_trouble(START))
    found = await needed(store, "spec.forge.token: the secret is not there")
    assert (found[0].gravity, found[0].testers) == (Gravity.DANGER, ("olga",))
    titles = [each.title for each in found]
    assert titles[1:] == [
        "The Fleet cannot be used",
        "Leftovers in nobody's books",
        "No node has room",
        "A component keeps failing",
        "The last day is near",
    ]
    assert all(each.todo for each in found)


async def test_an_open_door_is_told_once_however_long_it_fails(store: Store) -> None:
    long_ago = replace(DOOR.lacks["sign_in_gate"], since=timedelta(hours=2))
    await show(store, replace(DOOR, lacks={"sign_in_gate": long_ago}))
    (found,) = await needed(store)
    assert found.gravity is Gravity.DANGER


async def test_a_last_day_that_is_near_is_told_until_the_tester_leaves(store: Store) -> None:
    near = {"Lasting": (Status.FALSE, "ExpiresSoon", "its last day is 2026-12-01")}
    far = {"Lasting": (Status.TRUE, "ExpiresLater", "its last day is 2027-12-01")}
    leaves = replace(BY_NAME["milan"], name="mara", found=near, row={"removed_at": START})
    await show(store, Person("alice", found=near), Person("ben", found=far), leaves)
    (found,) = await needed(store)
    assert (found.gravity, found.testers, found.title) == (Gravity.NOTICE, ("alice",), "The last day is near")
    advised = {name: (await board_of(store, name)).advice for name in ("alice", "ben", "mara")}
    assert advised == {"alice": ADVICE["ExpiresSoon"], "ben": None, "mara": None}


async def test_who_mends_himself_needs_nobody(store: Store) -> None:
    await show(store, BY_NAME["alice"], BY_NAME["dora"], BY_NAME["emil"], BY_NAME["kofi"], BY_NAME["milan"])
    assert await needed(store) == []


async def test_what_fails_is_told_only_when_it_does_not_mend_itself(store: Store) -> None:
    said = replace(BY_NAME["hanna"].lacks["components"], since=timedelta(minutes=29))
    await show(store, replace(BY_NAME["hanna"], lacks={"components": said}))
    assert await needed(store) == []
    await show(store, BY_NAME["hanna"])
    (found,) = await needed(store)
    assert (found.gravity, found.testers) == (Gravity.NOTICE, ("hanna",))


async def test_a_forge_that_is_dead_is_one_thing(store: Store) -> None:
    people = dead_forge(one for one in USUAL if one.phase is Phase.READY)
    await show(store, *people)
    (found,) = await needed(store)
    assert (found.topic, len(found.testers)) == (Topic.FORGE, len(people))
    assert found.text.startswith("Forge: no connection")


async def test_the_same_trouble_of_several_is_told_once(store: Store) -> None:
    fatima = BY_NAME["fatima"]
    await show(store, fatima, replace(fatima, name="farid"))
    (found,) = await needed(store)
    assert found.testers == ("farid", "fatima")


async def test_who_is_stopped_is_told_by_what_stops_and_not_by_what_is_tried_again(store: Store) -> None:
    """`Ready` names the first step that lacks something, which may be another one."""
    tried = Lacking("Unreachable", "Forge: no connection", "Forge", timedelta(minutes=3), timedelta(minutes=1), True, 3)
    fatima = replace(BY_NAME["fatima"], lacks={"account": tried, **BY_NAME["fatima"].lacks})
    await show(store, fatima)
    stops = f"Machine: {fatima.lacks['machine'].message}"
    await store.write(PutCondition(Condition("fatima", "Stalled", Status.TRUE, "NoCapacity", stops, 1, START)))
    (found,) = await needed(store)
    assert (found.title, found.text) == ("No node has room", sentence(fatima.lacks["machine"].message))
    board = await board_of(store, "fatima")
    assert (board.said, board.advice) == (found.text, ADVICE["NoCapacity"])


@pytest.mark.parametrize(("readable", "title"), [(True, "A spec is broken"), (False, "The specs cannot be read")])
async def test_broken_specs_lead_to_their_page(store: Store, readable: bool, title: str) -> None:
    await show(store)
    await store.write(PutSource(SourceState("folder fleet", "r1", START, readable, ("a.yaml:1:1 bad", "b.yaml: bad"))))
    (found,) = await needed(store)
    assert (found.title, found.topic) == (title, Topic.SPECS)


# ------------------------------------------------------------------ reading once


async def test_the_ground_is_made_once_between_two_commits(store: Store) -> None:
    await show(store, BY_NAME["alice"])
    news = news_of(store)
    keeper = GroundKeeper(lambda: news.position, Queries(store).ground)
    first = await keeper.now()
    assert await keeper.now() is first
    condition = replace((await store.conditions("alice"))[0], message="other")
    await store.write(PutCondition(condition))
    second = await keeper.now()
    assert second is not first
    assert (first.ready["alice"].message, second.ready["alice"].message) != ("other", "other")
    assert await keeper.now() is second
    news.hear_of({News(Kind.TESTER, "alice")})  # of another replica
    assert await keeper.now() is not second


# ------------------------------------------------------------------ nodes


async def test_room_is_used_promised_or_free_and_nothing_twice(store: Store) -> None:
    fresh = replace(BY_NAME["alice"], name="fresh", age=timedelta(seconds=100), phase=Phase.READY)
    world = await show(store, BY_NAME["alice"], fresh)
    first, second, third = await node_boards(store, world, START)
    assert first.name == "gent/0001"
    assert (first.memory.used, first.memory.promised, first.memory.free) == (8192, 8192, 57344 - 8192)
    assert first.memory.total == 57344 + 8192
    assert (first.disk.used, first.disk.promised, first.disk.free, first.largest_pool) == (60, 60, 1400, 820)
    assert first.testers == ("alice", "fresh")
    assert (second.memory.used, second.online, third.online) == (0, True, False)
    assert (third.memory.free, third.disk.free, third.largest_pool) == (None, None, None), "nobody can be placed there"


async def test_a_silent_daemon_is_told_and_nothing_made_up(store: Store) -> None:
    world = await show(store, BY_NAME["alice"])
    world.backends.daemon("gent").dead = True  # type: ignore[attr-defined]
    first = (await node_boards(store, world, START))[0]
    assert (first.online, first.read_at, first.memory.free, first.memory.used) == (None, None, None, 8192)
    assert "no connection" in first.why
    assert await node_boards(store, None, START) == ()


# ------------------------------------------------------------------ components


async def test_versions_are_counted_by_tester(store: Store) -> None:
    world = await show(store, BY_NAME["alice"], BY_NAME["ben"], BY_NAME["dora"], BY_NAME["lea"])
    found = {each.name: each for each in component_boards((await store.briefs(STEPS)).values(), world)}
    books = found["hero_books"]
    assert [(one.version, one.testers, one.newest) for one in books.versions] == [
        (NEWEST, ("alice", "lea"), True),
        ("v0.2.9", ("ben",), False),
        ("", ("dora",), False),
    ]
    assert (books.newest, books.wanted) == (NEWEST, 4)
    assert found["hero_whiteboard"].unwell == ("lea",)
    assert found["hero_proc"].versions[0].testers == ("alice", "ben", "dora", "lea")


async def test_an_install_that_failed_is_trouble_until_it_ends_well(store: Store) -> None:
    world = await show(store, BY_NAME["alice"], BY_NAME["hanna"])
    found = {each.name: each for each in component_boards((await store.briefs(STEPS)).values(), world)}
    assert {name: board.unwell for name, board in found.items() if board.unwell} == {"hero_indexer": ("hanna",)}


# ------------------------------------------------------------------ one tester


async def board_of(store: Store, name: str, world: World | None = None) -> TesterBoard:
    found = await tester_board(name, store, Queries(store), world, START)
    assert found is not None
    return found


async def test_steps_stand_where_their_conditions_say(store: Store) -> None:
    await show(store, *USUAL)
    states = {name: {each.name: each.state for each in (await board_of(store, name)).steps} for name in BY_NAME}
    assert set(states["alice"].values()) == {StepState.DONE}
    assert states["dora"]["components"] is StepState.RUNNING
    assert states["dora"]["welcome"] is StepState.BEFORE
    assert states["fatima"]["machine"] is StepState.STUCK
    assert states["hanna"]["components"] is StepState.FAILING


async def test_an_open_door_is_seen_in_words_picture_and_advice(store: Store) -> None:
    await show(store, BY_NAME["alice"], DOOR)
    board = await board_of(store, "olga")
    assert board.said.startswith("A stranger was let in from outside at /hero_books/web/")
    assert {each.name: each.state for each in board.steps}["sign_in_gate"] is StepState.FAILING
    assert (board.open_door, board.advice) == (True, ADVICE["SeenOpen"])
    alice = await board_of(store, "alice")
    assert (alice.open_door, alice.advice) == (False, None)


async def test_who_leaves_is_on_no_way_to_ready(store: Store) -> None:
    await show(store, BY_NAME["milan"])
    board = await board_of(store, "milan")
    assert (board.began, board.passed, board.advice) == (None, None, None)


async def test_a_way_is_told_beside_the_usual_one(store: Store, clock: ManualClock) -> None:
    await show(store, *USUAL)
    dora = await board_of(store, "dora")
    after = {each.name: each.after for each in dora.steps}
    assert dora.passed == timedelta(seconds=245)
    assert after["machine"] == timedelta(seconds=TOOK["machine"])
    assert after["components"] is None
    machine = next(each for each in dora.steps if each.name == "machine")
    assert machine.usual is not None
    assert machine.usual.least < timedelta(seconds=TOOK["machine"]) < machine.usual.most
    alice = await board_of(store, "alice")  # ready for long: the run that was written down
    assert alice.ready.after == alice.passed


async def test_too_few_runs_tell_nothing(store: Store) -> None:
    await show(store, BY_NAME["alice"], BY_NAME["dora"])
    assert all(each.usual is None for each in (await board_of(store, "dora")).steps)


async def test_components_say_how_they_are(store: Store) -> None:
    world = await show(store, *USUAL)
    hanna = {each.name: each for each in (await board_of(store, "hanna", world)).components}
    assert hanna["hero_indexer"].health is Health.FAILED
    lea = {each.name: each for each in (await board_of(store, "lea", world)).components}
    assert (lea["hero_whiteboard"].health, lea["hero_books"].health) == (Health.UNWELL, Health.WELL)
    dora = {each.name: each for each in (await board_of(store, "dora", world)).components}
    assert (dora["hero_books"].health, dora["hero_books"].version) == (Health.MISSING, "")
    ben = {each.name: each for each in (await board_of(store, "ben", world)).components}
    assert ben["hero_books"].behind
    assert not ben["hero_db"].behind


async def test_desired_and_observed_agree_disagree_or_are_unknown(store: Store) -> None:
    await show(store, BY_NAME["alice"], BY_NAME["emil"], DOOR)
    alice = {(each.topic, each.field): each for each in (await board_of(store, "alice")).lines}
    assert all(each.agrees for each in alice.values())
    assert (alice["Machine", "memory"].wanted, alice["Machine", "memory"].seen) == ("8 GiB", "8 GiB")
    emil = {(each.topic, each.field): each for each in (await board_of(store, "emil")).lines}
    assert (emil["Machine", "node"].agrees, emil["Machine", "node"].seen) == (None, "")
    olga = {(each.topic, each.field): each for each in (await board_of(store, "olga")).lines}
    door = olga["Door", "asks for sign-in"]
    assert door.agrees is False
    assert "a stranger was let in" in door.seen


async def test_nobody_is_nobody(store: Store) -> None:
    assert await tester_board("nobody", store, Queries(store), None, START) is None


def test_the_graph_knows_every_step_after_what_it_needs() -> None:
    order = list(NEEDS)
    assert all(order.index(each) < order.index(step) for step, needed_ in NEEDS.items() for each in needed_)
