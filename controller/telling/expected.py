"""The rows as they will be once a reading of the source is taken in: what plans are made from. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from controller.intake import has_expired, who_leaves
from controller.records import TesterRecord
from specs.loading import Loaded
from specs.memory import LoadedTester
from specs.names import new_uid


def expected(
    records: Mapping[str, TesterRecord], loaded: Loaded, now: datetime
) -> tuple[dict[str, TesterRecord], tuple[str, ...]]:
    """The rows as they will be once this folder is taken in, and the names whose removal would be held back."""
    rows = dict(records)
    leaving = who_leaves(records.values(), loaded, now)
    for name, tester in loaded.testers.items():
        rows[name] = _with_spec(records.get(name), tester, now, held=name in leaving.held)
    for row in leaving.absent:
        rows[row.name] = replace(row, generation=row.generation + 1, removed_at=now)
    return rows, leaving.held


def _with_spec(row: TesterRecord | None, tester: LoadedTester, now: datetime, *, held: bool) -> TesterRecord:
    if row is None:
        return TesterRecord(
            name=tester.desired.name,
            uid=new_uid(random.Random()),  # noqa: S311 - a stand-in that nobody keeps
            generation=1,
            desired=tester.desired,
            digest=tester.digest,
            source_file=tester.file,
            source_line=tester.line,
            revision="",
            added_at=now,
            changed_at=now,
        )
    if has_expired(tester.desired, now) and not held:
        return row if row.leaving else _raised(row, tester, now)
    if row.desired == tester.desired and not row.leaving:
        return row
    return _raised(row, tester, None)


def _raised(row: TesterRecord, tester: LoadedTester, removed_at: datetime | None) -> TesterRecord:
    return replace(row, generation=row.generation + 1, desired=tester.desired, removed_at=removed_at)
