"""The read API: what it answers, how it says no, and what it never gives away."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from api.guard import TAKES_IN
from controller.passes.outcomes import in_sync
from controller.records import PutTester
from controller.running import Controller
from controller.store import StoreError
from tests.api.conftest import CANARY, LINK, asking
from tests.controller.fakes import START, a_tester, record_of

OTHER_KINDS = ("/metrics", "/api/v1/stream")
READS = (
    "/",
    "/api/v1/fleet",
    "/api/v1/testers",
    "/api/v1/testers/alice",
    "/api/v1/testers/alice/events",
    "/api/v1/events",
    "/api/v1/components",
    "/api/v1/revisions",
    "/metrics",
    "/healthz",
    "/readyz",
    "/openapi.json",
)


async def test_testers_are_listed_by_name_with_link_and_reason(browser: httpx.AsyncClient) -> None:
    answer = (await browser.get("/api/v1/testers")).json()
    assert (answer["total"], answer["next"]) == (2, None)
    found = answer["items"]
    assert [(one["name"], one["phase"], one["ready"]) for one in found] == [
        ("alice", "Ready", True),
        ("bob", "Stalled", False),
    ]
    assert found[0]["link"] == LINK
    assert found[0]["node"] == "gent/0001"
    assert found[1]["link"] is None
    assert found[1]["reason"] == "NoCapacity"
    assert found[1]["fileError"].startswith("bob.yaml:3:1")


async def test_one_tester_has_everything_with_its_age(browser: httpx.AsyncClient) -> None:
    whole = (await browser.get("/api/v1/testers/alice")).json()
    assert whole["tester"]["name"] == "alice"
    assert [one["type"] for one in whole["conditions"]] == ["Ready"]
    assert {one["step"]: one["at"] for one in whole["facts"]} == dict.fromkeys(
        ("gateway", "machine"), "2026-11-20T11:55:00Z"
    )
    assert {one["seenAt"] for one in (whole["tester"], *whole["conditions"], *whole["facts"])} == {None}, (
        "not known yet"
    )
    assert whole["objects"][0]["identity"] == {"vm_id": "0007"}
    assert whole["writes"][0]["outcome"] == "done"
    assert whole["events"][0]["reason"] == "MachineCreated"


async def test_when_things_were_last_seen_to_be_so_is_told_as_soon_as_it_is_known(
    browser: httpx.AsyncClient, controller: Controller
) -> None:
    seen, now = START - timedelta(seconds=20), START
    outcomes = [replace(in_sync(step), seen_at=seen, learnt=step == "machine") for step in ("machine", "gateway")]
    for name in ("alice", "bob"):
        controller.engine.sightings.note(name, outcomes, now)
    alice, bob = [(await browser.get(f"/api/v1/testers/{name}")).json() for name in ("alice", "bob")]
    assert {one["step"]: one["seenAt"] for one in alice["facts"]} == {
        "gateway": None,
        "machine": "2026-11-20T11:59:40Z",
    }
    assert {one["type"]: one["seenAt"] for one in bob["conditions"]} == {
        "Machine": "2026-11-20T11:59:40Z",
        "Ready": "2026-11-20T11:59:40Z",
    }
    (listed,) = [one for one in (await browser.get("/api/v1/testers")).json()["items"] if one["name"] == "bob"]
    assert listed == bob["tester"]
    assert (listed["since"], listed["seenAt"]) == ("2026-11-20T11:55:00Z", "2026-11-20T11:59:40Z")


async def test_events_come_newest_first_in_pages(browser: httpx.AsyncClient) -> None:
    everything = (await browser.get("/api/v1/events")).json()["items"]
    assert [one["reason"] for one in everything] == ["SpecBroken", "NoCapacity", "MachineCreated"]
    assert everything[0]["tester"] is None
    first = (await browser.get("/api/v1/events", params={"limit": 2})).json()
    rest = (await browser.get("/api/v1/events", params={"before": first["next"]})).json()
    assert first["items"] + rest["items"] == everything
    assert rest["next"] is None
    of_alice = (await browser.get("/api/v1/testers/alice/events")).json()["items"]
    assert [one["id"] for one in of_alice] == [everything[-1]["id"]]


async def test_the_fleet_in_numbers(browser: httpx.AsyncClient) -> None:
    fleet = (await browser.get("/api/v1/fleet")).json()
    assert fleet["total"] == 2
    assert (fleet["phases"]["Ready"], fleet["phases"]["Stalled"], fleet["phases"]["Failing"]) == (1, 1, 0)
    assert fleet["source"]["revision"] == "r1"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/v1/testers/nobody", 404, "nobody"),
        ("/api/v1/testers/nobody/events", 404, "nobody"),
        ("/api/v1/events?limit=0", 422, "limit"),
        ("/api/v1/events?limit=501", 422, "limit"),
        ("/api/v1/events?before=x", 422, "before"),
        (f"/api/v1/testers/{'x' * 65}", 422, "name"),
        ("/api/v1/testers/alice/plan", 503, "Fleet"),
        ("/nowhere", 404, "nothing at this address"),
        ("/docs", 404, "nothing at this address"),
    ],
)
async def test_errors_are_problems(browser: httpx.AsyncClient, path: str, status: int, words: str) -> None:
    answer = await browser.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_can_be_changed(browser: httpx.AsyncClient, method: str) -> None:
    for path in READS:
        assert (await browser.request(method, path)).status_code == 405, path


async def test_a_store_that_cannot_be_read_is_said_so(
    browser: httpx.AsyncClient, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise StoreError("The store is damaged; restore it from a backup.")

    for name in ("briefs", "source", "events"):
        monkeypatch.setattr(controller.store, name, broken)
    answer = await browser.get("/api/v1/testers")
    assert (answer.status_code, answer.json()["detail"]) == (503, "The store is damaged; restore it from a backup.")
    assert answer.headers["retry-after"]
    ready = await browser.get("/readyz")
    assert ready.status_code == 503
    assert {one["name"]: one["ok"] for one in ready.json()["checks"]} == {"store": False, "world": False}
    assert (await browser.get("/healthz")).status_code == 200


async def test_a_mistake_of_ours_tells_nothing_of_itself(
    browser: httpx.AsyncClient, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(*_: object) -> None:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(controller.store, "briefs", mistaken)
    answer = await browser.get("/api/v1/testers")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert CANARY not in answer.text


async def test_ready_only_with_store_source_and_world(browser: httpx.AsyncClient, controller: Controller) -> None:
    answer = await browser.get("/readyz")
    assert answer.status_code == 503
    checks = {one["name"]: one for one in answer.json()["checks"]}
    assert (checks["store"]["ok"], checks["source"]["ok"], checks["world"]["ok"]) == (True, True, False)
    controller.engine._world = object()  # type: ignore[assignment]
    assert (await browser.get("/readyz")).status_code == 200
    controller.engine.world_error = "secrets: the secret 'env:X' is not there"
    assert (await browser.get("/readyz")).status_code == 503


async def test_no_answer_holds_a_secret(browser: httpx.AsyncClient) -> None:
    for path in READS:
        assert CANARY not in (await browser.get(path)).text, path


async def test_every_moment_is_iso_8601_in_utc(browser: httpx.AsyncClient) -> None:
    moments = []

    def collect(value: object, key: str = "") -> None:
        if isinstance(value, dict):
            for name, one in value.items():
                collect(one, name)
        elif isinstance(value, list):
            for one in value:
                collect(one, key)
        elif isinstance(value, str) and (key == "at" or key == "since" or key.endswith("At")):
            moments.append(value)

    for path in ("/api/v1/testers", "/api/v1/testers/alice", "/api/v1/events", "/api/v1/fleet"):
        collect((await browser.get(path)).json())
    assert len(moments) > 10
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", one) for one in moments)


@pytest.mark.parametrize("path", READS)
async def test_a_browser_is_told_to_do_nothing_but_show_it(browser: httpx.AsyncClient, path: str) -> None:
    headers = (await browser.get(path)).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8484", "localhost.evil.example", "10.0.0.1", ""]
)
async def test_a_name_that_somebody_points_at_loopback_is_refused(controller: Controller, host: str) -> None:
    async with asking(controller) as client:
        answer = await client.get("/api/v1/testers", headers={"Host": host})
    assert answer.status_code == 421
    assert "alice" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:8484", "127.0.0.1", "[::1]:8484", "LOCALHOST:1"])
async def test_loopback_is_answered_under_each_of_its_names(controller: Controller, host: str) -> None:
    async with asking(controller) as client:
        assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


async def test_openapi_describes_every_answer(browser: httpx.AsyncClient) -> None:
    schema = (await browser.get("/openapi.json")).json()
    assert {path for path in READS if path.startswith("/api")} - {
        "/api/v1/testers/alice",
        "/api/v1/testers/alice/events",
    } < set(schema["paths"])
    for path, methods in schema["paths"].items():
        assert set(methods) == {"post" if path in TAKES_IN else "get"}, path
        (described,) = methods.values()
        assert described["description"], path
        if path in OTHER_KINDS or path in TAKES_IN:
            continue
        content = described["responses"]["200"]["content"]["application/json"]["schema"]
        assert "$ref" in json.dumps(content), f"{path} answers with a model"


async def test_a_tester_of_an_odd_name_is_only_a_name(browser: httpx.AsyncClient, controller: Controller) -> None:
    """Names are checked where specs are read; the API must not depend on it."""
    assert (await browser.get("/api/v1/testers/..%2f..%2fetc%2fpasswd")).status_code == 404
    assert (await browser.get("/api/v1/testers/%00")).status_code == 404
    await controller.store.write(PutTester(record_of(a_tester("dave"), uid="z7k2p9")))
    assert (await browser.get("/api/v1/testers/dave")).status_code == 200
