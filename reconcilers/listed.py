"""Bulk listings as steps use them: looked up by one word instead of read from end to end, and noted down.

Ten thousand testers that each read a listing of ten thousand rows would cost a hundred million rows; here the first who asks by
a word has all rows put in their places, and everybody else finds theirs at once. What a step asked for, and what it was told,
is noted: as long as the same questions get the same answers, it would come to the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")

TENANT = "tenant"  # of an engine's list: what it says of one tenant, and of itself

KEYS: Mapping[str, Callable[[Any], str]] = {
    "login": lambda row: str(row.login).casefold(),
    "email": lambda row: str(row.email).casefold(),
    "id": lambda row: str(row.id),
    "name": lambda row: str(row.name),
    "vm_id": lambda row: str(row.vm_id),
    "address": lambda row: str(row.address),
    "gateway_id": lambda row: str(row.gateway_id),
}
"""By what rows are looked up, and how the word is found in a row."""


class Rows(tuple[T, ...], Generic[T]):
    """A whole listing. Its indexes are made when somebody first asks by them."""

    def under(self, by: str, key: str) -> tuple[T, ...]:
        """The rows whose word of this kind is `key`, in their order."""
        known: dict[str, dict[str, tuple[T, ...]]] = self.__dict__.setdefault("_by", {})
        index = known.get(by)
        if index is None:
            index = known[by] = _indexed(self, KEYS[by])
        return index.get(key, ())


def _indexed(rows: Sequence[T], word: Callable[[T], str]) -> dict[str, tuple[T, ...]]:
    index: dict[str, tuple[T, ...]] = {}
    for row in rows:
        key = word(row)
        index[key] = (*index.get(key, ()), row)
    return index


@dataclass(frozen=True, slots=True)
class Read:
    """One thing that was asked of a shared look, and its answer. `by` "": the whole answer."""

    question: str
    by: str
    key: str
    answer: object


Note = Callable[[Read], None]


class Listed(Sequence[T]):
    """A listing as one step of one tester sees it: whatever it reads of it is noted."""

    def __init__(self, rows: Rows[T], question: str, note: Note) -> None:
        self._rows = rows
        self._question = question
        self._note = note

    def under(self, by: str, key: str) -> tuple[T, ...]:
        """As `Rows.under`."""
        found = self._rows.under(by, key)
        self._note(Read(self._question, by, key, found))
        return found

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self._whole()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def _whole(self) -> Rows[T]:
        self._note(Read(self._question, "", "", self._rows))
        return self._rows


def under(rows: Sequence[T], by: str, key: str) -> tuple[T, ...]:
    """The rows whose word of this kind is `key`, also of a listing that is a plain sequence."""
    if isinstance(rows, (Rows, Listed)):
        return rows.under(by, key)
    word = KEYS[by]
    return tuple(row for row in rows if word(row) == key)


class Members(Container[str]):
    """Whose word of one kind is in a listing."""

    def __init__(self, rows: Listed[Any], by: str) -> None:
        self._rows = rows
        self._by = by

    def __contains__(self, key: object) -> bool:
        return bool(self._rows.under(self._by, str(key)))


def answer_of(value: Any, by: str, key: str) -> object:
    """What a look answers now to a question that was noted."""
    if by == TENANT:
        return value.hashes.get(key), value.restart_due
    return value.under(by, key) if by else value
