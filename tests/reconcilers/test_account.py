"""What is done about an account: a table of what is there and what follows."""

from __future__ import annotations

from typing import Any

import pytest

from reconcilers.account import AccountReconciler, SeenAccount
from reconcilers.actions import Disruption, Effect
from reconcilers.backends import Backends
from reconcilers.backends.forge import Account
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, OutcomeUnknown
from reconcilers.facts import AccountFacts, Facts, ObjectState, StepFacts
from reconcilers.looks import TesterLooks
from reconcilers.secret import HIDDEN, Secret
from specs.desired import DesiredTester
from tests.reconcilers.data import a_row, a_tester, actions, brief, some_facts

ALICE = Account(7, "alice-b", "Alice@Example.org", prohibited=False)
DISABLED = Account(7, "alice-b", "Alice@Example.org", prohibited=True)
STRANGER = Account(8, "alice-b", "somebody@example.org", prohibited=False)
HOLDER = Account(9, "zoe", "ALICE@example.org")


class FakeForge:
    """The part of Forge that the account's step asks."""

    def __init__(self, *accounts: Account, organisations: tuple[str, ...] = (), fails: Exception | None = None) -> None:
        self.held = accounts
        self.organisations = organisations
        self.fails = fails
        self.calls: list[tuple[Any, ...]] = []

    async def accounts(self) -> tuple[Account, ...]:
        return self.held

    async def organisation(self, name: str) -> bool:
        return name in self.organisations

    async def create_account(self, name: str, email: str, password: Secret, full_name: str = "") -> Account:
        self.calls.append(("create", name, email, password, full_name))
        if self.fails:
            raise self.fails
        return Account(7, name, email, full_name, prohibited=False)

    async def delete_account(self, name: str, purge: bool) -> None:
        self.calls.append(("delete", name, purge))


class NotedPorts:
    """Ports that write down what was asked of them, in order, with the calls of the fake."""

    def __init__(self, calls: list[tuple[Any, ...]]) -> None:
        self.calls = calls

    async def seal(self, name: str, value: Secret) -> None:
        self.calls.append(("seal", name, value))

    async def record(self, facts: StepFacts) -> None:
        self.calls.append(("record", facts))

    async def note(self, text: str) -> None:
        self.calls.append(("note", text))


def step(forge: FakeForge | None = None) -> AccountReconciler:
    return AccountReconciler(Backends(forge or FakeForge(), {}, None, None))  # type: ignore[arg-type]


def looks(forge: FakeForge) -> TesterLooks:
    return forge  # type: ignore[return-value] - it answers `accounts`, which is all that is asked


async def seen(forge: FakeForge, desired: DesiredTester, facts: Facts) -> SeenAccount | None:
    return await step(forge).observe(TesterView(desired, facts), looks(forge))


def fresh(**fields: Any) -> Facts:
    return some_facts(without=("account",), object=a_row("account", ObjectState.GONE), **fields)


def test_an_absent_account_is_made_with_a_sealed_password() -> None:
    (action,) = actions(step().plan(a_tester(), None, fresh()))
    assert (action.verb, action.target, action.effect) == ("create", "account Alice-B", Effect.CREATE)
    assert [(each.path, each.after) for each in action.changes] == [
        ("name", "Alice-B"),
        ("email", "alice@example.org"),
        ("oneTimePassword", HIDDEN),
    ]


PRESENT = {
    "ours, in order": (ALICE, {}, True, []),
    "ours, disabled": (DISABLED, {}, True, ["enable account alice-b"]),
    "adopted": (ALICE, {"existing": True}, False, []),
    "adopted, disabled: never changed": (DISABLED, {"existing": True}, False, []),
    "ours, and the spec now says existing: never changed": (DISABLED, {"existing": True}, True, []),
}


@pytest.mark.parametrize("name", PRESENT)
def test_what_is_done_about_an_account_that_is_there(name: str) -> None:
    account, identity, ours, expected = PRESENT[name]
    desired = a_tester(identity=identity)
    there = SeenAccount(account, ours, desired.account.existing, desired.account.when_removed)
    assert brief(step().plan(desired, there, some_facts())) == expected


LEAVING = {
    ("keep", False, True): [],
    ("disable", False, True): ["disable account alice-b"],
    ("disable", True, True): [],
    ("delete", False, True): ["delete account alice-b"],
    ("purge", False, True): ["delete account alice-b"],
    ("purge", False, False): [],  # not ours: whatever the spec says
    ("delete", True, False): [],
}


@pytest.mark.parametrize(("when", "disabled", "ours"), LEAVING)
def test_how_an_account_goes(when: Any, disabled: bool, ours: bool) -> None:
    there = SeenAccount(DISABLED if disabled else ALICE, ours, existing=False, when_removed=when)
    steps = step().plan(None, there, some_facts(leaving=True))
    assert brief(steps) == LEAVING[when, disabled, ours]
    if when in ("delete", "purge") and ours:
        (action,) = actions(steps)
        assert (action.effect, action.disruption) == (Effect.DELETE, Disruption.REMOVE)


def test_an_adopted_account_is_kept_whatever_is_asked() -> None:
    there = SeenAccount(ALICE, ours=True, existing=True, when_removed="purge")
    assert step().plan(None, there, some_facts(leaving=True)) == ()


def test_nothing_is_done_about_an_account_that_is_gone() -> None:
    assert step().plan(None, None, some_facts(leaving=True)) == ()


BLOCKED = {
    "AccountIsOrganisation": (FakeForge(organisations=("Alice-B",)), {}),
    "AccountMissing": (FakeForge(), {"existing": True}),
    "EmailTaken": (FakeForge(HOLDER), {}),
}


@pytest.mark.parametrize("reason", BLOCKED)
async def test_a_person_decides(reason: str) -> None:
    forge, identity = BLOCKED[reason]
    with pytest.raises(Blocked) as caught:
        await seen(forge, a_tester(identity=identity), fresh())
    assert caught.value.reason == reason
    if reason == "EmailTaken":
        assert "zoe" in caught.value.message


async def test_a_strangers_account_is_not_taken_over() -> None:
    there = await seen(FakeForge(STRANGER), a_tester(), fresh())
    with pytest.raises(Blocked) as caught:
        step().plan(a_tester(), there, fresh())
    assert caught.value.reason == "AccountExists"
    assert there is not None
    assert step().learn(there, fresh()) is None, "nothing may build on it"


OWNERSHIP = {
    "a create was begun, and the address is ours": (ALICE, a_row("account", ObjectState.INTENDED), None, True),
    "a create was begun, and the address is not ours": (STRANGER, a_row("account", ObjectState.INTENDED), None, False),
    "nothing was begun": (ALICE, a_row("account", ObjectState.GONE), None, False),
    "no row": (ALICE, None, None, False),
    "our books say that we made it": (
        STRANGER,
        a_row("account", identity={"forge_id": "8", "made_by_us": "yes"}),
        None,
        True,
    ),
    "our books speak of another account": (
        STRANGER,
        a_row("account", identity={"forge_id": "1", "made_by_us": "yes"}),
        None,
        False,
    ),
    "our facts say that it was adopted": (
        ALICE,
        a_row("account", identity={"forge_id": "7", "made_by_us": "yes"}),
        AccountFacts(account="alice-b", forge_id=7, made_by_us=False),
        False,
    ),
}


@pytest.mark.parametrize("name", OWNERSHIP)
async def test_whose_an_account_is(name: str) -> None:
    account, row, known, ours = OWNERSHIP[name]
    facts = some_facts(*([known] if known else []), without=("account",), object=row)
    there = await seen(FakeForge(account), a_tester(), facts)
    assert there is not None
    assert there.ours is ours


async def test_names_are_found_whatever_their_case_and_recorded_as_forge_spells_them() -> None:
    facts = some_facts(without=("account",), object=a_row("account", ObjectState.INTENDED))
    there = await seen(FakeForge(HOLDER, ALICE), a_tester(), facts)
    assert there is not None
    assert step().learn(there, facts) == AccountFacts(account="alice-b", forge_id=7, made_by_us=True)
    assert "alice-b" in await step().listed(TesterView(a_tester(), facts), looks(FakeForge(ALICE)))


async def test_removal_does_not_stumble_over_strangers() -> None:
    facts = some_facts(without=("account",), object=a_row("account", ObjectState.INTENDED), leaving=True)
    assert await seen(FakeForge(HOLDER, organisations=("Alice-B",)), a_tester(), facts) is None


async def test_the_password_is_sealed_before_it_is_used_and_used_again_when_the_answer_was_lost() -> None:
    forge = FakeForge(fails=OutcomeUnknown("cut", system="Forge"))
    ports = NotedPorts(forge.calls)
    (action,) = actions(step().plan(a_tester(), None, fresh()))
    with pytest.raises(OutcomeUnknown):
        await step(forge).apply(action, TesterView(a_tester(), fresh()), ports)
    (sealing, name, password), (creating, *rest) = forge.calls
    assert (sealing, name, creating) == ("seal", "one_time_password", "create")
    assert password in rest
    assert len(password.text()) >= 20

    forge.fails = None
    again = fresh(secrets={"alice/one_time_password": password})
    made = await step(forge).apply(action, TesterView(a_tester(), again), ports)
    assert forge.calls[-1][3] == password, "whichever call had its effect, the password is the one that we hold"
    assert made is not None
    assert made.ours


@pytest.mark.parametrize(("when", "purge"), [("delete", False), ("purge", True)])
async def test_only_purge_purges(when: str, purge: bool) -> None:
    forge = FakeForge(ALICE)
    desired = a_tester(identity={"whenRemoved": when})
    there = SeenAccount(ALICE, True, False, desired.account.when_removed)
    (action,) = actions(step().plan(None, there, some_facts(leaving=True)))
    await step(forge).apply(action, TesterView(desired, some_facts(leaving=True)), NotedPorts(forge.calls))
    assert forge.calls == [("delete", "alice-b", purge)]


def test_a_disabled_adopted_account_is_said() -> None:
    there = SeenAccount(DISABLED, ours=False, existing=True, when_removed="keep")
    (finding,) = step().findings(a_tester(identity={"existing": True}), there, some_facts())
    assert (finding.type, finding.status, finding.reason) == ("AccountUsable", False, "AccountDisabled")
