"""Whose outcome another step may lean on: not that of one that takes another turn, or is about to."""

from __future__ import annotations

from collections import Counter

import pytest

from controller.passes.turns import MOST_TURNS, Turns

NEEDS = {"app": (), "gate": ("app",), "letter": ("gate",)}


class Course:
    """`+app`: a turn begins; `app`: its facts change; `-app`: it ends."""

    def __init__(self) -> None:
        self.versions = Counter[str]()
        self.turns = Turns(NEEDS, self.versions.__getitem__)

    def take(self, course: str) -> Turns:
        for word in course.split():
            if word[0] == "+":
                self.turns.begin(word[1:])
            elif word[0] == "-":
                self.turns.end(word[1:])
            else:
                self.versions[word] += 1
        return self.turns


@pytest.mark.parametrize(
    ("course", "awaited", "current"),
    [
        ("", False, False),
        ("+gate", True, True),
        ("+gate -gate", False, True),
        ("+app +gate -gate app", False, False),  # told before the one that learnt it has ended
        ("+app +gate -gate app -app", True, False),
        ("+app +gate app -app -gate", True, False),
        ("+app app +gate -app -gate", False, True),  # it knew of it when it began
        ("+app +gate -gate app -app +gate", True, True),
        ("+app +gate -gate app -app +gate -gate", False, True),
        ("+app +gate -gate -app", False, True),
        ("+app app -app +gate gate -gate", False, True),
    ],
)
def test_what_is_known_of_the_gates_turn(course: str, awaited: bool, current: bool) -> None:
    turns = Course().take(course)
    assert (turns.is_awaited("gate"), turns.is_current("gate")) == (awaited, current)


def test_nobody_waits_for_a_turn_that_the_pass_does_not_grant_any_more() -> None:
    course = Course()
    for _ in range(MOST_TURNS):
        course.take("+app app -app +gate -gate")
    assert not course.take("+app app -app").is_awaited("gate")
    assert not course.turns.is_current("gate")
