"""Drift of each kind, made behind the controller's back, is found, told and repaired; too much at once is only told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from examples.simulator.signin import sign_in
from tests.e2e.drifts import DRIFTS, Before, Drift, before
from tests.e2e.rig import FEW, PROVIDER_KEY, Fleet, fleet_of

SPEC = {"version": {"pin": {"hero_slides": "v0.3.1"}}, "keys": {"providers": {"openrouter": "default"}}}
NAMES = tuple(DRIFTS)


async def repaired(fleet: Fleet, name: str, drift: Drift, was: Before, mark: int) -> None:
    """Until it is mended and told, and the tester is Ready again."""

    async def done() -> bool:
        told = " ".join(event.message for event in await fleet.told(name, mark))
        return drift.mended(fleet, name, was) and all(word in told for word in drift.told)

    await fleet.until(done, f"{drift.what} is repaired, and told with {drift.told}")
    await fleet.ready(name)


async def one_after_the_other(fleet: Fleet, name: str, drifts: Sequence[Drift]) -> None:
    for number, drift in enumerate(drifts):
        was, mark = before(fleet, name), await fleet.mark()
        drift.do(fleet, name)
        if number:
            fleet.look_at(name)
        await repaired(fleet, name, drift, was, mark)
        if drift.proves is not None:
            await fleet.at_rest(name)  # the pass that mended it has ended, too
            drift.proves(fleet, name, was)


async def all_is_as_it_should_be(fleet: Fleet) -> None:
    """One of each, a door that has the secret that Forge knows, and nothing left to do."""
    await fleet.settled()
    books = fleet.books()
    assert sorted(books["made_accounts"]) == sorted(NAMES)
    assert (books["vms"], books["gateways"], len(books["apps"])) == (2, 2, 2)
    for name in NAMES:
        assert [(await sign_in(fleet.addresses, fleet.fqdn(name), user))[0] for user in (name, "mik")] == [200, 200]


async def no_value_is_told(fleet: Fleet) -> None:
    told = " ".join([event.message for name in NAMES for event in await fleet.told(name)])
    assert PROVIDER_KEY not in told
    assert "sk-other" not in told


def only_the_door_that_was_opened_stood_open(fleet: Fleet, fqdn: str) -> None:
    violations = fleet.books()["violations"]
    assert violations
    assert [each for each in violations if each["kind"] != "OpenDoor" or not each["what"].startswith(fqdn)] == []


async def more_than_max_lost_is_told_and_not_repaired(fleet: Fleet) -> None:
    deployed = len(deployments(fleet))
    for name in NAMES:
        fleet.world.drift.do("delete_vm", vm=fleet.vm(name))

    async def stalled() -> bool:
        conditions = await fleet.store.conditions()
        return sum(each.type == "Machine" and each.reason == "TooManyLost" for each in conditions) == len(NAMES)

    await fleet.until(stalled, "both say TooManyLost")
    for _ in range(2):
        await fleet.round()
    assert fleet.books()["vms"] == 0
    assert len(deployments(fleet)) == deployed


def deployments(fleet: Fleet) -> list[str]:
    return [entry.what for entry in fleet.writes() if "deploy_vm" in entry.what]


@pytest.mark.long
async def test_every_kind_of_drift_is_found_told_and_repaired_but_too_much_at_once_is_only_told(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, dict.fromkeys(NAMES, SPEC), safety={"maxLost": 1}, **FEW) as fleet:
        await fleet.ready(*NAMES)
        opened = fleet.fqdn("alice")
        await asyncio.gather(*(one_after_the_other(fleet, name, drifts) for name, drifts in DRIFTS.items()))
        await all_is_as_it_should_be(fleet)
        await no_value_is_told(fleet)
        only_the_door_that_was_opened_stood_open(fleet, opened)
        await more_than_max_lost_is_told_and_not_repaired(fleet)
