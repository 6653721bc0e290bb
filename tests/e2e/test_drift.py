"""Drift of each kind, made behind the controller's back, is found, told and repaired; too much at once is only told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from examples.simulator.signin import sign_in
from tests.e2e.rig import Fleet, fleet_of

NAMES = ("alice", "bob", "carol")
STRANGER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3vqZ4nQ1m5h0W0Y0bQp3ZlqgkBqk0dD6n3c0v0x1y2 stranger"

ALICE = {"version": {"pin": {"hero_slides": "v0.3.1"}}, "keys": {"providers": {"openrouter": "default"}}}

Repaired = Callable[[Fleet], Awaitable[bool]]


def service(fleet: Fleet, name: str) -> str:
    return str(fleet.world.machine_named(fleet.vm("alice")).state.services[name].state)


async def test_every_kind_of_drift_is_found_and_repaired(tmp_path: Path, subtests: pytest.Subtests) -> None:
    async with fleet_of(tmp_path, {"alice": ALICE}, speed=240) as fleet:
        await fleet.ready("alice")
        await fleet.settled()
        drift, vm = fleet.world.drift, fleet.vm("alice")

        async def repaired(holds: Callable[[], bool], what: str, *words: str) -> None:
            """Until it is mended and told, and the tester is Ready again."""
            mark = await fleet.mark()

            async def done() -> bool:
                told = " ".join(event.message for event in await fleet.told("alice", mark))
                return holds() and all(word in told for word in words)

            await fleet.until(done, f"{what} is repaired, and told with {words}")
            await fleet.ready("alice")

        with subtests.test("a service stopped"):
            drift.do("stop_service", vm=vm, service="hero_books")
            await repaired(
                lambda: service(fleet, "hero_books") == "running", "service", "hero_books", "stopped → running"
            )

        with subtests.test("a version changed"):
            drift.do("set_version", vm=vm, component="hero_slides", version="v0.0.1")
            machine = fleet.world.machine_named(vm)
            await repaired(lambda: machine.state.components["hero_slides"].version == "v0.3.1", "version", "v0.0.1")

        with subtests.test("a setting changed"):
            drift.do("set_secret", vm=vm, context="cockpit", key="OPENROUTER_API_KEY", value="sk-other")
            await repaired(
                lambda: drift.secret(vm, "cockpit", "OPENROUTER_API_KEY") == "sk-or-canary-1234567890",
                "setting",
                "OPENROUTER_API_KEY",
            )
            told = " ".join(event.message for event in await fleet.told("alice"))
            assert "canary" not in told
            assert "sk-other" not in told

        with subtests.test("an authorised key added"):
            drift.do("add_authorized_key", vm=vm, key=STRANGER)
            await repaired(lambda: STRANGER not in drift.authorized_keys(vm), "key", "stranger")

        with subtests.test("the allowlist edited"):
            drift.do("set_secret", vm=vm, context="core", key="HERO_PROXY_ALLOWED_USERS", value="alice,mallory")
            drift.do("restart_proxy", vm=vm)
            wanted = {"alice", "mik", "sara"}
            await repaired(
                lambda: set((drift.secret(vm, "core", "HERO_PROXY_ALLOWED_USERS") or "").split(",")) == wanted,
                "allowlist",
                "HERO_PROXY_ALLOWED_USERS",
            )
            await fleet.settled()
            assert (await sign_in(fleet.addresses, fleet.fqdn("alice"), "mik"))[0] == 200

        with subtests.test("the account disabled"):
            drift.do("disable_account", account="alice")
            await repaired(lambda: fleet.books()["disabled_accounts"] == [], "account", "alice")

        with subtests.test("the redirect address changed"):
            app = fleet.books()["apps"][0]["name"]
            good = fleet.books()["apps"][0]["redirect_uris"]
            drift.do("set_redirect", app=app, uri="https://evil.example.org/oauth/callback")
            before = drift.secret(vm, "core", "FORGE_OAUTH_CLIENT_SECRET")
            await repaired(
                lambda: (
                    fleet.books()["apps"][0]["redirect_uris"] == good
                    and drift.secret(vm, "core", "FORGE_OAUTH_CLIENT_SECRET") != before
                ),
                "redirect address",
                "redirect",
            )
            await fleet.settled()
            # The new secret is the one that Forge knows: signing in works.
            assert (await sign_in(fleet.addresses, fleet.fqdn("alice"), "alice"))[0] == 200
            assert len(fleet.books()["apps"]) == 1

        with subtests.test("the gateway deleted"):
            old = fleet.fqdn("alice")
            drift.do("delete_gateway", name=fleet.books()["daemons"]["compute1"]["gateways"][0]["name"])
            await repaired(
                lambda: fleet.books()["gateways"] == 1 and fleet.fqdn("alice") != old, "gateway", "disappeared"
            )
            await fleet.settled()
            assert (await sign_in(fleet.addresses, fleet.fqdn("alice"), "alice"))[0] == 200

        with subtests.test("the VM deleted"):
            account = fleet.books()["made_accounts"]
            drift.do("delete_vm", vm=vm)
            await repaired(lambda: fleet.books()["vms"] == 1 and fleet.vm("alice") != vm, "machine", "disappeared")
            assert fleet.books()["gateways"] == 1
            assert len(fleet.books()["apps"]) == 1
            assert fleet.books()["made_accounts"] == account
            await fleet.settled()
            assert (await sign_in(fleet.addresses, fleet.fqdn("alice"), "alice"))[0] == 200
        assert fleet.books()["violations"] == []


async def test_more_than_max_lost_in_one_look_is_told_and_not_repaired(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, {name: {} for name in ("alice", "carol")}, safety={"maxLost": 1}) as fleet:
        await fleet.ready("alice", "carol")
        await fleet.settled()
        for name in ("alice", "carol"):
            fleet.world.drift.do("delete_vm", vm=fleet.vm(name))

        async def stalled() -> bool:
            conditions = await fleet.store.conditions()
            return sum(c.type == "Machine" and c.reason == "TooManyLost" for c in conditions) == 2

        await fleet.until(stalled, "both say TooManyLost")
        passes = fleet.controller.engine.passes

        async def later() -> bool:
            return fleet.controller.engine.passes >= passes + 10

        await fleet.until(later, "ten more passes")
        assert fleet.books()["vms"] == 0
        assert not [entry for entry in fleet.writes() if "deploy_vm" in f"{entry.method} {entry.what}"][2:]
