"""Which testers a list shows, in which order, and that pages neither skip nor repeat anybody."""

from __future__ import annotations

import base64
import json
import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.listing import NO_NODE, BadCursor, ConditionWish, Sort, Wish, chosen
from controller.records import Condition, Phase, Status
from controller.store.briefs import Brief
from reconcilers.facts import ComponentsFacts, FrontDoorFacts, GatewayFacts, MachineFacts, StepFacts
from tests.controller.fakes import START, a_tester, record_of

DESIRED = a_tester("somebody")


def brief(name: str, *facts: StepFacts, reason: str = "Ready", **more: object) -> Brief:
    good = Status.TRUE if reason == "Ready" else Status.FALSE
    ready = Condition(name, "Ready", good, reason, f"about {name}", 1, START)
    record = record_of(DESIRED.model_copy(update={"name": name}), **more)
    return Brief(record, {"Ready": ready}, {each.step: each for each in facts})


def machine(sid: str) -> MachineFacts:
    return MachineFacts(daemon="gent", vm_id="7", vm_name="x", node_sid=sid, address="400::7")


def at(fqdn: str) -> GatewayFacts:
    return GatewayFacts(daemon="gent", gateway_id="1", gateway_name="x", fqdn=fqdn)


FLEET = (
    brief("alice", machine("0001"), at("alice7.gent.example.org"), phase=Phase.READY, progress=100),
    brief("bob", machine("0002"), reason="NoCapacity", phase=Phase.STALLED, progress=30),
    brief("carol", ComponentsFacts(versions={"hero_books": "v0.3.1"}), reason="Pending", phase=Phase.PENDING),
    brief("dave", FrontDoorFacts(router="v1", proxy="v2"), phase=Phase.READY, progress=100),
)


def names(wish: Wish) -> list[str]:
    return [one.record.name for one in chosen(FLEET, wish).items]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(), ["alice", "bob", "carol", "dave"]),
        (Wish(phases=frozenset({Phase.READY, Phase.PENDING})), ["alice", "carol", "dave"]),
        (Wish(node="gent/0002"), ["bob"]),
        (Wish(node="gent"), ["alice", "bob"]),
        (Wish(node="gen"), []),
        (Wish(node=NO_NODE), ["carol", "dave"]),
        (Wish(conditions=(ConditionWish("Ready"),)), ["alice", "bob", "carol", "dave"]),
        (Wish(conditions=(ConditionWish("Ready", Status.FALSE),)), ["bob", "carol"]),
        (Wish(conditions=(ConditionWish("Ready", Status.FALSE, "NoCapacity"),)), ["bob"]),
        (Wish(conditions=(ConditionWish("Ready", reason="Pending"), ConditionWish("Gateway"))), []),
        (Wish(component="hero_books", version="v0.3.1"), ["carol"]),
        (Wish(component="hero_proxy", version="v2"), ["dave"]),
        (Wish(component="hero_proxy"), ["alice", "bob", "carol", "dave"]),
        (Wish(component="hero_nothing"), []),
        (Wish(text="NOCAP"), ["bob"]),
        (Wish(text="alice7.gent"), ["alice"]),
        (Wish(text="about c"), ["carol"]),
        (Wish(text="r", phases=frozenset({Phase.PENDING}), node=NO_NODE), ["carol"]),
        (Wish(sort=Sort.PHASE), ["bob", "carol", "alice", "dave"]),
        (Wish(sort=Sort.PHASE, descending=True), ["dave", "alice", "carol", "bob"]),
        (Wish(sort=Sort.PROGRESS), ["carol", "bob", "alice", "dave"]),
        (Wish(sort=Sort.NODE, descending=True), ["bob", "alice", "dave", "carol"]),
        (Wish(sort=Sort.REASON), ["bob", "carol", "alice", "dave"]),
    ],
)
def test_filters_and_orders(wish: Wish, expected: list[str]) -> None:
    assert names(wish) == expected
    assert chosen(FLEET, wish).total == len(expected)


def _many(seed: int) -> list[Brief]:
    chance = random.Random(seed)
    phases = list(Phase)
    return [
        brief(
            f"t{number:03}",
            *([machine(f"000{chance.randint(1, 3)}")] if chance.random() < 0.7 else []),
            reason=chance.choice(["Ready", "NoCapacity"]),
            phase=chance.choice(phases),
            progress=chance.choice([0, 50, 100]),
            changed_at=START - timedelta(minutes=chance.randint(0, 5)),
        )
        for number in range(40)
    ]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(Sort), st.booleans(), st.integers(1, 15), st.integers(0, 5))
def test_the_pages_are_the_list(sort: Sort, descending: bool, limit: int, seed: int) -> None:
    testers = _many(seed)
    whole = chosen(testers, Wish(sort=sort, descending=descending, limit=len(testers)))
    assert whole.next == ""
    paged: list[str] = []
    cursor = ""
    while True:
        page = chosen(testers, Wish(sort=sort, descending=descending, limit=limit, cursor=cursor))
        paged += [one.record.name for one in page.items]
        assert page.total == len(testers)
        cursor = page.next
        if not cursor:
            break
        assert len(page.items) == limit
    assert paged == [one.record.name for one in whole.items]


def test_who_goes_or_comes_meanwhile_neither_hides_nor_doubles_the_others() -> None:
    first = chosen(FLEET, Wish(limit=2))
    newcomer = brief("abel")
    later = [each for each in FLEET if each.record.name != "bob"] + [newcomer]
    assert [one.record.name for one in chosen(later, Wish(limit=2, cursor=first.next)).items] == ["carol", "dave"]


def test_who_moves_is_told_where_it_is_now() -> None:
    wish = Wish(sort=Sort.PROGRESS, limit=1)
    first = chosen(FLEET, wish)
    moved = [
        replace(each, record=replace(each.record, progress=100 if each.record.name == "bob" else each.record.progress))
        for each in FLEET
    ]
    rest = chosen(moved, replace(wish, limit=9, cursor=first.next))
    assert [one.record.name for one in rest.items] == ["alice", "bob", "dave"]


def _cursor(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "%%%",
        "ü",
        "=" * 5,
        "A" * 5000,
        _cursor("name"),
        _cursor({}),
        _cursor(["name", 1, "a"]),
        _cursor(["name", None, "a"]),
        _cursor(["name", "a", 7]),
        _cursor(["name", "a"]),
        _cursor(["-name", "a", "a"]),
        _cursor(["progress", 1.0, "a"]),
        base64.urlsafe_b64encode(b"[" * 700).decode().rstrip("="),
    ],
)
def test_a_cursor_that_is_none_of_this_list_is_refused(cursor: str) -> None:
    with pytest.raises(BadCursor):
        chosen(FLEET, Wish(cursor=cursor))
