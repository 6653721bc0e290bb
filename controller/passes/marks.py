"""Marks: what stands for a value in the store where the value itself must not stand. Only who has the store's sealing key can
make or check one, so that a mark tells nobody anything (law 10), and nobody else's is believed."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from reconcilers.secret import Secret


@dataclass(frozen=True, slots=True)
class Marked:
    """Stands for a value of which only the mark is known."""

    mark: bytes


class Marker:
    """`key`: derived from the sealing key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._wholes: dict[str, tuple[object, bytes]] = {}  # by question: answers that are everybody's

    def of(self, *parts: bytes) -> bytes:
        """Over parts in their order."""
        return hmac.digest(self._key, b"".join(b"%d %b" % (len(part), part) for part in parts), "sha256")

    def of_value(self, value: object) -> bytes:
        """The same for equal values. Raises TypeError for one of which that cannot be told."""
        return self.of(repr(_plain(value)).encode("utf-8", "surrogatepass"))

    def of_whole(self, question: str, value: object) -> bytes:
        """As `of_value`, of what everybody is told alike: the last one is remembered."""
        known = self._wholes.get(question)
        if known is None or known[0] is not value:
            known = self._wholes[question] = value, self.of_value(value)
        return known[1]


_BUILTIN: Final = frozenset({type(None), bool, int, float, bytes, str, datetime})


def _plain(value: Any) -> object:
    """What makes a value equal to another one, as builtins that are written in one way only."""
    kind: Any = type(value)
    if kind in _BUILTIN:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Secret):
        return "secret", value.reveal()
    if isinstance(value, Mapping):
        return "mapping", sorted((repr(_plain(key)), _plain_text(one)) for key, one in value.items())
    if isinstance(value, tuple | list):
        return "row", [_plain(one) for one in value]
    if isinstance(value, frozenset | set):
        return "set", sorted(map(_plain_text, value))
    if is_dataclass(value):
        return kind.__name__, [_plain(getattr(value, name)) for name in _compared(kind)]
    raise TypeError(f"{type(value).__name__} has no mark")


def _plain_text(value: object) -> str:
    return repr(_plain(value))


@cache
def _compared(kind: Any) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind) if each.compare)
