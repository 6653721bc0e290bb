"""Locks that PostgreSQL keeps for a replica, and takes away by itself: advisory locks on a session of its own.

The server ends the session, and every lock falls, when nothing was heard of its holder for the span of a lease: it was
stopped, cut off, or is dead. Nothing but the locks lives on the session, so that nothing else can keep it alive.

A thread of its own gives the signs of life, so that a loop with much to do does not lose everything; one that does not turn at
all for long does.
"""

from __future__ import annotations

import asyncio
import select
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg
from sqlalchemy import URL

from controller.store.alone import LOCK
from controller.store.database import to_the_end
from controller.store.errors import StoreError
from controller.store.postgres import HUNG_UP, WRITER, cut, raw_arguments
from reconcilers.clock import steady

LOCKS: Final = 0x7E57_0001
"""The class of the locks under which leases are held; those of slots are classes of their own."""

MEMBER: Final = LOCK
"""Held by every replica, shared: a controller that wants a store for itself alone is refused, and refuses them."""


PATIENCE: Final = 30.0
"""Seconds without a question of the loop's after which no sign of life is given for it any more."""

_HELD: Final = """
    SELECT pid, classid::bigint, objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (objsubid = 1 AND classid = 0 AND objid = %(member)s OR objsubid = 2 AND classid = %(locks)s)
    UNION ALL SELECT 0, -1, 0
    WHERE now() - pg_postmaster_start_time() < %(lease)s AND EXISTS (SELECT FROM leases)
"""
_RAISE: Final = """
    INSERT INTO leases (key, epoch, holder, since) SELECT key, 1, %(holder)s, now() FROM unnest(%(keys)s::int[]) AS key
    ORDER BY key
    ON CONFLICT (key) DO UPDATE SET epoch = leases.epoch + 1, holder = excluded.holder, since = excluded.since
    RETURNING key, epoch
"""
_END_LATE: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user
    AND application_name = %(writers)s AND wait_event = 'ClientRead' AND xact_start < now() - %(lease)s
"""
"""Whose transaction waits for its client for longer than a lease: stopped or cut off in the middle of it. The server itself ends
them between two statements, but not where a statement has come only in part."""
_OPENED: Final = """
    SELECT pg_backend_pid(), setting::bigint, current_setting('transaction_read_only') = 'on' FROM pg_settings
    WHERE name = 'idle_session_timeout'
"""
_TAKE: Final = "SELECT one FROM unnest(%s::int[]) AS one WHERE pg_try_advisory_lock(%s, one) LIMIT %s"
_FREE: Final = "SELECT pg_advisory_unlock(%s, one) FROM unnest(%s::int[]) AS one"
_CARD: Final = """
    INSERT INTO replicas (name, session, place, version, began_at, seen_at, passes)
    VALUES (%(name)s, pg_backend_pid(), %(place)s, %(version)s, %(began_at)s, now(), %(passes)s)
    ON CONFLICT (name) DO UPDATE SET session = excluded.session, seen_at = excluded.seen_at, passes = excluded.passes
"""
_FORGET: Final = "DELETE FROM replicas WHERE seen_at < now() - interval '1 day'"


class SessionLost(Exception):
    """The session has ended, or nobody knows whether it has: none of its locks is held any more, as far as we are concerned."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a replica tells of itself."""

    name: str
    place: str
    version: str
    began_at: datetime
    passes: int


@dataclass(frozen=True, slots=True)
class Seen:
    """Who holds what, as the server tells it. `members`: the sessions of all replicas; `holders`: by key, whose session; `young`:
    the server has started so lately that a former holder may not know yet that it has lost everything."""

    me: int
    members: frozenset[int]
    holders: Mapping[int, int]
    young: bool = False


class LockSession:
    """One session. Every method raises SessionLost when it is not certain that the session is alive.

    `sent`: when the last question that was answered was sent, by a monotonic clock, in seconds.
    """

    def __init__(self, connection: psycopg.Connection[Any], lease: timedelta) -> None:
        self.sent = float("-inf")
        self._connection = connection
        self._lease = lease
        self._me = 0  # as the server knows us
        self._line = select.poll()
        self._line.register(connection.fileno(), HUNG_UP)
        self._ended = False
        self._touched = steady()
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._asking = ThreadPoolExecutor(1, "locks")
        threading.Thread(target=self._live, args=[lease.total_seconds() / 5], name="beats", daemon=True).start()

    @classmethod
    async def open(cls, url: URL, name: str, lease: timedelta) -> LockSession:
        """A new session that lasts for `lease` after each sign of life. Raises StoreError when it would not, or nothing can be
        written, or somebody has the store for itself alone; SessionLost."""
        milliseconds = int(lease / timedelta(milliseconds=1))
        given = raw_arguments(url)
        options = f"{given['options']} -c idle_session_timeout={milliseconds} -c lock_timeout={milliseconds // 5}"
        given |= {"application_name": name, "options": options}
        try:
            connection = await asyncio.to_thread(psycopg.Connection.connect, **given, autocommit=True)
        except psycopg.Error as error:
            raise SessionLost(_first_line(error)) from error
        session = cls(connection, lease)
        try:
            await session._enter(milliseconds)
        except BaseException:  # also who is cancelled: nobody would work there, but it would count as a replica
            await session.aclose()
            raise
        return session

    async def _enter(self, milliseconds: int) -> None:
        ((self._me, kept, only_read),) = await self._ask(_OPENED)
        if only_read:
            raise StoreError(
                "The server's database may only be read, so nothing is begun here. Let DATABASE_URL lead to a server that is no "
                "standby, with default_transaction_read_only off; when it may be written to, this one goes on by itself."
            )
        if kept != milliseconds:
            raise StoreError(
                f"The server would end a silent session after {kept} ms (0: never), not after {milliseconds} as it was asked to: "
                "something between drops what a session begins with, as poolers do. Let DATABASE_URL lead straight to PostgreSQL."
            )
        ((admitted,),) = await self._ask("SELECT pg_try_advisory_lock_shared(%s)", [MEMBER])
        if not admitted:
            raise StoreError(
                "Another controller wants the store for itself alone (an older program, or one that copies the books): stop that "
                "one first; this one waits until it has gone."
            )

    def _live(self, beat: float) -> None:
        while not self._over.wait(beat) and steady() - self._touched < PATIENCE:
            try:
                self._asked("SELECT 1", None)
            except psycopg.Error:
                return

    async def beat(self) -> Seen:
        """A sign of life, and who holds what."""
        rows = await self._ask(_HELD, {"member": MEMBER, "locks": LOCKS, "lease": self._lease})
        members = frozenset(pid for pid, kind, _ in rows if kind == 0)
        holders = {key: pid for pid, kind, key in rows if kind == LOCKS}
        return Seen(self._me, members, holders, any(kind < 0 for _, kind, _ in rows))

    @property
    def hung_up(self) -> bool:
        """Whether the server is seen to have ended the session, though nobody has asked it anything since. Takes microseconds."""
        return self._ended or self._over.is_set() or bool(self._line.poll(0))

    async def take(self, kind: int, keys: Sequence[int], most: int) -> tuple[int, ...]:
        """As many locks of a class as are free, of these, in this order. Never waits. Who is cancelled meanwhile gets none."""
        asked = asyncio.ensure_future(self._ask(_TAKE, [list(keys), kind, most]))
        try:
            rows = await to_the_end(asked)
        except asyncio.CancelledError:
            with suppress(SessionLost):
                await self.free(kind, [key for (key,) in asked.result()])
            raise
        return tuple(key for (key,) in rows)

    async def free(self, kind: int, keys: Collection[int]) -> None:
        await to_the_end(self._ask(_FREE, [kind, list(keys)]))

    async def raise_epochs(self, keys: Collection[int], holder: str) -> dict[int, int]:
        """The new epoch of each, from which on nobody else's writes about it count. Raises TimeoutError when somebody is in the
        middle of one for too long."""
        try:
            return dict(await self._ask(_RAISE, {"keys": sorted(keys), "holder": holder}))
        except psycopg.errors.LockNotAvailable as error:
            await self._ask(_END_LATE, {"writers": WRITER, "lease": self._lease})
            raise TimeoutError from error

    async def show(self, card: Card) -> None:
        """Tell people what there is to be told; forget who has not been seen for a day."""
        told = {name: getattr(card, name) for name in Card.__slots__}
        try:
            await self._ask(_CARD, told)
            await self._ask(_FORGET)
        except psycopg.errors.LockNotAvailable:
            return  # somebody else writes there for long: people are told the next time

    def abort(self) -> None:
        """Cut the connection: whoever waits for it is told so at once."""
        cut(self._connection)

    async def aclose(self) -> None:
        """End the session: all of its locks fall."""
        self._over.set()
        self.abort()
        await asyncio.get_running_loop().run_in_executor(self._asking, self._close)
        self._asking.shutdown(wait=False)

    def _close(self) -> None:
        with self._turn, suppress(psycopg.Error):
            self._connection.close()

    async def _ask(self, statement: str, given: Any = None) -> list[Any]:
        if self._over.is_set():
            raise SessionLost("it is closed")
        self._touched = steady()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._asking, self._asked, statement, given)
        except psycopg.errors.LockNotAvailable:
            raise
        except psycopg.Error as error:
            raise SessionLost(_first_line(error)) from error

    def _asked(self, statement: str, given: Any) -> list[Any]:
        with self._turn:
            sent = steady()
            try:
                asked = self._connection.execute(statement, given)
            finally:
                self._ended = self._connection.closed
            rows = asked.fetchall() if asked.description is not None else []
            self.sent = sent
            return rows


def _first_line(error: psycopg.Error) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
