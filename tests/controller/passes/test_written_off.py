"""What the Fleet calls gone for good: counted as lost, said so, never waited for, and made anew elsewhere."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from controller.passes.preview import preview
from controller.records import PutFacts, PutObject, PutTester, Seal
from controller.running import open_world
from controller.store import Store
from reconcilers.actions import Action
from reconcilers.errors import Blocked, Unreachable
from reconcilers.facts import EngineAccessFacts, GatewayFacts, MachineFacts, ObjectState, StepFacts
from reconcilers.secret import Secret
from specs.fleet import Fleet
from specs.gone import Gone
from tests.controller.fakes import (
    FLEET,
    FakeStep,
    ManualClock,
    Outside,
    Rig,
    Seen,
    a_tester,
    failing,
    record_of,
    rig,
    until,
)

GENT = Gone(daemons=frozenset({"gent"}))
NODE = Gone(nodes=frozenset({("gent", "0001")}))
GONE, EXISTING = ObjectState.GONE, ObjectState.EXISTING


class PlacedStep(FakeStep):
    """Its things are at a daemon: the first ones at gent/0001, those that are made later at york."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.place = {"daemon": "gent", "node_sid": "0001"}

    async def _effect(self, action: Action, name: str, tester: Any, ports: Any) -> Seen | None:
        seen = await super()._effect(action, name, tester, ports)
        if action.verb == "create":
            self.outside.things[name] |= self.place
            return Seen(name, dict(self.outside.things[name]))
        return seen

    def identity(self, observed: Seen) -> dict[str, str]:
        keys = ("id", "daemon", "node_sid") if self.name == "machine" else ("id", "daemon")
        return {key: observed.fields[key] for key in keys}

    def learn(self, observed: Seen, facts: Any) -> StepFacts:
        daemon, told = observed.fields["daemon"], observed.fields["id"]
        if self.name == "gateway":
            return GatewayFacts(daemon=daemon, gateway_id=told, gateway_name=observed.name, fqdn=f"{observed.name}.x")
        node = observed.fields["node_sid"]
        return MachineFacts(daemon=daemon, vm_id=told, vm_name=observed.name, node_sid=node, address="400::1")


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    steps: list[FakeStep] = [
        FakeStep("account", outside, leaves="access", fixed_name="Alice"),
        PlacedStep("machine", outside, needs=("account",)),
        PlacedStep("gateway", outside, needs=("machine",)),
        FakeStep("sign_in_app", outside, needs=("gateway",), leaves="access"),
    ]
    made = rig(store, clock, steps, outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    await made.until_quiet()
    outside.calls.clear()
    return made


def call_gone(one: Rig, gone: Gone) -> None:
    """As a Fleet does that says so: from the next pass on. What is made now is made at york."""
    assert one.engine.world is not None
    one.engine.world.gone = gone
    for name in ("machine", "gateway"):
        step = one.steps[name]
        assert isinstance(step, PlacedStep)
        step.place = {"daemon": "york", "node_sid": "0001"}


async def test_what_was_at_a_daemon_is_written_off_and_made_anew_elsewhere(one: Rig) -> None:
    call_gone(one, GENT)
    await one.until_quiet()
    assert one.outside.calls == ["create machine-alice-2-1", "create gateway-alice-2-1"]
    assert await one.rows("machine") == [("machine-alice-1-1", GONE), ("machine-alice-2-1", EXISTING)]
    assert await one.rows("gateway") == [("gateway-alice-1-1", GONE), ("gateway-alice-2-1", EXISTING)]
    told = [event.message for event in await one.store.events("alice") if event.reason == "LostForGood"]
    assert sorted(told) == [
        "gateway gateway-alice-1-1 was at gent, which is gone for good, the Fleet says: it is counted as lost",
        "machine machine-alice-1-1 was at gent/0001, which is gone for good, the Fleet says: it is counted as lost",
    ]
    books = await one.store.books("alice")
    assert books is not None
    machine = books.facts["machine"]
    assert isinstance(machine, MachineFacts)
    assert machine.daemon == "york"


async def test_what_was_known_of_it_is_forgotten_also_while_nothing_new_can_be_made(one: Rig) -> None:
    call_gone(one, GENT)
    one.outside.before.append(failing(Blocked("no node has room", system="compute", reason="NoCapacity")))
    await one.run_pass()
    books = await one.store.books("alice")
    assert books is not None
    assert set(books.facts) == {"account", "sign_in_app"}
    assert await one.condition("Machine") == ("False", "NoCapacity")


async def test_with_a_node_only_its_machines_are_lost(one: Rig) -> None:
    call_gone(one, NODE)
    await one.until_quiet()
    assert one.outside.calls == ["create machine-alice-2-1"]
    assert await one.rows("gateway") == [("gateway-alice-1-1", EXISTING)]


async def test_what_stands_elsewhere_is_left_alone(one: Rig) -> None:
    call_gone(one, Gone(frozenset({"york"}), frozenset({("gent", "0002"), ("bonn", "0001")}), frozenset({"embedder"})))
    commits = one.store.commits
    await one.run_pass()
    assert (one.outside.calls, one.store.commits) == ([], commits)


async def test_a_removal_does_not_wait_for_what_is_gone(one: Rig) -> None:
    call_gone(one, GENT)
    for name in ("machine", "gateway"):
        one.steps[name].error = Unreachable("nobody is there", system="compute gent")
    await one.store.write(PutTester(record_of(a_tester("alice"), generation=2, removed_at=one.clock.now())))
    await one.until_quiet()
    assert one.outside.calls == ["delete sign_in_app-alice-1-1", "delete Alice"]
    assert await one.store.tester("alice") is None


async def test_an_operation_at_a_daemon_that_is_gone_ends_first(store: Store, clock: ManualClock) -> None:
    """What it answers is written to its row: closed before that, the row would come to life again."""
    outside, release = Outside(), asyncio.Event()
    machine = PlacedStep("machine", outside, limit=timedelta(minutes=5))
    made = rig(store, clock, [machine], outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))

    async def held(action: Action) -> None:
        await release.wait()

    outside.before.append(held)
    await made.engine.look("alice")
    (row,) = await store.objects("machine")
    await store.write(PutObject(replace(row, identity=machine.place)))
    assert made.engine.world is not None
    made.engine.world.gone = GENT
    await made.engine.look("alice")
    assert [state for _, state in await made.rows("machine")] == [ObjectState.INTENDED]
    release.set()
    await until(lambda: not made.engine.operations.of("alice"))
    machine.place = {"daemon": "york", "node_sid": "0001"}
    await made.until_quiet()
    assert await made.rows("machine") == [("machine-alice-1-1", GONE), ("machine-alice-2-1", EXISTING)]


async def test_a_token_is_lost_with_its_engine(one: Rig) -> None:
    known = EngineAccessFacts(tenant="alice", engines=("embedder", "voice"), rotations={"embedder": 1, "voice": 0})
    token, now = Secret("a-token-that-nobody-guesses"), one.clock.now()
    await one.store.write(
        PutFacts("alice", known, "", now),
        Seal("alice/engine_embedder", token, now),
        Seal("alice/engine_voice", token, now),
    )
    call_gone(one, Gone(engines=frozenset({"embedder"})))
    await one.run_pass()
    books = await one.store.books("alice")
    assert books is not None
    left = books.facts["engine_access"]
    assert isinstance(left, EngineAccessFacts)
    assert (left.engines, dict(left.rotations)) == (("voice",), {"voice": 0})
    assert set(books.sealed) == {"alice/engine_voice"}
    assert [event.message for event in await one.store.events("alice") if event.reason == "LostForGood"] == [
        "engine embedder is gone for good, the Fleet says: the token there is counted as lost with it"
    ]


async def test_a_preview_shows_what_is_made_anew_and_writes_nothing(one: Rig) -> None:
    call_gone(one, GENT)
    books, world, commits = await one.store.books("alice"), one.engine.world, one.store.commits
    assert books is not None
    assert world is not None
    found = await preview(books, {}, world, one.store)
    actions = {step.step: [action.verb for action in step.actions] for step in found.steps if step.actions}
    assert actions["machine"] == ["create"]
    assert found.errors == ()
    assert one.store.commits == commits
    assert await one.store.books("alice") == books


async def test_nobody_is_ever_asked_there_again(tmp_path: Path, clock: ManualClock) -> None:
    body = FLEET.model_dump(mode="json", by_alias=True, exclude_unset=True)
    gent = body["spec"]["compute"][0]
    gent["nodes"] = [{"sid": "0001", "gridNode": "2", "gone": True}, {"sid": "0002", "gridNode": "3"}]
    body["spec"]["compute"].append({**gent, "name": "york", "url": "http://127.0.0.1:2", "gone": True})
    key = asyncssh.generate_private_key("ssh-ed25519").export_private_key()
    secrets = {"env:FORGE_TOKEN": Secret("t"), "env:COMPUTE_SECRET": Secret("s"), "env:INSTALLER_KEY": Secret(key)}
    world = open_world(Fleet.model_validate(body), secrets, tmp_path, clock)
    try:
        assert set(world.backends.compute) == {"gent"}
        assert [node.sid for daemon in world.fleet.spec.compute for node in daemon.nodes] == ["0002"]
        assert world.gone == Gone(frozenset({"york"}), frozenset({("gent", "0001"), ("york", "0001")}))
    finally:
        await world.backends.aclose()
