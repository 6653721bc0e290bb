"""Three testers from nothing to Ready; then quiet, also after a restart; then one leaves, and the others stay."""

from __future__ import annotations

from pathlib import Path

from examples.simulator.signin import outside, sign_in
from tests.e2e.rig import FEW, Fleet, controlling, fleet_of

BOB = {"identity": {"email": "bob@example.org", "existing": True}, "allowlist": ["carol"]}
NAMES = ("alice", "bob", "carol")
ALLOWED = {
    "alice": {"alice", "mik", "sara"},
    "bob": {"bob", "carol", "mik", "sara"},
    "carol": {"carol", "mik", "sara"},
}
ROUNDS = 2  # of passes over everybody in which nothing may be written


def one_of_each(fleet: Fleet) -> None:
    books = fleet.books()
    assert sorted(books["made_accounts"]) == ["alice", "carol"]
    assert (books["vms"], books["gateways"], len(books["apps"])) == (3, 3, 3)
    assert sorted(vm["name"].split("_")[0] for vm in books["daemons"]["compute1"]["vms"]) == list(NAMES)
    assert books["violations"] == []


async def strangers_are_sent_to_forge(fleet: Fleet) -> None:
    async with outside(fleet.addresses) as stranger:
        for name in NAMES:
            answer = await stranger.get(f"https://{fleet.fqdn(name)}/hero_cockpit/web/")
            assert answer.status_code == 302
            assert answer.headers["location"].startswith(f"{fleet.addresses.forge_url}/login/oauth/authorize")


async def only_those_on_the_list_come_in(fleet: Fleet) -> None:
    for name, users in ALLOWED.items():
        for user in sorted(set().union(*ALLOWED.values())):
            status, _ = await sign_in(fleet.addresses, fleet.fqdn(name), user)
            assert (user in users) == (status == 200), f"{user} at {name}: {status}"


async def nothing_is_written(fleet: Fleet) -> None:
    before = fleet.written()
    for _ in range(ROUNDS):
        await fleet.round()
    assert fleet.written() == before


async def one_leaves_access_first(fleet: Fleet) -> None:
    """What belongs to a leaving that came back, and to engines: `tests/worlds/test_leaving.py`."""
    start, others = len(fleet.writes()), {name: fleet.vm(name) for name in ("alice", "bob")}
    fleet.remove("carol")

    async def is_gone() -> bool:
        return await fleet.store.tester("carol") is None

    await fleet.until(is_gone, "carol is gone")
    done = [f"{entry.system} {entry.method} {entry.what}" for entry in fleet.writes()[start:]]
    door, *later = (
        "HERO_PROXY_SEED_GATEWAY_LISTENER",
        "DELETE /api/v1/user/applications",
        "delete_webgateway",
        "delete_vm",
    )
    order = [min(number for number, text in enumerate(done) if words in text) for words in (door, *later)]
    assert order == sorted(order)
    books = fleet.books()
    assert (books["vms"], books["gateways"], len(books["apps"])) == (2, 2, 2)
    assert books["disabled_accounts"] == ["carol"]
    assert {name: fleet.vm(name) for name in others} == others
    assert [text for text in done if any(name in text for name in others)] == []


async def test_three_testers_come_to_life_and_then_nothing_is_written_any_more(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, {"alice": {}, "bob": BOB, "carol": {}}, **FEW) as fleet:
        await fleet.ready(*NAMES)
        one_of_each(fleet)
        await strangers_are_sent_to_forge(fleet)
        await only_those_on_the_list_come_in(fleet)
        await fleet.settled()
        await nothing_is_written(fleet)
        writes = len(fleet.writes())
        world, addresses, places = fleet.world, fleet.addresses, fleet.places
        fleet.controller.stop.set()
        await fleet.done

        async with controlling(world, addresses, places) as again:
            commits = again.store.commits
            await again.taken_in()
            await nothing_is_written(again)
            assert (len(again.writes()), again.store.commits) == (writes, commits)
            await again.ready(*NAMES)
            await one_leaves_access_first(again)
