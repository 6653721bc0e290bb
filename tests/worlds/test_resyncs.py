"""What settled testers cost while nothing happens: a look at each machine, and for all of them the same few listings."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from math import ceil
from pathlib import Path

from controller.engine import RESTING
from controller.passes.proofs import KEPT
from tests.bench.settled import PAGE, Sample, sampled
from tests.bench.ten_thousand import RESYNC, Span, fleet_of
from tests.worlds.loop import run

SIZES = (60, 120)  # two pages of accounts, and three
SOONEST = RESYNC * 0.8
"""A resync is up to a fifth shorter or longer."""
APPS, OWNER = "forge GET /api/v1/user/applications/oauth2", "forge GET /api/v1/user"
LISTINGS = ("compute list_vms", "compute list_webgateways", APPS, OWNER)
"""Each is one call, however many testers there are."""

Looked = dict[int, list[datetime]]
"""When each tester's machine was called."""


async def two_resyncs(sample: Sample, testers: int, root: Path) -> tuple[Span, Span, Looked]:
    """What the start took, what two resyncs at rest did, and who was looked at in these."""
    looked: Looked = {number: [] for number in range(testers)}
    async with fleet_of(sample, testers, root) as fleet, fleet.running():
        start = await fleet.span(fleet.all_known)
        await fleet.span(RESYNC * 1.5)
        fleet.outside.listeners.append(lambda number: looked[number].append(fleet.clock.now()))
        return start, await fleet.span(2 * RESYNC), looked


def test_a_resync_is_one_look_at_each_machine_and_a_few_listings_for_all(tmp_path: Path) -> None:
    sample = run(sampled(tmp_path / "sample"))
    read: set[int] = set()
    for testers in SIZES:
        start, rest, looked = run(two_resyncs(sample, testers, tmp_path / str(testers)))
        calls = dict(rest.calls)
        assert calls.pop("machine look") == rest.passes == sum(map(len, looked.values()))
        assert all(looked.values()), "somebody was not looked at"
        assert min(later - sooner for times in looked.values() for sooner, later in pairwise(times)) >= SOONEST
        readings = max(calls.pop(listing) for listing in LISTINGS)
        assert readings <= 2 / RESTING, "one that is a quarter of a resync old will do for who is at rest"
        assert calls.pop("forge GET /api/v1/admin/users") <= readings * ceil(
            (testers + 1) / PAGE
        )  # and the token's owner
        releases = "forge GET /api/v1/releases/tags/latest"
        assert calls.pop(releases) <= start.calls[releases], "of each component, once in a quarter of an hour"
        assert calls.pop("outside probe") < testers / 2, "one path of each door in each half hour"
        assert calls == {}
        assert rest.commits <= 2 * RESYNC / KEPT, "the hours of proofs, and nothing else"
        read.add(readings)
    assert max(read) - min(read) <= 1
