"""What bears a name of ours and is in no row is told, never touched; and nobody is asked for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from controller.orphans import Orphans
from controller.queries import Queries
from controller.records import DropTester, PutObject, PutTester
from controller.store import Store
from controller.world import World
from reconcilers.backends.compute import Gateway, Vm
from reconcilers.backends.forge import OAuthApp
from reconcilers.facts import ObjectState, OutsideObject
from reconcilers.looks import Looks, TesterLooks
from specs.fleet import Fleet, NodeSid
from tests.controller.fakes import FLEET, GRACE, ManualClock, a_tester, record_of

MINUTE = timedelta(minutes=1)
ENGINE = {
    "name": "embedder",
    "url": "http://[400::9]:9000",
    "urlSetting": "HERO_EMBEDDER_URL",
    "tokenSetting": "SHARED_EMBEDDER_TOKEN",
    "registry": {"host": "400::9", "context": "embedder", "service": "hero_embedder"},
}


class Outside:
    """A daemon, Forge and an engine in one, with the names that their listings show. `asked` counts."""

    def __init__(self) -> None:
        self.shown: dict[str, list[str]] = {"vms": [], "gateways": [], "apps": [], "tenants": []}
        self.asked = 0

    async def list_vms(self) -> tuple[Vm, ...]:
        self.asked += 1
        return tuple(
            Vm(
                vm_id=name,
                name=name.removesuffix("!"),
                state="gone" if name.endswith("!") else "running",
                address="",
                node_sid=NodeSid("1"),
            )
            for name in self.shown["vms"]
        )

    async def list_gateways(self) -> tuple[Gateway, ...]:
        self.asked += 1
        return tuple(Gateway(gateway_id=name, name=name, fqdn="", backends=()) for name in self.shown["gateways"])

    async def oauth_apps(self) -> tuple[OAuthApp, ...]:
        self.asked += 1
        return tuple(OAuthApp(1, name, "client", (), True) for name in self.shown["apps"])

    async def look(self) -> Any:
        self.asked += 1
        return SimpleNamespace(hashes=dict.fromkeys(self.shown["tenants"], "hash"), restart_due=False)


class Scene:
    """The books, the outside, and passes that read its listings."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store, self.clock, self.outside = store, clock, Outside()
        document = FLEET.model_dump(by_alias=True, mode="json")
        fleet = Fleet.model_validate({**document, "spec": {**document["spec"], "engines": [ENGINE]}})
        backends: Any = SimpleNamespace(
            forge=self.outside, daemon=lambda name: self.outside, engine=lambda name: self.outside
        )
        self.world = World(fleet, backends, Looks(backends, clock, timedelta(seconds=30)), ())
        self.orphans = Orphans(store, clock)

    async def a_pass(self, *, gateways: bool = True) -> None:
        looks = TesterLooks(self.world.looks)
        await looks.vms("gent")
        await looks.oauth_apps()
        await looks.tenants("embedder")
        if gateways:
            await looks.gateways("gent")

    async def after(self, span: timedelta = GRACE + MINUTE) -> None:
        """A pass after so much time, and the chore."""
        self.clock.pass_by(span)
        await self.a_pass()
        await self.orphans.look(self.world)

    async def told(self) -> tuple[str, ...]:
        return (await Queries(self.store).fleet()).troubles


@pytest.fixture
async def scene(store: Store, clock: ManualClock) -> Scene:
    await store.write(
        PutTester(record_of(a_tester("alice"))),
        PutObject(OutsideObject("alice", "machine", 1, 1, "alice_x7k2p9_1_1", ObjectState.EXISTING)),
        PutObject(OutsideObject("alice", "gateway", 1, 1, "alicex7k2p9", ObjectState.RETIRING)),
        PutObject(OutsideObject("alice", "sign_in_app", 1, 1, "Hero OS alice x7k2p9-1-1", ObjectState.INTENDED)),
        PutObject(OutsideObject("alice", "machine", 2, 1, "alice_x7k2p9_2_1", ObjectState.LOST)),
        PutObject(OutsideObject("alice", "machine", 3, 1, "alice_x7k2p9_3_1", ObjectState.GONE)),
    )
    return Scene(store, clock)


KNOWN = {
    "vms": ["alice_x7k2p9_1_1", "alice_x7k2p9_2_1", "alice_x7k2p9_3_1!", "somebody's"],
    "gateways": ["alicex7k2p9", "workshop"],
    "apps": ["Hero OS alice x7k2p9-1-1", "another app"],
    "tenants": ["alicex7k2p9", "workshop"],
}
STRAY: dict[str, tuple[str, str, str]] = {
    "a machine of an earlier row": ("vms", "alice_x7k2p9_3_1", "machine alice_x7k2p9_3_1 at gent"),
    "a machine of nobody in the books": ("vms", "bob_b1b1b1_1_2", "machine bob_b1b1b1_1_2 at gent"),
    "a gateway of alice's": ("gateways", "alicex7k2p90123456789", "gateway alicex7k2p90123456789 at gent"),
    "an app of a gone tester": ("apps", "Hero OS bob-c b1b1b1-1-1", "OAuth app Hero OS bob-c b1b1b1-1-1 at Forge"),
    "a tenant of an earlier life of alice's": (
        "tenants",
        "alicex7k2p90123456789",
        "tenant alicex7k2p90123456789 at embedder",
    ),
}


async def test_what_the_books_know_and_what_others_made_is_no_orphan(scene: Scene) -> None:
    scene.outside.shown = KNOWN
    commits = scene.store.commits
    for _ in range(4):
        await scene.after()
    assert await scene.told() == ()
    assert scene.store.commits == commits, "settled means quiet"


@pytest.mark.parametrize("name", STRAY)
async def test_what_no_row_knows_is_told_once_and_nothing_more(scene: Scene, name: str) -> None:
    kind, stray, words = STRAY[name]
    scene.outside.shown = {**KNOWN, kind: [*KNOWN[kind], stray]}
    for _ in range(3):
        await scene.after()
    (told,) = await scene.told()
    assert words in told
    assert told.startswith("1 in the listings")
    events = [event for event in await scene.store.events("") if event.reason == "OrphansFound"]
    assert [(event.message, event.count) for event in events] == [(told, 1)]
    commits = scene.store.commits
    await scene.after()
    assert scene.store.commits == commits


async def test_a_gateway_in_no_row_is_told_though_its_testers_name_at_the_engines_is_the_same(scene: Scene) -> None:
    """The name was found taken, by a gateway of ours that nobody knows of, and another one was made."""
    await scene.store.write(PutObject(OutsideObject("alice", "gateway", 1, 1, "alicex7k2p9", ObjectState.GONE)))
    scene.outside.shown = KNOWN
    for _ in range(3):
        await scene.after()
    (told,) = await scene.told()
    assert "gateway alicex7k2p9 at gent" in told
    assert told.startswith("1 in the listings"), "the token is hers"


async def test_what_was_told_is_told_for_as_long_as_it_stands_also_when_its_tester_has_gone(scene: Scene) -> None:
    """A gateway's name tells whose it is to nobody who does not know the tester."""
    stray = "alicex7k2p90123456789"
    scene.outside.shown = {**KNOWN, "gateways": [*KNOWN["gateways"], stray]}
    for _ in range(3):
        await scene.after()
    told = await scene.told()
    gone = [PutObject(replace(row, state=ObjectState.GONE)) for row in await scene.store.objects()]
    record = replace(record_of(a_tester("alice")), removed_at=scene.clock.now())
    await scene.store.write(*gone, PutTester(record), DropTester("alice"))
    scene.outside.shown = {"vms": [], "gateways": [stray], "apps": [], "tenants": []}
    await scene.after()
    assert await scene.told() == told
    scene.outside.shown = {"vms": [], "gateways": [], "apps": [], "tenants": []}
    await scene.after()
    assert await scene.told() == ()


async def test_nobody_is_asked_for_it(scene: Scene) -> None:
    scene.outside.shown = {**KNOWN, "vms": ["bob_b1b1b1_1_1"]}
    await scene.after()
    asked = scene.outside.asked
    scene.clock.pass_by(timedelta(hours=1))
    await scene.orphans.look(scene.world)
    assert scene.outside.asked == asked
    assert await scene.told() == (), "one look proves nothing: the next may not show it"


async def test_a_listing_that_lags_behind_what_was_taken_away_proves_nothing(scene: Scene) -> None:
    """A tester has gone, and its row; the listing still shows its machine for a while."""
    scene.outside.shown = {**KNOWN, "vms": ["bob_b1b1b1_1_1"]}
    await scene.after()
    await scene.after(GRACE - timedelta(seconds=1))
    assert await scene.told() == ()
    scene.outside.shown = KNOWN
    await scene.after()
    scene.outside.shown = {**KNOWN, "vms": ["bob_b1b1b1_1_1"]}
    await scene.after()
    assert await scene.told() == (), "it counts anew"


async def test_a_gateway_is_known_to_be_ours_by_a_machine_that_nobody_knows_either(scene: Scene) -> None:
    scene.outside.shown = {**KNOWN, "vms": ["bob_b1b1b1_1_1"], "gateways": ["bobb1b1b1"]}
    await scene.after()
    await scene.after()
    (told,) = await scene.told()
    assert "gateway bobb1b1b1 at gent" in told
    assert told.startswith("2 in the listings")


async def test_when_it_is_gone_that_is_told_too(scene: Scene) -> None:
    scene.outside.shown = {**KNOWN, "apps": ["Hero OS bob b1b1b1-1-1"]}
    await scene.after()
    await scene.after()
    assert len(await scene.told()) == 1
    scene.outside.shown = KNOWN
    await scene.after()
    assert await scene.told() == ()
    assert [event.reason for event in await scene.store.events("")] == ["NothingOrphaned", "OrphansFound"]


async def test_a_start_does_not_take_back_what_was_told_before_everything_was_looked_at(scene: Scene) -> None:
    scene.outside.shown = {**KNOWN, "gateways": ["alicex7k2p90123456789"]}
    await scene.after()
    await scene.after()
    (told,) = await scene.told()
    scene.orphans, scene.world.looks = (
        Orphans(scene.store, scene.clock),
        Looks(scene.world.backends, scene.clock, timedelta(seconds=30)),
    )
    commits = scene.store.commits
    scene.clock.pass_by(MINUTE)
    await scene.a_pass(gateways=False)
    await scene.orphans.look(scene.world)
    await scene.after(MINUTE)
    assert await scene.told() == (told,)
    await scene.after()
    assert (await scene.told(), scene.store.commits) == ((told,), commits)


async def test_an_account_that_was_kept_and_a_tester_that_came_back_are_nobody_s_orphans(scene: Scene) -> None:
    """A removed tester's unclosed rows stay in the books, and a namesake has a uid of its own."""
    kept = OutsideObject("carol", "machine", 1, 1, "carol_c1c1c1_1_1", ObjectState.EXISTING, {"keptFrom": "c1c1c1"})
    gone = record_of(a_tester("carol"), uid="c1c1c1", removed_at=scene.clock.now())
    await scene.store.write(PutTester(gone), PutObject(kept), DropTester("carol"))
    scene.outside.shown = {**KNOWN, "vms": [*KNOWN["vms"], "carol_c1c1c1_1_1"]}
    for _ in range(3):
        await scene.after()
    assert await scene.told() == ()


async def test_without_a_world_there_is_nothing_to_compare(scene: Scene) -> None:
    await scene.orphans.look(None)
    assert await scene.told() == ()


async def test_what_was_told_of_a_place_is_not_told_any_more_once_the_fleet_has_left_it(scene: Scene) -> None:
    scene.outside.shown = {**KNOWN, "tenants": ["alicex7k2p90123456789"]}
    for _ in range(3):
        await scene.after()
    assert await scene.told()
    old = scene.world
    scene.world = World(FLEET, old.backends, Looks(old.backends, scene.clock, timedelta(seconds=30)), ())
    await scene.orphans.look(scene.world)
    looks = TesterLooks(scene.world.looks)
    await looks.vms("gent")
    await looks.gateways("gent")
    await looks.oauth_apps()
    await scene.orphans.look(scene.world)
    assert await scene.told() == ()


async def test_what_turns_up_when_its_tester_has_gone_is_told(scene: Scene) -> None:
    """A listing left it out while the tester was removed."""
    gateway = "alicex7k2p9"
    gone = [PutObject(replace(row, state=ObjectState.GONE)) for row in await scene.store.objects()]
    record = replace(record_of(a_tester("alice")), removed_at=scene.clock.now())
    await scene.store.write(*gone, PutTester(record), DropTester("alice"))
    scene.outside.shown = {"vms": [], "gateways": [gateway], "apps": [], "tenants": []}
    for _ in range(3):
        await scene.after()
    (told,) = await scene.told()
    assert gateway in told


async def test_a_clock_that_was_set_back_keeps_nothing_from_being_told(scene: Scene) -> None:
    scene.outside.shown = {**KNOWN, "vms": [*KNOWN["vms"], "bob_b1b1b1_1_1"]}
    await scene.after()
    scene.clock.pass_by(-timedelta(days=1))
    for _ in range(3):
        await scene.after()
    (told,) = await scene.told()
    assert "bob_b1b1b1_1_1" in told
