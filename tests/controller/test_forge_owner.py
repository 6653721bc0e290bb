"""The Forge token suddenly belongs to another account: nothing is repaired, for nobody, until a person decides (law 1)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from controller.records import ClaimForge
from controller.store import Store
from reconcilers.actions import Action
from reconcilers.backends.forge import Account
from reconcilers.contract import Ports, TesterView
from reconcilers.facts import ObjectState
from reconcilers.forge_owner import OWNER, check_owner, claimed_owner
from reconcilers.looks import TesterLooks
from specs.fleet import Fleet
from tests.controller.fakes import FLEET, GRACE, FakeStep, ManualClock, Outside, Rig, Seen, a_tester, rig

TESTERS = ("alice", "bob", "carol", "dora")  # more than safety.maxLost
BETWEEN = GRACE + timedelta(minutes=11)  # passes: later than any next try, and twice missing is missing for long enough


class Forge:
    """Shows everybody what is theirs."""

    def __init__(self) -> None:
        self.login = "controller"

    async def whoami(self) -> Account:
        return Account(1, self.login, f"{self.login}@example.org", is_admin=True)


class AppStep(FakeStep):
    """Like the OAuth app's: what it makes belongs to the token's account, and another one does not see it."""

    def __init__(self, outside: Outside, forge: Forge) -> None:
        super().__init__("sign_in_app", outside)
        self.forge: Any = forge

    async def observe(self, tester: TesterView, looks: TesterLooks) -> Seen | None:
        await check_owner(tester, looks)
        found = await super().observe(tester, looks)
        return found if found is not None and found.fields[OWNER] == self.forge.login else None

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> Seen | None:
        await claimed_owner(self.forge, tester, ports)
        return await super().apply(action, tester, ports)

    async def _effect(self, action: Action, name: str, tester: TesterView, ports: Ports) -> Seen | None:
        seen = await super()._effect(action, name, tester, ports)
        if seen is not None:
            seen.fields[OWNER] = self.outside.things[name][OWNER] = self.forge.login
        return seen

    def identity(self, observed: Seen) -> dict[str, str]:
        return {"id": observed.fields["id"], OWNER: observed.fields[OWNER]}

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        return frozenset(name for name, thing in self.outside.things.items() if thing[OWNER] == self.forge.login)


class Fleets:
    """The engine over a Forge whose token may change hands."""

    def __init__(self, one: Rig, forge: Forge) -> None:
        self.one, self.forge = one, forge

    async def adopt(self, login: str, named: str | None = None) -> None:
        """A new token always makes a new world."""
        self.forge.login = login
        forge = FLEET.spec.forge.model_copy(update={"owner": named})
        spec = FLEET.spec.model_copy(update={"forge": forge})
        metadata = FLEET.metadata.model_copy(update={"name": f"{login}-{named}"})
        fleet: Fleet = FLEET.model_copy(update={"spec": spec, "metadata": metadata})
        await self.one.engine.adopt(fleet)
        world: Any = self.one.engine.world
        world.backends.forge = self.forge

    async def passes(self, names: Sequence[str] = TESTERS, rounds: int = 1) -> None:
        for _ in range(rounds):
            self.one.clock.pass_by(BETWEEN)
            for name in names:
                await self.one.run_pass(name)

    async def conditions(self, names: Sequence[str] = TESTERS) -> set[tuple[str, str]]:
        return {await self.one.condition("SignInApp", name) for name in names}


@pytest.fixture
async def fleets(store: Store, clock: ManualClock) -> Fleets:
    outside, forge = Outside(), Forge()
    found = Fleets(rig(store, clock, [AppStep(outside, forge)], outside), forge)
    await found.adopt("controller")
    for name in TESTERS:
        await found.one.add(a_tester(name))
    return found


async def test_whose_it_is_is_written_down_before_the_first_write(fleets: Fleets) -> None:
    known: list[str] = []

    async def look(action: Action) -> None:
        known.append(await fleets.one.store.forge_owner())

    fleets.one.outside.before.append(look)
    await fleets.passes(rounds=2)
    assert known == ["controller"]
    assert len(fleets.one.outside.things) == 4


async def test_with_another_account_s_token_nobody_is_touched_and_nobody_new_is_begun(fleets: Fleets) -> None:
    await fleets.passes(rounds=2)
    before = dict(fleets.one.outside.things)
    await fleets.adopt("somebody")
    await fleets.one.add(a_tester("erin"))
    await fleets.passes((*TESTERS, "erin"), rounds=4)
    assert await fleets.conditions((*TESTERS, "erin")) == {("False", "ForgeIdentityChanged")}
    assert fleets.one.outside.things == before
    (told,) = [each for each in await fleets.one.store.conditions("erin") if each.type == "SignInApp"]
    for words in ("somebody now", "to controller", "spec.forge.owner: somebody"):
        assert words in told.message

    await fleets.adopt("controller")
    await fleets.passes((*TESTERS, "erin"), rounds=2)
    assert await fleets.conditions((*TESTERS, "erin")) == {("True", "InSync")}
    assert len(fleets.one.outside.things) == 5


async def test_who_only_just_came_second_makes_nothing(fleets: Fleets) -> None:
    """The books of the pass are older than another tester's first write."""

    async def another_is_quicker() -> None:
        await fleets.one.store.write(ClaimForge("somebody", fleets.one.clock.now()))

    fleets.one.steps["sign_in_app"].on_observe = another_is_quicker
    await fleets.passes(["alice"])
    assert fleets.one.outside.things == {}
    assert await fleets.conditions(["alice"]) == {("False", "ForgeIdentityChanged")}


async def test_a_person_names_who_takes_over_and_everybody_gets_new_things(fleets: Fleets) -> None:
    await fleets.passes(rounds=2)
    await fleets.adopt("successor")
    await fleets.passes()
    await fleets.adopt("successor", named="successor")
    assert await fleets.one.store.forge_owner() == "successor"
    await fleets.passes(rounds=4)
    assert await fleets.conditions() == {("True", "InSync")}
    owners = [thing[OWNER] for thing in fleets.one.outside.things.values()]
    assert sorted(owners) == ["controller"] * 4 + ["successor"] * 4
    rows = await fleets.one.store.objects("sign_in_app")
    assert {row.identity[OWNER] for row in rows if row.state is ObjectState.EXISTING} == {"successor"}
    told = [event for event in await fleets.one.store.events("alice") if event.reason == "Disappeared"]
    assert [event.message for event in told] == [
        "sign_in_app-alice-1-1 is controller's at Forge and stays there until controller deletes it; a new one is made"
    ]
    (named,) = [event for event in await fleets.one.store.events("") if event.reason == "ForgeOwnerNamed"]
    assert named.message.endswith("(before: controller)")

    await fleets.adopt("successor")  # the field may go again
    commits = fleets.one.store.commits
    await fleets.passes()
    assert (await fleets.conditions(), fleets.one.store.commits) == ({("True", "InSync")}, commits)


async def test_what_was_given_up_does_not_count_as_lost_beside_what_is_missing(fleets: Fleets) -> None:
    """One of ours disappears while the others' old things are still in the books as they were."""
    await fleets.passes(rounds=2)
    await fleets.adopt("successor", named="successor")
    await fleets.passes(["alice"], rounds=4)
    assert await fleets.conditions(["alice"]) == {("True", "InSync")}
    del fleets.one.outside.things["sign_in_app-alice-2-1"]
    await fleets.passes(["alice"], rounds=4)
    assert "sign_in_app-alice-3-1" in fleets.one.outside.things


async def test_a_name_that_is_not_the_token_s_is_said_and_nothing_is_done(fleets: Fleets) -> None:
    await fleets.passes(rounds=2)
    before = dict(fleets.one.outside.things)
    await fleets.adopt("controller", named="successor")
    await fleets.passes(rounds=3)
    assert await fleets.conditions() == {("False", "ForgeIdentityChanged")}
    assert fleets.one.outside.things == before
    await fleets.adopt("controller", named="controller")
    await fleets.passes(rounds=2)
    assert await fleets.conditions() == {("True", "InSync")}
    assert fleets.one.outside.things == before


async def test_what_really_disappears_is_still_watched(fleets: Fleets) -> None:
    """Whose it is does not excuse a mass loss under the same account."""
    await fleets.passes(rounds=2)
    await fleets.adopt("controller", named="controller")
    fleets.one.outside.things.clear()
    fleets.one.outside.calls.clear()
    await fleets.passes(rounds=4)
    assert await fleets.conditions() == {("False", "TooManyLost")}
    assert fleets.one.outside.calls == []
