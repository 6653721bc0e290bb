"""Who holds what, as replicas come, go, stop and are cut off; and what a holder may still do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller.replicas.keeper import LONG, Placing
from controller.replicas.shares import LEADER, PLACING, SHARDS, SOURCE, Standing, quota, shard_of, to_give, to_take
from controller.store.fencing import Lease, NotOurs
from controller.store.locks import LOCKS
from tests.replicas.server import Replica, Server, moved, now
from tests.worlds.loop import run

ALL = frozenset(range(SHARDS))


def lived(main: Callable[[Server], Coroutine[Any, Any, None]]) -> None:
    async def life() -> None:
        await main(Server())

    run(life())


def all_are_held_once(*replicas: Replica) -> bool:
    held = [shard for replica in replicas for shard in replica.shards]
    return sorted(held) == sorted(ALL)


async def until(holds: Callable[[], bool], limit: float) -> float:
    began = now()
    while not holds():
        assert now() - began < limit, "it takes too long"
        await asyncio.sleep(0.05)
    return now() - began


def test_a_testers_shard_never_changes() -> None:
    assert [shard_of(name) for name in ("alice", "bob", "zoë")] == [7, 0, 20]


def test_quotas_come_to_all_of_them() -> None:
    for count in range(1, 70):
        assert sum(quota(who, range(count)) for who in range(count)) == SHARDS


def test_who_has_too_many_gives_only_what_somebody_who_is_there_for_a_while_lacks() -> None:
    mine = dict.fromkeys(range(SHARDS), 1)
    assert to_give(Standing(1, frozenset({1, 2}), frozenset({1}), mine), range(SHARDS)) == ()
    assert len(to_give(Standing(1, frozenset({1, 2}), frozenset({1, 2}), mine), range(SHARDS))) == 32
    half = dict.fromkeys(range(32), 1)
    assert to_give(Standing(1, frozenset({1, 2}), frozenset({1, 2}), half), range(32)) == (), "the others are free"
    assert len(to_take(Standing(2, frozenset({1, 2}), frozenset(), half))) == 32


def test_one_alone_takes_everything_and_a_second_one_gets_half_without_anybody_being_cut_off() -> None:
    async def main(server: Server) -> None:
        one = Replica(server, "one")
        assert await until(lambda: one.shards == ALL, 2) < 2
        assert {SOURCE, LEADER} <= one.keeper.leases.keys()
        two = Replica(server, "two")
        await until(lambda: all_are_held_once(one, two) and len(two.shards) == 32, 10)
        assert {SOURCE, LEADER} <= one.keeper.leases.keys(), "those stay where they are"
        before = now()
        await asyncio.sleep(600)
        assert moved(one, before) == moved(two, before) == 0, "it stays so"

    lived(main)


def test_who_is_killed_is_replaced_within_two_beats() -> None:
    async def main(server: Server) -> None:
        replicas = [Replica(server, name) for name in ("one", "two", "three")]
        await until(lambda: sorted(len(each.shards) for each in replicas) == [21, 21, 22], 20)
        replicas[0].kill()
        assert await until(lambda: all_are_held_once(*replicas[1:]), 5) < 2.5
        assert {key for each in replicas[1:] for key in each.keeper.leases} >= {SOURCE, LEADER}

    lived(main)


@pytest.mark.parametrize("how", ["running", "open"])
def test_who_is_stopped_or_cut_off_begins_nothing_before_the_server_takes_its_locks(how: str) -> None:
    async def main(server: Server) -> None:
        one, two = Replica(server, "one"), Replica(server, "two")
        await until(lambda: len(one.shards) == len(two.shards) == 32, 20)
        was = dict(one.keeper.leases)
        getattr(one.way, how).clear()
        began = now()
        await until(lambda: not one.keeper.is_certain, 10)
        assert now() - began < server.lease - 0.9
        waiting = [asyncio.ensure_future(one.keeper.certainty(lease)) for lease in was.values()]
        assert await until(lambda: two.shards == ALL, 20) < 3.5
        assert not any(each.done() and each.exception() is None for each in waiting), "no call is begun"
        getattr(one.way, how).set()
        for each in waiting:
            with pytest.raises(NotOurs):
                await each
        await until(lambda: all_are_held_once(one, two) and len(one.shards) == 32, 30)
        assert all(one.keeper.leases[key].epoch > was[key].epoch for key in was.keys() & one.shards)

    lived(main)


def test_who_is_stopped_for_less_than_the_lease_goes_on_as_before() -> None:
    async def main(server: Server) -> None:
        one, two = Replica(server, "one"), Replica(server, "two")
        await until(lambda: len(one.shards) == len(two.shards) == 32, 20)
        was, before = dict(one.keeper.leases), now()
        one.way.running.clear()
        await asyncio.sleep(3.6)
        certain = asyncio.ensure_future(one.keeper.certainty(next(iter(was.values()))))
        one.way.running.set()
        await certain
        await asyncio.sleep(30)
        assert one.keeper.leases == was
        assert moved(one, before) == moved(two, before) == 0

    lived(main)


def test_a_server_that_starts_again_takes_everything_and_gives_it_again_under_new_epochs() -> None:
    async def main(server: Server) -> None:
        one, two = Replica(server, "one"), Replica(server, "two")
        await until(lambda: len(one.shards) == len(two.shards) == 32, 20)
        old = {**one.keeper.leases, **two.keeper.leases}
        server.up = False
        server.restart()
        await until(lambda: not one.keeper.leases and not two.keeper.leases, 3)
        await asyncio.sleep(20)
        server.up = True
        await until(lambda: all_are_held_once(one, two), 10)
        new = {**one.keeper.leases, **two.keeper.leases}
        assert all(new[key].epoch > old[key].epoch for key in old)

    lived(main)


def test_who_sees_its_session_end_begins_nothing_more_at_once() -> None:
    async def main(server: Server) -> None:
        one, two = Replica(server, "one"), Replica(server, "two")
        await until(lambda: len(one.shards) == len(two.shards) == 32, 20)
        assert one.keeper.is_certain
        server.end(min(server.heard))
        assert [one.keeper.is_certain, two.keeper.is_certain].count(False) == 1
        await until(lambda: one.keeper.is_certain and two.keeper.is_certain, 10)
        await until(lambda: all_are_held_once(one, two), 10)

    lived(main)


def test_of_a_server_that_has_just_started_nothing_is_taken_while_somebody_may_not_know_of_it_yet() -> None:
    async def main(server: Server) -> None:
        one, two = Replica(server, "one"), Replica(server, "two")
        await until(lambda: len(one.shards) == len(two.shards) == 32, 20)
        one.way.open.clear()
        server.restart()
        began = now()
        await until(lambda: not two.shards, 5)
        await until(lambda: bool(two.shards), 10)
        assert not one.keeper.is_certain, "it was cut off when the server ended its session, and could not see that"
        assert server.lease <= now() - began < server.lease + 2

    lived(main)


def test_a_shard_is_given_only_when_nothing_is_under_way_on_it() -> None:
    async def main(server: Server) -> None:
        one = Replica(server, "one")
        await until(lambda: one.shards == ALL, 5)
        one.passes = dict.fromkeys(range(40), LONG)  # 24 are not
        two = Replica(server, "two")
        await until(lambda: len(two.shards) == 24, 10)
        assert two.shards == frozenset(range(40, 64))
        await asyncio.sleep(60)
        assert len(two.shards) == 24
        assert not one.keeper.admits("x" if shard_of("x") in one.keeper.given_up else name_in(one.keeper.given_up))
        one.passes.clear()
        await until(lambda: len(two.shards) == 32, 5)
        assert all_are_held_once(one, two)

    lived(main)


def name_in(shards: set[int]) -> str:
    return next(name for name in map(str, range(10_000)) if shard_of(name) in shards)


def test_whoever_was_to_be_given_away_and_is_not_is_looked_at_again() -> None:
    async def main(server: Server) -> None:
        one = Replica(server, "one")
        await until(lambda: one.shards == ALL, 5)
        one.passes = dict.fromkeys(range(SHARDS), 1)
        two = Replica(server, "two")
        await until(lambda: len(one.keeper.given_up) == 32, 10)
        given_up = frozenset(one.keeper.given_up)
        two.kill()
        await until(lambda: not one.keeper.given_up, 5)
        assert given_up in [keys for _, what, keys in one.told if what == "resumed"]

    lived(main)


def test_one_that_comes_and_goes_all_the_time_moves_nothing() -> None:
    async def main(server: Server) -> None:
        one = Replica(server, "one")
        await until(lambda: one.shards == ALL, 5)
        before = now()
        for number in range(20):
            two = Replica(server, f"two {number}")
            await asyncio.sleep(1.5)
            two.kill()
            await asyncio.sleep(1.5)
        assert moved(one, before) == 0

    lived(main)


@pytest.mark.parametrize(("life", "times"), [(5, 1), (20, 3)])
def test_one_that_crashes_again_and_again_is_given_its_share_later_each_time(life: int, times: int) -> None:
    async def main(server: Server) -> None:
        one = Replica(server, "one")
        await until(lambda: one.shards == ALL, 5)
        before = now()
        for number in range(20):
            two = Replica(server, f"two {number}")
            await asyncio.sleep(life)
            two.kill()
            assert await until(lambda: one.shards == ALL, 5) < 2.5, "what it had is taken at once"
        assert moved(one, before) == times * SHARDS, "a half given, and taken back"
        mended = Replica(server, "mended")
        await until(lambda: len(mended.shards) == 32, 65)
        mended.kill()
        await asyncio.sleep(605)
        another = Replica(server, "another")
        assert await until(lambda: len(another.shards) == 32, 65) < 6, "all that is forgotten"

    lived(main)


def test_who_are_started_again_one_by_one_get_their_shares_in_seconds() -> None:
    async def main(server: Server) -> None:
        replicas = [Replica(server, str(number)) for number in range(4)]
        for version, order in enumerate([(0, 1, 2, 3), (3, 2, 1, 0)]):
            await asyncio.sleep(90)
            for number in order:
                replicas[number].kill()
                await asyncio.sleep(3)
                replicas[number] = Replica(server, f"{number}, version {version}")
                assert await until(lambda: [len(each.shards) for each in replicas] == [16] * 4, 90) < 6

    lived(main)


def test_nobody_has_crashed_when_the_server_ends_every_session() -> None:
    async def main(server: Server) -> None:
        one, two = Replica(server, "one"), Replica(server, "two")
        for _ in range(4):
            await until(lambda: len(one.shards) == len(two.shards) == 32, 20)
            server.restart()
            await until(lambda: not one.shards and not two.shards, 3)
        await until(lambda: all_are_held_once(one, two), 10)
        three = Replica(server, "three")
        assert await until(lambda: len(three.shards) == 21, 65) < 6

    lived(main)


def test_what_somebody_is_in_the_middle_of_writing_is_taken_when_that_has_ended() -> None:
    async def main(server: Server) -> None:
        server.writers = {7}
        one = Replica(server, "one")
        await asyncio.sleep(10)
        assert 7 not in one.shards
        server.writers = set()
        await until(lambda: one.shards == ALL, 5)

    lived(main)


def test_a_lease_of_an_earlier_term_counts_no_more_though_the_same_one_has_the_shard() -> None:
    async def main(server: Server) -> None:
        one = Replica(server, "one")
        await until(lambda: one.shards == ALL, 5)
        old = one.keeper.leases[3]
        server.restart()
        await until(lambda: one.keeper.leases.get(3, old) != old, 10)
        with pytest.raises(NotOurs):
            await one.keeper.certainty(old)
        await one.keeper.certainty(one.keeper.leases[3])
        assert not one.keeper.is_ours(Lease(3, one.keeper.leases[3].epoch, old.term))

    lived(main)


def test_places_are_chosen_by_one_at_a_time_in_the_whole_fleet() -> None:
    async def main(server: Server) -> None:
        replicas = [Replica(server, name) for name in ("one", "two")]
        await until(lambda: all_are_held_once(*replicas), 10)
        inside = most = 0
        placings = [Placing(each.keeper) for each in replicas]

        async def choose(placing: Placing) -> None:
            nonlocal inside, most
            async with placing:
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.3)
                inside -= 1

        await asyncio.gather(*(choose(placing) for placing in placings * 3))
        assert most == 1
        assert (LOCKS, PLACING) not in server.held
        async with placings[0]:
            server.restart()
            await asyncio.sleep(8)
            async with placings[1]:
                pass

    lived(main)
