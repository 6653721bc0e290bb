"""What the front door must answer to a stranger, and what an answer proves. Pure.

`demands` lists the questions: paths that must ask for sign-in (many: a bare address and status pages once stood open,
lesson 22), those that must not, and a foreign Host. `judge` gives the verdict on one answer, `prove` on all of one side.

    PROTECTED   it asks for sign-in at *this* Forge, for exactly this tester's app, or refuses
    OPEN        it serves a stranger, or sends them somewhere else
    UNPROVEN    no connection, a server's error, not found: neither
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from urllib.parse import parse_qs, unquote_plus, urlsplit

from reconcilers.backends.probes import ProbeAnswer
from specs.desired import DesiredTester

COCKPIT = "/hero_cockpit/web/"
GATED_PATHS = ("/", COCKPIT, "/hero_router/", "/status", "/api", "/rpc")
HEALTH_PATH = "/health"
CALLBACK_PATH = "/oauth/callback"
FOREIGN_HOST = "another-host.invalid"  # a name that is registered nowhere (RFC 2606)
_WITHOUT_PAGES = frozenset({"hero_proc", "hero_router", "hero_proxy", "hero_cockpit"})
_REFUSALS = frozenset({401, 403})
_UNKNOWN_HOST = frozenset({404, 421})
_CLIENT_ID = "client_id="
_QUOTED_NAME = re.compile(r"(?:\A|&)[^=&]*[%+]")
_PLAIN = re.compile(r"[A-Za-z0-9:/?&=%+._~-]*")  # words that every reader of addresses cuts alike
_REDIRECTS = range(300, 400)


class Verdict(StrEnum):
    PROTECTED = "protected"
    OPEN = "open"
    UNPROVEN = "unproven"


class Expect(StrEnum):
    """What a path must do: ask for sign-in, or answer without it; a foreign Host may also be unknown."""

    GATED = "gated"
    HEALTH = "health"
    CALLBACK = "callback"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Demand:
    host: str
    path: str
    expect: Expect


@dataclass(frozen=True, slots=True)
class SignIn:
    """Where a stranger must be sent: Forge's authorize address, with this client id."""

    authorize_url: str
    client_id: str


@dataclass(frozen=True, slots=True)
class SideProof:
    """What one side (loopback, inner, outside) proves. `alive`: it answered at all. `example`: the worst answer, in words."""

    verdict: Verdict
    alive: bool = False
    example: str = ""


NOTHING_ASKED = SideProof(Verdict.UNPROVEN, example="nothing was asked")


def redirect_uri(fqdn: str) -> str:
    """The one redirect address of the tester's OAuth app."""
    return f"https://{fqdn}{CALLBACK_PATH}"


def demands(fqdn: str, desired: DesiredTester) -> tuple[Demand, ...]:
    """Every question, in a stable order: gated paths, free ones, a foreign Host. Public paths are exempt (lesson 24)."""
    return _demands(fqdn, _apps(desired), desired.public_paths)


def outside_demands(fqdn: str, desired: DesiredTester) -> tuple[Demand, ...]:
    """Those that can be put from outside: a foreign Host never reaches this machine through the gateway."""
    return tuple([each for each in demands(fqdn, desired) if each.expect is not Expect.FOREIGN])


def gated_outside(fqdn: str, desired: DesiredTester) -> Demand | None:
    """One question from outside that must be answered by asking for sign-in; None when all paths are public."""
    return next((each for each in demands(fqdn, desired) if each.expect is Expect.GATED), None)


def _apps(desired: DesiredTester) -> tuple[str, ...]:
    return tuple([f"/{c.name}/" for c in desired.components if c.services and c.name not in _WITHOUT_PAGES])


@lru_cache(maxsize=1024)
def _demands(fqdn: str, apps: tuple[str, ...], public_paths: tuple[str, ...]) -> tuple[Demand, ...]:
    """Asked for by every step of a pass that has to do with the door."""
    gated = (path for path in dict.fromkeys((*GATED_PATHS, *apps)) if not path.startswith(public_paths))
    return (
        *(Demand(fqdn, path, Expect.GATED) for path in gated),
        Demand(fqdn, HEALTH_PATH, Expect.HEALTH),
        Demand(fqdn, CALLBACK_PATH, Expect.CALLBACK),
        Demand(FOREIGN_HOST, "/", Expect.FOREIGN),
    )


def judge(demand: Demand, answer: ProbeAnswer, sign_in: SignIn) -> Verdict:
    """The verdict on one answer. For free paths PROTECTED means: as it should be; they are never OPEN."""
    if answer.status is None:
        return Verdict.UNPROVEN
    if demand.expect in (Expect.HEALTH, Expect.CALLBACK):
        return _judge_free(demand, answer, sign_in)
    if answer.status in _REFUSALS or asks_for_sign_in(answer, sign_in):
        return Verdict.PROTECTED
    if demand.expect is Expect.FOREIGN and answer.status in _UNKNOWN_HOST:
        return Verdict.PROTECTED
    if 200 <= answer.status < 400:
        return Verdict.OPEN
    return Verdict.UNPROVEN


def _judge_free(demand: Demand, answer: ProbeAnswer, sign_in: SignIn) -> Verdict:
    """Health must answer 200; the callback, asked without a code, may say what it likes, but not be missing or gated."""
    if demand.expect is Expect.HEALTH:
        return Verdict.PROTECTED if answer.status == 200 else Verdict.UNPROVEN
    gated = _points_at(_place_and_query(answer.location)[0], sign_in.authorize_url)
    return Verdict.UNPROVEN if answer.status == 404 or gated else Verdict.PROTECTED


def asks_for_sign_in(answer: ProbeAnswer, sign_in: SignIn) -> bool:
    """Whether it sends a stranger to sign in for this very tester: nobody's machine but the tester's own does."""
    if answer.status not in _REDIRECTS:
        return False
    there, query = _place_and_query(answer.location)
    return _points_at(there, sign_in.authorize_url) and _client_ids(query) == [sign_in.client_id]


def _place_and_query(location: str) -> tuple[str, str]:
    """Cut by hand where nothing in the words could mean anything else: a look brings dozens, each drawn anew in its query."""
    if _PLAIN.fullmatch(location):
        there, _, query = location.partition("?")
        return there, query
    return location, _query_of(location)


def _query_of(location: str) -> str:
    try:
        return urlsplit(location).query
    except ValueError:
        return ""


def _client_ids(query: str) -> list[str]:
    """Every `client_id` that a query tells."""
    if not _PLAIN.fullmatch(query) or _QUOTED_NAME.search(query):
        return parse_qs(query).get("client_id", [])
    told = [pair[len(_CLIENT_ID) :] for pair in query.split("&") if pair.startswith(_CLIENT_ID)]
    return [unquote_plus(value) for value in told if value]


@lru_cache(maxsize=1024)
def _points_at(location: str, target: str) -> bool:
    try:
        there, wanted = urlsplit(location), urlsplit(target)
        same_place = (there.scheme, there.hostname, there.port) == (wanted.scheme, wanted.hostname, wanted.port)
    except ValueError:
        return False
    return same_place and there.username is None and there.path.rstrip("/") == wanted.path.rstrip("/")


def prove(
    asked: Sequence[Demand], answers: Mapping[Demand, ProbeAnswer], sign_in: SignIn, *, outside: bool = False
) -> SideProof:
    """The verdict on one side: OPEN if any answer is, PROTECTED if all are, else UNPROVEN.

    From outside a 5xx is the gateway's own and no sign of life of the machine.
    """
    silent = ProbeAnswer(None, error="it was not asked")
    verdicts = [(judge(each, answers.get(each, silent), sign_in), each) for each in asked]
    alive = any(_alive(answers.get(each, silent), outside) for each in asked)
    for worst in (Verdict.OPEN, Verdict.UNPROVEN):
        found = next((each for verdict, each in verdicts if verdict is worst), None)
        if found is not None:
            return SideProof(worst, alive, _in_words(found, answers.get(found, silent)))
    return SideProof(Verdict.PROTECTED, alive) if verdicts else NOTHING_ASKED


def _alive(answer: ProbeAnswer, outside: bool) -> bool:
    return answers_outside(answer) if outside else answer.status is not None


def answers_outside(answer: ProbeAnswer) -> bool:
    """Whether a machine answers at its public name: a 5xx is the gateway's own."""
    return answer.status is not None and answer.status < 500


def _in_words(demand: Demand, answer: ProbeAnswer) -> str:
    where = demand.path if demand.expect is not Expect.FOREIGN else f"{demand.path} with a foreign Host"
    if answer.status is None:
        return f"{where} did not answer ({answer.error or 'no connection'})"
    target = urlsplit(answer.location).netloc if answer.location else ""
    return f"{where} answered {answer.status}" + (
        f" towards {target or answer.location[:60]}" if answer.location else ""
    )
