"""Machines of one name: which are told, which are taken away, and whom nobody touches."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconcilers.actions import Effect
from reconcilers.backends.compute import Vm
from reconcilers.backends.compute_answers import vm_of
from reconcilers.facts import Facts, MachineFacts, ObjectState, OutsideObject
from reconcilers.machine import MachineReconciler
from reconcilers.machine_row import SeenMachine
from reconcilers.quarantine import APPEARED, NEVER_SEEN, PLACED, Found, doubles_of, how_lost, is_due, is_proven
from specs.fleet import Timing
from specs.names import vm_name
from tests.reconcilers.data import a_row, a_tester, actions, some_facts

BEGAN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
GRACE = Timing().listing_grace
NAME = vm_name("alice", "x7k2p9")


def vm(vm_id: str = "0007", made: timedelta | None = timedelta(seconds=1)) -> Vm:
    at = None if made is None else BEGAN + made
    return Vm(vm_id=vm_id, name=NAME, state="running", address="400::7", created_at=at)


def row(state: ObjectState = ObjectState.EXISTING, **identity: str) -> OutsideObject:
    known = {"daemon": "gent", "vm_id": "0007", PLACED: BEGAN.isoformat(), **identity}
    return replace(a_row("machine", state, name=NAME), identity=known)


def facts(*doubles: Vm, **fields: Any) -> Facts:
    found = [Found(each.vm_id, "gent", each.name, each.created_at) for each in doubles]
    given = some_facts(object=row())
    machine = MachineFacts(
        daemon="gent", vm_id="0007", vm_name=NAME, address="400::7", doubles=doubles_of(found, (), BEGAN, given)
    )
    return some_facts(**{"object": row(), "steps": {**given.steps, "machine": machine}, **fields})


def seen(*twins: Vm, at: datetime = BEGAN) -> SeenMachine:
    return SeenMachine("gent", vm(), at, {"rebuild": "0"}, twins)


def step() -> MachineReconciler:
    return MachineReconciler(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "after", "gone"),
    [
        (vm("0008"), GRACE / 2, []),
        (vm("0008"), GRACE, ["delete_double"]),
        (vm("0008", timedelta(minutes=-1)), 10 * GRACE, []),
        (vm("0008", None), 10 * GRACE, []),
    ],
    ids=["within the grace", "after it", "older than our create", "of an unknown age"],
)
def test_what_is_done_about_a_twin(other: Vm, after: timedelta, gone: list[str]) -> None:
    plan = actions(step().plan(a_tester(), seen(other, at=BEGAN + after), facts(other)))
    assert [each.verb for each in plan] == gone
    assert all(each.args == ("gent", "0008") and each.effect is Effect.CHANGE for each in plan)


def test_who_leaves_takes_along_what_is_ours_and_nothing_else() -> None:
    older = vm("0009", timedelta(days=-1))
    plan = actions(step().plan(None, seen(vm("0008"), older), facts(leaving=True)))
    assert [(each.verb, each.args) for each in plan] == [
        ("delete_double", ("gent", "0008")),
        ("delete", ("gent", "0007")),
    ]


def test_a_twin_is_proven_by_the_daemons_own_clock_when_ours_was_ahead() -> None:
    """An hour ahead, so that the one in use seems to be older than its own create."""
    ahead = row(**{PLACED: (BEGAN + timedelta(hours=1)).isoformat()})
    known = replace(seen(vm("0008"), vm("0009", timedelta(seconds=-5))), kept=ahead.identity)
    plan = actions(step().plan(None, known, facts(object=ahead, leaving=True)))
    assert [each.args[1] for each in plan] == ["0008", "0007"], "the older one is nobody's that we know"
    learnt = step().learn(known, facts(object=ahead))
    assert learnt is not None
    assert [(each.id, each.ours) for each in learnt.doubles] == [("0008", True), ("0009", False)]
    not_known = replace(known, kept={"rebuild": "0"})
    assert [each.args[1] for each in actions(step().plan(None, not_known, facts(object=ahead, leaving=True)))] == [
        "0007"
    ]


def test_a_twin_keeps_its_age_and_is_told() -> None:
    other = vm("0008")
    known = facts(other)
    learnt = step().learn(seen(other, at=BEGAN + GRACE), known)
    assert learnt is not None
    assert [each.seen_at for each in learnt.doubles] == [BEGAN]
    told = [
        each for each in step().findings(a_tester(), seen(other, at=BEGAN + GRACE), known) if each.type == "OneMachine"
    ]
    assert [(each.status, each.reason) for each in told] == [(False, "InQuarantine")]
    assert "(gent/0008) beside it since 2026-11-20 12:00 UTC" in told[0].message
    assert [each.type for each in step().findings(a_tester(), seen(), facts())] == ["MachineAsSpecified"]


def test_a_lost_attempt_that_appeared_is_told_by_the_one_after_it() -> None:
    lost = row(ObjectState.LOST, **{APPEARED: BEGAN.isoformat(), NEVER_SEEN: "never seen"})
    given = some_facts(object=replace(row(), attempt=2), earlier=(lost, row(ObjectState.LOST)))
    (told,) = [each for each in step().findings(a_tester(), seen(), given) if each.type == "OneMachine"]
    assert "our create of 2026-11-20 12:00:00 UTC was given up as lost" in told.message
    listed_again = row(ObjectState.LOST, **{APPEARED: BEGAN.isoformat()})
    assert "it had disappeared from its listing" in how_lost(listed_again)


def test_what_is_proven() -> None:
    assert is_proven(BEGAN - timedelta(milliseconds=900), row()), "a daemon tells whole seconds"
    assert not is_proven(BEGAN - timedelta(seconds=2), row())
    assert not is_proven(BEGAN, replace(row(), identity={})), "nobody knows when our create began"
    assert not is_proven(BEGAN, None)
    (double,) = doubles_of([Found("8", "gent", NAME, BEGAN)], (), BEGAN, some_facts(object=row()))
    early = BEGAN - timedelta(hours=1)
    assert not is_due(double, early, GRACE), "the clock was set back"
    (double,) = doubles_of([Found("8", "gent", NAME, BEGAN)], (double,), early, some_facts(object=row()))
    assert is_due(double, early + GRACE, GRACE), "nobody waits for the hour once more"


@pytest.mark.parametrize(
    ("told", "moment"),
    [(1_767_225_600, datetime(2026, 1, 1, tzinfo=UTC)), (None, None), ("yesterday", None), (True, None), (-1, None)],
)
def test_when_a_machine_was_made_is_read_where_it_is_told(told: object, moment: datetime | None) -> None:
    assert vm_of({"sid": "1", "name": "n", "created_at": told}).created_at == moment
