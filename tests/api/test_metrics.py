"""What Prometheus reads, and that health notices a loop that is stuck."""

from __future__ import annotations

from datetime import timedelta

import httpx
from prometheus_client.parser import text_string_to_metric_families

from controller.metrics import STUCK, all_looked_at
from controller.passes.outcomes import Kind, in_sync
from controller.records import PutSource, SourceState
from controller.running import Controller
from controller.sightings import Sightings
from reconcilers.backends.limits import Call
from tests.api.conftest import CANARY
from tests.controller.fakes import START, ManualClock

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def samples(browser: httpx.AsyncClient) -> Samples:
    answer = await browser.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        (each.name.removeprefix("tester_controller_"), frozenset(each.labels.items())): each.value
        for family in text_string_to_metric_families(answer.text)
        for each in family.samples
    }


def one(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


async def test_what_was_counted_and_how_it_stands(
    browser: httpx.AsyncClient, controller: Controller, clock: ManualClock
) -> None:
    meters, queue = controller.engine.meters, controller.engine.queue
    meters.turned("gateway", Kind.IN_SYNC, timedelta(seconds=3))
    meters.turned("gateway", Kind.FAILING, timedelta(seconds=-3))
    meters.passed(START, timedelta(seconds=4), whole=True)
    meters.called(Call("Forge", "GET /api/v1/users/alice", False), "404", timedelta(seconds=1))
    meters.called(Call("Forge", "POST /api/v1/users", True), "Unreachable", timedelta(seconds=1))
    for name in ("alice", "bob", "carol"):
        queue.add(name)
    assert await queue.get()
    queue.add("dave", timedelta(hours=1))
    clock.pass_by(timedelta(seconds=30))
    found = await samples(browser)
    assert one(found, "turn_seconds_sum", step="gateway", outcome="in sync") == 3
    assert one(found, "turn_seconds_count", step="gateway", outcome="failing") == 1
    assert one(found, "pass_seconds_sum", end="whole") == 4
    assert one(found, "backend_calls_total", system="Forge", kind="read", status="404") == 1
    assert one(found, "backend_calls_total", system="Forge", kind="write", status="Unreachable") == 1
    assert (one(found, "testers", phase="Ready"), one(found, "testers", phase="Pending")) == (1, 0)
    assert (one(found, "queue_depth"), one(found, "queue_oldest_seconds"), one(found, "queue_later")) == (2, 30, 1)
    assert (one(found, "passes_under_way"), one(found, "longest_pass_seconds")) == (1, 30)
    assert one(found, "last_pass_timestamp_seconds") == START.timestamp()
    assert one(found, "source_age_seconds") == 330
    assert one(found, "source_readable") == 1


async def test_no_label_names_a_tester_and_none_holds_a_secret(
    browser: httpx.AsyncClient, controller: Controller
) -> None:
    controller.engine.meters.called(Call("Forge", "GET /api/v1/users/alice", False), "200", timedelta(0))
    text = (await browser.get("/metrics")).text
    assert CANARY not in text
    assert "alice" not in text


async def test_a_thousand_machines_are_one_system(browser: httpx.AsyncClient, controller: Controller) -> None:
    for number in range(1000):
        call = Call(f"machine gent/{number:04d}", "look", False)
        controller.engine.meters.called(call, "ok", timedelta(seconds=1))
    controller.engine.meters.called(Call("machine of engine voice", "look", False), "ok", timedelta(seconds=1))
    found = await samples(browser)
    assert one(found, "backend_calls_total", system="machine", kind="read", status="ok") == 1000
    assert one(found, "backend_calls_total", system="machine of engine voice", kind="read", status="ok") == 1
    assert {dict(labels)["system"] for name, labels in found if name == "backend_calls_total"} == {
        "machine",
        "machine of engine voice",
    }


async def test_what_is_not_known_has_no_value(browser: httpx.AsyncClient, controller: Controller) -> None:
    await controller.store.write(PutSource(SourceState("folder", "r1", START, False, ("broken",))))
    found = await samples(browser)
    assert one(found, "source_readable") == 0
    for name in ("source_age_seconds", "last_pass_timestamp_seconds", "last_full_pass_timestamp_seconds"):
        assert one(found, name) is None, name


def test_everybody_was_looked_at_since_the_oldest_of_the_last_looks() -> None:
    sightings = Sightings()
    assert all_looked_at(sightings, ()) is None
    sightings.note("alice", [in_sync("machine")], START)
    assert all_looked_at(sightings, ("alice", "bob")) is None
    sightings.note("bob", [], START + timedelta(minutes=1))
    assert all_looked_at(sightings, ("alice", "bob")) == START
    sightings.note("alice", [], START + timedelta(minutes=2))
    assert all_looked_at(sightings, ("alice", "bob")) == START + timedelta(minutes=1)


async def test_health_says_no_when_testers_are_due_and_nobody_is_taken_up(
    browser: httpx.AsyncClient, controller: Controller, clock: ManualClock
) -> None:
    engine = controller.engine
    for name in ("alice", "carol"):
        engine.queue.add(name)
    clock.pass_by(STUCK)
    assert (await browser.get("/healthz")).status_code == 200, "without a Fleet nobody is taken up, and that is well"
    engine._world = object()  # type: ignore[assignment]
    stuck = await browser.get("/healthz")
    assert (stuck.status_code, stuck.json()) == (503, {"alive": False, "passes": 0, "stuck": True})
    assert one(await samples(browser), "stuck") == 1
    assert await engine.queue.get() == "alice"
    assert (await browser.get("/healthz")).status_code == 200, "somebody was taken up, though others wait for long"
    assert await engine.queue.get() == "carol"
    engine.queue.add("bob")
    clock.pass_by(STUCK - timedelta(seconds=1))
    assert (await browser.get("/healthz")).status_code == 200, "slow is not stuck"
    assert one(await samples(browser), "longest_pass_seconds") == STUCK.total_seconds() - 1


async def test_a_quiet_fleet_is_not_stuck(
    browser: httpx.AsyncClient, controller: Controller, clock: ManualClock
) -> None:
    controller.engine._world = object()  # type: ignore[assignment]
    controller.engine.queue.add("alice", timedelta(days=1))
    clock.pass_by(timedelta(hours=23))
    assert (await browser.get("/healthz")).status_code == 200
