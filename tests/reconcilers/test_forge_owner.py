"""Whose what we make at Forge is, before any write: against fakes, and against a Forge whose token changes hands."""

from __future__ import annotations

from typing import Any

import pytest

from examples.simulator.seeding import SCOPES, add_token
from reconcilers.backends.forge import Account
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked
from reconcilers.facts import Facts, GatewayFacts, SignInAppFacts
from reconcilers.forge_owner import check_owner, claimed_owner
from reconcilers.secret import Secret
from tests.reconcilers.conftest import Lives
from tests.reconcilers.data import FQDN, a_fleet, a_tester, brief, some_facts
from tests.reconcilers.driver import Life

NAMED = {"owner": "successor"}


class Fake:
    """Forge, the looks at it, and the ports, as far as they are asked here."""

    def __init__(self, login: str, booked: str = "") -> None:
        self.login, self.booked = login, booked
        self.asked = 0

    async def forge_owner(self) -> str:
        return self.login

    async def whoami(self) -> Account:
        self.asked += 1
        return Account(1, self.login, "x@example.org")

    async def claim_forge(self, owner: str) -> str:
        self.booked = self.booked or owner
        return self.booked


def view(known: str, forge: dict[str, str] | None = None) -> TesterView:
    facts: Facts = some_facts(forge_owner=known, fleet=a_fleet(forge=forge or {}))
    return TesterView(a_tester(), facts)


CHECKS: dict[str, tuple[str, str, dict[str, str], str]] = {
    "as ever": ("controller", "controller", {}, ""),
    "in another spelling": ("Controller", "controller", {}, ""),
    "nothing was made yet": ("controller", "", {}, ""),
    "another account": ("somebody", "controller", {}, "set spec.forge.owner: somebody in the Fleet"),
    "another account that the Fleet names": ("successor", "controller", NAMED, ""),
    "the old account while the Fleet names another": ("controller", "controller", NAMED, "put a token of successor"),
    "nothing was made yet, and the Fleet names another": ("controller", "", NAMED, "put a token of successor"),
}


@pytest.mark.parametrize("name", CHECKS)
async def test_whose_the_token_is_is_compared_before_anything_is_looked_at_or_made(name: str) -> None:
    login, known, forge, said = CHECKS[name]
    fake: Any = Fake(login)
    if not said:
        assert await check_owner(view(known, forge), fake) == login
        return
    with pytest.raises(Blocked, match=said) as caught:
        await check_owner(view(known, forge), fake)
    assert caught.value.reason == "ForgeIdentityChanged"
    assert login in caught.value.message


async def test_only_the_first_write_asks_and_writes_down() -> None:
    fake: Any = Fake("controller")
    assert await claimed_owner(fake, view(""), fake) == "controller"
    assert (fake.booked, fake.asked) == ("controller", 1)
    assert await claimed_owner(fake, view("controller"), fake) == "controller"
    assert fake.asked == 1


async def test_who_finds_that_another_one_came_first_makes_nothing() -> None:
    fake: Any = Fake("somebody", booked="controller")
    with pytest.raises(Blocked) as caught:
        await claimed_owner(fake, view(""), fake)
    assert caught.value.reason == "ForgeIdentityChanged"


# ---------------------------------------------------------------- a Forge whose token changes hands


async def changed_hands(life: Life, account: str) -> None:
    """Somebody has put another site admin's token where ours was."""
    forge = life.world.forge
    life.secrets["env:FORGE_TOKEN"] = Secret(add_token(forge, account, SCOPES))
    await life.reopen()


def writes(life: Life) -> int:
    return len([each for each in life.world.log.writes() if each.system == "forge"])


async def test_a_token_of_another_account_touches_nothing_until_the_fleet_names_it(lives: Lives) -> None:
    life = lives()
    await life.settle("account")
    life.facts["gateway"] = GatewayFacts(daemon="g", gateway_id="1", gateway_name="alice", fqdn=FQDN)
    await life.settle("sign_in_app")
    assert life.forge_owner == "controller"
    app = life.facts["sign_in_app"]
    assert isinstance(app, SignInAppFacts)
    assert app.owner == life.rows["sign_in_app"].identity["owner"] == "controller"

    await changed_hands(life, "mik")
    life.world.drift.disable_account("Alice-B")
    before = writes(life)
    for step in ("account", "sign_in_app"):
        with pytest.raises(Blocked, match="belongs to mik now") as caught:
            await life.plan(step)
        assert caught.value.reason == "ForgeIdentityChanged"
    assert writes(life) == before

    forge = life.fleet.spec.forge.model_copy(update={"owner": "mik"})
    life.fleet = life.fleet.model_copy(update={"spec": life.fleet.spec.model_copy(update={"forge": forge})})
    life.forge_owner = "mik"  # as the engine writes down what the Fleet names
    assert brief(await life.plan("account")) == ["enable account Alice-B"]
    await life.settle("account")
    await life.again("sign_in_app")  # the other account's app is out of our sight
    await life.settle("sign_in_app")
    assert life.rows["sign_in_app"].identity["owner"] == "mik"
    assert {app["owner"] for app in life.world.books()["apps"]} == {"controller", "mik"}
