"""Whoever must act is told how: every reason at which nothing goes on by itself has its advice."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.boards.advice import ADVICE, STUCK, TRIED_AGAIN, advice, plainly

ROOT = Path(__file__).parents[2]
STOPPING = {"Blocked", "Rejected", "_blocked", "_rejected"}
TOLD_ELSEWHERE = {
    "CommitUnknown",  # of revisions: it is their verdict
    "Rejected",  # whatever nobody foresaw: the message is all there is
    "ReaderRefused",  # likewise
}


def stopping_reasons() -> Iterator[str]:
    """Every reason that is raised as something that a person must mend, as far as it stands in the code as a word."""
    for room in ("reconcilers", "controller"):
        for file in sorted((ROOT / room).rglob("*.py")):
            for call in ast.walk(ast.parse(file.read_text())):
                if isinstance(call, ast.Call) and _name(call.func) in STOPPING:
                    yield from _reasons(call)


def _name(called: ast.expr) -> str:
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def _reasons(call: ast.Call) -> Iterator[str]:
    for value in [each.value for each in call.keywords if each.arg == "reason"] + list(call.args):
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value.isidentifier():
            yield value.value


def test_nobody_is_left_alone_with_a_reason() -> None:
    found = set(stopping_reasons())
    assert {
        "NoCapacity",
        "SecretMissing",
        "EmailTaken",
        "AccountExists",
        "MissingRights",
    } <= found  # the scan sees them
    assert found - set(ADVICE) - TOLD_ELSEWHERE == set()


@pytest.mark.parametrize("reason", sorted(ADVICE))
def test_advice_is_short_and_a_sentence(reason: str) -> None:
    known = ADVICE[reason]
    assert known.title[0].isupper()
    assert not known.title.endswith(".")
    assert known.todo.endswith(".")
    assert len(known.title) <= 48
    assert len(known.todo) <= 180


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("Machine: no node has room", "No node has room"),
        ("Components: hero_books: its install failed", "hero_books: its install failed"),
        ("SignInGate: Alice-B is let in", "Alice-B is let in"),
        ("", ""),
    ],
)
def test_what_ready_says_is_a_sentence_without_its_type(told: str, said: str) -> None:
    assert plainly(told) == said


def test_a_reason_that_nobody_foresaw_has_words_of_its_own() -> None:
    assert (advice("SomethingOdd").title, advice("SomethingOdd").todo) == ("Something odd", STUCK)
    assert advice("SomethingOdd", tried_again=True).todo == TRIED_AGAIN
