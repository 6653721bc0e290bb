"""The front door: what it read at its start counts; and it is as treacherous as the real one."""

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from examples.simulator.http import Request
from examples.simulator.invariants import open_doors
from examples.simulator.records import Fault

if TYPE_CHECKING:
    from examples.simulator.frontdoor import Side
    from examples.simulator.http import Answer
    from examples.simulator.machine import Machine
    from tests.simulator.conftest import Town, Virtually

HOST = "alice1.gent1.grid.test"
BACK = f"https://{HOST}/oauth/callback"
COCKPIT = "/hero_cockpit/web/"
SOCKET = "/root/hero/var/sockets/hero_proxy/rpc.sock"


async def rpc(town: "Town", machine: "Machine", method: str, **params: Any) -> Any:
    """Over the machine's socket, by curl."""
    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    words = ["curl", "-fsS", "-X", "POST", "--data-binary", "@-", "--unix-socket", SOCKET, "http://localhost/rpc"]
    return json.loads(await town.done(machine, *words, stdin=call))


async def settings(town: "Town", machine: "Machine", **leave: str) -> dict[str, Any]:
    """An OAuth app, its four secrets, allowlist and listener; `leave` overrides or, with "", leaves out."""
    body = {"name": "t", "redirect_uris": [BACK], "confidential_client": True}
    app: dict[str, Any] = (await town.forge("POST", "/api/v1/user/applications/oauth2", body)).json()
    values = {
        "FORGE_OAUTH_CLIENT_ID": app["client_id"],
        "FORGE_OAUTH_CLIENT_SECRET": app["client_secret"],
        "FORGE_OAUTH_ISSUER": "http://forge.test",
        "FORGE_OAUTH_REDIRECT_URI": BACK,
        "HERO_PROXY_ALLOWED_USERS": "bob,mik",
        "HERO_PROXY_SEED_GATEWAY_LISTENER": "1",
    } | leave
    for key, value in values.items():
        if value:
            await town.done(machine, "hero_proc", "secret", "set", "--quiet", "--context", "core", key, value)
    return app


async def gated(town: "Town", **leave: str) -> "Machine":
    machine = await town.stacked()
    await settings(town, machine, **leave)
    await rpc(
        town,
        machine,
        "domain.add",
        domain=HOST,
        auth_mode="oauth",
        backend="http://127.0.0.1:9988",
        public_paths=["/hero_db/open/"],
    )
    await town.done(machine, "hero_proc", "service", "restart", "hero_proxy")
    await town.gateway(machine)
    return machine


def ask(
    machine: "Machine", path: str = COCKPIT, host: str = HOST, side: "Side" = "outside", **headers: str
) -> "Answer | None":
    bare, _, query = path.partition("?")
    return machine.door.answer(Request("GET", bare, query, {"host": host, **headers}), side)


def status(machine: "Machine", path: str = COCKPIT, host: str = HOST, side: "Side" = "outside") -> int:
    answer = ask(machine, path, host, side)
    return answer.status if answer else 0


async def signed_in(town: "Town", machine: "Machine", user: str) -> int:
    """The whole dance; the status at its end."""
    first = ask(machine)
    assert first is not None
    at_forge = urlsplit(first.header("location") or "")
    granted = await town.forge("GET", f"{at_forge.path}?{at_forge.query}", token="", **{"x-sim-user": user})
    back = urlsplit(granted.header("location") or "")
    called = ask(machine, f"{back.path}?{back.query}")
    assert called is not None
    if called.status != 302:
        return called.status
    assert called.header("location") == COCKPIT
    last = ask(machine, cookie=(called.header("set-cookie") or "").partition(";")[0])
    assert last is not None
    return last.status


@pytest.mark.parametrize(
    "path", ["/", "/status", COCKPIT, "/hero_books/", "/hero_proc/health", "/login", "/hero_db/open/../x"]
)
def test_a_gated_door_asks_for_sign_in(town: "Town", virtually: "Virtually", path: str) -> None:
    async def scenario() -> None:
        machine = await gated(town)
        for side in ("loopback", "inner", "outside"):
            answer = ask(machine, path, side=side)
            assert answer is not None
            assert answer.status == 302
            target = urlsplit(answer.header("location") or "")
            assert target.netloc == "forge.test"
            assert parse_qs(target.query)["redirect_uri"] == [BACK]
        assert open_doors(town.world) == []
        assert town.world.state.violations == []

    virtually(scenario())


def test_health_and_public_paths_stay_open(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await gated(town)
        assert status(machine, "/health") == 200
        assert status(machine, "/hero_db/open/x") == 404
        assert status(machine, "/hero_db/other") == 302
        assert status(machine, host="unregistered.test") == 302

    virtually(scenario())


def test_lets_in_exactly_the_list_whatever_the_case(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await gated(town, HERO_PROXY_ALLOWED_USERS="BOB, mik")
        assert [await signed_in(town, machine, user) for user in ("bob", "mik", "sara")] == [200, 200, 403]

    virtually(scenario())


def test_a_rotated_secret_breaks_sign_in_until_it_arrives_and_the_proxy_restarts(
    town: "Town", virtually: "Virtually"
) -> None:
    async def scenario() -> None:
        machine = await gated(town)
        town.world.drift.rotate_secret("t")
        assert await signed_in(town, machine, "bob") == 502
        secret = town.world.state.forge.apps[0].client_secret
        key = ["--context", "core", "FORGE_OAUTH_CLIENT_SECRET", secret]
        await town.done(machine, "hero_proc", "secret", "set", "--quiet", *key)
        assert await signed_in(town, machine, "bob") == 502
        await town.done(machine, "hero_proc", "service", "restart", "hero_proxy")
        assert await signed_in(town, machine, "bob") == 200

    virtually(scenario())


def test_settings_count_from_the_next_start_only(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await gated(town)
        town.world.drift.set_secret("alice_1", "core", "HERO_PROXY_SEED_GATEWAY_LISTENER", None)
        assert status(machine) == 302
        town.world.drift.restart_proxy("alice_1")
        assert status(machine) == 0
        assert status(machine, side="inner") == 0
        assert status(machine, side="loopback") == 302

    virtually(scenario())


@pytest.mark.parametrize("missing", ["CLIENT_ID", "CLIENT_SECRET", "ISSUER", "REDIRECT_URI"])
def test_half_configured_is_wide_open_and_recorded(town: "Town", virtually: "Virtually", missing: str) -> None:
    async def scenario() -> None:
        machine = await gated(town, **{f"FORGE_OAUTH_{missing}": ""})
        assert status(machine) == 200
        assert {violation.kind for violation in town.world.state.violations} == {"OpenDoor"}

    virtually(scenario())


def test_an_unregistered_domain_is_wide_open(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await gated(town)
        await rpc(town, machine, "domain.remove", domain=HOST)
        assert status(machine) == 200
        assert town.world.state.violations
        await rpc(town, machine, "domain.add", domain="other.test", auth_mode="none", backend="http://127.0.0.1:9988")
        assert status(machine) == 404

    virtually(scenario())


def test_a_wrong_context_has_no_effect(town: "Town", virtually: "Virtually") -> None:
    """Lesson 20: without an allowlist in the context that hero_proxy reads, everybody who can sign in comes in."""

    async def scenario() -> None:
        machine = await gated(town, HERO_PROXY_ALLOWED_USERS="")
        town.world.drift.set_secret("alice_1", "cockpit", "HERO_PROXY_ALLOWED_USERS", "bob")
        town.world.drift.restart_proxy("alice_1")
        assert await signed_in(town, machine, "sara") == 200

    virtually(scenario())


@pytest.mark.parametrize(
    ("fault", "path", "side"),
    [
        (Fault(system="machine", method="door", kind="open_paths", times=None), "/", "outside"),
        (Fault(system="machine", method="door", kind="inner_side_open", times=None), COCKPIT, "inner"),
    ],
)
def test_doors_that_are_open_though_gated(
    town: "Town", virtually: "Virtually", fault: Fault, path: str, side: "Side"
) -> None:
    async def scenario() -> None:
        machine = await gated(town)
        town.world.faults.add(fault.model_copy())
        assert status(machine, path, side=side) == 200
        assert status(machine, "/hero_books/", side="outside") == 302

    virtually(scenario())


def test_a_listener_that_opens_ungated_is_recorded(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await gated(town)
        town.world.faults.add(Fault(system="machine", method="hero_proxy start", kind="listener_opens_ungated"))
        await town.done(machine, "hero_proc", "service", "restart", "hero_proxy")
        assert status(machine) == 200
        assert town.world.state.violations
        await town.done(machine, "hero_proc", "service", "restart", "hero_proxy")
        assert status(machine) == 302

    virtually(scenario())


def test_outside_is_502_when_the_machine_is_unreachable(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        await gated(town)
        request = Request("GET", COCKPIT, headers={"host": HOST})
        assert town.world.ask_outside(HOST, request).status == 302
        town.world.faults.add(Fault(system="compute", method="gateway", kind="outside_unroutable"))
        assert town.world.ask_outside(HOST, request).status == 502
        town.world.faults.clear()
        town.world.drift.set_reachable("alice_1", False)
        assert town.world.ask_outside(HOST, request).status == 502
        town.world.drift.delete_gateway("alice1")
        assert town.world.ask_outside(HOST, request).status == 404

    virtually(scenario())


def test_domains_are_upserted_and_checked(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await gated(town)
        await rpc(town, machine, "domain.add", domain=HOST.upper(), auth_mode="oauth", backend="http://127.0.0.1:9988")
        listed = (await rpc(town, machine, "domain.list"))["result"]
        assert listed == [
            {"domain": HOST, "auth_mode": "oauth", "backend": "http://127.0.0.1:9988", "public_paths": []}
        ]
        refused = await rpc(town, machine, "domain.add", domain=HOST, auth_mode="open", backend="x")
        assert refused["error"]["code"] == -32602
        writes = [entry.what for entry in town.world.log.writes() if entry.method == "hero_proxy"]
        assert len(writes) == 3
        assert all(what.startswith("domain.add") for what in writes)

    virtually(scenario())
