"""Marks, and what a tester rests on as it is written down and read again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from controller.passes.marks import Marked, Marker
from controller.passes.rest import Asked, Rest, answered_again, body_of, kinds_of, packed, rest_of, told_again, unpacked
from controller.store.sealing import SealingKey
from reconcilers.backends.compute_answers import Vm
from reconcilers.backends.forge import Account, Release
from reconcilers.backends.machine import MachineAddress, MachineQuery, question_of
from reconcilers.backends.probes import Probe
from reconcilers.facts import SignInGateFacts
from reconcilers.listed import Read
from reconcilers.secret import Secret
from tests.reconcilers.test_sign_in_gate import DESIRED, PROVEN, STEP, some_facts

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
MARKER = Marker(b"key")
ALICE = Account(1, "Alice", "a@example.org")
RELEASE = Release("v1", "one", "main", "2026-11-20", ("a", "b"))
QUERY = MachineQuery(
    components=("hero_books",),
    secrets=(("core", "KEY"),),
    probes=(Probe("loopback", "alice.example.org", "/"), Probe("inner", "other.example.org", "/x?y=1")),
    logs=("supervisor",),
)
ADDRESS = MachineAddress("gent/1", "400::1", "root", "ssh-ed25519 AAAA", 22)
HOURS = {"sign_in_gate": PROVEN.model_dump_json()}


def a_world() -> Any:
    return SimpleNamespace(step=lambda name: {"sign_in_gate": STEP}[name])


def a_rest(**changes: Any) -> Rest:
    renewal = STEP.renewal(DESIRED, some_facts(PROVEN))
    assert renewal is not None
    rest = Rest(
        world=a_world(),
        since=NOW,
        until=NOW + DAY / 3,
        whole_by=NOW + DAY,
        renewals=(renewal,),
        reads=(
            Read("forge/accounts", "login", "alice", (ALICE,)),
            Read("forge/releases/latest", "", "", {"hero_books": RELEASE}),
        ),
        machine=Asked(ADDRESS, question_of(QUERY), b"digest"),
        needs=("env:KEY",),
        secrets=b"mark",
        dated=True,
        seen=kinds_of(("Machine", "Ready"), ("machine",)),
        books=b"books",
    )
    return replace(rest, **changes)


def test_what_is_kept_comes_back_with_marks_for_answers_and_hours_from_the_books() -> None:
    rest, later = a_rest(), {"checked_at": PROVEN.checked_at, "checked_path": 3}
    world = rest.world
    hours = {"sign_in_gate": PROVEN.model_copy(update=later).model_dump_json()}
    body = body_of(rest, MARKER)
    back = rest_of(body, b"books", hours, world, NOW + DAY / 2)
    assert back is not None
    (renewal,) = back.renewals
    assert isinstance(renewal.facts, SignInGateFacts)
    assert renewal.facts.checked_path == 3
    (before,) = rest.renewals
    assert renewal == replace(before, facts=renewal.facts)  # type: ignore[type-var]
    assert [(each.question, each.by, each.key) for each in back.reads] == [
        (each.question, each.by, each.key) for each in rest.reads
    ]
    assert back.machine.question.query == QUERY
    assert back.machine.question.shape is rest.machine.question.shape, "asked as it is of all others"
    parts = {"renewals": (), "reads": (), "machine": rest.machine}
    assert replace(back, **parts) == replace(rest, **parts)
    assert body_of(back, MARKER) == body, "marks stay as they are"
    for read, now in zip(back.reads, rest.reads, strict=True):
        assert isinstance(read.answer, Marked)
        assert told_again(read, now.answer, MARKER) == now
        assert told_again(read, (), MARKER) is None
        assert told_again(read, now.answer, Marker(b"another key")) is None
    assert answered_again(back.machine, b"digest", MARKER) == rest.machine
    assert answered_again(back.machine, b"other", MARKER) is None
    assert answered_again(back.machine, b"", MARKER) is None, "an answer that is not whole"


def test_nothing_that_was_answered_stands_in_it() -> None:
    token = "5ecret-of-nobody"
    rest = a_rest(reads=(Read("engine/voice/tenants", "tenant", "alice", (token, Secret(token))),))
    body = unpacked(body_of(rest, MARKER))
    assert '"reads":[["engine/voice/tenants"' in body
    assert token not in body
    assert "digest" not in body
    assert "a@example.org" not in body


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        (NOW + DAY, HOURS),
        (NOW, {"sign_in_gate": PROVEN.model_copy(update={"checked_at": NOW + DAY}).model_dump_json()}),
        (NOW, {"sign_in_gate": PROVEN.model_copy(update={"listening": False}).model_dump_json()}),
    ],
    ids=["a day went by", "an hour in the future", "a door that is shut"],
)
def test_it_is_over(now: datetime, hours: dict[str, str]) -> None:
    rest = a_rest()
    body = body_of(rest, MARKER)
    assert rest_of(body, b"", HOURS, rest.world, NOW) is not None
    assert rest_of(body, b"", hours, rest.world, now) is None


@pytest.mark.parametrize("body", ["", "[]", "AAAA", *map(packed, ("", "[]", "{}", '{"whole_by": "soon"}'))])
def test_what_this_program_did_not_write_is_told(body: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        rest_of(body, b"", HOURS, a_world(), NOW)


@dataclass
class One:
    name: str


@dataclass
class Other:
    name: str


DIFFERENT: list[object] = [
    One("x"),
    Other("x"),
    None,
    "",
    "1",
    1,
    True,
    b"1",
    (),
    (1,),
    (1, 2),
    ((1, 2),),
    {},
    {"a": "1"},
    {"a": 1},
    {"b": "1"},
    frozenset({"a"}),
    frozenset({"a", "b"}),
    NOW,
    Secret("x"),
    Secret("y"),
    ALICE,
    replace(ALICE, email="b@example.org"),
    Vm("1", "x", "running"),
    RELEASE,
    {"hero_books": RELEASE},
    {"hero_books": replace(RELEASE, tag="v2")},
]


def test_marks_are_equal_for_equal_values_only() -> None:
    assert len({MARKER.of_value(value) for value in DIFFERENT}) == len(DIFFERENT)
    assert MARKER.of_value({"a": 1, "b": 2}) == MARKER.of_value({"b": 2, "a": 1})
    assert MARKER.of_value(replace(RELEASE, etag="of the server")) == MARKER.of_value(RELEASE), "as they compare"
    assert MARKER.of(b"ab", b"c") != MARKER.of(b"a", b"bc")
    assert MARKER.of_value(1) != Marker(b"other").of_value(1)
    with pytest.raises(TypeError, match="object has no mark"):
        MARKER.of_value((object(),))


def test_what_everybody_is_told_alike_is_marked_anew_when_it_is_another() -> None:
    one, other = {"hero_books": RELEASE}, {"hero_books": replace(RELEASE, tag="v2")}
    marks = [MARKER.of_whole("releases", each) for each in (one, one, other, one)]
    assert marks == [MARKER.of_value(each) for each in (one, one, other, one)]


def test_another_use_has_another_key() -> None:
    key = SealingKey.generate()
    first, second = key.derived("one"), key.derived("another")
    assert len({first, second, key.text().encode()}) == 3
    assert len(first) == 32
    assert SealingKey.of(key.text()).derived("one") == first, "it outlives the process"
    assert SealingKey.generate().derived("one") != first
