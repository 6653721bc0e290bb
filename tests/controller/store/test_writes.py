"""What each change leaves behind, and that a write is all or nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from controller.records import (
    AddEvent,
    Change,
    DropCondition,
    DropFacts,
    DropTester,
    Event,
    OnlyWhile,
    Outcome,
    Phase,
    PutCondition,
    PutFacts,
    PutFleet,
    PutJournal,
    PutObject,
    PutSource,
    PutTester,
    Seal,
    SetStatus,
    SourceState,
    Status,
    Unseal,
    Void,
)
from controller.store import SpecChanged, Store, StoreError
from reconcilers.facts import AccountFacts, ObjectState
from reconcilers.secret import Secret
from tests.controller.store.samples import (
    MINUTE,
    NOON,
    a_condition,
    a_tester,
    an_entry,
    an_event,
    an_object,
    machine_facts,
)

LATER = NOON + 10 * MINUTE
STATUS = SetStatus("alice", Phase.READY, 100, "", 1, LATER)


async def test_a_tester_comes_back_as_it_was_put(store: Store) -> None:
    record = replace(
        a_tester(), removed_at=LATER, source_error="broken", next_look_at=LATER, phase=Phase.WAITING, progress=40
    )
    await store.write(PutTester(record))
    assert await store.tester("alice") == record
    assert await store.testers() == (record,)
    assert await store.tester("bob") is None


async def test_testers_come_by_name(store: Store) -> None:
    await store.write(*(PutTester(a_tester(name)) for name in ("carol", "alice", "bob")))
    assert [record.name for record in await store.testers()] == ["alice", "bob", "carol"]


async def test_an_intake_keeps_the_status_and_a_pass_keeps_the_intake(store: Store) -> None:
    await store.write(PutTester(a_tester()), STATUS)
    changed = replace(a_tester(), generation=2, revision="r2", changed_at=LATER)  # as read before the pass ended
    await store.write(PutTester(changed))
    await store.write(replace(STATUS, progress=50, current="machine"))
    after = await store.tester("alice")
    assert after == replace(
        changed, observed_generation=1, phase=Phase.READY, progress=50, current="machine", next_look_at=LATER
    )


async def test_another_tester_of_the_same_name_starts_with_a_status_of_its_own(store: Store) -> None:
    await store.write(PutTester(a_tester()), STATUS)
    newcomer = a_tester(uid="a1b2c3")
    await store.write(PutTester(newcomer))
    assert await store.tester("alice") == newcomer


async def test_a_status_of_nobody_is_nothing(store: Store) -> None:
    await store.write(STATUS)
    assert await store.testers() == ()


async def test_an_object_is_one_row_per_attempt(store: Store) -> None:
    first, second = an_object(attempt=1, state=ObjectState.LOST), an_object(attempt=2, state=ObjectState.INTENDED)
    moved = replace(second, state=ObjectState.EXISTING, deadline=LATER, missing_since=LATER, identity={"sid": "18"})
    await store.write(PutObject(first), PutObject(second))
    await store.write(PutObject(moved))
    assert await store.objects() == (first, moved)


async def test_a_row_is_put_twice_in_one_write_and_the_last_one_stays(store: Store) -> None:
    begun, done = an_object(state=ObjectState.INTENDED), an_object(state=ObjectState.EXISTING)
    await store.write(PutObject(begun), PutObject(done))
    assert await store.objects() == (done,)


async def test_changes_are_made_in_their_order(store: Store) -> None:
    condition = a_condition()
    await store.write(
        PutTester(a_tester()), PutCondition(condition), DropCondition("alice", "Ready"), PutCondition(condition)
    )
    assert await store.conditions("alice") == (condition,)
    await store.write(PutCondition(condition), DropCondition("alice", "Ready"))
    assert await store.conditions("alice") == ()


async def test_a_condition_is_replaced_by_type(store: Store) -> None:
    worse = replace(
        a_condition(), status=Status.FALSE, reason="Waiting", until=LATER, blames="compute", failures=3, retry_at=LATER
    )
    await store.write(PutTester(a_tester()), PutCondition(a_condition()), PutCondition(a_condition("Machine")))
    await store.write(PutCondition(worse))
    assert await store.conditions() == (a_condition("Machine"), worse)


async def test_the_fleet_has_conditions_but_a_tester_that_is_no_more_has_none(store: Store) -> None:
    await store.write(PutCondition(a_condition(of="")), PutCondition(a_condition(of="alice")))
    assert await store.conditions() == (a_condition(of=""),)


async def test_facts_of_nobody_are_let_go_and_the_rest_of_the_write_stays(store: Store) -> None:
    """A late answer: what was made outside must stay in the books though its tester is no more."""
    await store.write(PutObject(an_object()), PutFacts("alice", machine_facts(), "", NOON))
    await store.write(PutTester(a_tester()))
    books = await store.books("alice")
    assert books is not None
    assert books.facts == {}
    assert books.objects == (an_object(),)


async def test_facts_are_dropped_by_step(store: Store) -> None:
    account = AccountFacts(account="Alice")
    await store.write(
        PutTester(a_tester()), PutFacts("alice", account, "", NOON), PutFacts("alice", machine_facts(), "", NOON)
    )
    await store.write(DropFacts("alice", "machine"))
    books = await store.books("alice")
    assert books is not None
    assert books.facts == {"account": account}


async def test_the_same_event_again_only_counts_up(store: Store) -> None:
    await store.write(AddEvent(an_event()))
    await store.write(AddEvent(replace(an_event(at=LATER), generation=2)), AddEvent(an_event(of="bob")))
    await store.write(AddEvent(an_event(at=LATER + MINUTE)))
    bobs, counted = await store.events()
    assert bobs.tester == "bob"
    assert (counted.count, counted.at, counted.last_at, counted.generation) == (3, NOON, LATER + MINUTE, 0)


@pytest.mark.parametrize("other", [an_event("lost"), an_event(reason="Deleted")])
async def test_an_event_that_says_something_else_between_them_starts_anew(store: Store, other: Event) -> None:
    await store.write(AddEvent(an_event()), AddEvent(other), AddEvent(an_event(at=LATER)))
    assert [event.count for event in await store.events("alice")] == [1, 1, 1]


async def test_events_of_one_write_count_up_as_well(store: Store) -> None:
    await store.write(*(AddEvent(an_event()) for _ in range(3)), AddEvent(an_event("other")))
    assert [(event.message, event.count) for event in await store.events()] == [("other", 1), ("made", 3)]


async def test_events_come_newest_first_and_page_by_page(store: Store) -> None:
    await store.write(*(AddEvent(an_event(f"m{n}", of="alice" if n % 2 else "bob")) for n in range(6)))
    page = await store.events("alice", limit=2)
    assert [event.message for event in page] == ["m5", "m3"]
    rest = await store.events("alice", limit=2, before=page[-1].id)
    assert [event.message for event in rest] == ["m1"]
    assert len(await store.events()) == 6


async def test_a_journal_entry_is_unfinished_until_it_has_an_end(store: Store) -> None:
    begun = an_entry()
    await store.write(
        PutJournal(begun), PutJournal(replace(an_entry("e0"), began_at=NOON - MINUTE)), PutTester(a_tester())
    )
    assert [entry.id for entry in await store.unfinished()] == ["e0", "e1"]
    done = replace(begun, outcome=Outcome.UNKNOWN, ended_at=LATER, detail="timed out")
    await store.write(PutJournal(done))
    assert [entry.id for entry in await store.unfinished()] == ["e0"]
    assert (await store.journal("alice", limit=1)) == (done,)
    assert await store.journal("bob") == ()
    books = await store.books("alice")
    assert books is not None
    assert [entry.id for entry in books.journal] == ["e0"]


async def test_secrets_are_sealed_voided_and_forgotten(store: Store) -> None:
    value = Secret(b"\x00-----BEGIN\n\xff\n")
    await store.write(PutTester(a_tester()), Seal("alice/key", value, NOON), Seal("alice/other", Secret("o"), NOON))
    assert await store.sealed("alice/key") == value
    await store.write(Void("alice/key"))
    books = await store.books("alice")
    assert books is not None
    assert books.sealed == {"alice/other": Secret("o")}
    assert await store.sealed("alice/key") is None
    assert await store.sealed_names() == ("alice/other",)
    await store.write(Seal("alice/key", Secret("anew"), NOON), Unseal("alice/other"))
    assert await store.sealed("alice/key") == Secret("anew")
    assert await store.sealed("alice/other") is None


async def test_source_and_fleet_are_the_last_ones_put(store: Store) -> None:
    assert await store.source() is None
    assert await store.fleet() is None
    state = SourceState("folder fleet", "r2", LATER, False, ("a.yaml:1:1 no",), ("bob",))
    await store.write(PutSource(replace(state, revision="r1")), PutFleet("{}", "r1"))
    await store.write(PutSource(state), PutFleet('{"kind": "Fleet"}', "r2"))
    assert await store.source() == state
    assert await store.fleet() == ('{"kind": "Fleet"}', "r2")


async def test_a_dropped_tester_leaves_history_and_what_still_stands(store: Store) -> None:
    kept, gone = an_object("account"), an_object("machine", ObjectState.GONE)
    watched = an_object("gateway", ObjectState.LOST)
    await store.write(
        *(PutTester(a_tester(name, removed_at=LATER)) for name in ("alice", "alice2")),
        *(PutObject(each) for each in (kept, gone, watched)),
        PutFacts("alice", machine_facts(), "", NOON),
        PutCondition(a_condition()),
        PutCondition(a_condition(of="alice2")),
        Seal("alice/key", Secret("k"), NOON),
        Seal("alice2/key", Secret("k2"), NOON),
        AddEvent(an_event()),
        PutJournal(an_entry(ended_at=LATER)),
    )
    await store.write(DropTester("alice"))
    assert [record.name for record in await store.testers()] == ["alice2"]
    assert await store.objects() == (kept, watched)
    assert await store.conditions() == (a_condition(of="alice2"),)
    assert await store.sealed_names() == ("alice2/key",)
    assert len(await store.events("alice")) == 1
    assert len(await store.journal("alice")) == 1
    await store.write(PutTester(a_tester()))
    books = await store.books("alice")
    assert books is not None
    assert books.facts == {}
    assert books.objects == (kept, watched)


async def test_a_tester_that_came_back_meanwhile_is_not_dropped(store: Store) -> None:
    back = a_tester()
    await store.write(PutTester(a_tester(removed_at=LATER)), PutObject(an_object(state=ObjectState.GONE)))
    await store.write(PutCondition(a_condition()), PutTester(back), Seal("alice/key", Secret("k"), NOON))
    await store.write(DropTester("alice"))
    books = await store.books("alice")
    assert books is not None
    assert books.record == back
    assert set(books.conditions) == {"Ready"}
    assert books.objects == (an_object(state=ObjectState.GONE),)
    assert set(books.sealed) == {"alice/key"}


async def test_nothing_to_write_is_no_commit(store: Store) -> None:
    await store.write()
    assert store.commits == 0
    await store.write(AddEvent(an_event()), AddEvent(an_event("other")))
    assert store.commits == 1


async def test_hooks_see_every_commit_from_both_sides(store: Store) -> None:
    seen: list[tuple[str, tuple[Change, ...]]] = []

    async def watch(moment: str, changes: tuple[Change, ...]) -> None:
        seen.append((moment, changes))

    store.hooks.append(watch)
    change = AddEvent(an_event())
    await store.write(change)
    assert seen == [("before commit", (change,)), ("after commit", (change,))]


async def test_a_write_that_fails_half_way_leaves_nothing(store: Store) -> None:
    naive = replace(an_entry(), began_at=NOON.replace(tzinfo=None))
    with pytest.raises(StoreError, match="without a time zone"):
        await store.write(PutObject(an_object()), PutJournal(naive))
    assert await store.objects() == ()
    assert store.commits == 0


async def test_times_come_back_as_the_same_instant_in_utc(store: Store) -> None:
    elsewhere = datetime(2026, 11, 20, 23, 30, 0, 7, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    await store.write(AddEvent(an_event(at=elsewhere)))
    (event,) = await store.events()
    assert event.at == elsewhere
    assert event.at.utcoffset() == timedelta(0)


async def test_text_that_no_database_can_hold_is_kept_as_far_as_it_goes(store: Store) -> None:
    await store.write(AddEvent(an_event("nul \x00, half \ud83d, whole 😀")))
    await store.write(AddEvent(an_event("nul \x00, half \ud83d, whole 😀")))
    (event,) = await store.events()
    assert event.message == "nul \ufffd, half ?, whole 😀"
    assert event.count == 2


async def test_objects_are_found_by_step_and_state(store: Store) -> None:
    rows = [
        an_object("gateway", ObjectState.LOST, of="bob"),
        an_object("machine", ObjectState.LOST),
        an_object("machine", ObjectState.EXISTING, of="bob"),
    ]
    await store.write(*(PutObject(row) for row in rows))
    assert await store.objects("machine", frozenset({ObjectState.LOST})) == (rows[1],)
    assert await store.objects(states=frozenset({ObjectState.LOST})) == (rows[1], rows[0])
    assert await store.objects("machine") == (rows[1], rows[2])
    assert await store.objects(states=frozenset()) == ()


async def test_pruning_forgets_only_what_is_over(store: Store) -> None:
    await store.write(
        PutTester(a_tester("bob")),
        AddEvent(an_event("old")),
        AddEvent(an_event("old, but seen again", at=NOON)),
        PutJournal(an_entry("unfinished")),
        PutJournal(an_entry("finished", ended_at=NOON)),
        PutObject(an_object(state=ObjectState.GONE)),
        PutObject(an_object("account")),
        PutObject(an_object(of="bob", state=ObjectState.GONE)),
    )
    await store.write(AddEvent(an_event("old, but seen again", at=LATER)))
    assert await store.prune(NOON + MINUTE) == 3
    assert [event.message for event in await store.events()] == ["old, but seen again"]
    assert [entry.id for entry in await store.journal()] == ["unfinished"]
    assert await store.objects() == (an_object("account"), an_object(of="bob", state=ObjectState.GONE))


@pytest.mark.parametrize(
    "demand",
    [OnlyWhile("alice", 2, leaving=False), OnlyWhile("alice", 1, leaving=True), OnlyWhile("bob", 1, leaving=False)],
)
async def test_a_write_for_another_spec_leaves_nothing_behind(store: Store, demand: OnlyWhile) -> None:
    await store.write(PutTester(a_tester()))
    with pytest.raises(SpecChanged, match=demand.tester):
        await store.write(PutObject(an_object()), demand, PutJournal(an_entry()))
    assert await store.objects() == ()
    assert await store.journal("alice") == ()
    await store.write(OnlyWhile("alice", 1, leaving=False), PutObject(an_object()))
    assert await store.objects() == (an_object(),)
