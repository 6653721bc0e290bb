"""Bounded history: what may be forgotten, and only that."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Select, and_, delete, func, or_, select, tuple_

from controller.store.statements import NOBODY
from controller.store.tables import conditions, ended_sessions, events, former_testers, journal, objects, testers
from reconcilers.facts import ObjectState

GONE_KEPT: Final = 5
"""Of the objects of one step that are gone, so many of the newest stay for as long as their tester: the next one's name counts on
from them, and where the last ones failed is not tried first again."""


def prune(connection: Connection, before: datetime) -> int:
    """Delete history from before a moment; returns how many rows.

    A journal entry without an end stays whatever its age, and so does an object that is not gone: they still mean work.
    """
    nobodys = objects.c.tester.not_in(select(testers.c.name))
    gone = and_(objects.c.state == ObjectState.GONE, or_(objects.c.since < before, objects.c.since.is_(None)))
    orphaned = and_(conditions.c.tester != NOBODY, conditions.c.tester.not_in(select(testers.c.name)))
    deletions = (
        delete(events).where(events.c.last_at < before),
        delete(journal).where(journal.c.ended_at < before),
        delete(objects).where(gone, nobodys),
        delete(objects).where(gone, tuple_(*objects.primary_key).in_(_long_followed())),
        delete(conditions).where(orphaned),
        delete(ended_sessions).where(ended_sessions.c.until < before),
        delete(former_testers).where(former_testers.c.removed_at < before),
    )
    return sum(connection.execute(each).rowcount for each in deletions)


def _long_followed() -> Select[tuple[str, str, int, int]]:
    """The keys of objects that are gone and were followed by enough others of the same step."""
    newest_first = func.row_number().over(
        partition_by=(objects.c.tester, objects.c.step),
        order_by=(objects.c.incarnation.desc(), objects.c.attempt.desc()),
    )
    keys = (objects.c.tester, objects.c.step, objects.c.incarnation, objects.c.attempt)
    counted = select(*keys, newest_first.label("place")).where(objects.c.state == ObjectState.GONE).subquery()
    return select(*(counted.c[key.name] for key in keys)).where(counted.c.place > GONE_KEPT)
