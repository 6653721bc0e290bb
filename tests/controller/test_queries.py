"""What windows may ask, and that asking writes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.queries import Queries
from controller.records import Phase, PutTester
from controller.store import Store
from reconcilers.errors import Transient
from tests.controller.fakes import FLEET, FakeStep, ManualClock, Outside, Rig, a_tester, record_of, rig


@pytest.fixture
async def one(store: Store, clock: ManualClock) -> Rig:
    outside = Outside()
    gate = FakeStep("sign_in_gate", outside, leaves="access", fixed_name="gate")
    gate.protected = True
    steps = [FakeStep("machine", outside), FakeStep("gateway", outside, needs=("machine",)), gate]
    made = rig(store, clock, steps, outside)
    await made.engine.adopt(FLEET)
    await made.add(a_tester("alice"))
    return made


async def test_a_tester_that_was_not_looked_at_yet_says_so(one: Rig) -> None:
    (alice,) = await Queries(one.store).testers()
    assert (alice.ready, alice.reason, alice.link, alice.node, alice.since) == (False, "Pending", "", "", None)


async def test_a_ready_tester_has_its_link_to_the_cockpit(one: Rig) -> None:
    await one.until_quiet()
    (alice,) = await Queries(one.store).testers()
    assert alice.ready
    assert alice.link == "https://gateway-alice-1-1.example.org/hero_cockpit/web/"
    assert alice.since is not None


async def test_what_keeps_it_from_being_ready_is_its_reason(one: Rig) -> None:
    await one.until_quiet()
    one.steps["gateway"].error = Transient("no route", system="the grid")
    one.clock.pass_by(timedelta(minutes=1))
    await one.run_pass()
    (alice,) = await Queries(one.store).testers()
    assert (alice.ready, alice.reason) == (False, "Transient")
    assert "no route" in alice.message
    assert alice.since == one.clock.now()
    assert alice.link  # a fact serves whatever its step's state is now


async def test_one_tester_whole_with_the_age_of_every_fact_and_nothing_secret(one: Rig) -> None:
    await one.until_quiet()
    queries = Queries(one.store)
    commits = one.store.commits
    detail = await queries.tester("alice")
    assert detail is not None
    assert [known.facts.step for known in detail.facts] == ["gateway", "machine", "sign_in_gate"]
    assert all(known.changed_at <= one.clock.now() for known in detail.facts)
    assert {c.type for c in detail.conditions} >= {"Ready", "Machine", "Gateway", "SignInProtected"}
    assert len(detail.journal) == 3
    assert {row.step for row in detail.objects} == {"machine", "gateway", "sign_in_gate"}
    assert detail.summary in await queries.testers()
    assert await queries.tester("nobody") is None
    assert one.store.commits == commits


async def test_the_fleet_is_counted_by_phase_and_listed_by_name(one: Rig) -> None:
    await one.add(a_tester("zoe"), phase=Phase.FAILING)
    await one.store.write(PutTester(record_of(a_tester("bob"), phase=Phase.READY)))
    queries = Queries(one.store)
    fleet = await queries.fleet()
    assert fleet.total == 3
    assert {phase: n for phase, n in fleet.phases.items() if n} == {Phase.PENDING: 1, Phase.FAILING: 1, Phase.READY: 1}
    assert [tester.record.name for tester in await queries.testers()] == ["alice", "bob", "zoe"]
    assert fleet.source is None


async def test_events_are_paged_newest_first(one: Rig) -> None:
    await one.until_quiet()
    queries = Queries(one.store)
    whole = await queries.events("alice")
    first = await queries.events("alice", limit=2)
    rest = await queries.events("alice", before=first[-1].id)
    assert first + rest == whole
    assert [event.id for event in whole] == sorted((event.id for event in whole), reverse=True)
