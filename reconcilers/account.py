"""The tester's account on Forge: made with a one-time password, or adopted and then never touched (lesson 1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from reconcilers.actions import Action, Disruption, Effect, FieldChange, Finding, Step, secret_change
from reconcilers.backends import Backends
from reconcilers.backends.forge import Account
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.errors import Blocked
from reconcilers.facts import AccountFacts, Facts, ObjectState, OutsideObject
from reconcilers.looks import TesterLooks
from reconcilers.secret import new_password
from specs.desired import DesiredAccount, DesiredTester
from specs.tester import WhenRemoved

ONE_TIME_PASSWORD = "one_time_password"  # noqa: S105 - the short name under which it is sealed
SYSTEM = "Forge"
_OURS = "made_by_us"


@dataclass(frozen=True, slots=True)
class SeenAccount:
    """The account as Forge shows it, whether we made it, and what its last good spec says about its end."""

    account: Account
    ours: bool
    existing: bool
    when_removed: WhenRemoved


class AccountReconciler(Base):
    """Keeps the account. Blocked when the name or the e-mail address is somebody else's: a person decides."""

    name = "account"
    needs: tuple[str, ...] = ()
    makes = True
    leaves = "access"

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenAccount | None:
        """Found by name, ignoring case. Raises Blocked AccountIsOrganisation, EmailTaken for an account still to be made."""
        wanted = tester.desired.account
        accounts = await looks.accounts()
        found = _by_name(accounts, wanted.name)
        if found is not None:
            return _seen(found, wanted, _is_ours(found, wanted, tester.facts))
        if not tester.facts.leaving:
            if await self.backends.forge.organisation(wanted.name):
                raise _blocked(
                    "AccountIsOrganisation",
                    f"{wanted.name} is an organisation, not a person: choose another name in spec.identity.account",
                )
            _check_email(wanted, accounts)
        return None

    def plan(self, desired: DesiredTester | None, observed: SeenAccount | None, facts: Facts) -> tuple[Step, ...]:
        """Create, re-enable, or nothing. Raises Blocked AccountMissing, AccountExists."""
        if desired is None:
            return _leave(observed)
        if observed is None:
            return (_create(desired.account),)
        if desired.account.existing:
            return ()
        if not observed.ours:
            raise _blocked(
                "AccountExists",
                f"the account {observed.account.login} exists already and was not made by us: "
                "set spec.identity.existing to true to adopt it, or choose another name in spec.identity.account",
            )
        if observed.account.prohibited:
            change = FieldChange("prohibitLogin", "true", "false")
            return (Action("enable", _target(observed.account.login), changes=(change,), reason="AccountEnabled"),)
        return ()

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenAccount | None:
        """One write to Forge. The password is sealed before the account is made (law 3)."""
        forge, wanted = self.backends.forge, tester.desired.account
        if action.verb == "create":
            password = tester.facts.sealed(ONE_TIME_PASSWORD) or new_password()
            await ports.seal(ONE_TIME_PASSWORD, password)
            made = await forge.create_account(wanted.name, wanted.email, password, wanted.full_name or "")
            return _seen(made, wanted, ours=True)
        if action.verb == "delete":
            await forge.delete_account(action.args[0], purge=wanted.when_removed == "purge")
            return None
        held = await forge.account(wanted.name)
        if held is None:
            return None
        changed = await forge.set_prohibited(held, action.verb == "disable")
        return _seen(changed, wanted, ours=True)

    def learn(self, observed: SeenAccount, facts: Facts) -> AccountFacts | None:
        """Nothing while the account is a stranger's: later steps must not build on it."""
        if not (observed.ours or observed.existing):
            return None
        account = observed.account
        return AccountFacts(account=account.login, forge_id=account.id, made_by_us=observed.ours)

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
        return {"forge_id": str(observed.account.id), _OURS: "yes" if observed.ours else "no"}

    async def listed(self, tester: TesterView, looks: TesterLooks) -> frozenset[str]:
        """In Forge's spelling: names of accounts are the same whatever their case (V)."""
        return frozenset(account.login for account in await looks.accounts())


def _by_name(accounts: Iterable[Account], name: str) -> Account | None:
    return next((each for each in accounts if each.login.casefold() == name.casefold()), None)


def _check_email(wanted: DesiredAccount, accounts: Iterable[Account]) -> None:
    if wanted.existing:
        raise _blocked(
            "AccountMissing",
            f"there is no account {wanted.name} to adopt: correct the name, or set spec.identity.existing to false "
            "to have it made",
        )
    holder = next((each for each in accounts if each.email.casefold() == wanted.email.casefold()), None)
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
    return row.state is ObjectState.INTENDED and not row.identity


def _seen(account: Account, wanted: DesiredAccount, ours: bool) -> SeenAccount:
    return SeenAccount(account, ours, wanted.existing, wanted.when_removed)


def _create(wanted: DesiredAccount) -> Action:
    return Action(
        "create",
        _target(wanted.name),
        Effect.CREATE,
        changes=(
            FieldChange("name", None, wanted.name),
            FieldChange("email", None, wanted.email),
            secret_change("oneTimePassword", known=False),
        ),
        consequences=("the tester must change the one-time password at the first sign-in",),
        reason="AccountCreated",
    )


def _leave(observed: SeenAccount | None) -> tuple[Step, ...]:
    """An adopted account and a stranger's stay as they are, whatever the spec says."""
    if observed is None or not observed.ours or observed.existing or observed.when_removed == "keep":
        return ()
    login = observed.account.login
    if observed.when_removed == "disable":
        if observed.account.prohibited:
            return ()
        change = FieldChange("prohibitLogin", "false", "true")
        return (
            Action(
                "disable",
                _target(login),
                changes=(change,),
                disruption=Disruption.REMOVE,
                consequences=("the account stays, nobody can sign in with it",),
                reason="AccountDisabled",
            ),
        )
    owned = (
        "everything that it owns is deleted with it" if observed.when_removed == "purge" else "the account is deleted"
    )
    return (
        Action(
            "delete",
            _target(login),
            Effect.DELETE,
            disruption=Disruption.REMOVE,
            consequences=(owned,),
            args=(login,),
            reason="AccountDeleted",
        ),
    )


def _target(login: str) -> str:
    return f"account {login}"


def _blocked(reason: str, message: str) -> Blocked:
    return Blocked(message, system=SYSTEM, reason=reason)
