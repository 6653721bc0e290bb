"""Listings that are looked up by a word, and what was asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from reconcilers.backends.engines import EngineTenants
from reconcilers.backends.forge import Account
from reconcilers.listed import TENANT, Listed, Members, Read, Rows, answer_of, under
from reconcilers.looks import Look, Looks, TesterLooks
from tests.controller.fakes import ManualClock

ALICE, BOB = Account(1, "Alice", "a@example.org"), Account(2, "bob", "b@example.org")
TWIN = Account(3, "BOB", "c@example.org")


def test_rows_are_found_by_their_words_in_their_order_as_in_a_plain_listing() -> None:
    plain = (BOB, ALICE, TWIN)
    for rows in (plain, Rows(plain), Listed(Rows(plain), "accounts", lambda read: None)):
        assert under(rows, "login", "bob") == (BOB, TWIN)
        assert under(rows, "id", "1") == (ALICE,)
        assert under(rows, "email", "nobody") == ()
        assert tuple(rows) == plain


def test_what_is_asked_is_noted_with_its_answer() -> None:
    noted: list[Read] = []
    rows = Rows((ALICE, BOB))
    listed = Listed(rows, "accounts", noted.append)
    assert listed.under("login", "bob") == (BOB,)
    assert "alice" in Members(listed, "login")
    assert len(listed) == 2
    told = [(read.by, read.key) for read in noted]
    assert told == [("login", "bob"), ("login", "alice"), ("", "")]
    assert all(answer_of(rows, read.by, read.key) == read.answer for read in noted)
    later = Rows((ALICE, TWIN))
    assert [answer_of(later, read.by, read.key) == read.answer for read in noted] == [False, True, False]


def test_of_an_engine_s_list_counts_what_it_says_of_one() -> None:
    before, after = EngineTenants({"a": "1", "b": "2"}, False), EngineTenants({"a": "1", "b": "3", "c": "4"}, False)
    assert answer_of(before, TENANT, "a") == answer_of(after, TENANT, "a")
    assert answer_of(before, TENANT, "b") != answer_of(after, TENANT, "b")
    assert answer_of(before, TENANT, "a") != answer_of(EngineTenants({"a": "1"}, True), TENANT, "a")


@dataclass
class Forge:
    held: tuple[Account, ...] = (ALICE, BOB)
    asked: int = 0

    async def accounts(self) -> tuple[Account, ...]:
        self.asked += 1
        return self.held


async def test_who_was_in_sync_is_content_with_an_older_listing() -> None:
    clock, forge = ManualClock(), Forge()
    backends: Any = type("Backends", (), {"forge": forge})
    looks = Looks(backends, clock, timedelta(seconds=30))
    looks.resting_age = timedelta(seconds=150)
    await TesterLooks(looks).accounts()
    clock.pass_by(timedelta(seconds=100))
    await TesterLooks(looks, max_age=looks.resting_age).accounts()
    assert forge.asked == 1
    await TesterLooks(looks).accounts()
    assert forge.asked == 2


async def test_a_question_is_put_again_by_what_was_noted() -> None:
    clock, forge = ManualClock(), Forge()
    backends: Any = type("Backends", (), {"forge": forge})
    looks = Looks(backends, clock, timedelta(seconds=30))
    fleet: Any = None
    mine = TesterLooks(looks)
    under(await mine.accounts(), "login", "bob")
    (read,) = mine.reads.values()
    assert await looks.again(read, fleet, clock.now()) == Look((BOB,), clock.now())
    clock.pass_by(timedelta(minutes=5))
    forge.held = (ALICE, BOB, TWIN)
    assert await looks.again(read, fleet, clock.now()) == Look((BOB, TWIN), clock.now())
    forge.held = (BOB,)
    clock.pass_by(timedelta(minutes=5))
    anew = Looks(backends, clock, timedelta(seconds=30))
    assert await anew.again(read, fleet, clock.now()) == Look((BOB,), clock.now()), (
        "though nobody has asked for it before"
    )
    assert forge.asked == 3
