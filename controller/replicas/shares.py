"""Which shard a tester is in, and who should work on how many. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

SHARDS: Final = 64
"""Never to be changed while replicas run: it says which lock stands for whom."""

SOURCE: Final = 100
"""The lease of who reads the source."""
LEADER: Final = 101
"""The lease of who does what is done once for the whole fleet."""
PLACING: Final = 102
"""Not a lease: held for the moment in which a machine's place is chosen."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """lease    how long the server waits for a sign of life
    beat     how often we give one
    margin   so long before the lease may end nothing is begun any more
    """

    lease: timedelta = timedelta(seconds=5)
    beat: timedelta = timedelta(seconds=1)
    margin: timedelta = timedelta(seconds=1)

    @property
    def certain(self) -> timedelta:
        return self.lease - self.margin


def shard_of(tester: str) -> int:
    """The same in every program, everywhere, for ever."""
    return zlib.crc32(tester.encode()) % SHARDS


@dataclass(frozen=True, slots=True)
class Standing:
    """Who holds which shards, as one replica sees it. `settled`: those who have been there for long enough to be given
    something."""

    me: int
    members: frozenset[int]
    settled: frozenset[int]
    holders: Mapping[int, int]  # shard → member

    @property
    def mine(self) -> tuple[int, ...]:
        return tuple(sorted(shard for shard, who in self.holders.items() if who == self.me))


def quota(me: int, members: Collection[int]) -> int:
    """How many shards are one member's: they differ by one at most, and come to all together."""
    everybody = sorted({me, *members})
    least, more = divmod(SHARDS, len(everybody))
    return least + (everybody.index(me) < more)


def to_take(standing: Standing) -> tuple[int, ...]:
    """Free shards, as many as we lack, beginning where others do not."""
    lacking = quota(standing.me, standing.members) - len(standing.mine)
    if lacking <= 0:
        return ()
    free = [shard for shard in range(SHARDS) if shard not in standing.holders]
    first = _rank(standing.me, standing.members) * SHARDS // max(1, len(standing.members))
    return tuple(sorted(free, key=lambda shard: (shard - first) % SHARDS)[:lacking])


def to_give(standing: Standing, order: Sequence[int]) -> tuple[int, ...]:
    """Shards of ours that are another's by right: only where somebody is there to take them. `order`: ours, those first that are
    given most easily."""
    there = standing.settled | {standing.me}
    over = len(standing.mine) - quota(standing.me, there)
    wanting = sum(
        max(0, quota(who, there) - sum(holder == who for holder in standing.holders.values()))
        for who in there
        if who != standing.me
    )
    free = SHARDS - len(standing.holders)  # will be taken by them anyhow
    return tuple(order[: max(0, min(over, wanting - free))])


def _rank(me: int, members: Collection[int]) -> int:
    return sorted({me, *members}).index(me)
