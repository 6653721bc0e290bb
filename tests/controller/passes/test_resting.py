"""Who comes to rest, and that everybody's rest is written down in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from controller.engine import Engine
from controller.passes.marks import Marker
from controller.passes.outcomes import StepOutcome, held, in_sync
from controller.passes.proofs import Proofs
from controller.passes.rest import packed, unpacked
from controller.passes.resting import Resting, _all_reads, _is_settled, _one_machine
from controller.passes.status import Verdict
from controller.records import Phase, PutCondition, PutFacts, PutTester, TesterRecord
from controller.rests import KeptRest, PutRest
from controller.store import Store, StoreError
from reconcilers.backends.machine import question_of
from reconcilers.facts import Double, FactsOfOne, MachineFacts, ObjectState, OutsideObject, WatchedFacts
from reconcilers.listed import Read, Rows
from tests.controller.fakes import START, ManualClock, Outside, rig
from tests.controller.passes.test_rest import ADDRESS, DAY, NOW, QUERY, a_rest, a_world
from tests.controller.store.samples import NOON, a_condition, a_tester, an_object, machine_facts
from tests.reconcilers.test_sign_in_gate import PROVEN

ROW = replace(an_object(), state=ObjectState.EXISTING, missing_since=None)


def a_pass(
    record: TesterRecord | None = None,
    rows: tuple[OutsideObject, ...] = (ROW,),
    facts: tuple[Any, ...] = (machine_facts(),),
    **more: Any,
) -> Any:
    """That has ended, as far as it is asked whether its tester is settled."""
    snapshot = SimpleNamespace(
        record=record or replace(a_tester(), phase=Phase.READY),
        has_changed=more.get("has_changed", False),
        open_rows=lambda: rows,
        known=lambda: facts,
    )
    under_way = SimpleNamespace(any=lambda: more.get("under_way", False))
    return SimpleNamespace(snapshot=snapshot, has_told=more.get("has_told", False), under_way=under_way)


OUTCOMES = (in_sync("account"), in_sync("machine"))
VERDICT = Verdict((), Phase.READY, START - START, ())
NOT_SETTLED: dict[str, Callable[[], tuple[Any, tuple[StepOutcome, ...], Verdict]]] = {
    "it was not Ready before": lambda: (a_pass(replace(a_tester(), phase=Phase.FAILING)), OUTCOMES, VERDICT),
    "it leaves": lambda: (a_pass(replace(a_tester(removed_at=NOON), phase=Phase.READY)), OUTCOMES, VERDICT),
    "it is not Ready now": lambda: (a_pass(), OUTCOMES, replace(VERDICT, phase=Phase.PAUSED)),
    "there is news": lambda: (a_pass(), OUTCOMES, replace(VERDICT, changes=(PutCondition(a_condition()),))),
    "there was news": lambda: (a_pass(has_told=True), OUTCOMES, VERDICT),
    "something was written": lambda: (a_pass(has_changed=True), OUTCOMES, VERDICT),
    "something is under way": lambda: (a_pass(under_way=True), OUTCOMES, VERDICT),
    "a step waits": lambda: (a_pass(), (*OUTCOMES, held("gateway", "WaitsForStep", "waits")), VERDICT),
    "a step did something": lambda: (a_pass(), (*OUTCOMES, in_sync("gateway", did=1)), VERDICT),
    "a step was left alone": lambda: (a_pass(), (replace(OUTCOMES[0], left_alone=True),), VERDICT),
    "one must go": lambda: (a_pass(rows=(ROW, replace(ROW, state=ObjectState.RETIRING))), OUTCOMES, VERDICT),
    "one is missing": lambda: (a_pass(rows=(replace(ROW, missing_since=NOON),)), OUTCOMES, VERDICT),
    "there are two of a thing": lambda: (a_pass(facts=(_doubled(),)), OUTCOMES, VERDICT),
    "a service does not answer": lambda: (
        a_pass(facts=(WatchedFacts(unwell={"hero_books": NOON}),)),
        OUTCOMES,
        VERDICT,
    ),
}


def _doubled() -> FactsOfOne:
    facts = machine_facts()
    assert isinstance(facts, MachineFacts)
    return facts.model_copy(update={"doubles": (Double(id="2", where="gent", name="vm", how="?", seen_at=NOON),)})


def test_who_is_settled() -> None:
    assert _is_settled(a_pass(), OUTCOMES, VERDICT)


@pytest.mark.parametrize("why", NOT_SETTLED)
def test_who_is_not_settled(why: str) -> None:
    assert not _is_settled(*NOT_SETTLED[why]())


def test_all_steps_must_have_put_one_question_and_got_one_whole_answer() -> None:
    question, other = question_of(QUERY), question_of(replace(QUERY, logs=()))
    asked = (ADDRESS, question, b"answer")
    cases = [
        ([None, asked, asked], asked),
        ([asked, (ADDRESS, question, b"other")], None),
        ([asked, (ADDRESS, other, b"answer")], None),
        ([(ADDRESS, question, b"")], None),
        ([None], None),
    ]
    for each, expected in cases:
        looks: Any = [SimpleNamespace(asked_machine=one) for one in each]
        assert _one_machine(looks) == expected


def test_all_that_was_asked_must_be_such_that_it_can_be_asked_again_and_told_in_one_way() -> None:
    mine, all_of_it = Read("forge/accounts", "login", "alice", ()), Read("forge/accounts", "", "", Rows(("x",)))
    releases, newer = (Read("forge/releases/latest", "", "", {"hero_proc": each}) for each in ("v1", "v2"))
    again = replace(releases, answer=dict(releases.answer))  # type: ignore[call-overload]
    cases: list[tuple[list[list[Read]], bool, tuple[Read, ...] | None]] = [
        ([[mine, releases], [again]], True, (mine, releases)),
        ([[mine, releases], [newer]], True, None),
        ([[mine], [all_of_it]], True, None),
        ([[mine]], False, None),
    ]
    for told, can_be_asked, expected in cases:
        looks: Any = [
            SimpleNamespace(reads={(e.question, e.by, e.key): e for e in reads}, is_repeatable=can_be_asked)
            for reads in told
        ]
        assert _all_reads(looks) == expected


NAMES = ("alice", "bob", "carol")


async def an_engine(store: Store, clock: ManualClock, *, others: tuple[str, ...] = ()) -> Engine:
    """All of these are at rest, and others of whom something has no mark; of nobody it is written down."""
    engine = rig(store, clock, [], Outside()).engine
    world: Any = SimpleNamespace(mark=b"world")
    unmarked = (Read("of nobody", "id", "1", object()),)
    for name in NAMES:
        await store.write(PutTester(a_tester(name)))
        engine.resting._rests[name] = replace(a_rest(), world=world)
    engine.resting._rests.update({name: replace(a_rest(reads=unmarked), world=world) for name in others})
    engine.resting._unkept.update((*NAMES, *others))
    return engine


async def test_many_are_written_down_when_the_next_look_has_ended(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await an_engine(store, clock)
    await engine._one("nobody")
    assert await store.rests(NAMES) == {}
    monkeypatch.setattr("controller.passes.resting.AT_ONCE", 2)
    engine = await an_engine(store, clock)
    for written in (2, 2):  # one is not many
        await engine._one("nobody")
        assert len(await store.rests(NAMES)) == written


async def test_at_the_end_all_are_written_down_and_a_store_that_takes_nothing_holds_up_nobody(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.passes.resting.AT_ONCE", 1)
    engine = await an_engine(store, clock, others=("dora",))
    engine.resting.unwritten([PutRest("gone", b"", "")])
    write = store.write

    async def full(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "write", full)
    await engine.stop()
    assert engine.resting.are_left
    monkeypatch.setattr(store, "write", write)
    await engine.stop()
    assert not engine.resting.are_left
    assert set(await store.rests([*NAMES, "dora", "gone"])) == set(NAMES)


async def test_what_was_kept_is_believed_only_with_all_that_its_mark_is_over(store: Store) -> None:
    await store.write(PutTester(a_tester()), PutFacts("alice", PROVEN, "", NOW))
    books = await store.books("alice", marked=lambda _: True)
    assert books is not None
    world: Any = SimpleNamespace(mark=b"world", step=a_world().step)
    before = Resting(store, Proofs(store))
    before._rests["alice"] = replace(a_rest(), world=world, books=books.mark)
    before._unkept.add("alice")
    await store.write(*before.rows())
    (kept,) = (await store.rests(["alice"])).values()
    longer = packed(unpacked(kept.body).replace(f"{NOW + DAY:%Y-%m-%d}", "2030-01-01"))
    assert longer != kept.body
    other_world = SimpleNamespace(**{**vars(world), "mark": b"another"})
    cases: list[tuple[str, KeptRest, Any, bool]] = [
        ("alice", kept, world, True),
        ("alice", replace(kept, body=longer), world, False),
        ("alice", replace(kept, mark=b""), world, False),
        ("alice", replace(kept, books=replace(kept.books, digest=b"others")), world, False),
        ("alice", kept, other_world, False),
        ("bob", kept, world, False),
    ]
    resting = Resting(store, Proofs(store))
    for name, one, now_in, holds in cases:
        resting.discard("alice")
        resting._kept[name] = one
        assert (resting.of(name, now_in, NOW) is not None) is holds
    resting._marker = Marker(b"another key")
    resting._kept["alice"] = kept
    assert resting.of("alice", world, NOW) is None
