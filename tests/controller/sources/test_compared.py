"""The very same reading is not compared with everybody's row each minute; whatever may have changed is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from controller.intake import Edit, Revision, Taken
from controller.places import Places
from controller.records import PutTester
from controller.running import Controller
from controller.sources.compared import AGAIN, Compared
from controller.store import Store
from specs.fleet import Fleet
from specs.loading import Loaded
from specs.memory import LoadedTester
from tests.controller.fakes import FLEET, ManualClock, a_tester

TAKEN = Taken(fleet=FLEET)


def read(name: str = "alice", revision: str = "r1") -> Revision:
    document: Any = None  # nobody but the loader looks at it
    found = LoadedTester(document, a_tester(name), f"{name}.yaml", 1, f"digest of {name}")
    return Revision("folder", revision, Loaded({name: found}, FLEET, (), {}, {}, readable=True))


def test_a_reading_that_nothing_was_compared_with_is_news(clock: ManualClock) -> None:
    compared, one = Compared(clock), read()
    assert not compared.tells_nothing_new(one)
    compared.note(one, TAKEN)
    assert compared.tells_nothing_new(one)


@pytest.mark.parametrize(
    "other",
    [
        lambda one: replace(one, id="r2"),
        lambda one: replace(one, source="git"),
        lambda one: replace(one, rewrites="r0"),
        lambda one: replace(
            one, loaded=replace(one.loaded)
        ),  # judged anew: who is known has changed, or the last Fleet
    ],
)
def test_another_one_is_news(clock: ManualClock, other: Callable[[Revision], Revision]) -> None:
    compared, one = Compared(clock), read()
    compared.note(one, TAKEN)
    assert not compared.tells_nothing_new(other(one))


@pytest.mark.parametrize("taken", [replace(TAKEN, held=("bob",)), replace(TAKEN, errors=("bob.yaml:1: …",))])
def test_what_was_not_taken_in_whole_is_compared_again(clock: ManualClock, taken: Taken) -> None:
    compared, one = Compared(clock), read()
    compared.note(one, TAKEN)
    compared.note(one, taken)
    assert not compared.tells_nothing_new(one)


@pytest.mark.parametrize("span", [AGAIN, timedelta(seconds=-1)])
def test_after_a_while_and_when_the_clock_was_set_back_it_is_compared_again(
    clock: ManualClock, span: timedelta
) -> None:
    compared, one = Compared(clock), read()
    compared.note(one, TAKEN)
    clock.pass_by(span)
    assert not compared.tells_nothing_new(one)


def test_a_new_day_is_news(clock: ManualClock) -> None:
    clock.at = clock.at.replace(hour=23, minute=59)
    compared, one = Compared(clock), read()
    compared.note(one, TAKEN)
    clock.pass_by(timedelta(minutes=2))
    assert not compared.tells_nothing_new(one)


def test_an_edit_compares_nobody_else(clock: ManualClock) -> None:
    compared, one = Compared(clock), read()
    edited = replace(read(revision="r2"), edit=Edit("r1", frozenset({"alice"})))
    compared.note(edited, TAKEN)
    assert not compared.tells_nothing_new(edited)
    compared.note(one, TAKEN)
    clock.pass_by(AGAIN / 2)
    compared.note(edited, TAKEN)
    assert compared.tells_nothing_new(replace(edited, edit=None))
    clock.pass_by(AGAIN / 2)
    assert not compared.tells_nothing_new(edited)


async def test_what_a_hand_did_to_a_row_is_put_right_and_credentials_are_looked_at_each_time(
    store: Store, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller, compared, one = Controller(Places(tmp_path, tmp_path), store, clock), Compared(clock), read()
    adopted: list[Fleet] = []

    async def adopt(fleet: Fleet) -> None:
        adopted.append(fleet)

    monkeypatch.setattr(controller.engine, "adopt", adopt)
    assert (await controller._compare(one, compared)).changed == ("alice",)
    row = await store.tester("alice")
    assert row is not None
    await store.write(PutTester(replace(row, digest="another")))
    assert (await controller._compare(one, compared)).changed == ()
    clock.pass_by(AGAIN)
    assert (await controller._compare(one, compared)).changed == ("alice",)
    assert adopted == [FLEET] * 3
