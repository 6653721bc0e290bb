"""The half-hourly look from outside, by itself: it comes to what a whole turn of the gate does, or says that it cannot tell."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from reconcilers.backends.probes import ProbeAnswer
from reconcilers.door_renewal import DoorRenewal
from reconcilers.facts import SignInGateFacts
from reconcilers.looks import Looks
from tests.reconcilers.data import some_facts
from tests.reconcilers.test_sign_in_gate import (
    ASKED,
    AUTHORIZE,
    BAD_GATEWAY,
    DESIRED,
    EVERY,
    FACTS,
    LATER,
    NOW,
    PROVEN,
    SERVES,
    SILENT,
    STEP,
    World,
    good,
    machine,
    see,
)


class Outside:
    """What looks lend: a clock, Forge's address, and the public address, which gives one answer or all good ones."""

    def __init__(self, answer: ProbeAnswer | None = None) -> None:
        self.answer = answer
        self.asked: list[tuple[str, ...]] = []

    async def probe(self, fqdn: str, paths: tuple[str, ...]) -> Mapping[str, ProbeAnswer]:
        self.asked.append(paths)
        return {path: self.answer or good(path) for path in paths}

    @property
    def looks(self) -> Looks:
        forge = SimpleNamespace(authorize_url=lambda: AUTHORIZE)
        backends = SimpleNamespace(outside=self, forge=forge)
        looks: Any = SimpleNamespace(clock=SimpleNamespace(now=lambda: LATER), backends=backends)
        return looks  # type: ignore[no-any-return]


def renewal(**changes: Any) -> DoorRenewal | None:
    return STEP.renewal(DESIRED, some_facts(PROVEN.model_copy(update=changes)))


@pytest.mark.parametrize("number", range(len(ASKED)))
async def test_it_learns_what_a_whole_turn_of_a_settled_door_learns(number: int) -> None:
    facts = some_facts(PROVEN.model_copy(update={"checked_path": number}))
    world = World(machine(), at=LATER)
    seen = await see(world, facts.need(SignInGateFacts))
    assert STEP.plan(DESIRED, seen, facts) == ()
    one, outside = STEP.renewal(DESIRED, facts), Outside()
    assert one is not None
    assert one.due == STEP.due(DESIRED, facts) == LATER
    again = await one.renewed(outside.looks)
    assert again is not None
    assert again.facts == STEP.learn(seen, facts)
    assert outside.asked == world.asked == [EVERY[number : number + 1]]
    assert again.due == STEP.due(DESIRED, some_facts(again.facts))
    assert again.facts.is_as(one.facts), "only its hours are others"


@pytest.mark.parametrize(
    "answer", [SERVES, SILENT, BAD_GATEWAY, ProbeAnswer(302, "https://elsewhere.test/"), ProbeAnswer(404)]
)
async def test_what_is_odd_is_left_to_a_whole_pass(answer: ProbeAnswer) -> None:
    one = renewal()
    assert one is not None
    assert await one.renewed(Outside(answer).looks) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"proven": ""},
        {"proven": "of something else"},
        {"public": False},
        {"listening": False},
        {"checked_at": None},
        {"let_in": "from outside"},
        {"cut": True},
        {"unrouted": "3", "unrouted_since": NOW},
    ],
    ids=str,
)
def test_only_a_door_with_which_all_is_well_has_one(changes: dict[str, Any]) -> None:
    assert renewal() is not None
    assert renewal(**changes) is None
    assert STEP.renewal(DESIRED, FACTS) is None, "never proven"
