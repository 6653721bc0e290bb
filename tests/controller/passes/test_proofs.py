"""When a proof was seen last is kept in memory, and written down for many at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.passes.proofs import KEPT, Proofs
from controller.passes.snapshot import Snapshot
from controller.records import AddEvent, Change, DropTester, PutFacts, PutTester
from controller.store import Keyring, Store, StoreError
from controller.store.store import BEFORE_COMMIT
from reconcilers.facts import EngineAccessFacts, SignInGateFacts, StepFacts
from tests.controller.fakes import ManualClock
from tests.controller.store.samples import MINUTE, NOON, a_tester, an_event, machine_facts
from tests.reconcilers.data import FLEET

GATE = SignInGateFacts(proven="x", checked_at=NOON, listening=True, public=True)
AGAIN = GATE.model_copy(update={"checked_at": NOON + MINUTE, "checked_path": 1})


@pytest.fixture
async def store(clock: ManualClock) -> Store:
    store = await Store.open("sqlite://", Keyring.generate(), clock)
    machine = machine_facts()
    await store.write(
        PutTester(a_tester()), PutFacts("alice", machine, "", NOON), PutFacts("alice", GATE, machine.key, NOON)
    )
    return store


async def snapshot(store: Store, proofs: Proofs) -> Snapshot:
    books = await store.books("alice")
    assert books is not None
    return Snapshot(books, FLEET, {}, store, proofs)


async def written(store: Store) -> object:
    books = await store.books("alice")
    assert books is not None
    return books.facts["sign_in_gate"]


async def test_a_proof_that_only_came_later_is_known_to_the_next_pass_and_not_written(store: Store) -> None:
    proofs, commits = Proofs(store), store.commits
    await (await snapshot(store, proofs)).learn("sign_in_gate", AGAIN)
    assert (await snapshot(store, proofs)).facts().get(SignInGateFacts) == AGAIN
    assert store.commits == commits
    assert not proofs.are_due(NOON)
    assert proofs.are_due(store.clock.now() + KEPT)
    await proofs.flush()
    assert await written(store) == AGAIN
    assert (store.commits, len(proofs)) == (commits + 1, 0)


@pytest.mark.parametrize("facts", [AGAIN, GATE.model_copy(update={"proven": "y"})], ids=["only later", "another"])
async def test_what_a_pass_has_learnt_is_known_to_its_next_turn(store: Store, facts: SignInGateFacts) -> None:
    one = await snapshot(store, Proofs(store))
    before = one.facts()
    assert one.facts() is before
    await one.learn("sign_in_gate", facts)
    assert (before.get(SignInGateFacts), one.facts().get(SignInGateFacts)) == (GATE, facts)


async def test_what_was_seen_once_more_while_it_was_written_is_known_and_written_the_next_time(store: Store) -> None:
    proofs, later = Proofs(store), AGAIN.model_copy(update={"checked_at": NOON + 2 * MINUTE})
    one = await snapshot(store, proofs)
    await one.learn("sign_in_gate", AGAIN)

    async def meanwhile(moment: str, _: object) -> None:
        if moment == BEFORE_COMMIT:
            proofs.keep(PutFacts("alice", later, machine_facts().key, NOON), AGAIN)

    store.hooks.append(meanwhile)
    await proofs.flush()
    store.hooks.clear()
    assert await written(store) == AGAIN
    assert (await snapshot(store, proofs)).facts().get(SignInGateFacts) == later
    await proofs.flush()
    assert await written(store) == later


async def test_what_was_seen_time_and_again_is_written_as_early_as_if_it_were_once(store: Store) -> None:
    proofs, at = Proofs(store), store.clock.now()
    for number in range(3):
        seen = GATE.model_copy(update={"checked_at": NOON + (number + 1) * MINUTE})
        store.clock.now = lambda number=number: at + number * MINUTE  # type: ignore[method-assign, misc]
        await (await snapshot(store, proofs)).learn("sign_in_gate", seen)
        assert (await snapshot(store, proofs)).facts().get(SignInGateFacts) == seen
    assert proofs.are_due(at + KEPT)
    assert proofs.are_due(at - MINUTE), "the clock was set back"
    assert not proofs.are_due(at + KEPT - MINUTE)
    await proofs.flush()
    assert await written(store) == seen
    assert not proofs.are_due(at + KEPT), "nothing is left"


async def test_what_is_worth_no_write_of_its_own_goes_with_the_first_of_many(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.passes.proofs.AT_ONCE", 1)
    write, writes, fails = store.write, list[tuple[Change, ...]](), set[int]()

    async def one(*changes: Change) -> None:
        writes.append(changes)
        if len(writes) in fails:
            raise StoreError("the disk is full")
        await write(*changes)

    monkeypatch.setattr(store, "write", one)
    beside = AddEvent(an_event())
    for failing, was_written in ((1, False), (2, True), (0, True)):
        proofs, fails = Proofs(store), {failing}
        for tester in ("alice", "bob"):
            proofs.keep(PutFacts(tester, AGAIN, "", NOON), GATE)
        writes.clear()
        assert await proofs.flush([beside]) is was_written
        assert [beside in changes for changes in writes] == [True, False][: len(writes)]


async def test_news_is_written_at_once_and_what_was_kept_is_forgotten(store: Store) -> None:
    proofs = Proofs(store)
    one = await snapshot(store, proofs)
    await one.learn("sign_in_gate", AGAIN)
    shut = AGAIN.model_copy(update={"listening": False})
    await one.learn("sign_in_gate", shut)
    assert await written(store) == shut
    await proofs.flush()
    assert await written(store) == shut
    assert one.version("sign_in_gate") == 1, "a later hour wakes nobody"


async def test_what_somebody_else_wrote_meanwhile_stays(store: Store) -> None:
    proofs = Proofs(store)
    await (await snapshot(store, proofs)).learn("sign_in_gate", AGAIN)
    unheard, store.listeners[:] = list(store.listeners), []
    shut = GATE.model_copy(update={"listening": False})
    await store.write(PutFacts("alice", shut, machine_facts().key, NOON))
    store.listeners[:] = unheard
    assert (await snapshot(store, proofs)).facts().get(SignInGateFacts) == shut
    await proofs.flush()
    assert await written(store) == shut


async def test_of_who_is_gone_nothing_is_kept(store: Store) -> None:
    proofs = Proofs(store)
    await (await snapshot(store, proofs)).learn("sign_in_gate", AGAIN)
    await store.write(PutTester(replace(a_tester(), removed_at=NOON)), DropTester("alice"))
    assert len(proofs) == 0


async def test_what_cannot_be_written_is_kept_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    proofs = Proofs(store)
    await (await snapshot(store, proofs)).learn("sign_in_gate", AGAIN)

    async def full(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(store, "write", full)
    await proofs.flush()
    assert len(proofs) == 1
    later = store.clock.now() + KEPT
    store.clock.now = lambda: later  # type: ignore[method-assign]
    await proofs.flush()
    assert not proofs.are_due(later), "not with every look of thousands"
    assert proofs.are_due(later + KEPT)


async def test_what_was_to_be_written_and_was_cut_off_is_due_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    proofs, begun = Proofs(store), asyncio.Event()
    await (await snapshot(store, proofs)).learn("sign_in_gate", AGAIN)

    async def hangs(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(store, "write", hangs)
    writing = asyncio.ensure_future(proofs.flush())
    await begun.wait()
    writing.cancel()
    await asyncio.wait({writing})
    assert proofs.are_due(store.clock.now() + KEPT)


async def test_what_was_kept_over_facts_of_before_is_no_obstacle(store: Store) -> None:
    """Another replica looked after it meanwhile, and wrote."""
    proofs = Proofs(store)
    await (await snapshot(store, proofs)).learn("sign_in_gate", AGAIN)
    unheard, store.listeners[:] = list(store.listeners), []
    other = GATE.model_copy(update={"proven": "y"})
    await store.write(PutFacts("alice", other, machine_facts().key, NOON))
    store.listeners[:] = unheard
    seen = AGAIN.model_copy(update={"proven": "y"})
    await (await snapshot(store, proofs)).learn("sign_in_gate", seen)
    assert (await snapshot(store, proofs)).facts().get(SignInGateFacts) == seen
    await proofs.flush()
    assert await written(store) == seen


HOUR = timedelta(hours=1)
KNOWN = EngineAccessFacts(tenant="alice", engines=("embedder",), proven={"embedder": NOON})
ALIKE = [
    (GATE, AGAIN, True),
    (GATE, GATE.model_copy(update={"checked_at": None}), False),
    (GATE, GATE.model_copy(update={"public": False, "checked_at": NOON + HOUR}), False),
    (KNOWN, KNOWN.model_copy(update={"proven": {"embedder": NOON + HOUR}}), True),
    (KNOWN, KNOWN.model_copy(update={"proven": {}}), False),
    (KNOWN, GATE, False),
]


@pytest.mark.parametrize(("one", "other", "same"), ALIKE)
def test_facts_are_alike_when_only_their_hours_differ(one: StepFacts, other: StepFacts, same: bool) -> None:
    assert one.is_as(other) is same
