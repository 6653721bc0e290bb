"""The model behind `make bench-ready`: what is unavoidable is never counted too long, and the chain is the longest one."""

from __future__ import annotations

import io
import itertools
import json
import random

from examples.simulator.world import World
from tests.bench.chain import Job, Wait, ends, jobs_of, longest, quickest_restart, shortest_schedule
from tests.bench.outside import record_draws

WAITS = (
    Wait("account", 1),
    Wait("machine", 60, ("account",)),
    Wait("gateway", 15, ("machine",)),
    Wait("network", 100, ("machine",)),
    Wait("letter", 2, ("gateway", "network")),
)


def test_the_longest_chain_goes_through_what_decides() -> None:
    assert ends(WAITS) == {"account": 1, "machine": 61, "gateway": 76, "network": 161, "letter": 163}
    assert [wait.name for wait in longest(WAITS, "letter")] == ["account", "machine", "network", "letter"]


def test_a_schedule_is_as_short_as_the_best_of_all_orders() -> None:
    chance = random.Random(3)
    for _ in range(30):
        jobs = [Job(str(n), chance.randint(1, 9), chance.randint(0, 3), chance.randint(0, 4)) for n in range(5)]
        for places in (1, 2, 3):
            best = min(_greedy(order, places) for order in itertools.permutations(jobs))
            assert shortest_schedule(jobs, places) == best


def _greedy(order: tuple[Job, ...], places: int) -> float:
    """Each in turn in the place that is free first: some order of this is the best that there is."""
    loads, end = [0.0] * places, 0.0
    for job in order:
        loads.sort()
        loads[0] += job.seconds
        end = max(end, loads[0] + job.tail)
    return end


def test_what_a_job_needs_holds_up_its_start_and_not_its_build() -> None:
    needed, needing = Job("db", 20, 5, 0), Job("indexer", 22, 3, 1, ("db", "elsewhere"))
    assert shortest_schedule((needed, needing), 2) == 25 + 3 + 1
    assert shortest_schedule((needed, Job("indexer", 30, 3, 1, ("db",))), 2) == 34


def test_draws_are_told_apart() -> None:
    draws = [
        (("compute1/0001", "alice_1", "install hero_proc v1"), 10.0),
        (("compute1/0001", "alice_1", "start hero_proc"), 2.0),
        (("compute1/0001", "alice_1", "install hero_proxy v1"), 20.0),
        (("compute1/0001", "alice_1", "start hero_proxy 7"), 3.0),
        (("compute1/0001", "hero_proxy", "8"), 4.0),
        (("compute1/0001", "alice_1", "start hero_proxy 8"), 2.5),
        (("compute1/0001", "hero_proxy", "9"), 5.0),
        (("compute1/0001", "alice_1", "start hero_proxy 9"), 1.5),
        (("admin/0001", "admin", "start hero_embedder 3"), 9.0),
        (("vm", "compute1", "0001"), 60.0),
    ]
    jobs = jobs_of(draws, "alice_1", ("hero_proc", "hero_proxy"))
    assert jobs["hero_proc"] == Job("hero_proc", 10.0, 2.0, 0.0)
    assert jobs["hero_proxy"] == Job("hero_proxy", 20.0, 3.0, 4.0, ("hero_proc", "hero_router"))
    assert quickest_restart(draws, "alice_1", "hero_proxy") == 1.5


def test_a_recorded_world_draws_the_same_and_tells_it() -> None:
    file = io.StringIO()
    plain, told = World(seed=5), World(seed=5)
    record_draws(told, file)
    expected = plain.realm.chance("a", 1).uniform(2, 3)
    assert told.realm.chance("a", 1).uniform(2, 3) == expected
    assert json.loads(file.getvalue()) == {"what": ["a", "1"], "seconds": expected}
