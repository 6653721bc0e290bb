"""Access to the repository to which the fleet's testers are led for feedback: given, given back, and taken away.

Whether an account has it is read from one listing for the whole fleet. Only what we gave is taken: what an account had
before, or was given by a person, is nobody's to lessen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reconcilers.account_plans import give_access, take_access
from reconcilers.actions import Action
from reconcilers.backends.forge import Account, ForgeClient
from reconcilers.contract import Ports
from reconcilers.errors import OutcomeUnknown, OutsideError, Transient
from reconcilers.facts import AccountFacts, Facts
from reconcilers.looks import TesterLooks

FEEDBACK = "feedback"  # in the identity of an account's row: it may outlive the facts


@dataclass(frozen=True, slots=True)
class SeenFeedback:
    """What an account has of the repositories that matter to it.

    given   those that we gave it access to, and have not taken it back from
    reads   repository → whether the account may read it; without an entry: Forge does not tell
    unread  why it does not
    """

    given: tuple[str, ...] = ()
    reads: Mapping[str, bool] = field(default_factory=dict)
    unread: OutsideError | None = None

    @property
    def untold(self) -> bool:
        """Whether access that we gave may still be there, for all that is known."""
        return any(each not in self.reads for each in self.given)


async def see_feedback(login: str, given: tuple[str, ...], facts: Facts, looks: TesterLooks) -> SeenFeedback:
    """A listing that cannot be read must not hold up the account: that it is unread is part of what was seen."""
    wanted = None if facts.leaving else facts.fleet.spec.forge.feedback_repository
    reads: dict[str, bool] = {}
    unread: OutsideError | None = None
    for repository in dict.fromkeys((*given, *([wanted] if wanted else []))):
        try:
            owner = repository.partition("/")[0].casefold()
            who, there = login.casefold(), await looks.collaborators(repository)
            reads[repository] = who == owner or who in there
        except OutsideError as error:
            unread = error
    return SeenFeedback(given, reads, unread)


def plan_feedback(login: str, wanted: str | None, seen: SeenFeedback) -> tuple[Action, ...]:
    """For an account that is wanted: to the fleet's repository and, of what we gave, to no other one. Pure."""
    steps = []
    if wanted is not None and not seen.reads.get(wanted, wanted in seen.given):
        steps.append(give_access(login, wanted))
    return (*steps, *plan_taking(login, seen, kept=wanted))


def plan_taking(login: str, seen: SeenFeedback, kept: str | None = None) -> tuple[Action, ...]:
    """What we gave and the account still has, but for `kept`. Pure."""
    return tuple(take_access(login, each) for each in seen.given if each != kept and seen.reads.get(each))


def given_to(account: Account, facts: Facts) -> tuple[str, ...]:
    """Our facts know, else the row. Pure."""
    known, row = facts.get(AccountFacts), facts.object
    if known is not None and known.forge_id == account.id:
        return known.feedback
    if row is not None and row.identity.get("forge_id") == str(account.id):
        return tuple(each for each in row.identity.get(FEEDBACK, "").split(",") if each)
    return ()


async def give(forge: ForgeClient, held: Account, repository: str, facts: Facts, ports: Ports) -> None:
    """To read. Whoever may do more already keeps that, and it is not ours to take. Written down before the call, as its
    answer may be lost; a definite no is undone."""
    owner, _, name = repository.partition("/")
    if await forge.may_read(owner, name, held.login):
        return
    before = facts.need(AccountFacts)
    if before.forge_id != held.id:
        raise Transient(f"{held.login} is another account now", system="Forge", reason="AccountGone")
    await ports.record(before.model_copy(update={"feedback": _with(before.feedback, repository)}))
    try:
        await forge.add_reader(owner, name, held.login)
    except OutcomeUnknown:
        raise
    except OutsideError:
        await ports.record(before)
        raise


async def take(forge: ForgeClient, login: str, repository: str, facts: Facts, ports: Ports) -> None:
    """Done again: harmless."""
    owner, _, name = repository.partition("/")
    await forge.remove_reader(owner, name, login)
    known = facts.get(AccountFacts)
    if known is not None and known.account.casefold() == login.casefold():
        left = tuple(each for each in known.feedback if each != repository)
        await ports.record(known.model_copy(update={"feedback": left}))


def _with(given: Iterable[str], repository: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*given, repository)))
