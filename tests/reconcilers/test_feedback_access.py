"""Access to the feedback repository: who is given it, and what of it is taken away again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reconcilers.account import AccountReconciler, SeenAccount
from reconcilers.backends import Backends
from reconcilers.backends.forge import Account
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError, Transient
from reconcilers.facts import AccountFacts, Facts, ObjectState
from reconcilers.feedback_access import FEEDBACK, SeenFeedback
from reconcilers.looks import TesterLooks
from specs.tester import WhenRemoved
from tests.reconcilers.data import OWNER, a_fleet, a_row, a_tester, actions, brief, some_facts

ALICE = Account(7, "alice-b", "alice@example.org", prohibited=False)
NEW, OLD = "geomind/feedback", "geomind/old"
GIVE, TAKE, DISABLE, DELETE = (
    f"{verb} account alice-b" for verb in ("give_access", "take_access", "disable", "delete")
)
SILENT = Transient("502", system="Forge")


class Forge:
    """Who may read what; a repository without an entry cannot be asked about. Stands for client, looks and ports."""

    def __init__(self, readers: dict[str, set[str]] | None = None, fails: OutsideError | None = None) -> None:
        self.readers = {NEW: set(), OLD: set()} if readers is None else readers
        self.fails = fails
        self.did: list[Any] = []
        self.facts = AccountFacts(account="alice-b", forge_id=7, made_by_us=True)

    async def accounts(self) -> tuple[Account, ...]:
        return (ALICE,)

    async def account(self, name: str) -> Account:
        return ALICE

    async def forge_owner(self) -> str:
        return OWNER

    async def whoami(self) -> Account:
        return Account(1, OWNER, "")

    async def claim_forge(self, owner: str) -> str:
        return owner

    async def collaborators(self, repository: str) -> frozenset[str]:
        if repository not in self.readers:
            raise SILENT
        return frozenset(self.readers[repository])

    async def may_read(self, owner: str, repo: str, user: str) -> bool:
        return user in self.readers.get(f"{owner}/{repo}", ())

    async def add_reader(self, owner: str, repo: str, user: str) -> None:
        self.did.append(("add", f"{owner}/{repo}", user, self.facts.feedback))
        if self.fails:
            raise self.fails

    async def remove_reader(self, owner: str, repo: str, user: str) -> None:
        self.did.append(("remove", f"{owner}/{repo}", user))

    async def record(self, facts: AccountFacts) -> None:
        self.facts = facts


def step(forge: Forge) -> AccountReconciler:
    return AccountReconciler(Backends(forge, {}, None, None))  # type: ignore[arg-type]


def facts_of(*given: str, wanted: str | None = NEW, **fields: Any) -> Facts:
    known = AccountFacts(account="alice-b", forge_id=7, made_by_us=True, feedback=given)
    return some_facts(known, fleet=a_fleet(forge={"feedbackRepository": wanted}), **fields)


async def seen(forge: Forge, facts: Facts, *, existing: bool = False, goes: WhenRemoved = "disable") -> SeenAccount:
    identity = {"account": "Alice-B", "existing": existing, "whenRemoved": "keep" if existing else goes}
    looks: TesterLooks = forge  # type: ignore[assignment]
    found = await step(forge).observe(TesterView(a_tester(identity=identity), facts), looks)
    assert found is not None
    return found


A_READER = {NEW: {"alice-b"}, OLD: set[str]()}
BOTH = {NEW: {"alice-b"}, OLD: {"alice-b"}}
WANTED: dict[str, tuple[str | None, tuple[str, ...], dict[str, set[str]], list[str]]] = {
    "the fleet has none": (None, (), {}, []),
    "not yet": (NEW, (), {NEW: set()}, [GIVE]),
    "given": (NEW, (NEW,), A_READER, []),
    "had it before": (NEW, (), A_READER, []),
    "is its owner": ("Alice-B/notes", (), {"Alice-B/notes": set()}, []),
    "given, and taken by hand": (NEW, (NEW,), {NEW: {"bob"}}, [GIVE]),
    "another one": (NEW, (OLD,), {NEW: set(), OLD: {"alice-b"}}, [GIVE, TAKE]),
    "another one, had before": (NEW, (NEW,), BOTH, []),
    "another one, the old one taken by hand": (NEW, (OLD, NEW), A_READER, []),
    "taken out of the fleet": (None, (NEW,), A_READER, [TAKE]),
    "taken out of the fleet, had before": (None, (), A_READER, []),
    "Forge does not tell": (NEW, (NEW,), {}, []),
    "Forge does not tell, not yet": (NEW, (), {}, [GIVE]),
    "Forge does not tell of the old one": (NEW, (NEW, OLD), {NEW: {"alice-b"}}, []),
}


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize("existing", [False, True])
async def test_who_reads_the_feedback_repository(name: str, existing: bool) -> None:
    wanted, given, readers, expected = WANTED[name]
    facts = facts_of(*given, wanted=wanted)
    there = await seen(Forge(readers), facts, existing=existing)
    planned = step(Forge()).plan(a_tester(identity={"existing": existing}), there, facts)
    assert brief(planned) == expected
    assert [action.args[1] for action in actions(planned)] == [
        OLD if each == TAKE and wanted else NEW for each in expected
    ]


LEAVING: dict[str, tuple[bool, WhenRemoved, tuple[str, ...], dict[str, set[str]], list[str]]] = {
    "disabled": (False, "disable", (NEW,), A_READER, [DISABLE, TAKE]),
    "kept": (False, "keep", (NEW,), A_READER, [TAKE]),
    "deleted": (False, "delete", (NEW,), A_READER, [TAKE, DELETE]),
    "adopted": (True, "keep", (NEW,), A_READER, [TAKE]),
    "adopted, had it before": (True, "keep", (), A_READER, []),
    "adopted, taken already": (True, "keep", (NEW,), {NEW: set()}, []),
    "to two of them": (True, "keep", (OLD, NEW), BOTH, [TAKE, TAKE]),
    "Forge does not tell: what can be done is done": (False, "disable", (NEW,), {}, [DISABLE]),
}


@pytest.mark.parametrize("name", LEAVING)
async def test_what_we_gave_goes_with_the_tester(name: str) -> None:
    existing, goes, given, readers, expected = LEAVING[name]
    facts = facts_of(*given, leaving=True)
    there = await seen(Forge(readers), facts, existing=existing, goes=goes)
    assert brief(step(Forge()).plan(None, there, facts)) == expected


async def test_a_removal_is_not_done_while_forge_does_not_tell() -> None:
    there = await seen(Forge({}), facts_of(NEW, leaving=True), goes="keep")
    with pytest.raises(Transient, match="502"):
        step(Forge()).plan(None, there, facts_of(NEW, leaving=True))
    never = await seen(Forge({}), facts_of(leaving=True), goes="keep")
    assert step(Forge()).plan(None, never, facts_of(leaving=True)) == ()


async def given_by(forge: Forge, facts: Facts) -> None:
    there = await seen(Forge(), facts)
    (action,) = actions(step(forge).plan(a_tester(), there, facts))
    await step(forge).apply(action, TesterView(a_tester(), facts), forge)  # type: ignore[arg-type]


async def test_access_is_written_down_before_it_is_given() -> None:
    """Its answer may be lost, and what is not known to be ours is never taken back."""
    forge = Forge()
    await given_by(forge, facts_of())
    assert (forge.did, forge.facts.feedback) == ([("add", NEW, "alice-b", (NEW,))], (NEW,))
    lost = Forge(fails=OutcomeUnknown("cut off", system="Forge"))
    with pytest.raises(OutcomeUnknown):
        await given_by(lost, facts_of())
    assert lost.facts.feedback == (NEW,)
    refused = Forge(fails=Blocked("no such repository", system="Forge"))
    with pytest.raises(Blocked):
        await given_by(refused, facts_of())
    assert refused.facts.feedback == ()


async def test_whoever_may_do_more_keeps_that_and_it_is_not_ours() -> None:
    """Whoever may write there would be made a reader by asking."""
    forge = Forge(A_READER)
    await given_by(forge, facts_of())
    assert (forge.did, forge.facts.feedback) == ([], ())


async def test_what_is_taken_is_forgotten() -> None:
    forge, facts = Forge(BOTH), facts_of(OLD, NEW)
    (action,) = actions(step(forge).plan(a_tester(), await seen(forge, facts), facts))
    await step(forge).apply(action, TesterView(a_tester(), facts), forge)  # type: ignore[arg-type]
    assert (forge.did, forge.facts.feedback) == ([("remove", OLD, "alice-b")], (NEW,))


async def test_an_account_that_the_spec_no_longer_names_loses_it_too() -> None:
    """The facts speak of its successor by then: the row has kept what we gave."""
    there = await seen(Forge(A_READER), facts_of(NEW))
    assert step(Forge()).identity(there)[FEEDBACK] == NEW
    row = a_row("account", ObjectState.RETIRING, name="alice-b", identity=step(Forge()).identity(there))
    facts = replace(facts_of(), steps={}, object=row)
    later = await seen(Forge(A_READER), facts)
    assert later.feedback == SeenFeedback((NEW,), {NEW: True})
    assert brief(step(Forge()).plan(None, later, facts)) == [DISABLE, TAKE]


async def test_a_strangers_account_is_not_asked_about() -> None:
    strangers = some_facts(without=("account",), fleet=a_fleet(forge={"feedbackRepository": NEW}))
    there = await seen(Forge({}), strangers)
    assert there.feedback == SeenFeedback()
