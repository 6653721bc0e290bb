"""What other people and bad luck do behind the controller's back, as data: what is done, when it is mended, how it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from examples.simulator.log import Entry
from examples.simulator.machine import Machine
from examples.simulator.records import App, Domain
from tests.e2e.rig import PROVIDER_KEY, Fleet

STRANGER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3vqZ4nQ1m5h0W0Y0bQp3ZlqgkBqk0dD6n3c0v0x1y2 stranger"
EVIL = "https://evil.example.org/oauth/callback"
CORE = "core"


@dataclass(frozen=True)
class Before:
    """What there was before a drift: its own gateways, VM and client secret; how much the world's log held."""

    fqdn: str
    vm: str
    client_secret: str | None
    logged: int


@dataclass(frozen=True)
class Drift:
    """One drift of one tester, whose name `do`, `mended` and `proves` are given.

    `told`: words that events about it hold. `proves`: what must hold besides when it has been mended.
    """

    what: str
    do: Callable[[Fleet, str], object]
    mended: Callable[[Fleet, str, Before], bool]
    told: Sequence[str]
    proves: Callable[[Fleet, str, Before], None] | None = None


def before(fleet: Fleet, name: str) -> Before:
    vm = fleet.vm(name)
    return Before(fleet.fqdn(name), vm, secret(fleet, name, "FORGE_OAUTH_CLIENT_SECRET"), len(fleet.world.log))


# ------------------------------------------------------------------ what there is


def machine(fleet: Fleet, name: str) -> Machine:
    return fleet.world.machine_named(fleet.vm(name))


def service(fleet: Fleet, name: str, which: str) -> str:
    return machine(fleet, name).state.services[which].state


def secret(fleet: Fleet, name: str, key: str, context: str = CORE) -> str | None:
    return fleet.world.drift.secret(fleet.vm(name), context, key)


def app_of(fleet: Fleet, name: str) -> App:
    """The one OAuth app of a tester."""
    (found,) = [app for app in fleet.world.state.forge.apps if f" {name} " in app.name]
    return found


def domain_of(fleet: Fleet, name: str) -> Domain:
    return machine(fleet, name).state.domains[fleet.fqdn(name)]


def writes_on(fleet: Fleet, name: str, since: int) -> list[Entry]:
    """Writing calls on the tester's machine."""
    return [entry for entry in fleet.world.log.writes(since) if entry.system == f"machine:{fleet.vm(name)}"]


# ------------------------------------------------------------------ what must hold besides


def _secret_reached_the_machine_in_the_same_pass(fleet: Fleet, name: str, was: Before) -> None:
    """Forge made a new client secret; before the pass ended hero_proxy had it and was restarted (lesson 19)."""
    mine = f"/oauth2/{app_of(fleet, name).id}"
    (patch,) = [entry for entry in fleet.world.log.writes(was.logged) if entry.what.endswith(mine)]
    assert (patch.method, patch.status) == ("PATCH", 200)
    (one,) = [seen for seen in fleet.passes.ended if seen.tester == name and seen.first < patch.number <= seen.last]
    done = [entry.what for entry in writes_on(fleet, name, patch.number) if entry.number <= one.last]
    assert done == [
        "secret set --quiet --context core FORGE_OAUTH_CLIENT_SECRET",
        "service restart hero_proxy",
    ]
    assert secret(fleet, name, "FORGE_OAUTH_CLIENT_SECRET") == app_of(fleet, name).client_secret
    assert app_of(fleet, name).client_secret != was.client_secret


def _shut_before_anything_was_mended(fleet: Fleet, name: str, was: Before) -> None:
    first, second = writes_on(fleet, name, was.logged)[:2]
    assert "HERO_PROXY_SEED_GATEWAY_LISTENER" in first.what
    assert second.what == "service restart hero_proxy"


# ------------------------------------------------------------------ the drifts


def _allow_mallory(fleet: Fleet, name: str) -> None:
    vm = fleet.vm(name)
    fleet.world.drift.do("set_secret", vm=vm, context=CORE, key="HERO_PROXY_ALLOWED_USERS", value=f"{name},mallory")
    fleet.world.drift.do("restart_proxy", vm=vm)


def _take_sign_in_off(fleet: Fleet, name: str) -> None:
    domain_of(fleet, name).auth_mode = "none"
    fleet.world.changed()


ON_THE_MACHINE = (
    Drift(
        "a service stopped",
        lambda fleet, name: fleet.world.drift.do("stop_service", vm=fleet.vm(name), service="hero_books"),
        lambda fleet, name, _: service(fleet, name, "hero_books") == "running",
        ("hero_books", "stopped → running"),
    ),
    Drift(
        "a version changed",
        lambda fleet, name: fleet.world.drift.do(
            "set_version", vm=fleet.vm(name), component="hero_slides", version="v0.0.1"
        ),
        lambda fleet, name, _: machine(fleet, name).state.components["hero_slides"].version == "v0.3.1",
        ("hero_slides", "v0.0.1"),
    ),
    Drift(
        "a setting changed",
        lambda fleet, name: fleet.world.drift.do(
            "set_secret", vm=fleet.vm(name), context="cockpit", key="OPENROUTER_API_KEY", value="sk-other"
        ),
        lambda fleet, name, _: secret(fleet, name, "OPENROUTER_API_KEY", "cockpit") == PROVIDER_KEY,
        ("OPENROUTER_API_KEY",),
    ),
    Drift(
        "the allowlist edited",
        _allow_mallory,
        lambda fleet, name, _: machine(fleet, name).state.door.allowed == [name, "mik", "sara"],
        ("HERO_PROXY_ALLOWED_USERS", "mallory"),
    ),
    Drift(
        "the sign-in taken off the domain",
        _take_sign_in_off,
        lambda fleet, name, _: (
            domain_of(fleet, name).auth_mode == "oauth" and machine(fleet, name).door.listens("outside")
        ),
        ("shut listener", "(none)"),
        _shut_before_anything_was_mended,
    ),
    Drift(
        "the gateway deleted",
        lambda fleet, name: fleet.world.drift.do("delete_gateway", name=fleet.fqdn(name)),
        lambda fleet, name, was: fleet.gateways(name) not in ([], [was.fqdn]),
        ("disappeared",),
    ),
)
AROUND_THE_MACHINE = (
    Drift(
        "an authorised key added",
        lambda fleet, name: fleet.world.drift.do("add_authorized_key", vm=fleet.vm(name), key=STRANGER),
        lambda fleet, name, _: STRANGER not in fleet.world.drift.authorized_keys(fleet.vm(name)),
        ("stranger",),
    ),
    Drift(
        "the account disabled",
        lambda fleet, name: fleet.world.drift.do("disable_account", account=name),
        lambda fleet, name, _: fleet.books()["disabled_accounts"] == [],
        ("account",),
    ),
    Drift(
        "the redirect address changed",
        lambda fleet, name: fleet.world.drift.do("set_redirect", app=app_of(fleet, name).name, uri=EVIL),
        lambda fleet, name, was: (
            app_of(fleet, name).redirect_uris == [f"https://{was.fqdn}/oauth/callback"]
            and secret(fleet, name, "FORGE_OAUTH_CLIENT_SECRET") == app_of(fleet, name).client_secret
        ),
        ("redirect", "FORGE_OAUTH_CLIENT_SECRET"),
        _secret_reached_the_machine_in_the_same_pass,
    ),
    Drift(
        "the VM deleted",
        lambda fleet, name: fleet.world.drift.do("delete_vm", vm=fleet.vm(name)),
        lambda fleet, name, was: fleet.vms(name) not in ([], [was.vm]) and len(fleet.gateways(name)) == 1,
        ("disappeared",),
    ),
)
DRIFTS: Mapping[str, Sequence[Drift]] = {"alice": ON_THE_MACHINE, "carol": AROUND_THE_MACHINE}
"""By tester. The first of each is found by the resync alone."""
