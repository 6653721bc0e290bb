"""Ages, spans and foreign text as people read them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
# Control characters can drive a terminal, and marks of direction can turn a text around.
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def safe(text: str) -> str:
    """Foreign text without anything that a terminal would act on. Line breaks and tabs stay."""
    return _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """The same on one line."""
    return " ".join(safe(text).split())


def span(length: timedelta, units: int = 2) -> str:
    """`4 d`, `3 h 12 min`, `5 min 2 s`, `12 s`: the largest units, two of them unless told."""
    left = int(length.total_seconds())
    if left < 0:
        return f"-{span(-length, units)}"
    parts = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:units]) or "0 s"


def ago(then: datetime | None, now: datetime) -> str:
    """`5 min 2 s ago`; `unknown` for a moment that nobody noted."""
    if then is None:
        return "unknown"
    return f"{span(now - then)} ago" if now - then >= timedelta(seconds=1) else "now"


def ahead(then: datetime | None, now: datetime) -> str:
    """`in 12 s`; `due` when the moment has passed, `` for none."""
    if then is None:
        return ""
    return f"in {span(then - now)}" if then > now else "due"
