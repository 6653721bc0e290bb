"""What was written down and never sent is told so: by who lets go of it, by who finds it after a death; and a store that fails in
the middle of an action is told as the store's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from controller.passes.acting import whole
from controller.passes.rows import UNSENT
from controller.records import Change, Outcome, PutJournal, PutObject, PutTester, Seal
from controller.recovery import known_now
from controller.store import Store, StoreError
from controller.store.store import BEFORE_COMMIT, Hook
from reconcilers.actions import Action
from reconcilers.contract import Ports, TesterView
from reconcilers.facts import Facts, ObjectState, OutsideObject, StepFacts, WelcomeFacts
from reconcilers.secret import Secret
from tests.controller.fakes import (
    FLEET,
    FakeStep,
    Fault,
    ManualClock,
    Outside,
    Rig,
    RotatingStep,
    Seen,
    a_tester,
    record_of,
    rig,
)
from tests.controller.store.samples import NOON, an_entry, an_object

LIMIT = timedelta(minutes=5)
VM = "machine-alice-1-1"


class SealingStep(FakeStep):
    """Seals before it calls, as the account's does."""

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        await ports.seal("password", Secret("hush"))
        return await super().apply(action, tester, ports)


class TellingStep(FakeStep):
    """Writes down that a letter is on its way, and the letter, before it hands it over, as the welcome's does."""

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        await ports.seal("letter", Secret("another" if action.verb == "change" else "first"))
        await ports.record(WelcomeFacts(state="sending", kind=action.verb))
        return await super().apply(action, tester, ports)

    def learn(self, observed: Seen, facts: Facts) -> StepFacts | None:
        return WelcomeFacts(state="sent")


class Held:
    """A call that hangs: before it has its turn, or after."""

    def __init__(self) -> None:
        self.begun, self.end = asyncio.Event(), asyncio.Event()

    async def __call__(self, action: Action) -> None:
        self.begun.set()
        await self.end.wait()


async def with_steps(store: Store, clock: ManualClock, *steps: FakeStep) -> Rig:
    made = rig(store, clock, list(steps), steps[0].outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    return made


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    return await with_steps(store, clock, FakeStep("machine", Outside(), limit=LIMIT))


async def ends(one: Rig) -> list[tuple[Outcome, str]]:
    """Of the journal's entries, the newest first."""
    return [(entry.outcome, entry.detail) for entry in await one.store.journal("alice")]


async def hung(one: Rig, *, sent: bool) -> Held:
    held = Held()
    (one.outside.before if sent else one.outside.queued).append(held)
    await one.engine.look("alice")
    await held.begun.wait()
    return held


async def died(one: Rig) -> Rig:
    """Another engine finds its books, while its call still hangs and can write nothing."""
    again = rig(one.store, one.clock, list(one.steps.values()), one.outside)
    await again.engine.adopt(FLEET)
    await again.engine.recover(lambda name: True)
    return again


async def test_a_create_that_is_cut_off_before_its_turn_has_had_no_effect(one: Rig) -> None:
    await hung(one, sent=False)
    await one.engine.operations.aclose()
    assert await ends(one) == [(Outcome.FAILED, "the controller was stopped during the call; nothing was sent")]
    assert await one.rows("machine") == [(VM, ObjectState.GONE)]
    await one.run_pass()
    assert one.outside.calls == [f"create {VM}"], "at once, and under the same name"


async def test_a_create_that_had_its_turn_is_unknown(one: Rig) -> None:
    await hung(one, sent=True)
    await one.engine.operations.aclose()
    assert [outcome for outcome, _ in await ends(one)] == [Outcome.UNKNOWN]
    assert await one.rows("machine") == [(VM, ObjectState.INTENDED)]


async def test_who_finds_a_create_that_never_had_its_turn_makes_it_at_once(one: Rig) -> None:
    await hung(one, sent=False)
    again = await died(one)
    assert await ends(again) == [(Outcome.FAILED, "the controller ended before it was sent")]
    assert await again.rows("machine") == [(VM, ObjectState.GONE)]
    assert "OutcomeUnknown" not in await again.told()
    await again.run_pass()
    assert again.outside.calls == [f"create {VM}"]
    assert [dict(row.identity) for row in await again.store.objects("machine")] == [{"id": "1"}]


async def test_who_finds_one_that_had_its_turn_looks_first(one: Rig) -> None:
    await hung(one, sent=True)
    again = await died(one)
    assert [outcome for outcome, _ in await ends(again)] == [Outcome.UNKNOWN]
    await again.run_pass()
    assert again.outside.calls == []
    assert await again.condition("Machine") == ("False", "OutcomeUnknown")


async def ended_while_the_disk_is_full(one: Rig, held: Held, *, also_rows: bool) -> None:
    """The call has its turn and ends, and its end cannot be written down; with `also_rows` neither can that it has its turn."""

    async def fail(moment: str, changes: tuple[Change, ...]) -> None:
        refused = (PutJournal, PutObject) if also_rows else (PutJournal,)
        if moment == BEFORE_COMMIT and any(isinstance(each, refused) for each in changes):
            raise StoreError("The store cannot be written because the disk is full.")

    one.store.hooks.append(fail)
    held.end.set()
    for operation in one.engine.operations.of("alice"):
        assert operation.task is not None
        await operation.task
    one.store.hooks.remove(fail)


async def test_a_create_that_waited_long_for_its_turn_has_its_whole_limit_from_then(one: Rig) -> None:
    held = await hung(one, sent=False)
    one.clock.pass_by(LIMIT * 4)  # others were before it
    await ended_while_the_disk_is_full(one, held, also_rows=False)
    one.outside.hidden.add(VM)  # the listing lags
    one.clock.pass_by(timedelta(seconds=5))
    await one.run_pass()
    assert await one.rows("machine") == [(VM, ObjectState.INTENDED)]
    assert await one.condition("Machine") == ("False", "OutcomeUnknown")
    one.outside.hidden.clear()
    await one.until_quiet()
    assert one.outside.calls == [f"create {VM}"]


async def test_a_create_that_was_not_sent_and_could_not_be_closed_is_made_at_once(one: Rig) -> None:
    await ended_while_the_disk_is_full(one, await hung(one, sent=False), also_rows=True)
    assert [entry.outcome for entry in await one.store.unfinished()] == [Outcome.BEGUN]
    await one.run_pass()
    assert one.outside.calls == [f"create {VM}"]
    assert await one.rows("machine") == [(VM, ObjectState.EXISTING)]
    assert [outcome for outcome, _ in await ends(one)] == [Outcome.DONE, Outcome.FAILED]


async def test_who_leaves_does_not_wait_for_a_create_that_was_not_sent(one: Rig) -> None:
    await ended_while_the_disk_is_full(one, await hung(one, sent=False), also_rows=True)
    gone = record_of(a_tester("alice"), generation=2, removed_at=one.clock.now())
    await one.store.write(PutTester(gone))
    await one.run_pass()
    assert await one.store.tester("alice") is None
    assert await one.store.unfinished() == ()


def failing_at(what: Callable[[tuple[Change, ...]], bool]) -> Hook:
    """The disk is full at the first write that is so."""
    left = [StoreError("The store cannot be written because the disk is full.")]

    async def fail(moment: str, changes: tuple[Change, ...]) -> None:
        if moment == BEFORE_COMMIT and left and what(changes):
            raise left.pop()

    return fail


def seals(changes: tuple[Change, ...]) -> bool:
    return any(isinstance(each, Seal) for each in changes)


async def test_a_store_that_fails_before_the_call_is_told_and_the_call_is_made_later(
    store: Store, clock: ManualClock
) -> None:
    one = await with_steps(store, clock, SealingStep("account", Outside()))
    store.hooks.append(failing_at(seals))
    wait = await one.run_pass()
    assert await one.condition("Account") == ("False", "StoreError")
    assert "InternalError" not in await one.told()
    assert one.outside.calls == []
    assert [outcome for outcome, _ in await ends(one)] == [Outcome.FAILED]
    assert wait is not None
    clock.pass_by(wait)
    await one.until_quiet()
    assert one.outside.calls == ["create account-alice-1-1"]


async def test_a_store_that_fails_after_the_call_is_told_and_what_was_answered_is_made_anew(
    store: Store, clock: ManualClock
) -> None:
    outside = Outside()
    one = await with_steps(store, clock, FakeStep("machine", outside), RotatingStep("sign_in_app", outside))
    store.hooks.append(failing_at(seals))
    await one.run_pass()
    assert await one.condition("SignInApp") == ("False", "StoreError")
    assert {entry.step: entry.outcome for entry in await store.journal("alice")}["sign_in_app"] is Outcome.UNKNOWN
    for _ in range(5):
        clock.pass_by(LIMIT)
        await one.run_pass()
    assert await one.condition("SignInApp") == ("True", "InSync")
    mine = [call.partition(" ")[0] for call in outside.calls if "sign_in_app" in call]
    assert mine == ["create", "rotate"]
    assert await store.sealed("alice/client_secret") is not None


async def cut_off(one: Rig, faults: list[Fault]) -> tuple[str, Secret | None]:
    """A pass that is ended while its call hangs: what the books say of the letter then, and what is sealed."""
    held = Held()
    faults.append(held)
    looked = asyncio.create_task(one.engine.look("alice"))
    await held.begun.wait()
    looked.cancel()
    await asyncio.gather(looked, return_exceptions=True)
    books = await one.store.books("alice")
    assert books is not None
    known = books.facts.get("welcome")
    return (known.state if isinstance(known, WelcomeFacts) else ""), books.sealed.get("alice/letter")


async def test_what_was_written_down_for_a_call_that_was_not_sent_is_not_so(store: Store, clock: ManualClock) -> None:
    """A letter that waited for others is not one of which nobody can tell whether it went out; nor is a password that no
    account has the one to be told."""
    step = TellingStep("welcome", Outside())
    one = await with_steps(store, clock, step)
    assert await cut_off(one, one.outside.queued) == ("", None)
    await one.until_quiet()
    step.wanted = lambda facts: "another"
    assert await cut_off(one, one.outside.queued) == ("sent", Secret("first"))
    assert await cut_off(one, one.outside.before) == ("sending", Secret("another"))
    assert one.outside.calls == ["create welcome-alice-1-1"]


def test_what_else_was_under_way_in_the_step_is_unknown_all_the_same() -> None:
    """The delete of the machine before, and the create of the next, which waited for its turn."""
    deletes, creates = an_entry("e1"), an_entry("e2")
    dying = replace(an_object(state=ObjectState.INTENDED), deadline=NOON)
    waits = replace(an_object(state=ObjectState.INTENDED, attempt=2), deadline=NOON, identity={UNSENT: "e2"})
    changes = known_now([deletes, creates], [dying, waits], NOON)
    entries = {each.entry.id: each.entry.outcome for each in changes if isinstance(each, PutJournal)}
    assert entries == {"e1": Outcome.UNKNOWN, "e2": Outcome.FAILED}
    rows = [each.object for each in changes if isinstance(each, PutObject)]
    assert [(row.attempt, row.state, row.identity == {}) for row in rows] == [
        (2, ObjectState.GONE, True),
        (1, ObjectState.INTENDED, False),
    ]


def test_a_crowd_of_rows_is_not_compared_with_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many comparisons as there are pairs would hold up the start of a large fleet."""
    entries = [an_entry(f"e{n}", of=f"t{n}") for n in range(50)]
    intended = [an_object(of=f"t{n}", state=ObjectState.INTENDED) for n in range(60)]
    rows = [replace(row, identity={UNSENT: f"e{n}"}) for n, row in enumerate(intended)]

    def compared(one: object, other: object) -> bool:
        raise AssertionError("compared")

    monkeypatch.setattr(OutsideObject, "__eq__", compared)
    changed = [each.object for each in known_now(entries, rows, NOON) if isinstance(each, PutObject)]
    assert [row.state for row in changed].count(ObjectState.GONE) == 50


async def test_what_must_be_written_is_seen_to_its_end_however_often_we_are_cancelled() -> None:
    goes_on = asyncio.Event()

    async def writing() -> None:
        await goes_on.wait()
        raise StoreError("full")

    task = asyncio.create_task(whole(writing()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    goes_on.set()
    with pytest.raises(StoreError):
        await task


async def test_a_create_that_cannot_be_marked_as_sent_is_not_sent(one: Rig) -> None:
    """The mark is taken off before the first byte: when that cannot be written, nothing leaves."""
    one.store.hooks.append(failing_at(lambda changes: [type(each) for each in changes] == [PutObject]))
    await one.run_pass()
    assert one.outside.calls == []
    assert [outcome for outcome, _ in await ends(one)] == [Outcome.FAILED]
    await one.run_pass()
    assert await one.condition("Machine") == ("False", "StoreError")
