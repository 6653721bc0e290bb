"""A tester at rest is compared, and what is due is done over; whatever happens in the middle of it, a whole pass follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from controller.engine import Engine
from controller.passes.marks import Marked
from controller.passes.outcomes import StepOutcome, held, in_sync
from controller.passes.proofs import Proofs
from controller.passes.rest import Rest
from controller.passes.resting import Resting, mark_of
from controller.records import Condition, Status
from controller.store import SpecChanged, Store
from reconcilers.errors import Unreachable
from reconcilers.facts import SignInGateFacts
from reconcilers.listed import Read
from reconcilers.looks import Look
from reconcilers.secret import Secret
from tests.controller.fakes import ManualClock, Outside, rig
from tests.controller.passes.test_rest import ADDRESS, NOW, a_rest
from tests.controller.store.samples import a_tester
from tests.reconcilers.test_sign_in_gate import PROVEN

HOUR = timedelta(hours=1)
NOTHING: Any = SimpleNamespace(looks=None)


def remembering(store: Store, **more: Any) -> tuple[Resting, Rest]:
    """Alice at rest since now."""
    resting = Resting(store, Proofs(store))
    known: dict[str, Any] = {"renewals": (), "needs": (), "secrets": mark_of((), {}, resting._marker), **more}
    rest = resting._rests["alice"] = a_rest(**known)
    return resting, rest


@dataclass
class Found:
    """What a look at her finds: all as it was. `meanwhile` comes about while the machine's answer is waited for."""

    digest: bytes = b"digest"
    silent: bool = False
    meanwhile: Callable[[], object] = lambda: None
    asked: list[str] = field(default_factory=list)

    async def again(self, read: Read, *_: object) -> Look[object]:
        self.asked.append(read.question)
        known = {each.question: each.answer for each in a_rest().reads}
        return Look(known[read.question], NOW - HOUR)

    async def machine_again(self, *_: object) -> Look[Any]:
        self.meanwhile()
        if self.silent:
            raise Unreachable("nobody", system="machine")
        return Look(SimpleNamespace(digest=self.digest), NOW)

    def let_go(self, *_: object) -> None:
        """Nothing is kept."""


async def test_all_answers_must_be_what_they_were(store: Store) -> None:
    world: Any = SimpleNamespace(looks=Found(), fleet=None)
    resting, rest = remembering(store, world=world)
    assert await resting.is_as_it_was(rest, "alice", NOW) == (rest, NOW - HOUR), "as old as the oldest answer"
    other = replace(rest, reads=(replace(rest.reads[0], answer=()), rest.reads[1]))
    resting._rests["alice"] = other
    world.looks.asked.clear()
    assert await resting.is_as_it_was(other, "alice", NOW) is None
    assert world.looks.asked == [rest.reads[0].question], "what is known to differ waits for nobody: not even Forge"
    resting._rests["alice"] = rest
    for found in (Found(b"other"), Found(b""), Found(silent=True)):
        world.looks = found
        assert await resting.is_as_it_was(rest, "alice", NOW) is None


@pytest.mark.parametrize("by_mark", [False, True])
async def test_who_is_written_about_while_she_is_compared_is_not_remembered(store: Store, by_mark: bool) -> None:
    world: Any = SimpleNamespace(fleet=None)
    resting, rest = remembering(store, world=world)
    if by_mark:
        digest = Marked(resting._marker.of(b"digest"))
        rest = resting._rests["alice"] = replace(rest, machine=replace(rest.machine, digest=digest))
    world.looks = Found(meanwhile=lambda: resting.discard("alice"))
    assert await resting.is_as_it_was(rest, "alice", NOW) is None
    assert len(resting) == 0


@dataclass(frozen=True)
class Proof:
    """As a `Renewal` is. `well`: it comes out as it did before."""

    due: datetime
    facts: SignInGateFacts = PROVEN
    well: bool = True
    meanwhile: Callable[[], object] = lambda: None

    def kept(self) -> str:
        return ""

    async def renewed(self, looks: object) -> Proof | None:
        self.meanwhile()
        facts = self.facts.model_copy(update={"checked_at": self.due})
        return replace(self, due=self.due + HOUR, facts=facts) if self.well else None


async def test_a_proof_is_done_over_when_it_is_due(store: Store) -> None:
    resting, rest = remembering(store, world=NOTHING, renewals=(Proof(NOW + HOUR), Proof(NOW + HOUR * 2)))
    assert await resting.renewed(rest, "alice", {}, NOW) is rest, "nothing is due"
    again = await resting.renewed(rest, "alice", {}, NOW + HOUR)
    assert again is not None
    assert [each.due for each in again.renewals] == [NOW + HOUR * 2] * 2
    assert resting._rests["alice"] is again
    assert again.since == NOW + HOUR, "a clock that is set back from now on is noticed"
    (kept,) = resting._proofs._kept.values()
    assert (kept.base, kept.machine) == (PROVEN, ADDRESS.key)
    assert kept.facts == PROVEN.model_copy(update={"checked_at": NOW + HOUR})


async def test_a_proof_that_comes_out_otherwise_or_too_late_is_none(store: Store) -> None:
    resting, rest = remembering(store, world=NOTHING)
    odd, late = Proof(NOW, well=False), Proof(NOW, meanwhile=lambda: resting.discard("alice"))
    for known in (*(replace(rest, renewals=(each,)) for each in (odd, late)), replace(rest, secrets=b"others")):
        resting._rests["alice"] = known
        assert await resting.renewed(known, "alice", {}, NOW) is None
    assert len(resting._proofs) == 0
    resting.discard("alice")
    assert await resting.renewed(replace(rest, renewals=(Proof(NOW),)), "alice", {}, NOW) is None
    assert len(resting) == 0, "what was forgotten does not come back by it"


class A:
    """A pass over alice, as far as `with_due_turns` asks anything of it: one step has a turn that comes to `outcome`."""

    def __init__(
        self, outcome: StepOutcome | Exception, *, due: datetime = NOW, at: datetime = NOW + HOUR, told: bool = True
    ) -> None:
        step = SimpleNamespace(name="account", due=lambda *_: due, renewal=lambda *_: None)
        self.name, self.now, self.outcome = "alice", at, outcome
        self.world = SimpleNamespace(steps=[step], looks=Found())
        self.snapshot: Any = SimpleNamespace(record=a_tester(), facts=lambda: None, has_changed=False)
        in_books = Condition("alice", "Account", Status.TRUE, "InSync", "as the spec says", 1, NOW)
        self.told = {"Account": in_books} if told else {}
        self.has_told = False
        self.turns = 0

    def but(self, *, changed: bool = False, news: bool = False) -> A:
        self.snapshot.has_changed, self.has_told = changed, news
        return self

    def turn(self, step: object) -> A:
        return self

    async def take(self) -> StepOutcome:
        self.turns += 1
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    async def came_to(self, *_: object) -> None:
        """It is told."""


FINE = in_sync("account")
LATER = NOW + HOUR * 2
TURNS: dict[str, tuple[Callable[[], A], bool]] = {
    "as the books tell": (lambda: A(FINE), True),
    "none is due": (lambda: A(held("account", "Waits", "it waits"), due=LATER), True),
    "not as the books tell": (lambda: A(FINE, told=False), False),
    "it did something": (lambda: A(replace(FINE, did=1)), False),
    "it waits": (lambda: A(held("account", "Waits", "it waits")), False),
    "the spec has changed": (lambda: A(SpecChanged("it has")), False),
    "something was written": (lambda: A(FINE).but(changed=True), False),
    "something was told": (lambda: A(FINE).but(news=True), False),
    "a day went by": (lambda: A(FINE, at=NOW + HOUR * 3), False),
}


@pytest.mark.parametrize("what", TURNS)
async def test_a_turn_that_is_due_must_come_to_what_the_books_tell(what: str, store: Store) -> None:
    resting, rest = remembering(store, world=NOTHING, whole_by=NOW + HOUR * 3, dated=False)
    made, holds = TURNS[what]
    one: Any = made()
    resting.begin("alice")
    assert await resting.with_due_turns(rest, one) is holds
    known = resting._rests.get("alice")
    assert (known is not None) is holds
    assert one.turns == (0 if what in ("none is due", "a day went by") else 1)
    assert known is None or (known.since, known.until) == (one.now, min(NOW + HOUR * 3, one.world.steps[0].due()))


async def test_turns_count_for_nothing_when_somebody_writes_meanwhile(store: Store) -> None:
    resting, rest = remembering(store, world=NOTHING)
    one: Any = A(FINE)
    resting.begin("alice")
    resting.discard("alice")
    assert not await resting.with_due_turns(rest, one)
    assert len(resting) == 0


@pytest.mark.parametrize(("at", "holds"), [(NOW + HOUR, True), (NOW + HOUR * 12, False), (NOW - HOUR, False)])
async def test_it_holds_while_the_day_lasts(at: datetime, holds: bool, store: Store) -> None:
    """Midnight may come, or the clock be set back, between two lines. A last day comes with midnight."""
    world: Any = SimpleNamespace(looks=None)
    resting, rest = remembering(store, world=world)
    assert rest.dated
    assert (resting.of("alice", world, at) is rest) is holds
    assert resting.of("alice", NOTHING, at) is None, "in another world it is worth nothing"
    assert (await resting.renewed(rest, "alice", {}, at) is rest) is holds
    one: Any = A(FINE, at=at)
    resting.begin("alice")
    assert await resting.with_due_turns(rest, one) is holds


class There:
    """A world in which all is as it was."""

    def __init__(self) -> None:
        self.looks, self.fleet, self.users = Found(), None, 0

    async def leave(self) -> None:
        self.users -= 1


def _goes_over(engine: Engine) -> None:
    engine._world = There()  # type: ignore[assignment]


LAST_MOMENT: dict[str, Callable[[Engine], object]] = {
    "nothing": lambda engine: None,
    "it is written about": lambda engine: engine.resting.discard("alice"),
    "it is midnight": lambda engine: engine.clock.pass_by(HOUR * 12),  # type: ignore[attr-defined]
    "there is another Fleet": _goes_over,
}


@pytest.mark.parametrize("what", LAST_MOMENT)
async def test_what_comes_about_at_the_last_moment_counts(what: str, store: Store, clock: ManualClock) -> None:
    clock.at = NOW
    engine = rig(store, clock, [], Outside()).engine
    world: Any = There()
    needs = ("env:NOT_HELD",)
    _, rest = remembering(store, world=world, whole_by=NOW + HOUR * 24, needs=needs)
    engine._world, engine._world_of, engine.resting._rests["alice"] = world, ("", {}), rest
    rest = engine.resting._rests["alice"] = replace(rest, secrets=mark_of(needs, {}, engine.resting._marker))

    async def resolve(_: object) -> dict[str, Secret]:
        LAST_MOMENT[what](engine)
        return {}

    engine.references = SimpleNamespace(resolve=resolve)  # type: ignore[assignment]
    found = await engine._rest("alice")
    assert (found is rest) is (what == "nothing")
    assert (engine.sightings.looked_at("alice") is None) is (what != "nothing")
    assert world.users == 0


async def test_who_has_something_under_way_is_not_compared(store: Store, clock: ManualClock) -> None:
    engine = rig(store, clock, [], Outside()).engine
    clock.at, world = NOW, There()
    world.looks.meanwhile = lambda: pytest.fail("nobody is asked")
    _, rest = remembering(store, world=world)
    engine._world, engine.resting._rests["alice"] = world, rest  # type: ignore[assignment]
    engine.operations.of = lambda _: [object()]  # type: ignore[assignment, method-assign, list-item, return-value]
    assert await engine._rest("alice") is None
