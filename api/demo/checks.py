"""Is it true? The demo asks the world's own books, and people of the world sign in at every front door."""

from __future__ import annotations

import secrets
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from api.demo.world import NOBODY, Addresses, World
from controller.queries import COCKPIT, TesterSummary

PERSON = "X-Sim-User"  # the world lets whoever names himself sign in at its Forge
FORCED_CHANGE = "/user/settings/change_password"
GUARDED = ("/", COCKPIT, "/api", "/rpc")
MOST_HOPS = 12


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    ok: bool


async def sums(world: World, testers: tuple[TesterSummary, ...]) -> tuple[Check, ...]:
    """Exactly one of everything for each tester."""
    books = await world.books()
    return (*_counts(books, testers), _mail(books, testers), _no_violations(books))


async def doors(world: World, testers: tuple[TesterSummary, ...]) -> tuple[Check, ...]:
    """Doors that ask for sign-in and let in exactly the allowlist."""
    people = tuple((await world.books())["accounts"])
    return tuple([check for one in testers for check in await _door(world.addresses, one, people)])


def counts(books: Mapping[str, Any], testers: tuple[TesterSummary, ...]) -> dict[str, int]:
    """The world's own numbers. Of the accounts, those of the testers: it holds others besides."""
    held = Counter(name.casefold() for name in books["accounts"])
    return {
        "accounts": sum(held[one.record.desired.account.name.casefold()] for one in testers),
        "machines": books["vms"],
        "gateways": books["gateways"],
        "sign-in apps": len(books["apps"]),
    }


MAKING = {
    "accounts": " /api/v1/admin/users",
    "machines": " deploy_vm",
    "gateways": " deploy_webgateway",
    "sign-in apps": " /api/v1/user/applications/oauth2",
}
"""How the call that makes one ends in the world's log."""


async def undoubled(world: World, testers: tuple[TesterSummary, ...]) -> tuple[Check, ...]:
    """After a drill: what was asked for how often, and that nothing of it was done twice."""
    books, log, doubles = await world.books(), await world.log(), await world.doubles()
    written = [f" {one['what']}" for one in log if one["writing"] and one["method"] == "POST"]
    found = []
    for what, number in counts(books, testers).items():
        calls = sum(one.endswith(MAKING[what]) for one in written)
        asked = f"asked for {calls} time{'' if calls == 1 else 's'}"
        found.append(Check(f"{what}: {asked}, there are {number} for {len(testers)} testers", number == len(testers)))
    twice = Check(f"nothing is there twice{''.join(f'; {one}' for one in doubles)}", not doubles)
    return (*found, twice, _mail(books, testers), _no_violations(books))


def mailed(books: Mapping[str, Any], testers: tuple[TesterSummary, ...]) -> tuple[str, ...]:
    """The testers whom a letter reached, by the world's own post."""
    reached = {to.casefold() for letter in books["mailbox"] for to in letter["to"]}
    return tuple(one.record.name for one in testers if one.record.desired.account.email.casefold() in reached)


def mail_words(books: Mapping[str, Any], testers: tuple[TesterSummary, ...]) -> str:
    """`welcome mail: sent to 2 (alice, carol)`."""
    names = mailed(books, testers)
    return f"welcome mail: sent to {len(names)}" + (f" ({', '.join(names)})" if names else "")


def _mail(books: Mapping[str, Any], testers: tuple[TesterSummary, ...]) -> Check:
    wanted = tuple(one.record.name for one in testers if one.record.desired.welcome.send)
    letters = Counter(letter["key"] for letter in books["mailbox"])
    right = mailed(books, testers) == wanted and all(count == 1 for count in letters.values())
    return Check(f"{mail_words(books, testers)}, nobody twice", right)


def _counts(books: Mapping[str, Any], testers: tuple[TesterSummary, ...]) -> Iterator[Check]:
    for what, number in counts(books, testers).items():
        yield Check(f"{number} {what} for {len(testers)} testers", number == len(testers))


def _no_violations(books: Mapping[str, Any]) -> Check:
    return Check("no door was ever seen open", not books["violations"])


async def _door(addresses: Addresses, one: TesterSummary, people: tuple[str, ...]) -> list[Check]:
    name, origin = one.record.name, one.link.removesuffix(COCKPIT)
    asked = [await _asks_for_sign_in(addresses, origin + path) for path in GUARDED]
    found = [Check(f"{name}: {len(GUARDED)} paths ask strangers to sign in", all(asked))]
    allowed = {person.casefold() for person in one.record.desired.allowlist}
    let_in = [person for person in people if await signs_in(addresses, one.link, person) == 200]
    right = {person.casefold() for person in let_in} == allowed
    return [*found, Check(f"{name}: of {len(people)} people, the door lets in {', '.join(sorted(let_in))}", right)]


async def _asks_for_sign_in(addresses: Addresses, url: str) -> bool:
    async with _outside(addresses) as client:
        answer = await client.get(url)
    authorize = f"{addresses.forge_url}/login/oauth/authorize"
    return answer.is_redirect and answer.headers["location"].startswith(authorize)


async def signs_in(addresses: Addresses, url: str, person: str) -> int:
    """Open an address as a browser does in which that person is signed in at Forge. Returns the last answer's status."""
    async with _outside(addresses) as outside, httpx.AsyncClient(trust_env=False, verify=NOBODY) as forge:
        status = 0
        for _ in range(MOST_HOPS):
            at_forge = urlsplit(url).netloc == urlsplit(addresses.forge_url).netloc
            answer = await (forge.get(url, headers={PERSON: person}) if at_forge else outside.get(url))
            status = answer.status_code
            if not answer.is_redirect:
                break
            onward = urljoin(url, answer.headers["location"])
            if urlsplit(onward).path == FORCED_CHANGE:
                # A new account must replace its one-time password first; then the same address again.
                await forge.post(onward, headers={PERSON: person}, data={"password": _password()})
                continue
            url = onward
        return status


def _password() -> str:
    return f"Aa1!{secrets.token_urlsafe(18)}"


def _outside(addresses: Addresses) -> httpx.AsyncClient:
    """Public names are reached through the world's proxy, which resolves them."""
    proxy = addresses.socks.replace("socks5:", "socks5h:")
    trust = ssl.create_default_context(cafile=addresses.ca_file)
    return httpx.AsyncClient(proxy=proxy, verify=trust, trust_env=False)
