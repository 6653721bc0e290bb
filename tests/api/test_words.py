"""Ages and foreign text as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from api.words import ago, ahead, one_line, safe, span

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.9, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (302, "5 min 2 s"),
        (3_600, "1 h"),
        (90_061, "1 d 1 h"),
        (-5, "-5 s"),
    ],
)
def test_a_span_is_its_two_largest_units(seconds: float, words: str) -> None:
    assert span(timedelta(seconds=seconds)) == words


def test_moments() -> None:
    assert ago(NOW - timedelta(seconds=12), NOW) == "12 s ago"
    assert ago(NOW, NOW) == "now"
    assert ago(NOW + timedelta(minutes=1), NOW) == "now"
    assert ago(None, NOW) == "unknown"
    assert ahead(NOW + timedelta(minutes=2), NOW) == "in 2 min"
    assert ahead(NOW - timedelta(minutes=2), NOW) == "due"
    assert ahead(None, NOW) == ""


@pytest.mark.parametrize("bad", ["\x1b", "\x00", "\r", "\x7f", "\x9b", "\u202e", "\u2066", "\ud800"])
def test_nothing_that_drives_a_terminal_gets_through(bad: str) -> None:
    assert safe(f"a{bad}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_other_text_is_left_alone() -> None:
    assert safe("grün 日本 a\tb\nc") == "grün 日本 a\tb\nc"
    assert one_line(" a\n\n b\tc ") == "a b c"
