"""Bounded history: what may be forgotten, and only that."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, and_, delete, or_, select

from controller.store.statements import NOBODY
from controller.store.tables import conditions, events, journal, objects, testers
from reconcilers.facts import ObjectState


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
        delete(conditions).where(orphaned),
    )
    return sum(connection.execute(each).rowcount for each in deletions)
