"""The Forge (Forgejo REST, /api/v1): accounts, OAuth apps, releases. See CONTRACTS.md, "Forge" (S, V, P).

Assumptions (A): none. Where versions of the server differ, both are accepted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx

from reconcilers.backends.forge_answers import (
    Account,
    NewOAuthApp,
    OAuthApp,
    Release,
    account_of,
    app_of,
    if_changed,
    latest_of,
    new_app_of,
    release_of,
)
from reconcilers.backends.forge_calls import app_body as _app_body
from reconcilers.backends.forge_calls import asked as _asked
from reconcilers.backends.forge_calls import part as _part
from reconcilers.backends.forge_calls import scope_of as _scope_of
from reconcilers.backends.forge_calls import total as _total
from reconcilers.backends.transport import Wire, said
from reconcilers.backends.unchanged import Unchanged
from reconcilers.errors import Blocked, NameTaken, OutcomeUnknown, OutsideError, Rejected, Transient
from reconcilers.secret import Secret

__all__ = ["Account", "ForgeClient", "NewOAuthApp", "OAuthApp", "Release"]

PAGE = 50  # the server's own ceiling; larger wishes are clamped without a word (V)
LISTING_TRIES = 3
PAGES_AT_ONCE = 4  # of one listing: other calls find places beside them
PAGES_LIMIT = 2000  # of one listing: 100,000 accounts

T = TypeVar("T")


@dataclass
class ForgeClient:
    """Every call may raise Unreachable, Transient, Throttled, Blocked TokenRefused or MissingRights.

    Calls that write may raise OutcomeUnknown as well. `wire` carries the token; `url` is the address that people see.
    """

    wire: Wire
    url: str
    _unchanged: Unchanged = field(default_factory=Unchanged, init=False, repr=False)

    async def whoami(self) -> Account:
        """The account whose token we use. Raises Blocked TokenRefused, also when we are taken for anonymous (P, V)."""
        answer = await self._read("/user")
        if answer.status_code != 200:
            raise self._refusal(answer, writing=False)
        body = self.wire.json(answer, writing=False)
        if not (isinstance(body, dict) and body.get("id") and body.get("login")):
            raise self._token_refused()
        return self._made(account_of, body, writing=False)

    async def accounts(self) -> tuple[Account, ...]:
        """Every account, no organisations; read again when it shifts. Raises Transient ListingShifts, Blocked TooManyAccounts."""
        return await self._whole("/admin/users", "the list of accounts")

    async def _whole(self, path: str, what: str) -> tuple[Account, ...]:
        for _ in range(LISTING_TRIES):
            found = await self._all_accounts(path, what)
            if found is not None:
                return found
        raise Transient(f"{what} changes faster than it can be read", system=self.wire.system, reason="ListingShifts")

    async def _all_accounts(self, path: str, what: str) -> tuple[Account, ...] | None:
        """All pages, or None when they do not fit together: an account went or came between two of them."""
        found: dict[int, Account] = {}
        totals: set[int] = set()
        page, at_once, ended = 1, 1, False
        while not ended:
            asked = range(page, page + at_once)
            for rows, total in await asyncio.gather(*(self._page(path, each) for each in asked)):
                totals.add(-1 if total is None else total)
                found.update((each.id, each) for each in rows)
                ended = not rows or len(found) == total or len(totals) > 1
                if ended:
                    break
            page += at_once
            left = 1 if total is None or ended else -(-(total - len(found)) // len(rows))
            if not ended and page + left - 1 > PAGES_LIMIT:
                told = f"{what} is longer than {PAGES_LIMIT:,} pages of {PAGE}, which is all that is read: an admin deletes some"
                raise Blocked(told, system=self.wire.system, reason="TooManyAccounts")
            at_once = max(1, min(left, PAGES_AT_ONCE))
        complete = len(totals) == 1 and (totals == {-1} or totals == {len(found)})
        return tuple(found.values()) if complete else None

    async def _page(self, path: str, page: int) -> tuple[tuple[Account, ...], int | None]:
        """The accounts on a page, and how many there are in all, if it tells."""
        answer = await self._read(f"{path}?page={page}&limit={PAGE}")
        if answer.status_code != 200:
            raise self._refusal(answer, writing=False)
        return self._all_made(account_of, f"{path} {page}", answer), _total(answer)

    async def account(self, name: str) -> Account | None:
        """None: no such account, or an organisation (see `organisation`). Its login may differ: case, renamed (V, P)."""
        answer = await self._read(f"/users/{_part(name)}")
        if answer.status_code in (301, 302, 307, 308):
            answer = await self._read(self._moved_to(answer))
        found = self._found(account_of, answer)
        if found is None:
            return None
        # An organisation answers like a person, without e-mail (V). Adopting one would be wrong for ever, so ask.
        return None if not found.email and await self.organisation(found.login) else found

    async def organisation(self, name: str) -> bool:
        """Whether that name is an organisation's (V)."""
        answer = await self._read(f"/orgs/{_part(name)}")
        if answer.status_code not in (200, 404):
            raise self._refusal(answer, writing=False)
        return answer.status_code == 200

    async def create_account(self, name: str, email: str, password: Secret, full_name: str = "") -> Account:
        """Make an account with a one-time password; Forge sends no mail (P, V).

        Raises NameTaken, Blocked EmailTaken, Rejected PasswordRefused or AccountRefused.
        """
        body = {
            "username": name,
            "email": email,
            "password": password,
            "full_name": full_name,
            "must_change_password": True,
            "send_notify": False,
        }
        answer = await self._write("POST", "/admin/users", body)
        if answer.status_code == 201:
            return self._made(account_of, self.wire.json(answer, writing=True), writing=True)
        if answer.status_code == 422:
            await self._explain_refused_account(name, email, answer)
        if answer.status_code == 400:
            raise self._rejected(f"the password for {name} is refused", answer, "PasswordRefused")
        raise self._refusal(answer, writing=True)

    async def _explain_refused_account(self, name: str, email: str, answer: httpx.Response) -> NoReturn:
        """422 says validation, taken, reserved and e-mail used alike: only a second look tells the taken name (V)."""
        if await self.account(name) is not None or await self.organisation(name):
            raise NameTaken(f"the name {name} is held already", system=self.wire.system)
        message = said(answer)
        if "mail" in message.lower() and ("use" in message.lower() or "exist" in message.lower()):
            whose = [each.login for each in await self.accounts() if each.email.casefold() == email.casefold()]
            raise Blocked(
                f"{email} belongs to {'the account ' + whose[0] if whose else 'another account'}: an admin names another "
                "address, or adopts that account",
                system=self.wire.system,
                reason="EmailTaken",
            )
        raise self._rejected(f"the account {name} is refused", answer, "AccountRefused")

    async def set_prohibited(self, account: Account, prohibited: bool) -> Account:
        """Forbid or allow signing in. Raises Blocked ForeignSource for accounts of another sign-in source (P)."""
        return await self._edit(account, {"prohibit_login": prohibited})

    async def reset_password(self, account: Account, password: Secret) -> Account:
        """One-time: it must be changed at the next sign-in. Raises Blocked ForeignSource."""
        return await self._edit(account, {"password": password, "must_change_password": True})

    async def _edit(self, account: Account, changes: dict[str, Any]) -> Account:
        if account.source_id != 0:
            raise Blocked(
                f"{account.login} signs in through another source, which an edit would unbind: an admin does it in Forge",
                system=self.wire.system,
                reason="ForeignSource",
            )
        # Both fields together, or some versions rebind the account (P).
        body = {"source_id": 0, "login_name": account.login_name or account.login, **changes}
        answer = await self._write("PATCH", f"/admin/users/{_part(account.login)}", body)
        if answer.status_code == 200:
            return self._made(account_of, self.wire.json(answer, writing=True), writing=True)
        if answer.status_code == 404:
            raise Transient(f"the account {account.login} is gone", system=self.wire.system, reason="AccountGone")
        if answer.status_code in (400, 422):
            raise self._rejected(f"the change of {account.login} is refused", answer, "AccountRefused")
        raise self._refusal(answer, writing=True)

    async def delete_account(self, name: str, purge: bool) -> None:
        """Gone already is fine. `purge` deletes what it owns as well. Raises Blocked OwnsRepositories (P, V)."""
        answer = await self._write("DELETE", f"/admin/users/{_part(name)}{'?purge=true' if purge else ''}")
        if answer.status_code in (200, 204, 404):
            return
        if answer.status_code == 422:
            raise Blocked(
                f"the account {name} cannot be deleted{said(answer)}: an admin moves what it owns, "
                "or the spec says whenRemoved: purge",
                system=self.wire.system,
                reason="OwnsRepositories",
            )
        raise self._refusal(answer, writing=True)

    async def keys(self, name: str) -> tuple[str, ...]:
        """The account's public SSH keys; none for an account that is not there (V)."""
        answer = await self._read(f"/users/{_part(name)}/keys")
        if answer.status_code == 404:
            return ()
        if answer.status_code != 200:
            raise self._refusal(answer, writing=False)
        return tuple(str(row["key"]).strip() for row in self._rows(answer) if isinstance(row, dict) and row.get("key"))

    async def oauth_apps(self) -> tuple[OAuthApp, ...]:
        """All apps of the token's owner, newest first. Without `page` one answer holds them all (V)."""
        answer = await self._read("/user/applications/oauth2")
        if answer.status_code != 200:
            raise self._refusal(answer, writing=False)
        apps, total = self._all_made(app_of, "apps", answer), _total(answer)
        if total is not None and total != len(apps):
            told = f"the list of OAuth apps holds {len(apps)} of {total}"
            raise Transient(told, system=self.wire.system, reason="ListingShifts")
        return apps

    async def oauth_app(self, app_id: int) -> OAuthApp | None:
        """None only on a definite "not found" (V)."""
        return self._found(app_of, await self._read(f"/user/applications/oauth2/{app_id}"))

    async def create_oauth_app(self, name: str, redirect_uri: str) -> NewOAuthApp:
        """Make a confidential app with exactly one redirect address (V)."""
        answer = await self._write("POST", "/user/applications/oauth2", _app_body(name, redirect_uri))
        if answer.status_code == 201:
            return self._made(new_app_of, self.wire.json(answer, writing=True), writing=True)
        if answer.status_code in (400, 422):
            raise self._rejected(f"the OAuth app {name} is refused", answer, "AppRefused")
        raise self._refusal(answer, writing=True)

    async def rotate_oauth_app(self, app_id: int, name: str, redirect_uri: str) -> NewOAuthApp:
        """Always makes a new secret; the old one dies at once (lesson 19, V).

        Raises Transient AppGone when there is no such app.
        """
        answer = await self._write("PATCH", f"/user/applications/oauth2/{app_id}", _app_body(name, redirect_uri))
        if answer.status_code == 200:
            return self._made(new_app_of, self.wire.json(answer, writing=True), writing=True)
        if answer.status_code == 404:
            raise Transient(f"the OAuth app {name} ({app_id}) is gone", system=self.wire.system, reason="AppGone")
        if answer.status_code in (400, 422):
            raise self._rejected(f"the OAuth app {name} is refused", answer, "AppRefused")
        raise self._refusal(answer, writing=True)

    async def delete_oauth_app(self, app_id: int) -> None:
        """Gone already is fine (V)."""
        answer = await self._write("DELETE", f"/user/applications/oauth2/{app_id}")
        if answer.status_code not in (200, 204, 404):
            raise self._refusal(answer, writing=True)

    async def release(self, owner: str, repo: str, tag: str, known: Release | None = None) -> Release | None:
        """The release of a tag (`latest` is a tag like any other, S); None when there is none (V).

        With `known`, the answer of before, the server need only say that nothing has changed (304).
        """
        path = f"/repos/{_part(owner)}/{_part(repo)}/releases/tags/{_part(tag)}"
        answer = await self._read(path, if_changed(known))
        if answer.status_code == 304 and known is not None:
            return known
        return self._found(lambda told: release_of(told, answer.headers), answer)

    async def newest(
        self, owner: str, components: Iterable[str], known: Mapping[str, Release] | None = None, tag: str = "latest"
    ) -> Mapping[str, Release]:
        """What is published of each component under a tag: one question each, side by side. Without an entry: nothing is.

        `known` is what an earlier call with the same tag gave. A component about which Forge gives no clear answer stays as
        it is known; raises when that is not known, when nothing at all was answered, and what stops every call.
        """
        names, before = tuple(dict.fromkeys(components)), known or {}
        answers = await asyncio.gather(
            *(self.release(owner, name, tag, before.get(name)) for name in names), return_exceptions=True
        )
        return latest_of(dict(zip(names, answers, strict=True)), before)

    async def may_read(self, owner: str, repo: str, user: str) -> bool:
        """Whether the account owns the repository or was given access to it, to read or to more (V)."""
        answer = await self._read(f"/repos/{_part(owner)}/{_part(repo)}/collaborators/{_part(user)}")
        if answer.status_code not in (204, 404):
            raise self._refusal(answer, writing=False)
        return answer.status_code == 204 or owner.casefold() == user.casefold()

    async def add_reader(self, owner: str, repo: str, user: str) -> None:
        """The account may read the repository, and no more (V): ask `may_read` first. Done again: fine.

        Raises Blocked RepositoryMissing, Transient AccountGone.
        """
        path = f"/repos/{_part(owner)}/{_part(repo)}"
        answer = await self._write("PUT", f"{path}/collaborators/{_part(user)}", {"permission": "read"})
        if answer.status_code in (200, 201, 204):
            return
        if answer.status_code in (404, 422):
            await self._explain_refused_reader(f"{owner}/{repo}", path, user, answer)
        raise self._refusal(answer, writing=True)

    async def remove_reader(self, owner: str, repo: str, user: str) -> None:
        """The account is no collaborator any more (P). Was none, or is no more: fine."""
        answer = await self._write("DELETE", f"/repos/{_part(owner)}/{_part(repo)}/collaborators/{_part(user)}")
        if answer.status_code in (200, 204, 404):
            return
        if answer.status_code != 422 or await self.account(user) is not None:
            raise self._refusal(answer, writing=True)

    async def collaborators(self, owner: str, repo: str) -> tuple[Account, ...]:
        """Who was given access to a repository, to read or to more; its owner is not among them (P). Nobody, when there is
        no such repository."""
        path = f"/repos/{_part(owner)}/{_part(repo)}"
        try:
            return await self._whole(f"{path}/collaborators", f"the list of who may read {owner}/{repo}")
        except Rejected:
            if (await self._read(path)).status_code != 404:
                raise
            return ()

    async def _explain_refused_reader(self, name: str, path: str, user: str, answer: httpx.Response) -> NoReturn:
        """404 and 422 say alike that the repository or the account is missing, by version: a second look tells."""
        if (await self._read(path)).status_code == 404:
            raise Blocked(
                f"the repository {name} is not there, or not for us: an admin corrects spec.forge.feedbackRepository or "
                "gives the token's owner the right to manage it",
                system=self.wire.system,
                reason="RepositoryMissing",
            )
        if await self.account(user) is None:
            raise Transient(f"the account {user} is gone", system=self.wire.system, reason="AccountGone")
        raise self._rejected(f"{user} cannot be given access to {name}", answer, "ReaderRefused")

    def authorize_url(self) -> str:
        """Where an anonymous visitor of a gated door is sent to (V)."""
        return f"{self.url.rstrip('/')}/login/oauth/authorize"

    async def aclose(self) -> None:
        await self.wire.aclose()

    async def _read(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return await self.wire.send("GET", f"/api/v1{path}", writing=False, headers=headers)

    async def _write(self, method: str, path: str, body: object = None) -> httpx.Response:
        return await self.wire.send(method, f"/api/v1{path}", writing=True, body=body)

    def _moved_to(self, answer: httpx.Response) -> str:
        """Where a renamed user is now (P). Only the name is believed: we ask the same server, never another."""
        rest = urlsplit(answer.headers.get("Location", "")).path.partition("/api/v1/users/")[2]
        if not rest or "/" in rest:
            self.wire.unclear(False, "the answer for a renamed user does not say what it is called now")
        return f"/users/{rest}"

    def _rows(self, answer: httpx.Response) -> list[Any]:
        rows = self.wire.json(answer, writing=False)
        if not isinstance(rows, list):
            self.wire.unclear(False, f"{answer.request.url.path} answered no list")
        return rows

    def _all_made(self, make: Callable[[Any], T], listing: str, answer: httpx.Response) -> tuple[T, ...]:
        return self._unchanged.made(
            listing, answer.content, lambda: tuple(self._made(make, row, writing=False) for row in self._rows(answer))
        )

    def _found(self, make: Callable[[Any], T], answer: httpx.Response) -> T | None:
        """The one thing that was asked for; None: it is not there."""
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise self._refusal(answer, writing=False)
        return self._made(make, self.wire.json(answer, writing=False), writing=False)

    def _made(self, make: Callable[[Any], T], body: Any, *, writing: bool) -> T:
        """A value from JSON. A field missing or of another type means that we did not understand what happened."""
        try:
            return make(body)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self.wire.unclear(writing, f"the answer is not what Forge answers ({type(error).__name__})")

    def _refusal(self, answer: httpx.Response, *, writing: bool) -> OutsideError:
        """What any other status means, the same for every call."""
        if answer.status_code == 401:
            return self._token_refused()
        if answer.status_code == 403:
            return Blocked(
                f"{_asked(answer)} is forbidden{said(answer)}: give the controller's token {_scope_of(answer)}",
                system=self.wire.system,
                reason="MissingRights",
            )
        if 400 <= answer.status_code < 500:
            return self._rejected(f"{_asked(answer)} answered {answer.status_code}", answer, "Rejected")
        kind: type[OutsideError] = OutcomeUnknown if writing else Transient
        return kind(f"{_asked(answer)} answered {answer.status_code}, which it never should", system=self.wire.system)

    def _rejected(self, what: str, answer: httpx.Response, reason: str) -> OutsideError:
        return Rejected(f"{what}{said(answer)}", system=self.wire.system, reason=reason)

    def _token_refused(self) -> Blocked:
        told = "it does not accept our token: an admin makes a new one and puts it where spec.forge.token points"
        return Blocked(told, system=self.wire.system, reason="TokenRefused")
