"""The door's decision table: a readable table of the cases, and every combination held against the laws of the door."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from reconcilers.actions import Action, Disruption, Wait
from reconcilers.actions import Step as Planned
from reconcilers.backends.machine import Domain
from reconcilers.door import (
    ALLOWLIST_KEY,
    CLIENT_SECRET_KEY,
    ISSUER_KEY,
    SeenDoor,
    is_kept,
    proof_digest,
    same_domain,
    wanted_domain,
    wanted_values,
)
from reconcilers.door_rules import pause_left, plan_door, plan_first, plan_leaving
from reconcilers.facts import Facts, SignInAppFacts, SignInGateFacts
from reconcilers.listener import LISTENER_KEY, LISTENER_ON
from reconcilers.proof import SideProof, Verdict
from reconcilers.secret import HIDDEN, Secret
from tests.reconcilers.data import FQDN, NOW, a_fleet, a_tester, actions, brief, some_facts

DESIRED = a_tester(allowlist=["Bob"])
FACTS = some_facts()
DIGEST = proof_digest(DESIRED, FACTS)
GOOD = SideProof(Verdict.PROTECTED, alive=True)
OPEN = SideProof(Verdict.OPEN, alive=True, example="/status answered 200")
DEAD = SideProof(Verdict.UNPROVEN, alive=False, example="/ did not answer (refused)")
ILL = SideProof(Verdict.UNPROVEN, alive=True, example="/ answered 500")
VALUES = {key: value for key, value in wanted_values(DESIRED, FACTS).items() if value is not None}
ON = {**VALUES, LISTENER_KEY: LISTENER_ON}
OURS = wanted_domain(DESIRED, FACTS)
PROVEN = SignInGateFacts(proven=DIGEST, public=True, listening=True)


def door(**changes: Any) -> SeenDoor:
    """A door that stands as it should, and was not asked from outside this time."""
    fine = {
        "at": NOW,
        "controllable": True,
        "digest": DIGEST,
        "values": ON,
        "domains": (OURS,),
        "loopback": GOOD,
        "inner": GOOD,
        "kept": True,
    }
    return SeenDoor(**{**fine, **changes})


def shut_door(**changes: Any) -> SeenDoor:
    return door(**{"values": VALUES, "inner": DEAD, **changes})


def facts(gate: SignInGateFacts = PROVEN, **fields: Any) -> Facts:
    return some_facts(gate, **fields)


def reporting(gate: SignInGateFacts = PROVEN) -> Facts:
    return some_facts(gate, fleet=a_fleet(safety={"innerProof": "report"}))


FRESH = SignInGateFacts()
OPENED = SignInGateFacts(listening=True, opened_at=NOW - timedelta(seconds=30))
OVERDUE = SignInGateFacts(listening=True, opened_at=NOW - timedelta(minutes=2))
IN_VAIN = SignInGateFacts(listening=True, opened_at=NOW - timedelta(minutes=9))
CUT = SignInGateFacts(cut=True)
SHUT = ["shut listener of the front door", "restart_proxy service hero_proxy"]
RESTART = ["restart_proxy service hero_proxy"]
CUT_GATEWAY = ["cut_gateway gateway alicex7k2p9"]
OPEN_IT = ["open listener of the front door", *RESTART]
JUST_WRITE = ["write_sign_in settings of hero_proxy"]
WRITE = [*JUST_WRITE, *RESTART]
REGISTER = [f"set_domain {FQDN}"]
STRANGER = Domain("old.example.org", "oauth", "http://127.0.0.1:9988")
WEAK = replace(OURS, auth_mode="none")
NOBODY = {key: value for key, value in ON.items() if key != ALLOWLIST_KEY}

TABLE: Mapping[str, tuple[SeenDoor, Facts, list[str]]] = {
    # in order
    "proven": (door(), facts(), []),
    "proven by this very look": (door(outside=GOOD, whole=True), facts(FRESH), []),
    "one path of a proven door": (door(outside=GOOD), facts(), []),
    "a proven door that is dead from outside stays": (door(outside=DEAD), facts(), []),
    # seen open
    "open from outside": (door(outside=OPEN), facts(), SHUT),
    "open inside": (door(inner=OPEN), facts(), SHUT),
    "open on loopback, the listener on": (door(loopback=OPEN), facts(), SHUT),
    "open, and shut in vain for as long as a gateway may take to go": (door(outside=OPEN), facts(IN_VAIN), CUT_GATEWAY),
    "open, and cut off in vain a moment ago": (
        door(outside=OPEN),
        facts(IN_VAIN.model_copy(update={"cut": True, "cut_at": NOW - timedelta(minutes=4)})),
        SHUT,
    ),
    "unproven for long, and asks for sign-in": (door(outside=DEAD), facts(IN_VAIN), SHUT),
    "open, and everything else wrong too": (
        door(inner=OPEN, values={LISTENER_KEY: LISTENER_ON}, stale=True),
        facts(),
        SHUT,
    ),
    "open, already set shut, still listening": (shut_door(inner=OPEN), facts(FRESH), RESTART),
    "open inside, only reported": (door(inner=OPEN), reporting(), []),
    "open from outside, inside only reported": (door(outside=OPEN), reporting(), SHUT),
    "open on loopback before anything is set up": (
        shut_door(loopback=OPEN, values={}, domains=()),
        facts(FRESH),
        [*JUST_WRITE, *REGISTER, *RESTART],
    ),
    # out of reach
    "out of reach": (
        door(controllable=False, values={}, loopback=DEAD, inner=DEAD),
        facts(),
        ["wait MachineOutOfReach"],
    ),
    "out of reach, dead outside": (door(controllable=False, outside=DEAD), facts(), ["wait MachineOutOfReach"]),
    "out of reach, protected outside": (door(controllable=False, outside=GOOD), facts(), ["wait MachineOutOfReach"]),
    "out of reach, open outside": (door(controllable=False, outside=OPEN), facts(), CUT_GATEWAY),
    "supervisor dead, open inside": (door(controllable=False, values={}, inner=OPEN), facts(), CUT_GATEWAY),
    "supervisor dead, loopback not set up": (
        door(controllable=False, values={}, inner=DEAD, loopback=OPEN),
        facts(FRESH),
        ["wait MachineOutOfReach"],
    ),
    "cut, and open again all the same": (door(controllable=False, outside=OPEN), facts(CUT), CUT_GATEWAY),
    "cut, and back": (door(), facts(CUT), SHUT),
    # what hero_proxy reads
    "a setting drifted": (door(values={**ON, ISSUER_KEY: Secret("https://evil.test")}), facts(), WRITE),
    "the allowlist is gone": (door(values=NOBODY), facts(), WRITE),
    "somebody more on the allowlist": (
        door(values={**ON, ALLOWLIST_KEY: Secret("Alice-B,mik,Bob,mallory")}),
        facts(),
        WRITE,
    ),
    "the allowlist in another order and case": (
        door(values={**ON, ALLOWLIST_KEY: Secret(" bob, MIK,alice-b,")}),
        facts(),
        [],
    ),
    "the issuer with a slash": (door(values={**ON, ISSUER_KEY: Secret("https://forge.example.org/")}), facts(), []),
    "the client secret is being made anew": (door(), facts(secrets={}), ["wait WaitingForSignInApp"]),
    "a setting drifted while hero_proxy is silent": (
        shut_door(values={}, domains=None, loopback=DEAD),
        facts(FRESH),
        WRITE,
    ),
    # the domain
    "no domain": (shut_door(domains=()), facts(FRESH), REGISTER),
    "not gated": (shut_door(domains=(WEAK,)), facts(FRESH), REGISTER),
    "an old one besides": (door(domains=(OURS, STRANGER)), facts(), ["remove_domain old.example.org"]),
    "only an old one": (door(domains=(STRANGER,)), facts(), [*REGISTER, "remove_domain old.example.org"]),
    "the front door is silent": (shut_door(domains=None, loopback=DEAD), facts(FRESH), ["wait WaitingForFrontDoor"]),
    # restart, open, prove
    "changed since its start": (door(stale=True), facts(), RESTART),
    "ready to be opened": (shut_door(), facts(FRESH), OPEN_IT),
    "not asking on loopback": (shut_door(loopback=ILL), facts(FRESH), ["wait DoorNotAsking"]),
    "open on loopback, listener off": (shut_door(loopback=OPEN), facts(FRESH), ["wait DoorNotAsking"]),
    "shut a moment ago": (shut_door(), facts(SignInGateFacts(shuts=1, shut_at=NOW)), ["wait DoorShut"]),
    "shut long enough ago": (
        shut_door(),
        facts(SignInGateFacts(shuts=1, shut_at=NOW - timedelta(seconds=5))),
        OPEN_IT,
    ),
    "opened": (door(inner=DEAD), facts(OPENED), ["wait ProvingDoor"]),
    "opened, dead outside": (door(outside=DEAD, whole=True), facts(OPENED), ["wait ProvingDoor"]),
    "opened, one path is not enough": (door(outside=GOOD), facts(OPENED), ["wait ProvingDoor"]),
    "opened, inner dead, only reported": (door(inner=DEAD, outside=GOOD, whole=True), reporting(OPENED), []),
    "not proven in time": (door(outside=DEAD, whole=True), facts(OVERDUE), SHUT),
    "not proven in time, and in disorder": (door(values=NOBODY), facts(OVERDUE), SHUT),
    "proven at the last moment": (door(outside=GOOD, whole=True), facts(OVERDUE), []),
    "opened before the clock was set back": (
        door(outside=ILL, whole=True),
        facts(SignInGateFacts(listening=True, opened_at=NOW + timedelta(days=1))),
        SHUT,
    ),
    "shut before the clock was set back": (
        shut_door(),
        facts(SignInGateFacts(shuts=9, shut_at=NOW + timedelta(days=1))),
        OPEN_IT,
    ),
    # set open, and the process ended before the restart
    "set open, silent, to be restarted": (
        door(loopback=DEAD, inner=DEAD, domains=None, stale=True),
        facts(FRESH),
        SHUT,
    ),
    "set open, ill, to be restarted": (door(loopback=ILL, inner=DEAD, stale=True), facts(FRESH), SHUT),
    "set open, silent, to be written": (
        door(loopback=DEAD, inner=DEAD, values={**ON, ISSUER_KEY: Secret("x")}),
        facts(FRESH),
        SHUT,
    ),
    "set open, asking, to be restarted": (door(inner=DEAD, stale=True), facts(FRESH), RESTART),
    "proven for another address": (door(digest="other"), facts(), ["wait ProvingDoor"]),
    "proven, and the inside is silent now": (door(loopback=DEAD, inner=DEAD), facts(), ["wait ProvingDoor"]),
    "listening though it was never set to": (shut_door(inner=GOOD), facts(FRESH), RESTART),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table(name: str) -> None:
    seen, given, expected = TABLE[name]
    assert (
        brief(plan_door(DESIRED, replace(seen, kept=is_kept(DESIRED, given, seen.values, seen.domains)), given))
        == expected
    )


# ------------------------------------------------------------------ every combination

SIDES = (GOOD, OPEN, DEAD)
LISTENERS = (ON, VALUES, NOBODY, {})
DOMAINS: tuple[tuple[Domain, ...] | None, ...] = ((OURS,), (), (WEAK,), (OURS, STRANGER), None)
OUTSIDES = ((None, False), (GOOD, True), (GOOD, False), (OPEN, True), (DEAD, True))
GATES = (FRESH, PROVEN, OPENED, OVERDUE, CUT)
Case = tuple[SeenDoor, Facts, bool]


def combinations() -> Iterator[Case]:
    books = [(enforce, facts(gate) if enforce else reporting(gate)) for enforce, gate in product((True, False), GATES)]
    for controllable, values, domains, stale in product((True, False), LISTENERS, DOMAINS, (True, False)):
        kept = is_kept(DESIRED, FACTS, values, domains)
        seen = SeenDoor(NOW, controllable, DIGEST, values, domains, stale, kept=kept)
        for loopback, inner, (outside, whole) in product(SIDES, SIDES, OUTSIDES):
            looked = replace(seen, loopback=loopback, inner=inner, outside=outside, whole=whole)
            yield from ((looked, given, enforce) for enforce, given in books)


def is_open(seen: SeenDoor, enforce: bool) -> bool:
    return seen.outside is OPEN or (enforce and seen.inner is OPEN) or (seen.listening and seen.loopback is OPEN)


def lawful(seen: SeenDoor, given: Facts, enforce: bool, steps: tuple[Planned, ...]) -> str:
    """The law that a plan breaks; "" when it breaks none."""
    doing = [step for step in steps if isinstance(step, Action)]
    verbs = [step.verb for step in doing]
    if len(doing) not in (0, len(steps)) or (not doing and len(steps) > 1):
        return "a plan acts, or waits for one thing"
    if any(isinstance(step, Wait) and not (step.limit and step.blames) for step in steps):
        return "every wait has a limit and a name"
    if not seen.controllable:
        expected = ["cut_gateway"] if is_open(seen, enforce) else []
        return "" if verbs == expected else "out of reach: cut what is open, and nothing else"
    if seen.listening and is_open(seen, enforce):
        shutting = verbs[-1:] == ["restart_proxy"] and ("shut" in verbs) == seen.set_open
        return "" if shutting and all(each.urgent for each in doing) else "what is open is shut before anything else"
    if "open" in verbs and not (seen.loopback is GOOD and seen.kept and not seen.stale and not seen.listening):
        return "it is opened only when loopback asks for sign-in and everything is in place"
    if "restart_proxy" in verbs and seen.set_open and not seen.inner.alive and seen.loopback is not GOOD:
        return "" if "shut" in verbs else "no restart opens what was not seen to ask for sign-in"
    if not steps:
        inside = seen.loopback is GOOD and (seen.inner is GOOD or not enforce)
        outside = seen.outside is GOOD and seen.whole
        proven = outside or given.need(SignInGateFacts).proven == DIGEST
        rest = inside and proven and seen.set_open and seen.kept and not seen.stale
        return "" if rest else "it rests only when it is open, in order and proven"
    return ""


def test_every_combination_keeps_the_laws_of_the_door() -> None:
    seen_plans = 0
    for seen, given, enforce in combinations():
        steps = plan_door(DESIRED, seen, given)
        assert (broken := lawful(seen, given, enforce, steps)) == "", f"{broken}: {seen} {brief(steps)}"
        seen_plans += 1
    assert seen_plans == 2 * 4 * 5 * 2 * 3 * 3 * 5 * 5 * 2


# ------------------------------------------------------------------ leaving

LEAVING: Mapping[str, tuple[SeenDoor, list[str]]] = {
    "open": (door(), SHUT),
    "set shut, still listening": (shut_door(inner=GOOD), RESTART),
    "set shut, not restarted": (shut_door(stale=True), RESTART),
    "set shut, hero_proxy does not run": (shut_door(stale=True, loopback=DEAD, domains=None), []),
    "shut": (shut_door(), [f"remove_domain {FQDN}"]),
    "shut, somebody else's domain stays": (shut_door(domains=(STRANGER,)), []),
    "out of reach": (door(controllable=False, values={}, inner=DEAD, gateway_there=True), CUT_GATEWAY),
    "out of reach, nobody knows": (door(controllable=False, values={}, inner=DEAD), CUT_GATEWAY),
    "out of reach, the gateway gone": (door(controllable=False, values={}, gateway_there=False), []),
}


@pytest.mark.parametrize("name", LEAVING)
def test_leaving(name: str) -> None:
    seen, expected = LEAVING[name]
    steps = plan_leaving(seen, facts(leaving=True))
    assert brief(steps) == expected
    assert all(each.urgent for each in actions(steps) if each.verb in ("shut", "cut_gateway"))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (door(outside=OPEN), "seen open from outside /status answered 200"),
        (shut_door(inner=OPEN), "seen open over the inner network /status answered 200"),
        (door(controllable=False, outside=OPEN), "seen open from outside /status answered 200, and the machine"),
    ],
)
def test_an_open_door_is_told_with_the_place(seen: SeenDoor, words: str) -> None:
    first = plan_door(DESIRED, seen, facts())[0]
    assert isinstance(first, Action)
    assert first.urgent
    assert first.why.startswith(words)


def test_cutting_off_may_take_minutes_and_is_in_the_books_from_its_beginning() -> None:
    """Nobody makes a new gateway to an open door meanwhile."""
    (cut,) = actions(plan_leaving(door(controllable=False, values={}, inner=DEAD), facts(leaving=True)))
    assert cut.limit == a_fleet().spec.timing.gateway_limit
    assert isinstance(cut.records, SignInGateFacts)
    assert (cut.records.cut, cut.records.proven) == (True, "")


# ------------------------------------------------------------------ the rest


def test_a_preview_shows_everything_that_a_new_door_needs() -> None:
    later = some_facts(SignInAppFacts.unknown(), secrets={})
    steps = plan_first(DESIRED, later)
    assert brief(steps) == [*JUST_WRITE, *REGISTER, *RESTART, "open listener of the front door"]
    assert "known after sign_in_app" in repr(steps[0])


def test_the_client_secret_is_never_shown() -> None:
    write, restart = actions(plan_door(DESIRED, door(values={}, inner=DEAD), facts(FRESH)))
    assert restart.verb == "restart_proxy"
    shown = {each.path: each.after for each in write.changes}
    assert shown["core/FORGE_OAUTH_CLIENT_SECRET"] == HIDDEN
    assert shown["core/HERO_PROXY_ALLOWED_USERS"] == "Alice-B,mik,Bob"
    assert "the-client-secret" not in repr(write)
    assert write.disruption is Disruption.RESTART


def test_an_unknown_client_secret_is_not_in_order_and_not_written() -> None:
    unknown = facts(secrets={})
    assert not is_kept(DESIRED, unknown, ON, (OURS,))
    assert wanted_values(DESIRED, unknown)[CLIENT_SECRET_KEY] is None


@pytest.mark.parametrize(("shuts", "pause"), [(0, 0), (1, 5), (2, 10), (4, 40), (30, 600), (5000, 600)])
def test_a_door_that_was_shut_again_and_again_stays_shut_longer(shuts: int, pause: int) -> None:
    given = facts(SignInGateFacts(shuts=shuts, shut_at=NOW))
    assert pause_left(NOW, given) == timedelta(seconds=pause)
    assert pause_left(NOW + timedelta(seconds=pause), given) <= timedelta(0)


def test_domains_are_equal_whatever_the_order_of_their_public_paths() -> None:
    one = Domain("A.example.org", "oauth", "http://127.0.0.1:9988", ("/a/x/", "/b/y/"))
    assert same_domain(one, Domain("a.example.org", "oauth", "http://127.0.0.1:9988/", ("/b/y/", "/a/x/")))
    assert not same_domain(one, replace(one, public_paths=("/a/x/",)))
    assert not same_domain(one, replace(one, auth_mode="optional"))


def test_a_proof_speaks_of_address_client_people_paths_and_machine() -> None:
    same = a_tester(allowlist=["bob"])
    assert proof_digest(same, FACTS) == DIGEST, "nobody more may come in"
    others = [
        proof_digest(a_tester(allowlist=["bob", "eve"]), FACTS),
        proof_digest(a_tester(allowlist=["Bob"], components={"publicPaths": ["/hero_books/share/"]}), FACTS),
        proof_digest(a_tester(allowlist=["Bob"], components={"add": ["hero_slides"]}), FACTS),
        proof_digest(DESIRED, some_facts(FACTS.steps["sign_in_app"].model_copy(update={"client_id": "c2"}))),
        proof_digest(DESIRED, some_facts(FACTS.steps["gateway"].model_copy(update={"fqdn": "n.example.org"}))),
        proof_digest(DESIRED, some_facts(FACTS.steps["machine"].model_copy(update={"vm_id": "13"}))),
    ]
    assert len({DIGEST, *others}) == 7


def test_waits_for_the_proof_say_whose_side_is_to_blame() -> None:
    (grid,) = plan_door(DESIRED, door(outside=DEAD, whole=True), facts(OPENED))
    (proxy,) = plan_door(DESIRED, door(loopback=DEAD, inner=DEAD), facts(OPENED))
    assert isinstance(grid, Wait)
    assert isinstance(proxy, Wait)
    assert "grid" in grid.blames
    assert "hero_proxy" in proxy.blames


def test_a_wait_for_reopening_is_looked_at_again_when_it_is_over() -> None:
    (wait,) = plan_door(DESIRED, shut_door(), facts(SignInGateFacts(shuts=3, shut_at=NOW)))
    assert isinstance(wait, Wait)
    assert wait.poll == timedelta(seconds=20)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (door(installing=True), []),
        (door(installing=True, stale=True), ["wait Installing"]),
        (shut_door(installing=True), ["wait Installing"]),
        (shut_door(installing=True, values={}), ["write_sign_in settings of hero_proxy"]),
        (
            door(installing=True, inner=OPEN),
            ["shut listener of the front door", "restart_proxy service hero_proxy"],
        ),
    ],
    ids=["in order", "stale", "shut", "not written", "open"],
)
def test_while_the_proxy_is_being_installed_the_door_is_only_shut(seen: SeenDoor, expected: list[str]) -> None:
    assert brief(plan_door(DESIRED, seen, facts())) == expected
