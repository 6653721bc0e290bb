"""The testers at hand: always as the books have them, and only what has changed is read."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from controller.records import Condition, DropTester, Phase, PutCondition, PutFacts, PutTester, SetStatus, Status
from controller.shelf import STEPS, Shelf, shelf_of
from controller.store import Store, StoreError
from controller.store.briefs import MOST_NAMED, Brief
from reconcilers.facts import ComponentsFacts, MachineFacts
from tests.controller.fakes import START, a_tester, record_of


@pytest.fixture
def asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[frozenset[str] | None]:
    """What was read of the store, in order; None: everything."""
    reads: list[frozenset[str] | None] = []
    real = store.briefs

    async def briefs(steps: tuple[str, ...], names: Collection[str] | None = None) -> dict[str, Brief]:
        reads.append(None if names is None else frozenset(names))
        return await real(steps, names)

    monkeypatch.setattr(store, "briefs", briefs)
    return reads


def a_row(name: str, **more: Any) -> PutTester:
    return PutTester(record_of(a_tester(name), **more))


async def test_only_what_has_changed_is_read_again(store: Store, asked: list[frozenset[str] | None]) -> None:
    shelf = shelf_of(store)
    await store.write(a_row("bob"), a_row("alice"))
    assert list(await shelf.testers()) == ["alice", "bob"]
    await shelf.testers()
    assert asked == [None]
    await store.write(SetStatus("bob", Phase.READY, 100, "", 1, None))
    assert (await shelf.testers())["bob"].record.phase is Phase.READY
    assert asked == [None, frozenset({"bob"})]


async def test_it_says_what_the_books_say_whatever_was_written(store: Store) -> None:
    shelf = shelf_of(store)
    await shelf.testers()
    machine = MachineFacts(daemon="gent", vm_id="7", vm_name="x", address="400::7")
    writes = (
        (a_row("alice"), a_row("bob")),
        (PutCondition(Condition("alice", "Ready", Status.TRUE, "Ready", "", 1, START)),),
        (PutFacts("alice", machine, "", START),),
        (PutFacts("alice", ComponentsFacts(versions={"hero_books": "v1"}), machine.key, START),),
        (PutFacts("alice", machine.model_copy(update={"vm_id": "8"}), "", START),),
        (a_row("bob", removed_at=START),),
        (DropTester("bob"),),
        (a_row("bob", uid="another"),),
    )
    for write in writes:
        await store.write(*write)
        assert await shelf.testers() == await store.briefs(STEPS)
    facts = (await shelf.testers())["alice"].facts
    assert set(facts) == {"machine"}, "what was known of another machine is not known of this one"


async def test_a_store_that_cannot_be_read_is_asked_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = shelf_of(store)
    await store.write(a_row("alice"))
    await shelf.testers()
    await store.write(SetStatus("alice", Phase.FAILING, 10, "", 1, None))

    async def broken(*_: object) -> None:
        raise StoreError("no")

    with monkeypatch.context() as patched:
        patched.setattr(store, "briefs", broken)
        with pytest.raises(StoreError):
            await shelf.testers()
    assert (await shelf.testers())["alice"].record.phase is Phase.FAILING


async def test_many_names_at_once_are_no_other_than_few(store: Store) -> None:
    count = MOST_NAMED + 2
    await store.write(*(a_row(f"t{number:03}", uid=f"u{number}") for number in range(count)))
    names = [f"t{number:03}" for number in range(count - 1)]
    assert sorted(await store.briefs(STEPS, names)) == names
    assert sorted(await store.briefs(STEPS, names[:3])) == names[:3]
    assert await store.briefs(STEPS, ()) == {}


async def test_there_is_one_for_all_who_ask(store: Store) -> None:
    assert isinstance(shelf_of(store), Shelf)
    assert shelf_of(store) is shelf_of(store)
