"""Faults: when they apply, what they do on the wire, what they hide."""

import json
from typing import TYPE_CHECKING, Any

import pytest

from examples.simulator.faults import WIRE_KINDS, Faults
from examples.simulator.http import Answer, Request
from examples.simulator.invariants import counts, doubles
from examples.simulator.records import Fault
from examples.simulator.seeding import controller_token
from examples.simulator.server import COMPUTE_SECRET

if TYPE_CHECKING:
    from tests.simulator.conftest import Town, Virtually

APPS = "/api/v1/user/applications/oauth2"
APP = {"name": "t", "redirect_uris": ["https://a.test/oauth/callback"], "confidential_client": True}


def a_fault(kind: str, **more: Any) -> Fault:
    return Fault(**{"system": "forge", "method": f"POST {APPS}", "kind": kind, **more})


async def creating(town: "Town", fault: Fault) -> tuple[Answer, int]:
    """The answer of a create under a fault, and how many apps there are then."""
    town.world.faults.add(fault)
    answer = await town.forge("POST", APPS, APP)
    return answer, len(town.world.state.forge.apps)


@pytest.mark.parametrize(
    ("kind", "status", "made", "delivery"),
    [
        ("error_reported_though_created", 500, 1, "whole"),
        ("timeout_after_effect", 201, 1, "never"),
        ("timeout_before", 504, 0, "never"),
        ("http_502", 502, 0, "whole"),
        ("cut_mid_answer", 201, 1, "cut"),
        ("throttled", 429, 0, "whole"),
        ("html_200", 200, 0, "whole"),
        ("half_json", 201, 1, "whole"),
        ("echo", 400, 0, "whole"),
        ("slow", 201, 1, "whole"),
        ("down", 503, 0, "cut"),
        ("read_only", 503, 0, "whole"),
    ],
)
def test_on_the_wire(town: "Town", virtually: "Virtually", kind: str, status: int, made: int, delivery: str) -> None:
    async def scenario() -> None:
        answer, apps = await creating(town, a_fault(kind))
        assert (answer.status, apps, answer.delivery) == (status, made, delivery)
        again = await town.forge("POST", APPS, APP)
        assert (again.status, again.delivery) == (201, "whole")

    virtually(scenario())


def test_every_wire_kind_is_tested() -> None:
    assert WIRE_KINDS - {"restart_required", "says_done"} == {
        *("error_reported_though_created", "timeout_after_effect", "timeout_before", "http_502"),
        *("cut_mid_answer", "throttled", "html_200", "half_json", "echo", "slow", "down", "read_only"),
    }


def test_a_refusal_repeats_what_it_was_told(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        answer, _ = await creating(town, a_fault("echo", options={"status": 403, "after": "redirect"}))
        assert answer.status == 403
        assert controller_token(town.world.forge) in answer.json()["message"]
        assert "a.test/oauth" in answer.json()["message"]
        assert '"name"' not in answer.json()["message"]
        town.world.drift.add_fault(system="compute", method="list_vms", kind="echo", options={"code": -32602})
        body = {"jsonrpc": "2.0", "id": 1, "method": "ComputeService.list_vms", "params": {"secret": COMPUTE_SECRET}}
        refused = await town.world.ask_compute("compute1", Request("POST", "/rpc", body=json.dumps(body).encode()))
        assert refused.json()["error"]["code"] == -32602
        assert COMPUTE_SECRET in refused.json()["error"]["message"]

    virtually(scenario())


def test_a_delete_is_said_to_be_done_and_is_not(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        vm = await town.deploy()
        town.world.drift.add_fault(system="compute", method="delete_vm", kind="says_done")
        for left in (1, 0):
            assert (await town.rpc("delete_vm", sid=vm["sid"], secret=COMPUTE_SECRET))["deleted"]
            assert town.world.books()["vms"] == left

    virtually(scenario())


@pytest.mark.parametrize(
    "kind",
    ["error_reported_though_created", "timeout_before", "http_502", "throttled", "html_200", "half_json", "read_only"],
)
def test_while_the_world_echoes_whoever_fails_repeats_what_it_was_told(
    town: "Town", virtually: "Virtually", kind: str
) -> None:
    async def scenario() -> None:
        plain, _ = await creating(town, a_fault(kind))
        town.world.drift.set_echoes(True)
        echoing, _ = await creating(town, a_fault(kind))
        well = await town.forge("POST", APPS, APP)
        for part in (controller_token(town.world.forge).encode(), b"oauth/callback"):
            assert (part in echoing.body, part in plain.body and kind != "half_json") == (True, False)
        assert (well.status, echoing.status) == (201, plain.status)

    virtually(scenario())


def test_while_the_world_echoes_the_supervisor_prints_its_environment(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        machine.set_secret("cockpit", "GROQ_API_KEY", b"gsk_1")
        asked = ("hero_proc", "secret", "set", "--context", "core", "A_KEY", "v")
        town.world.drift.set_echoes(True)
        town.world.drift.add_fault(system="machine", method="hero_proc secret *", kind="command_fails")
        refused, stored = [await town.tried(machine, *asked) for _ in range(2)]
        assert (refused.code, stored.code) == (1, 0)
        for outcome in (refused, stored):
            assert b"+ hero_proc secret set --context core A_KEY v\n" in outcome.err
            assert b"\nGROQ_API_KEY=gsk_1\n" in outcome.err

    virtually(scenario())


def test_half_json_cannot_be_read(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        answer, _ = await creating(town, a_fault("half_json"))
        with pytest.raises(json.JSONDecodeError):
            answer.json()

    virtually(scenario())


def test_a_timeout_may_answer_after_all(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        began = town.world.clock.now()
        answer, _ = await creating(town, a_fault("timeout_after_effect", options={"seconds": 310}))
        assert answer.delivery == "whole"
        assert town.world.clock.now() - began >= 310

    virtually(scenario())


def test_throttling_may_say_how_long(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        answer, _ = await creating(town, a_fault("throttled", options={"retry_after": 7}))
        assert answer.header("retry-after") == "7"

    virtually(scenario())


def test_when_a_fault_applies(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        clock, rows = town.world.clock, Faults([], town.world.clock)
        rows.add(a_fault("http_502", method="* /api/v1/user*", times=2, at=clock.now() + 10, until=clock.now() + 20))
        kinds = ("http_502",)
        assert rows.active("forge", "GET /api/v1/user", kinds) is None
        await clock.sleep(10)
        assert rows.active("compute", "GET /api/v1/user", kinds) is None
        assert rows.active("forge", "GET /api/v1/orgs/x", kinds) is None
        assert rows.active("forge", "GET /api/v1/user", ("html_200",)) is None
        assert [rows.take("forge", "GET /api/v1/user", kinds) is not None for _ in range(3)] == [True, True, False]
        rows.add(a_fault("http_502", times=None, until=clock.now() + 5))
        await clock.sleep(5)
        assert rows.active("forge", f"POST {APPS}", kinds) is None

    virtually(scenario())


def test_listings_lag_and_omit(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.machine()
        await town.gateway(machine)
        lists = ("list_vms", "list_webgateways")
        for method in lists:
            lag = {"seconds": 300}
            town.world.faults.add(Fault(system="compute", method=method, kind="listing_lags", times=None, options=lag))
        assert [await town.rpc(method, secret=COMPUTE_SECRET) for method in lists] == [[], []]
        assert (await town.rpc("get_vm", sid="0001", secret=COMPUTE_SECRET))["name"] == "alice_1"
        await town.world.clock.sleep(300)
        assert [len(await town.rpc(method, secret=COMPUTE_SECRET)) for method in lists] == [1, 1]
        town.world.faults.add(
            Fault(system="compute", method="list_*", kind="listing_omits", times=None, target="alice*")
        )
        assert [await town.rpc(method, secret=COMPUTE_SECRET) for method in lists] == [[], []]

    virtually(scenario())


def test_forge_listings_lag_as_well(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        lag = Fault(system="forge", method=f"GET {APPS.removeprefix('/api/v1')}", kind="listing_lags", times=None)
        town.world.faults.add(lag)
        made = (await town.forge("POST", APPS, APP)).json()
        assert (await town.forge("GET", APPS)).json() == []
        assert (await town.forge("GET", f"{APPS}/{made['id']}")).status == 200
        await town.world.clock.sleep(60)
        assert len((await town.forge("GET", APPS)).json()) == 1

    virtually(scenario())


def test_a_gateway_that_is_reported_as_failed_exists(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.machine()
        town.world.faults.add(Fault(system="compute", method="deploy_webgateway", kind="gateway_failed_but_exists"))
        assert "did not become ready" in await town.gateway(machine)
        assert "NameExists" in await town.gateway(machine)

    virtually(scenario())


def test_a_slow_chain(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.machine()
        began = town.world.clock.now()
        await town.gateway(machine, "quick")
        assert 5 <= town.world.clock.now() - began <= 20
        town.world.faults.add(Fault(system="compute", method="deploy_webgateway", kind="slow_chain"))
        began = town.world.clock.now()
        await town.gateway(machine, "slow")
        assert town.world.clock.now() - began >= 300

    virtually(scenario())


def test_a_value_reads_as_empty_once(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.stacked()
        await town.done(machine, "hero_proc", "secret", "set", "--quiet", "--context", "core", "K", "v")
        town.world.faults.add(Fault(system="machine", method="secret get", kind="secret_reads_empty", target="K"))
        get = ["hero_proc", "secret", "get", "--context", "core", "K"]
        assert [await town.done(machine, *get) for _ in range(2)] == ["", "v"]

    virtually(scenario())


def test_counting_what_belongs_to_a_tester(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.machine("alice_x1")
        await town.gateway(machine, "alicex1")
        await town.forge("POST", APPS, {**APP, "name": "alice-x1"})
        town.world.drift.add_account("Alice", "a@example.org")
        row = {"accounts": 1, "vms": 1, "gateways": 1, "apps": 1}
        assert counts(town.world, ("alice", "carol")) == {"alice": row, "carol": dict.fromkeys(row, 0)}
        assert doubles(town.world) == []
        await town.forge("POST", APPS, {**APP, "name": "alice-x1"})
        await town.deploy("alice_x1")
        assert len(doubles(town.world)) == 2

    virtually(scenario())


def test_a_kind_that_nobody_knows_is_refused(town: "Town") -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        town.world.faults.add(a_fault("http_503"))


def test_lesson_13_the_address_is_nowhere(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        machine = await town.machine()
        for method, kind in (
            ("deploy_webgateway", "gateway_answer_lacks_fqdn"),
            ("list_webgateways", "gateway_listing_lacks_fqdn"),
        ):
            town.world.faults.add(Fault(system="compute", method=method, kind=kind, times=None))
        assert (await town.gateway(machine))["fqdn"] == ""
        assert [row["fqdn"] for row in await town.rpc("list_webgateways", secret=COMPUTE_SECRET)] == [""]

    virtually(scenario())
