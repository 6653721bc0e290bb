"""A mark over the books of testers, by which is told whether anybody has written about them since.

Whoever writes need not know of it: the rows are read as they lie there, of many testers at once, and hashed as text. Left out
are the hours of proofs alone, which are written without anything being different, and what no pass reads (events).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from hashlib import blake2b
from typing import Final

from sqlalchemy import Connection, bindparam, select

from controller.rests import BooksMark, KeptRest
from controller.store.statements import of_these
from controller.store.tables import rests
from reconcilers.facts import FACTS

_READ: Final = {
    "tester": "SELECT * FROM testers WHERE name IN :names",
    "object": "SELECT * FROM objects WHERE tester IN :names",
    "condition": "SELECT * FROM conditions WHERE tester IN :names",
    "sealed": "SELECT owner, sealed.* FROM sealed WHERE owner IN :names",
    "begun": "SELECT tester, journal.* FROM journal WHERE tester IN :names AND ended_at IS NULL",
    "newest": "SELECT tester, MAX(began_at) FROM journal WHERE tester IN :names GROUP BY tester",
}
"""Whatever a pass reads of a tester, its facts apart; and when something was last begun. The tester stands first."""


_FACTS: Final = "SELECT tester, step, machine, body FROM facts WHERE tester IN :names"
_OF_ALL: Final = "SELECT * FROM fleet_identity"
_RESTS: Final = select(rests).where(rests.c.tester.in_(bindparam("names", expanding=True)))
_HOURS: Final = {step: kind.passing for step, kind in FACTS.items() if kind.passing}


def of_books(connection: Connection, names: Collection[str]) -> dict[str, BooksMark]:
    """By tester, of those that have a row."""
    lines: dict[str, list[str]] = {name: [] for name in names}
    hours: dict[str, dict[str, str]] = {}
    for what, sql in _READ.items():
        for row in of_these(connection, sql, names):
            lines[row[0]].append(f"{what} {tuple(row)!r}")
    there = {name for name, told in lines.items() if any(line.startswith("tester ") for line in told)}
    for name, step, machine, body in of_these(connection, _FACTS, names):
        if step in _HOURS:
            hours.setdefault(name, {})[step] = body
        lines[name].append(f"fact {(step, machine, _lasting(step, body))!r}")
    of_all = repr([tuple(row) for row in connection.exec_driver_sql(_OF_ALL)])
    return {name: BooksMark(_digest([of_all, *sorted(lines[name])]), hours.get(name, {})) for name in sorted(there)}


def kept_rests(connection: Connection, names: Collection[str]) -> dict[str, KeptRest]:
    """By tester, of those of whom something is kept."""
    rows = connection.execute(_RESTS, {"names": list(names)}).all()
    marks = of_books(connection, [row.tester for row in rows]) if rows else {}
    return {row.tester: KeptRest(row.mark, row.body, marks[row.tester]) for row in rows if row.tester in marks}


def _digest(lines: list[str]) -> bytes:
    return blake2b("\n".join(lines).encode("utf-8", "surrogatepass"), digest_size=32).digest()


def _lasting(step: str, body: str) -> str:
    """Facts without their hours, as `StepFacts.is_as` compares them."""
    if step not in _HOURS:
        return body
    try:
        told = json.loads(body)
        for name in _HOURS[step]:
            hour = told.get(name)
            told[name] = sorted(hour) if isinstance(hour, dict) else hour is not None
    except (ValueError, AttributeError):
        return body
    return json.dumps(told, sort_keys=True)
