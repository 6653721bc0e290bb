"""Three testers from nothing to Ready; then quiet, also after a restart (points 1 and 2 of what the first issue must show)."""

from __future__ import annotations

from pathlib import Path

from examples.simulator.signin import outside, sign_in
from tests.e2e.rig import SPEED, controlling, fleet_of

BOB = {"identity": {"email": "bob@example.org", "existing": True}, "allowlist": ["carol"]}
NAMES = ("alice", "bob", "carol")


async def test_three_testers_come_to_life_and_then_nothing_is_written_any_more(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, {"alice": {}, "bob": BOB, "carol": {}}, speed=SPEED) as fleet:
        await fleet.ready(*NAMES)
        books = fleet.books()
        assert sorted(books["made_accounts"]) == ["alice", "carol"]
        assert (books["vms"], books["gateways"], len(books["apps"])) == (3, 3, 3)
        assert sorted(vm["name"].split("_")[0] for vm in books["daemons"]["compute1"]["vms"]) == list(NAMES)
        assert books["violations"] == []

        async with outside(fleet.addresses) as stranger:
            for name in NAMES:
                answer = await stranger.get(f"https://{fleet.fqdn(name)}/hero_cockpit/web/")
                assert answer.status_code == 302
                assert answer.headers["location"].startswith(f"{fleet.addresses.forge_url}/login/oauth/authorize")
        allowed = {
            "alice": {"alice", "mik", "sara"},
            "bob": {"bob", "carol", "mik", "sara"},
            "carol": {"carol", "mik", "sara"},
        }
        for name, users in allowed.items():
            for user in ("alice", "bob", "carol", "mik", "sara"):
                status, _ = await sign_in(fleet.addresses, fleet.fqdn(name), user)
                assert (user in users) == (status == 200), f"{user} at {name}: {status}"

        await fleet.settled()
        writes, commits, passes = len(fleet.writes()), fleet.store.commits, fleet.controller.engine.passes

        async def ten_more() -> bool:
            return fleet.controller.engine.passes >= passes + 10

        await fleet.until(ten_more, "ten more passes")
        assert len(fleet.writes()) == writes
        assert fleet.store.commits == commits
        world, addresses, places = fleet.world, fleet.addresses, fleet.places
        fleet.controller.stop.set()
        await fleet.done

        async with controlling(world, addresses, places) as again:
            commits = again.store.commits
            await again.until(lambda: _passes(again, 6), "six passes of a new process")
            assert len(again.writes()) == writes
            assert again.store.commits == commits
            await again.ready(*NAMES)


async def _passes(fleet: object, count: int) -> bool:
    return bool(fleet.controller.engine.passes >= count)  # type: ignore[attr-defined]
