"""Removing a file, and putting it back while its tester is going."""

from __future__ import annotations

from pathlib import Path

from examples.simulator.signin import sign_in
from tests.e2e.rig import Fleet, fleet_of


def where(fleet: Fleet, start: int, *words: str) -> int:
    """The index, among the writing calls since `start`, of the first that holds all words."""
    for index, entry in enumerate(fleet.writes()[start:]):
        if all(word in f"{entry.system} {entry.method} {entry.what}" for word in words):
            return index
    raise AssertionError(
        f"no writing call with {words}: {[f'{e.system} {e.method} {e.what}' for e in fleet.writes()[start:]]}"
    )


async def test_a_removed_file_takes_everything_of_its_tester_access_first_and_can_come_back(tmp_path: Path) -> None:
    gone = {"identity": {"email": "alice@example.org", "whenRemoved": "delete"}}
    async with fleet_of(tmp_path, {"alice": gone, "carol": {}}) as fleet:
        await fleet.ready("alice", "carol")
        await fleet.settled()
        start = len(fleet.writes())
        carols = fleet.vm("carol")
        fleet.remove("alice")

        async def is_gone() -> bool:
            return await fleet.store.tester("alice") is None

        await fleet.until(is_gone, "alice is gone")
        books = fleet.books()
        assert (books["made_accounts"], books["vms"], books["gateways"], len(books["apps"])) == (["carol"], 1, 1, 1)
        listener = where(fleet, start, "HERO_PROXY_SEED_GATEWAY_LISTENER")
        app = where(fleet, start, "forge", "DELETE", "oauth2")
        account = where(fleet, start, "forge", "DELETE", "/admin/users/alice")
        gateway = where(fleet, start, "delete_webgateway")
        machine = where(fleet, start, "delete_vm")
        assert listener < gateway < machine
        assert listener < min(app, account)
        assert max(app, account) < gateway
        assert fleet.vm("carol") == carols
        touched = [e for e in fleet.writes()[start:] if "carol" in f"{e.system} {e.what}"]
        assert touched == []

        # Put back after it is gone: everything is made anew, under new names.
        fleet.write("alice", **gone)
        await fleet.ready("alice")
        # And put back while it is going.
        fleet.remove("alice")
        start = len(fleet.writes())

        async def is_going() -> bool:
            return any("DELETE" in entry.method for entry in fleet.writes()[start:])

        await fleet.until(is_going, "alice is going")
        fleet.write("alice", **gone)
        await fleet.ready("alice", "carol")
        await fleet.settled()
        books = fleet.books()
        assert sorted(books["made_accounts"]) == ["alice", "carol"]
        assert (books["vms"], books["gateways"], len(books["apps"])) == (2, 2, 2)
        assert (await sign_in(fleet.addresses, fleet.fqdn("alice"), "alice"))[0] == 200
        assert fleet.books()["violations"] == []
