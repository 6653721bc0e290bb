"""Sizes, durations and dates: read, refused, and written back."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from specs.quantities import (
    disk_text,
    duration_text,
    memory_text,
    parse_date,
    parse_disk,
    parse_duration,
    parse_memory,
)


@pytest.mark.parametrize(("text", "mib"), [("8GiB", 8192), ("512MiB", 512), ("1TiB", 1024 * 1024)])
def test_memory(text: str, mib: int) -> None:
    assert parse_memory(text) == mib
    assert parse_memory(memory_text(mib)) == mib


@pytest.mark.parametrize(("text", "gib"), [("50GiB", 50), ("2048MiB", 2), ("64TiB", 65536)])
def test_disk(text: str, gib: int) -> None:
    assert parse_disk(text) == gib
    assert parse_disk(disk_text(gib)) == gib


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("24h", 86400), ("7d", 604800), ("1h30m", 5400), ("250ms", 0.25), ("1m500ms", 60.5)],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@given(st.integers(0, 3660 * 86_400_000))
def test_durations_read_back(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(duration_text(duration)) == duration


def test_date() -> None:
    assert parse_date("2028-02-29") == date(2028, 2, 29)


@pytest.mark.parametrize(
    "bad", ["8gib", "8 GiB", "8G", "0GiB", "-1GiB", "08GiB", "8.5GiB", "٨GiB", "2TiB", 8, True, None, "8GiB\n"]
)
def test_what_is_no_memory(bad: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_memory(bad)


@pytest.mark.parametrize(
    "bad", ["24", "1w", "-1h", "1.5h", "h", "", "1h 30m", "3661d", "99999999999h", "PT1H", 24, None, "1h\n"]
)
def test_what_is_no_duration(bad: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_duration(bad)


@pytest.mark.parametrize(
    "bad", ["2026-13-01", "2026-1-1", "20260101", "1999-01-01", "2100-01-01", 20260101, None, "٢٠٢٦-01-01"]
)
def test_what_is_no_date(bad: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_date(bad)
