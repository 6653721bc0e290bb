"""Forge's accounts, organisations and tokens: what the REST API reads and changes. No HTTP here."""

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from examples.simulator.forge_names import mail_problem, name_problem, password_good
from examples.simulator.forge_oauth import OAuth
from examples.simulator.forge_repos import Repositories
from examples.simulator.realm import Realm
from examples.simulator.records import Account, ForgeState, Key, Organisation


class ForgeError(Exception):
    """A refusal with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Caller:
    """Who makes a call. `account` None: nobody signed in. `scopes` of a token; a password has them all."""

    account: Account | None = None
    scopes: tuple[str, ...] = ("all",)
    by_token: bool = False

    @property
    def is_admin(self) -> bool:
        return self.account is not None and self.account.admin


Shows = Callable[[str, str, float], bool]
Cuts = Callable[[str, list[Any]], list[Any]]


def digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


class Forge:
    """One Forgejo server. `oauth`: sign-in and its applications. `repositories`: releases, statuses, collaborators."""

    def __init__(
        self,
        state: ForgeState,
        realm: Realm,
        shows: Shows = lambda listing, name, age: True,
        cuts: Cuts = lambda listing, rows: rows,
    ) -> None:
        """`shows(listing, name, age)`: whether a listing has a thing of this name and age in simulated seconds already;
        `cuts(listing, rows)`: what it shows of its rows."""
        self.state = state
        self.shows = shows
        self.cuts = cuts
        self.realm = realm
        self.oauth = OAuth(self, realm)
        self.repositories = Repositories(self, realm)

    def next_id(self) -> int:
        self.state.next_id += 1
        return self.state.next_id - 1

    # -- who is calling

    def caller(self, authorization: str) -> Caller:
        """Raises ForgeError 401 for a bad token or password, 403 for somebody who may not come in."""
        kind, _, value = authorization.partition(" ")
        if not authorization:
            return Caller()
        if kind.lower() == "basic":
            return self._by_password(value)
        token = self.state.tokens.get(value.strip()) if kind.lower() in ("token", "bearer") else None
        account = self.account(token.account) if token else None
        if token is None or account is None:
            raise ForgeError(401, "invalid username, password or token")
        self._may_come_in(account)
        return Caller(account, tuple(token.scopes), by_token=True)

    def _by_password(self, value: str) -> Caller:
        try:
            name, _, password = base64.b64decode(value).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise ForgeError(401, "invalid username, password or token") from None
        account = self.account(name)
        if account is None or account.password != digest(password):
            raise ForgeError(401, "invalid username, password or token")
        self._may_come_in(account)
        return Caller(account)

    def _may_come_in(self, account: Account) -> None:
        if account.prohibit_login or not account.active:
            raise ForgeError(403, "This account is prohibited from signing in, please contact your site administrator.")
        if account.must_change:
            address = f"{self.realm.forge_url}/user/change_password"
            raise ForgeError(403, f"You must change your password. Change it at: {address}")

    # -- accounts

    def account(self, name: str) -> Account | None:
        """Case does not matter."""
        return self.state.accounts.get(name.lower())

    def need_account(self, name: str) -> Account:
        return self.account(name) or refuse(404, "GetUserByName")

    def organisation(self, name: str) -> Organisation | None:
        return self.state.organisations.get(name.lower())

    def create_account(self, name: str, email: str, password: str, **more: object) -> Account:
        """Raises ForgeError: 422 for anything about name or mail, 400 for the password."""
        if problem := name_problem(name) or mail_problem(email):
            refuse(422, problem)
        if self.account(name) or self.organisation(name):
            refuse(422, f"user already exists [name: {name}]")
        if any(other.email.lower() == email.lower() for other in self.state.accounts.values()):
            refuse(422, f"e-mail already in use [email: {email}]")
        if not password_good(password):
            refuse(400, "PasswordIsRequired" if not password else "PasswordComplexity")
        account = Account(
            id=self.next_id(), name=name, email=email, password=digest(password), created=self.realm.now()
        )
        account = account.model_copy(update=more)
        self.state.accounts[name.lower()] = account
        return account

    def delete_account(self, account: Account, caller: Caller, purge: bool) -> None:
        """Raises ForgeError 422 when the account still owns something, is the last admin or the caller."""
        if caller.account is account:
            refuse(422, "you cannot delete yourself")
        if account.admin and sum(other.admin for other in self.state.accounts.values()) == 1:
            refuse(422, f"can not delete the last admin user [uid: {account.id}]")
        owned = [key for key in self.state.repositories if key.startswith(f"{account.name.lower()}/")]
        orgs = [org for org in self.state.organisations.values() if account.name in org.owners]
        if owned and not purge:
            refuse(422, f"user still has ownership of repositories [uid: {account.id}]")
        if orgs and not purge:
            refuse(422, f"user still has membership of organizations [uid: {account.id}]")
        if account.packages and not purge:
            refuse(422, f"user still has ownership of packages [uid: {account.id}]")
        for key in owned:
            del self.state.repositories[key]
        for org in orgs:
            org.owners.remove(account.name)
        for repository in self.state.repositories.values():
            repository.collaborators.pop(account.name, None)
        self.oauth.forget_account(account)
        self.state.tokens = {
            value: token for value, token in self.state.tokens.items() if token.account != account.name
        }
        del self.state.accounts[account.name.lower()]

    def rename_account(self, old: str, new: str) -> None:
        """What an administrator does in the web pages: its old names then answer 307, for as long as nobody else has them."""
        account = self.need_account(old)
        del self.state.accounts[old.lower()]
        former = [name for name, present in self.state.renamed.items() if present.lower() == old.lower()]
        self.state.renamed.update(dict.fromkeys([*former, old.lower()], new))
        self.state.renamed.pop(new.lower(), None)
        for token in self.state.tokens.values():
            token.account = new if token.account == account.name else token.account
        for app in self.state.apps:
            app.owner = new if app.owner == account.name else app.owner
        account.name = new
        self.state.accounts[new.lower()] = account

    def add_key(self, account: Account, title: str, key: str) -> Key:
        if not key.startswith(("ssh-", "ecdsa-", "sk-")):
            refuse(422, "Invalid key content: not an SSH public key")
        if any(other.key == key for holder in self.state.accounts.values() for other in holder.keys):
            refuse(422, "Key content has been used as non-deploy key")
        made = Key(id=self.next_id(), title=title, key=key)
        account.keys.append(made)
        return made


def refuse(status: int, message: str) -> NoReturn:
    raise ForgeError(status, message)
