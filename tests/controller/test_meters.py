"""What passes and calls leave in the figures."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from controller.meters import Meters
from controller.store import Store
from reconcilers.backends.limits import Call, Gate
from reconcilers.backends.transport import Wire
from reconcilers.errors import OutsideError, Transient
from tests.controller.fakes import FLEET, FakeStep, ManualClock, Outside, a_tester, rig


def value(meters: Meters, name: str, **labels: str) -> float:
    return meters.registry.get_sample_value(f"tester_controller_{name}", labels) or 0.0


async def test_every_turn_is_counted_by_how_it_ended(store: Store, clock: ManualClock) -> None:
    outside = Outside()
    steps = [FakeStep("machine", outside), FakeStep("gateway", outside, needs=("machine",))]
    one = rig(store, clock, steps, outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    one.steps["gateway"].error = Transient("no route", system="the grid")
    await one.run_pass()
    meters = one.engine.meters
    assert value(meters, "turn_seconds_count", step="machine", outcome="in sync") == 1
    assert value(meters, "turn_seconds_count", step="gateway", outcome="failing") > 0
    assert value(meters, "turn_seconds_count", step="gateway", outcome="in sync") == 0


async def test_a_pass_is_counted_whole_or_broken_off(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = Outside()
    one = rig(store, clock, [FakeStep("machine", outside)], outside)
    await one.engine.adopt(FLEET)
    await one.add(a_tester("alice"))
    await one.engine._one("alice")
    meters = one.engine.meters
    assert (value(meters, "pass_seconds_count", end="whole"), meters.last_pass_at) == (1, clock.now())

    async def broken(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(store, "books", broken)
    await one.engine._one("alice")
    assert value(meters, "pass_seconds_count", end="broken off") == 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [(200, "200"), (404, "404"), (429, "429"), (502, "502"), (httpx.ConnectError("no"), "ConnectError")],
)
async def test_every_call_is_counted_by_its_status(
    clock: ManualClock, answer: int | httpx.ConnectError, status: str
) -> None:
    def outside(request: httpx.Request) -> httpx.Response:
        clock.pass_by(timedelta(seconds=2))
        if isinstance(answer, httpx.ConnectError):
            raise answer
        return httpx.Response(answer, json={})

    meters = Meters()
    gate = Gate("Forge", clock, counted=meters.called)
    wire = Wire("http://forge.example.org", httpx.MockTransport(outside), gate)
    try:
        await wire.send("GET", "/api/v1/users/alice", writing=False)
    except OutsideError:
        assert status not in ("200", "404")
    assert value(meters, "backend_calls_total", system="Forge", kind="read", status=status) == 1
    assert value(meters, "backend_call_seconds_sum", system="Forge", kind="read") == 2


async def test_a_call_that_is_no_request_is_ok_or_its_failure(clock: ManualClock) -> None:
    meters = Meters()
    gate = Gate("machines", clock, counted=meters.called)
    async with gate.passing(Call("machines", "look", False)):
        pass
    with pytest.raises(Transient):
        async with gate.passing(Call("machines", "install", True)):
            raise Transient("cut", system="machines")
    assert value(meters, "backend_calls_total", system="machines", kind="read", status="ok") == 1
    assert value(meters, "backend_calls_total", system="machines", kind="write", status="Transient") == 1
