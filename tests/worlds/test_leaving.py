"""Removing a file, putting it back when its tester is gone, and while it is going."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from examples.simulator.invariants import accepting, stale_tenants
from tests.lessons.conftest import WITH_ENGINES
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

AT_ONCE: dict[str, Any] = {
    "identity": {"email": "alice@example.org", "whenRemoved": "delete"},
    "machine": {"keepAfterRemoval": "0s"},
}
EVERY_ENGINE = ["embedder", "voice"]


def where(w: Rig, start: int, *words: str, last: bool = False) -> int:
    """The index, among the writing calls since `start`, of the first (or last) that holds all words."""
    done = [f"{entry.system} {entry.method} {entry.what}" for entry in w.writes()[start:]]
    found = [index for index, text in enumerate(done) if all(word in text for word in words)]
    assert found, f"no writing call with {words}: {done}"
    return found[-1 if last else 0]


def registered(w: Rig, name: str) -> list[str]:
    """The engines in whose registry the tester is."""
    engines = w.books()["engines"].items()
    return sorted(engine for engine, row in engines if any(tenant.startswith(name) for tenant in row["registered"]))


def access_went_first(w: Rig, start: int) -> None:
    """The door before everything; every other access before what stands; the gateway before its machine."""
    door = where(w, start, "HERO_PROXY_SEED_GATEWAY_LISTENER")
    revoked = [where(w, start, f"service restart hero_{engine}", last=True) for engine in EVERY_ENGINE]
    app = where(w, start, "forge", "DELETE", "oauth2")
    account = where(w, start, "forge", "DELETE", "/admin/users/alice")
    gateway, machine = where(w, start, "delete_webgateway"), where(w, start, "delete_vm")
    access = [*revoked, app, account]
    assert door < min(access)
    assert max(access) < gateway < machine


async def nothing_of_hers_is_left(w: Rig) -> None:
    books = w.books()
    assert (books["made_accounts"], books["vms"], books["gateways"], len(books["apps"])) == (["carol"], 1, 1, 1)
    assert registered(w, "alice") == []
    assert accepting(w.world, "alice") == []
    assert stale_tenants(w.world) == []
    assert [name for name in await w.store.sealed_names() if name.startswith("alice/")] == []


@in_virtual_time
async def test_a_removed_file_takes_everything_of_its_tester_access_first_and_can_come_back(tmp_path: Path) -> None:
    async with world(tmp_path, {"alice": AT_ONCE, "carol": {}}, fleet=WITH_ENGINES) as w:
        await w.ready("alice", "carol")
        await w.settled()
        assert accepting(w.world, "alice") == accepting(w.world, "carol") == EVERY_ENGINE
        start, carols, hers = len(w.writes()), w.vm("carol"), w.vm("alice")
        w.remove("alice")
        await w.gone("alice")
        access_went_first(w, start)
        await nothing_of_hers_is_left(w)
        assert w.vm("carol") == carols
        assert accepting(w.world, "carol") == registered(w, "carol") == EVERY_ENGINE
        assert [entry for entry in w.writes()[start:] if "carol" in f"{entry.system} {entry.what}"] == []

        # Put back after it is gone: everything is made anew, under new names.
        w.write("alice", **AT_ONCE)
        await w.ready("alice")
        assert w.vm("alice") != hers
        # And put back while it is going.
        start = len(w.writes())
        w.remove("alice")
        await w.until(lambda: any("DELETE" in entry.method for entry in w.writes()[start:]), "alice is going")
        w.write("alice", **AT_ONCE)
        await w.ready("alice", "carol")
        await w.settled()
        books = w.books()
        assert sorted(books["made_accounts"]) == ["alice", "carol"]
        assert (books["vms"], books["gateways"], len(books["apps"])) == (2, 2, 2)
        assert accepting(w.world, "alice") == registered(w, "alice") == EVERY_ENGINE
        assert (await w.sign_in("alice", "alice"))[0] == 200
