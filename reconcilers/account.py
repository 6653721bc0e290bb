"""The tester's account on Forge: made with a one-time password, or adopted and then never touched (lesson 1).

What was made for a tester may outlive the tester: the row then still knows that the account is ours, and for which
`passwordReset` of the spec its password was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from reconcilers.account_plans import create, disable, enable, remove, reset_password
from reconcilers.actions import Action, Finding, Step
from reconcilers.backends import Backends
from reconcilers.backends.forge import Account
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError, Transient
from reconcilers.facts import AccountFacts, Facts, ObjectState, OutsideObject
from reconcilers.feedback_access import (
    FEEDBACK,
    SeenFeedback,
    give,
    given_to,
    plan_feedback,
    plan_taking,
    see_feedback,
    take,
)
from reconcilers.forge_owner import check_owner, claimed_owner
from reconcilers.listed import under
from reconcilers.looks import TesterLooks
from reconcilers.secret import new_password
from specs.desired import DesiredAccount, DesiredTester
from specs.tester import WhenRemoved

ONE_TIME_PASSWORD = "one_time_password"  # noqa: S105 - the short name under which it is sealed
SYSTEM = "Forge"
_OURS = "made_by_us"
_RESET = "password_reset"


@dataclass(frozen=True, slots=True)
class SeenAccount:
    """The account as Forge shows it, whether we made it, and what its last good spec says about its end.

    password_reset  the spec's counter that its last one-time password was made for
    feedback        its access to the feedback repository
    """

    account: Account
    ours: bool
    existing: bool
    when_removed: WhenRemoved
    password_reset: int = 0
    feedback: SeenFeedback = field(default_factory=SeenFeedback)


class AccountReconciler(Base):
    """Keeps the account. Blocked when the name or the e-mail address is somebody else's: a person decides."""

    name = "account"
    needs: tuple[str, ...] = ()
    makes = True
    leaves = "access"

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenAccount | None:
        """Found by name, ignoring case; one of ours that was renamed, by its id.

        Raises Blocked AccountIsOrganisation, AccountMissing, EmailTaken for an account still to be made, AccountRenamed, and
        ForgeIdentityChanged.
        """
        await check_owner(tester, looks)
        wanted = tester.desired.account
        accounts = await looks.accounts()
        found = _by_name(accounts, _row_name(tester))
        if found is None:
            found = _renamed(accounts, tester.facts.object) or await self._unlisted(tester, looks)
            other = found is not None and found.login.casefold() != _row_name(tester).casefold()
            if found is not None and other and not tester.facts.leaving:
                raise _blocked(
                    "AccountRenamed",
                    f"the account {wanted.name} that we made is called {found.login} now: write that name to "
                    "spec.identity.account, or have it renamed back",
                )
        if found is not None:
            seen = _seen(found, wanted, tester.facts, ours=_is_ours(found, wanted, tester.facts))
            if not (seen.ours or seen.existing):
                return seen
            return replace(seen, feedback=await see_feedback(found.login, seen.feedback.given, tester.facts, looks))
        if not tester.facts.leaving:
            if await self._is_organisation(tester):
                raise _blocked(
                    "AccountIsOrganisation",
                    f"{wanted.name} is an organisation, not a person: choose another name in spec.identity.account",
                )
            _check_email(wanted, accounts)
        return None

    async def _is_organisation(self, tester: TesterView) -> bool:
        """Asked once in a pass."""
        name, told = tester.desired.account.name, tester.facts.memory.setdefault("organisations", {})
        if name not in told:
            told[name] = await self.backends.forge.organisation(name)
        found: bool = told[name]
        return found

    async def _unlisted(self, tester: TesterView, looks: TesterLooks) -> Account | None:
        """A listing may omit what is there: of an account that we have seen, or may have made, only Forge's own "not found"
        counts as absence."""
        row = tester.facts.object
        known = row.identity.get("forge_id") if row is not None and row.state is not ObjectState.GONE else None
        looks.unshared()
        if known is None and (row is None or not _may_be_made(row)):
            return None
        found = await self.backends.forge.account(_row_name(tester))
        return found if found is not None and known in (None, str(found.id)) else None

    async def foresee(self, tester: TesterView, looks: TesterLooks) -> None:
        """Raises what `observe` and `plan` would: who cannot have an account is given no room either."""
        self.plan(tester.desired, await self.observe(tester, looks), tester.facts)

    def plan(self, desired: DesiredTester | None, observed: SeenAccount | None, facts: Facts) -> tuple[Step, ...]:
        """Create, re-enable, a new one-time password, access to the feedback repository, or nothing.

        Raises Blocked AccountExists; on removal why it is not known whether access that we gave is still there.
        """
        if desired is None:
            return _leave(observed)
        if observed is None:
            return (create(desired.account),)
        login = observed.account.login
        steps: list[Step] = []
        if not desired.account.existing:
            if not observed.ours:
                raise _blocked(
                    "AccountExists",
                    f"the account {login} exists already and was not made by us: "
                    "set spec.identity.existing to true to adopt it, or choose another name in spec.identity.account",
                )
            if observed.account.prohibited:
                steps.append(enable(login))
            if observed.password_reset < desired.account.password_reset:
                steps.append(reset_password(login, observed.password_reset, desired.account.password_reset))
        repository = facts.fleet.spec.forge.feedback_repository
        return (*steps, *plan_feedback(login, repository, observed.feedback))

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenAccount | None:
        """One write to Forge. A password is sealed before it is used (law 3)."""
        await claimed_owner(self.backends.forge, tester, ports)
        if action.verb == "create":
            return await self._create(tester, ports)
        login = action.args[0]
        if action.verb == "delete":
            await self._delete(login, purge=tester.desired.account.when_removed == "purge")
            return None
        if action.verb == "take_access":
            await take(self.backends.forge, login, action.args[1], tester.facts, ports)
            return None
        held = await self.backends.forge.account(login)
        if held is None:
            raise Transient(f"the account {login} is gone", system=SYSTEM, reason="AccountGone")
        if action.verb == "give_access":
            await give(self.backends.forge, held, action.args[1], tester.facts, ports)
            return None
        counter = int(action.args[1]) if action.verb == "reset_password" else None
        if counter is not None:
            held = await self._reset_password(held, tester, ports)
        else:
            held = await self.backends.forge.set_prohibited(held, action.verb == "disable")
        return _seen(held, tester.desired.account, tester.facts, ours=True, counter=counter)

    async def _create(self, tester: TesterView, ports: Ports) -> SeenAccount:
        """Raises Blocked EmailTaken, with whose it is."""
        forge, wanted = self.backends.forge, tester.desired.account
        password = tester.facts.sealed(ONE_TIME_PASSWORD) or new_password()
        await ports.seal(ONE_TIME_PASSWORD, password)
        try:
            made = await forge.create_account(wanted.name, wanted.email, password, wanted.full_name or "")
        except Blocked as error:
            if error.reason == "EmailTaken":
                _check_email(wanted, await forge.accounts())  # the look was older than whoever took it
            raise
        return _seen(made, wanted, tester.facts, ours=True, counter=wanted.password_reset)

    async def _reset_password(self, held: Account, tester: TesterView, ports: Ports) -> Account:
        """Always a new password. After a definite no the old one is what Forge knows, so that it is the one to be told."""
        before = tester.facts.sealed(ONE_TIME_PASSWORD)
        password = new_password()
        await ports.seal(ONE_TIME_PASSWORD, password)
        try:
            return await self.backends.forge.reset_password(held, password)
        except OutcomeUnknown:
            raise
        except OutsideError:
            await (ports.seal(ONE_TIME_PASSWORD, before) if before is not None else ports.erase(ONE_TIME_PASSWORD))
            raise

    async def _delete(self, login: str, *, purge: bool) -> None:
        """Raises Blocked OwnsRepositories, saying how it can go all the same."""
        try:
            await self.backends.forge.delete_account(login, purge=purge)
        except Blocked as error:
            if error.reason != "OwnsRepositories":
                raise
            raise _blocked(
                "OwnsRepositories",
                f"{error.message}. For that, put the tester's file back with spec.identity.whenRemoved: purge (all that "
                f"{login} owns is deleted as well), disable or keep, and remove it again",
            ) from error

    def learn(self, observed: SeenAccount, facts: Facts) -> AccountFacts | None:
        """Nothing while the account is a stranger's: later steps must not build on it."""
        if not (observed.ours or observed.existing):
            return None
        account = observed.account
        return AccountFacts(
            account=account.login,
            forge_id=account.id,
            made_by_us=observed.ours,
            password_reset=observed.password_reset,
            feedback=given_to(account, facts),
        )

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """AccountUsable: an adopted account that is disabled is said, not changed."""
        if not isinstance(observed, SeenAccount):
            return ()
        login = observed.account.login
        if observed.account.prohibited:
            return (
                Finding("AccountUsable", False, "AccountDisabled", f"{login} may not sign in: its account is disabled"),
            )
        return (Finding("AccountUsable", True, "AccountEnabled", f"{login} may sign in"),)

    def name_for(self, desired: DesiredTester, facts: Facts, incarnation: int, attempt: int) -> str:
        return desired.account.name

    def identity(self, observed: SeenAccount) -> dict[str, str]:
        """Nothing else stays: that a row was left by a removed namesake is over once it is ours again."""
        ours = {_OURS: "yes" if observed.ours else "no"}
        given = ",".join(observed.feedback.given)
        return {"forge_id": str(observed.account.id), **ours, _RESET: str(observed.password_reset), FEEDBACK: given}

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        """In Forge's spelling: names of accounts are the same whatever their case (V)."""
        return frozenset(account.login for account in await looks.accounts())


def _by_name(accounts: Sequence[Account], name: str) -> Account | None:
    return next(iter(under(accounts, "login", name.casefold())), None)


def _row_name(tester: TesterView) -> str:
    """The row's: it may be about an account that the spec does not name any more."""
    row = tester.facts.object
    return row.name if row is not None and row.name else tester.desired.account.name


def _renamed(accounts: Sequence[Account], row: OutsideObject | None) -> Account | None:
    """The account that we made, under whatever name."""
    if row is None or row.identity.get(_OURS) != "yes" or row.state is ObjectState.GONE:
        return None
    return next(iter(under(accounts, "id", row.identity.get("forge_id", ""))), None)


def _check_email(wanted: DesiredAccount, accounts: Sequence[Account]) -> None:
    if wanted.existing:
        raise _blocked(
            "AccountMissing",
            f"there is no account {wanted.name} to adopt: correct the name, or set spec.identity.existing to false "
            "to have it made",
        )
    holder = next(iter(under(accounts, "email", wanted.email.casefold())), None)
    if holder is not None:
        raise _blocked(
            "EmailTaken",
            f"{wanted.email} already belongs to the account {holder.login}: use another address, or adopt that account",
        )


def _is_ours(account: Account, wanted: DesiredAccount, facts: Facts) -> bool:
    """We made it: our facts or our books say so, or a create of ours was begun and it bears our e-mail address."""
    known = facts.get(AccountFacts)
    if known is not None and known.forge_id == account.id:
        return known.made_by_us
    row = facts.object
    if row is None:
        return False
    if row.identity.get("forge_id") == str(account.id):
        return row.identity.get(_OURS) == "yes"
    return not wanted.existing and _may_be_made(row) and account.email.casefold() == wanted.email.casefold()


def _may_be_made(row: OutsideObject) -> bool:
    """A create of ours was begun and its answer never came."""
    return row.state is ObjectState.INTENDED and "forge_id" not in row.identity


def _seen(
    account: Account, wanted: DesiredAccount, facts: Facts, *, ours: bool, counter: int | None = None
) -> SeenAccount:
    counted = _counter(account, wanted, facts) if counter is None else counter
    given = SeenFeedback(given_to(account, facts))
    return SeenAccount(account, ours, wanted.existing, wanted.when_removed, counted, given)


def _counter(account: Account, wanted: DesiredAccount, facts: Facts) -> int:
    """What the last one-time password was made for: our facts know, else the row, else it was made just now."""
    known, row = facts.get(AccountFacts), facts.object
    if known is not None and known.forge_id == account.id:
        return known.password_reset
    if row is not None and row.identity.get("forge_id") == str(account.id) and row.identity.get(_RESET, "").isdigit():
        return int(row.identity[_RESET])
    return wanted.password_reset


def _leave(observed: SeenAccount | None) -> tuple[Step, ...]:
    """An adopted account and a stranger's stay as they are, whatever the spec says. What we gave is taken from all."""
    if observed is None:
        return ()
    login, taken = observed.account.login, plan_taking(observed.account.login, observed.feedback)
    goes = observed.ours and not observed.existing
    if goes and observed.when_removed in ("delete", "purge"):
        return (*taken, remove(login, purge=observed.when_removed == "purge"))
    if goes and observed.when_removed == "disable" and not observed.account.prohibited:
        return (disable(login), *taken)
    if not taken and observed.feedback.unread is not None and observed.feedback.untold:
        raise observed.feedback.unread
    return taken


def _blocked(reason: str, message: str) -> Blocked:
    return Blocked(message, system=SYSTEM, reason=reason)
