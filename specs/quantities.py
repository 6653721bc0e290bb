"""Sizes, durations and dates as people write them, turned into the one unit that the code computes with."""

import re
from datetime import date, timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from specs.errors import refusal
from specs.secrecy import shown
from specs.yaml_words import Plain

MAX_MEMORY_MIB: Final = 1024 * 1024
MAX_DISK_GIB: Final = 64 * 1024
MAX_DURATION: Final = timedelta(days=3660)
MIN_DATE: Final = date(2020, 1, 1)
MAX_DATE: Final = date(2099, 12, 31)

_SIZE = re.compile(r"([1-9][0-9]{0,8})(MiB|GiB|TiB)")
_SIZE_PATTERN: Final = r"^[1-9][0-9]{0,8}(MiB|GiB|TiB)$"
_MIB: Final = {"MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}
_DURATION_PART = re.compile(r"([0-9]{1,9})(ms|[smhd])")
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:ms|[smhd]))+")
_DURATION_PATTERN: Final = r"^([0-9]{1,9}(ms|[smhd]))+$"
_MILLISECONDS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def parse_memory(value: object) -> int:
    """`8GiB` → 8192 (MiB). A bare number is refused: of what?"""
    mib = _size(value, "8GiB")
    if mib > MAX_MEMORY_MIB:
        raise refusal(f"{_shown(value)} is out of any machine's reach", "memory is between 1MiB and 1TiB")
    return mib


def parse_disk(value: object) -> int:
    """`50GiB` → 50 (GiB); whole GiB only, since that is what the grid sells."""
    gib, rest = divmod(_size(value, "50GiB"), 1024)
    if rest:
        raise refusal(f"{_shown(value)} is not a whole number of GiB", "write it like 50GiB")
    if gib > MAX_DISK_GIB:
        raise refusal(f"{_shown(value)} is out of any machine's reach", "a disk is between 1GiB and 64TiB")
    return gib


def parse_duration(value: object) -> timedelta:
    """`24h`, `1h30m`, `250ms`, `0s` → timedelta, at most ten years."""
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, str) and _DURATION.fullmatch(value):
        milliseconds = sum(int(n) * _MILLISECONDS[unit] for n, unit in _DURATION_PART.findall(value))
        if milliseconds > MAX_DURATION // timedelta(milliseconds=1):
            raise refusal(f"{_shown(value)} is too long", "at most 3660d")
        duration = timedelta(milliseconds=milliseconds)
    else:
        raise refusal(f"{_shown(value)} is not a duration", "write it like 90s, 24h or 7d")
    if not timedelta(0) <= duration <= MAX_DURATION:
        raise refusal(f"{_shown(value)} is not a duration that we can keep", "between 0s and 3660d")
    return duration


def parse_date(value: object) -> date:
    """`2026-12-31` → date."""
    if isinstance(value, date):
        parsed = value
    elif isinstance(value, str) and _DATE.fullmatch(value):
        try:
            parsed = date.fromisoformat(value)
        except ValueError:
            raise refusal(f"{_shown(value)} is not a day of the calendar", "write it like 2026-12-31") from None
    else:
        raise refusal(f"{_shown(value)} is not a date", "write it like 2026-12-31")
    if not MIN_DATE <= parsed <= MAX_DATE:
        raise refusal(f"{_shown(value)} is not a date of this century's work", f"between {MIN_DATE} and {MAX_DATE}")
    return parsed


def memory_text(mib: int) -> str:
    """8192 → `8GiB`."""
    return f"{mib // 1024}GiB" if mib % 1024 == 0 else f"{mib}MiB"


def disk_text(gib: int) -> str:
    """50 → `50GiB`."""
    return f"{gib}GiB"


def duration_text(duration: timedelta) -> str:
    """The shortest text that reads back as the same duration (to the millisecond): `1d`, `1h30m`, `250ms`, `0s`."""
    left = duration // timedelta(milliseconds=1)
    text = ""
    for unit, size in _MILLISECONDS.items():
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _size(value: object, example: str) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise refusal(f"{_shown(value)} is not a size", f"write it like {example}")
    return int(match[1]) * _MIB[match[2]]


def _above_zero(duration: timedelta) -> timedelta:
    if not duration:
        raise refusal("nothing is too short here", "write it like 90s, at least 1ms")
    return duration


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return shown(value)
    return str(value)[:40] if isinstance(value, int | float | Plain) else "this"


def _schema(pattern: str, *examples: str) -> WithJsonSchema:
    schema: dict[str, Any] = {"type": "string", "pattern": pattern, "examples": list(examples)}
    return WithJsonSchema(schema)


Memory = Annotated[
    int, BeforeValidator(parse_memory), PlainSerializer(memory_text, str, "json"), _schema(_SIZE_PATTERN, "8GiB")
]
"""Memory in MiB, written like `8GiB`."""

Disk = Annotated[
    int, BeforeValidator(parse_disk), PlainSerializer(disk_text, str, "json"), _schema(_SIZE_PATTERN, "50GiB")
]
"""Disk in GiB, written like `50GiB`."""

Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(duration_text, str, "json"),
    _schema(_DURATION_PATTERN, "90s", "24h", "7d"),
]
"""A span of time, written like `24h`."""

Span = Annotated[Duration, AfterValidator(_above_zero)]
"""A duration that is not zero: a wait of nothing would turn into a busy loop, a limit of nothing into a failure."""

Date = Annotated[
    date,
    BeforeValidator(parse_date),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-12-31"]}),
]
"""A day, written like `2026-12-31`."""
