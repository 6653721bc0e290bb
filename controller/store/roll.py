"""Who works on a store just now, and on what: as the server's locks tell it, which cannot be out of date."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from controller.replicas.shares import SHARDS, shard_of
from controller.store.address import is_postgres, normal, place_of
from controller.store.errors import readable

_REPLICAS: Final = text("SELECT name, session, place, version, began_at, seen_at, passes FROM replicas ORDER BY name")
_LOCKS: Final = text(
    "SELECT pid, classid::bigint, objid::bigint, objsubid FROM pg_locks WHERE locktype = 'advisory' AND granted "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_HEARD: Final = text(
    "SELECT pid, state_change, statement_timestamp() FROM pg_stat_activity WHERE datname = current_database()"
)
_LEASES: Final = text("SELECT key, epoch, since FROM leases")


@dataclass(frozen=True, slots=True)
class Holding:
    """One lease of a replica, how often it was taken until it did, and when it did."""

    key: int
    epoch: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """One replica. `alive`: it holds a session; `heard_at`: when that was heard of last, else when the replica last told of
    itself."""

    name: str
    place: str
    version: str
    began_at: datetime
    heard_at: datetime
    alive: bool
    passes: int
    holdings: tuple[Holding, ...]
    testers: int
    slots: int

    @property
    def shards(self) -> tuple[int, ...]:
        return tuple(each.key for each in self.holdings if each.key < SHARDS)

    def holds(self, key: int) -> bool:
        return any(each.key == key for each in self.holdings)


@dataclass(frozen=True, slots=True)
class Roll:
    """Everybody. `free`: testers whom nobody looks after at this moment; `now`: by the server's clock."""

    members: tuple[Member, ...]
    testers: int
    free: int
    now: datetime


async def roll_of(url: str) -> Roll | None:
    """None: the store is one controller's alone. Raises StoreError."""
    address = normal(url)
    if not is_postgres(address):
        return None
    from controller.store.locks import LOCKS, MEMBER
    from controller.store.postgres import holding_engine  # slow to import: only who has a server pays for its driver

    engine = holding_engine(address, "testerctl")
    try:
        async with engine.connect() as connection:
            told = (await connection.execute(_REPLICAS)).all()
            locks = (await connection.execute(_LOCKS)).all()
            heard = {pid: (at, now) for pid, at, now in await connection.execute(_HEARD)}
            leases = {key: Holding(key, epoch, since) for key, epoch, since in await connection.execute(_LEASES)}
            names = list(await connection.scalars(text("SELECT name FROM testers")))
    except SQLAlchemyError as error:
        raise readable(place_of(address), error) from error
    finally:
        await engine.dispose()
    living = {pid for pid, kind, key, sub in locks if (sub, kind, key) == (1, 0, MEMBER)}
    held = {key: pid for pid, kind, key, sub in locks if (sub, kind) == (2, LOCKS)}
    slots = Counter(pid for pid, kind, _, sub in locks if sub == 2 and kind != LOCKS)
    crowd = Counter(shard_of(name) for name in names)
    members = tuple(_member(row, row.session in living, held, leases, heard, crowd, slots) for row in told)
    now = max(now for _, now in heard.values())  # this very question is among them
    free = sum(count for shard, count in crowd.items() if shard not in held)
    return Roll(members, len(names), free, now)


def _member(
    row: Any,
    alive: bool,
    held: dict[int, int],
    leases: dict[int, Holding],
    heard: dict[int, tuple[datetime, datetime]],
    crowd: Counter[int],
    slots: Counter[int],
) -> Member:
    keys = sorted(key for key, pid in held.items() if alive and pid == row.session and key in leases)
    return Member(
        name=row.name,
        place=row.place,
        version=row.version,
        began_at=row.began_at,
        heard_at=(heard[row.session][0] if alive and row.session in heard else None) or row.seen_at,
        alive=alive,
        passes=row.passes,
        holdings=tuple(leases[key] for key in keys),
        testers=sum(crowd[key] for key in keys if key < SHARDS),
        slots=slots[row.session] if alive else 0,
    )
