"""What is done about an account: a table of what is there and what follows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconcilers.account import AccountReconciler, SeenAccount
from reconcilers.actions import Disruption, Effect
from reconcilers.backends import Backends
from reconcilers.backends.forge import Account
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError, Unreachable
from reconcilers.facts import AccountFacts, Facts, ObjectState, StepFacts
from reconcilers.looks import TesterLooks
from reconcilers.secret import HIDDEN, Secret
from specs.desired import DesiredTester
from tests.reconcilers.data import OWNER, a_row, a_tester, actions, brief, some_facts

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

    def unshared(self) -> None: ...

    async def accounts(self) -> tuple[Account, ...]:
        return self.held

    async def forge_owner(self) -> str:
        return OWNER

    async def organisation(self, name: str) -> bool:
        return name in self.organisations

    async def create_account(self, name: str, email: str, password: Secret, full_name: str = "") -> Account:
        self.calls.append(("create", name, email, password, full_name))
        if self.fails:
            raise self.fails
        return Account(7, name, email, full_name, prohibited=False)

    async def delete_account(self, name: str, purge: bool) -> None:
        self.calls.append(("delete", name, purge))
        if self.fails:
            raise self.fails

    async def account(self, name: str) -> Account | None:
        return next((each for each in self.held if each.login == name), None)

    async def set_prohibited(self, account: Account, prohibited: bool) -> Account:
        self.calls.append(("prohibit", account.login, prohibited))
        return replace(account, prohibited=prohibited)

    async def reset_password(self, account: Account, password: Secret) -> Account:
        self.calls.append(("reset", account.login, password))
        if self.fails:
            raise self.fails
        return account


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

    async def erase(self, name: str) -> None:
        self.calls.append(("erase", name))

    async def place(self, identity: dict[str, str]) -> None:
        self.calls.append(("place", identity))


def step(forge: FakeForge | None = None) -> AccountReconciler:
    return AccountReconciler(Backends(forge or FakeForge(), {}, None, None))  # type: ignore[arg-type]


def looks(forge: FakeForge) -> TesterLooks:
    return forge  # type: ignore[return-value] - it answers all that is asked


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


# ---------------------------------------------------------------- a new password on request

OTP = "one_time_password"
RESETS: dict[str, tuple[int, int, dict[str, Any], Account, list[str]]] = {
    "not asked for": (0, 0, {}, ALICE, []),
    "asked for": (0, 1, {}, ALICE, ["reset_password account alice-b"]),
    "asked for once more": (1, 2, {}, ALICE, ["reset_password account alice-b"]),
    "done already": (2, 2, {}, ALICE, []),
    "taken back": (2, 1, {}, ALICE, []),
    "never for an adopted account": (0, 1, {"existing": True}, ALICE, []),
    "after it is enabled again": (0, 1, {}, DISABLED, ["enable account alice-b", "reset_password account alice-b"]),
}


def asking(counter: int, **identity: Any) -> DesiredTester:
    """Also for an adopted account, of which the language itself refuses it."""
    desired = a_tester(identity=identity)
    return desired.model_copy(update={"account": desired.account.model_copy(update={"password_reset": counter})})


@pytest.mark.parametrize("name", RESETS)
def test_a_new_password_is_made_once_for_each_value_of_the_counter(name: str) -> None:
    made_for, asked, identity, account, expected = RESETS[name]
    there = SeenAccount(account, not identity, bool(identity), "disable", made_for)
    plan = step().plan(asking(asked, **identity), there, some_facts())
    assert brief(plan) == expected
    assert all("secret" in str(each.changes[-1].after) for each in actions(plan) if each.verb == "reset_password")


async def test_a_new_password_is_sealed_before_it_is_set_and_its_counter_is_learnt() -> None:
    forge = FakeForge(ALICE)
    facts = some_facts(
        AccountFacts(account="alice-b", forge_id=7, made_by_us=True), secrets={f"alice/{OTP}": Secret("the old one")}
    )
    there = await seen(forge, asking(3), facts)
    (action,) = actions(step().plan(asking(3), there, facts))
    done = await step(forge).apply(action, TesterView(asking(3), facts), NotedPorts(forge.calls))
    (sealing, name, password), (resetting, login, used) = forge.calls
    assert (sealing, name, resetting, login) == ("seal", OTP, "reset", "alice-b")
    assert password == used != Secret("the old one")
    assert done is not None
    learnt = step().learn(done, facts)
    assert learnt is not None
    assert learnt.password_reset == 3
    assert step().plan(asking(3), done, facts) == ()


FAILURES: dict[str, tuple[OutsideError, bool, list[str]]] = {
    "nobody knows": (OutcomeUnknown("cut", system="Forge"), True, ["seal", "reset"]),
    "no effect": (Unreachable("nobody", system="Forge"), True, ["seal", "reset", "seal"]),
    "no effect, and there was none": (Unreachable("nobody", system="Forge"), False, ["seal", "reset", "erase"]),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_what_is_sealed_is_what_forge_knows(name: str) -> None:
    error, told, expected = FAILURES[name]
    forge, old = FakeForge(ALICE, fails=error), Secret("the old one")
    facts = some_facts(
        AccountFacts(account="alice-b", forge_id=7, made_by_us=True), secrets={f"alice/{OTP}": old} if told else {}
    )
    (action,) = actions(step().plan(asking(1), await seen(forge, asking(1), facts), facts))
    with pytest.raises(type(error)):
        await step(forge).apply(action, TesterView(asking(1), facts), NotedPorts(forge.calls))
    assert [each[0] for each in forge.calls] == expected
    assert (forge.calls[-1][-1] == old) is (expected == ["seal", "reset", "seal"])


COUNTED: dict[str, tuple[dict[str, str], AccountFacts | None, int]] = {
    "our facts": ({"forge_id": "7", "password_reset": "1"}, AccountFacts(account="a", forge_id=7, password_reset=2), 2),
    "the row, which outlives the tester": ({"forge_id": "7", "password_reset": "1"}, None, 1),
    "neither: it was made just now": ({}, None, 5),
    "another account's": ({"forge_id": "9", "password_reset": "1"}, AccountFacts(account="a", forge_id=9), 5),
}


@pytest.mark.parametrize("name", COUNTED)
async def test_who_knows_what_the_password_was_made_for(name: str) -> None:
    identity, known, expected = COUNTED[name]
    facts = some_facts(*([known] if known else []), without=("account",), object=a_row("account", identity=identity))
    there = await seen(FakeForge(ALICE), asking(5), facts)
    assert there is not None
    assert there.password_reset == expected
    assert step().identity(there)["password_reset"] == str(expected)


# ---------------------------------------------------------------- coming and going


async def test_a_disabled_account_comes_back_with_its_tester() -> None:
    """The tester's facts are gone; the row still says that we made it, and is ours again afterwards."""
    row = a_row("account", identity={"forge_id": "7", "made_by_us": "yes", "keptFrom": "another uid"})
    facts = some_facts(without=("account",), object=row)
    there = await seen(FakeForge(DISABLED), a_tester(), facts)
    assert there is not None
    assert brief(step().plan(a_tester(), there, facts)) == ["enable account alice-b"]
    assert step().identity(there) == {"forge_id": "7", "made_by_us": "yes", "password_reset": "0", "feedback": ""}


async def test_an_account_that_owns_repositories_says_how_it_can_go() -> None:
    refused = Blocked("the account alice-b cannot be deleted", system="Forge", reason="OwnsRepositories")
    forge = FakeForge(ALICE, fails=refused)
    desired = a_tester(identity={"whenRemoved": "delete"})
    leaving = some_facts(leaving=True)
    (action,) = actions(step().plan(None, SeenAccount(ALICE, True, False, "delete"), leaving))
    with pytest.raises(Blocked, match="whenRemoved: purge") as caught:
        await step(forge).apply(action, TesterView(desired, leaving), NotedPorts(forge.calls))
    assert caught.value.reason == "OwnsRepositories"


async def test_an_account_that_was_renamed_is_named_and_can_still_go() -> None:
    renamed = Account(7, "Alicia", "alice@example.org", prohibited=False)
    row = a_row("account", name="Alice-B", identity={"forge_id": "7", "made_by_us": "yes"})
    with pytest.raises(Blocked, match="Alicia") as caught:
        await seen(FakeForge(renamed), a_tester(), some_facts(object=row))
    assert caught.value.reason == "AccountRenamed"

    leaving = some_facts(AccountFacts(account="Alice-B", forge_id=7, made_by_us=True), object=row, leaving=True)
    forge = FakeForge(renamed)
    there = await seen(forge, a_tester(), leaving)
    (action,) = actions(step().plan(None, there, leaving))
    await step(forge).apply(action, TesterView(a_tester(), leaving), NotedPorts(forge.calls))
    assert forge.calls == [("prohibit", "Alicia", True)]


@pytest.mark.parametrize(("there", "expected"), [(ALICE, 7), (STRANGER, None), (None, None)])
async def test_a_listing_that_omits_our_account_proves_nothing(there: Account | None, expected: int | None) -> None:
    """Forge itself is asked for the name: the same account counts, somebody else's does not."""

    class Omitting(FakeForge):
        async def accounts(self) -> tuple[Account, ...]:
            return ()

    row = a_row("account", name="alice-b", identity={"forge_id": "7", "made_by_us": "yes"})
    forge = Omitting(*([there] if there else []))
    found = await seen(forge, a_tester(), some_facts(object=row))
    assert (found and found.account.id) == expected
    assert await seen(forge, a_tester(), fresh()) is None


@pytest.mark.parametrize(("email", "ours"), [("alice@example.org", True), ("other@example.org", False)])
async def test_a_listing_that_omits_what_we_may_have_made_proves_nothing(email: str, ours: bool) -> None:
    """The answer to the create never came."""

    class Omitting(FakeForge):
        async def accounts(self) -> tuple[Account, ...]:
            return ()

    row = a_row("account", ObjectState.INTENDED, name="Alice-B")
    forge = Omitting(Account(9, "Alice-B", email, prohibited=False))
    found = await seen(forge, a_tester(), some_facts(object=row, without=("account",)))
    assert found is not None
    assert (found.account.id, found.ours) == (9, ours)


async def test_an_account_that_the_spec_no_longer_names_is_the_one_that_goes() -> None:
    """The row's name counts, not that of the spec: there may be somebody else by now."""
    row = a_row("account", ObjectState.RETIRING, name="alice-b", identity={"forge_id": "7", "made_by_us": "yes"})
    other = Account(8, "Alicia", "alicia@example.org", prohibited=False)
    there = await seen(FakeForge(other, ALICE), a_tester(identity={"account": "Alicia"}), some_facts(object=row))
    assert there is not None
    assert brief(step().plan(None, there, some_facts(object=row))) == ["disable account alice-b"]


async def test_whose_the_address_is_is_said_also_when_it_was_taken_meanwhile() -> None:
    forge = FakeForge(HOLDER, fails=Blocked("it belongs to another account", system="Forge", reason="EmailTaken"))
    (action,) = actions(step().plan(a_tester(), None, fresh()))
    with pytest.raises(Blocked, match="zoe") as caught:
        await step(forge).apply(action, TesterView(a_tester(), fresh()), NotedPorts(forge.calls))
    assert caught.value.reason == "EmailTaken"
