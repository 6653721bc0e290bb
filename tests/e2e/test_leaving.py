"""Removing a file, and putting it back while its tester is going."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from examples.simulator.invariants import accepting, stale_tenants
from examples.simulator.signin import sign_in
from tests.e2e.rig import ENGINES_AND_MAIL, FEW, Fleet, fleet_of

GONE = {"identity": {"email": "alice@example.org", "whenRemoved": "delete"}}
EVERY_ENGINE = ["embedder", "voice"]


def where(fleet: Fleet, start: int, *words: str, last: bool = False) -> int:
    """The index, among the writing calls since `start`, of the first (or last) that holds all words."""
    done = [f"{entry.system} {entry.method} {entry.what}" for entry in fleet.writes()[start:]]
    found = [index for index, text in enumerate(done) if all(word in text for word in words)]
    assert found, f"no writing call with {words}: {done}"
    return found[-1 if last else 0]


def registered(fleet: Fleet, name: str) -> list[str]:
    """The engines in whose registry the tester is."""
    engines = fleet.books()["engines"].items()
    return sorted(engine for engine, row in engines if any(tenant.startswith(name) for tenant in row["registered"]))


def access_went_first(fleet: Fleet, start: int) -> None:
    """The door before everything; every other access before what stands; the gateway before its machine."""
    door = where(fleet, start, "HERO_PROXY_SEED_GATEWAY_LISTENER")
    revoked = [where(fleet, start, f"service restart hero_{engine}", last=True) for engine in EVERY_ENGINE]
    app = where(fleet, start, "forge", "DELETE", "oauth2")
    account = where(fleet, start, "forge", "DELETE", "/admin/users/alice")
    gateway, machine = where(fleet, start, "delete_webgateway"), where(fleet, start, "delete_vm")
    access = [*revoked, app, account]
    assert door < min(access)
    assert max(access) < gateway < machine


async def nothing_of_hers_is_left(fleet: Fleet) -> None:
    books = fleet.books()
    assert (books["made_accounts"], books["vms"], books["gateways"], len(books["apps"])) == (["carol"], 1, 1, 1)
    assert registered(fleet, "alice") == []
    assert accepting(fleet.world, "alice") == []
    assert stale_tenants(fleet.world) == []
    assert [name for name in await fleet.store.sealed_names() if name.startswith("alice/")] == []


async def test_a_removed_file_takes_everything_of_its_tester_access_first_and_can_come_back(tmp_path: Path) -> None:
    testers: dict[str, dict[str, Any]] = {"alice": GONE, "carol": {}}
    async with fleet_of(tmp_path, testers, **FEW, **ENGINES_AND_MAIL) as fleet:
        await fleet.ready("alice", "carol")
        await fleet.settled()
        assert accepting(fleet.world, "alice") == accepting(fleet.world, "carol") == EVERY_ENGINE
        start, carols = len(fleet.writes()), fleet.vm("carol")
        fleet.remove("alice")

        async def is_gone() -> bool:
            return await fleet.store.tester("alice") is None

        await fleet.until(is_gone, "alice is gone")
        access_went_first(fleet, start)
        await nothing_of_hers_is_left(fleet)
        assert fleet.vm("carol") == carols
        assert accepting(fleet.world, "carol") == registered(fleet, "carol") == EVERY_ENGINE
        assert [entry for entry in fleet.writes()[start:] if "carol" in f"{entry.system} {entry.what}"] == []

        # Put back after it is gone: everything is made anew, under new names.
        fleet.write("alice", **GONE)
        await fleet.ready("alice")
        # And put back while it is going.
        start = len(fleet.writes())
        fleet.remove("alice")

        async def is_going() -> bool:
            return any("DELETE" in entry.method for entry in fleet.writes()[start:])

        await fleet.until(is_going, "alice is going")
        fleet.write("alice", **GONE)
        await fleet.ready("alice", "carol")
        await fleet.settled()
        books = fleet.books()
        assert sorted(books["made_accounts"]) == ["alice", "carol"]
        assert (books["vms"], books["gateways"], len(books["apps"])) == (2, 2, 2)
        assert accepting(fleet.world, "alice") == registered(fleet, "alice") == EVERY_ENGINE
        assert (await sign_in(fleet.addresses, fleet.fqdn("alice"), "alice"))[0] == 200
        assert books["violations"] == []
