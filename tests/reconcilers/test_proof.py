"""What an answer proves: the table of verdicts, and what is asked."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from reconcilers.backends.machine import MachineQuery
from reconcilers.backends.probes import Probe, ProbeAnswer
from reconcilers.machine_look import WHETHER_LISTENING, machine_query, works_probe
from reconcilers.proof import Demand, Expect, SignIn, Verdict, demands, judge, outside_demands, prove
from specs.catalogue import catalogue
from tests.reconcilers.data import CLIENT_ID, FORGE, FQDN, a_tester, some_facts

AUTHORIZE = f"{FORGE}/login/oauth/authorize"
SIGN_IN = SignIn(AUTHORIZE, CLIENT_ID)
PROTECTED, OPEN, UNPROVEN = Verdict.PROTECTED, Verdict.OPEN, Verdict.UNPROVEN
GATED, HEALTH, CALLBACK, FOREIGN = Expect.GATED, Expect.HEALTH, Expect.CALLBACK, Expect.FOREIGN
ASKS = f"{AUTHORIZE}?client_id={CLIENT_ID}&response_type=code&state=%2F"


VERDICTS: Mapping[str, tuple[Expect, ProbeAnswer, Verdict]] = {
    "asks for sign-in": (GATED, ProbeAnswer(302, ASKS), PROTECTED),
    "asks with another redirect code": (GATED, ProbeAnswer(303, ASKS), PROTECTED),
    "refuses": (GATED, ProbeAnswer(401), PROTECTED),
    "forbids": (GATED, ProbeAnswer(403), PROTECTED),
    "serves": (GATED, ProbeAnswer(200), OPEN),
    "serves nothing": (GATED, ProbeAnswer(204), OPEN),
    "serves, and names the address": (GATED, ProbeAnswer(200, ASKS), OPEN),
    "sends within itself": (GATED, ProbeAnswer(302, f"https://{FQDN}/hero_cockpit/web/"), OPEN),
    "not modified": (GATED, ProbeAnswer(304), OPEN),
    "another client": (GATED, ProbeAnswer(302, f"{AUTHORIZE}?client_id=other"), OPEN),
    "no client": (GATED, ProbeAnswer(302, AUTHORIZE), OPEN),
    "two clients": (GATED, ProbeAnswer(302, f"{ASKS}&client_id=other"), OPEN),
    "our client as a part": (GATED, ProbeAnswer(302, f"{AUTHORIZE}?client_id={CLIENT_ID}0"), OPEN),
    "another Forge": (GATED, ProbeAnswer(302, ASKS.replace("forge.example.org", "evil.example.org")), OPEN),
    "a name like Forge's": (GATED, ProbeAnswer(302, ASKS.replace("example.org", "example.org.evil.test")), OPEN),
    "Forge as a user name": (GATED, ProbeAnswer(302, ASKS.replace("//", "//x@")), OPEN),
    "another scheme": (GATED, ProbeAnswer(302, ASKS.replace("https", "http")), OPEN),
    "another port": (GATED, ProbeAnswer(302, ASKS.replace("example.org", "example.org:8443")), OPEN),
    "another page of Forge": (GATED, ProbeAnswer(302, ASKS.replace("authorize", "other")), OPEN),
    "a broken address": (GATED, ProbeAnswer(302, "https://[broken"), OPEN),
    "not found": (GATED, ProbeAnswer(404), UNPROVEN),
    "a server's error": (GATED, ProbeAnswer(502), UNPROVEN),
    "no answer": (GATED, ProbeAnswer(None, error="refused"), UNPROVEN),
    "foreign: asks for sign-in": (FOREIGN, ProbeAnswer(302, ASKS), PROTECTED),
    "foreign: not found": (FOREIGN, ProbeAnswer(404), PROTECTED),
    "foreign: misdirected": (FOREIGN, ProbeAnswer(421), PROTECTED),
    "foreign: serves": (FOREIGN, ProbeAnswer(200), OPEN),
    "foreign: no answer": (FOREIGN, ProbeAnswer(None), UNPROVEN),
    "health answers": (HEALTH, ProbeAnswer(200), PROTECTED),
    "health is gated": (HEALTH, ProbeAnswer(302, ASKS), UNPROVEN),
    "health is ill": (HEALTH, ProbeAnswer(503), UNPROVEN),
    "health is silent": (HEALTH, ProbeAnswer(None), UNPROVEN),
    "callback refuses": (CALLBACK, ProbeAnswer(400), PROTECTED),
    "callback fails without a code": (CALLBACK, ProbeAnswer(502), PROTECTED),
    "callback is gated": (CALLBACK, ProbeAnswer(302, ASKS), UNPROVEN),
    "callback sends home": (CALLBACK, ProbeAnswer(302, f"https://{FQDN}/"), PROTECTED),
    "callback is missing": (CALLBACK, ProbeAnswer(404), UNPROVEN),
    "callback is silent": (CALLBACK, ProbeAnswer(None), UNPROVEN),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_what_an_answer_proves(name: str) -> None:
    expect, answer, verdict = VERDICTS[name]
    assert judge(Demand(FQDN, "/", expect), answer, SIGN_IN) is verdict


def paths(**components: object) -> list[str]:
    return [each.path for each in demands(FQDN, a_tester(components=components)) if each.expect is GATED]


def test_many_paths_must_ask_for_sign_in() -> None:
    assert {"/", "/hero_cockpit/web/", "/hero_router/", "/status", "/api", "/rpc"} <= set(paths())
    assert {"/hero_db/", "/hero_indexer/", "/hero_books/"} <= set(paths()), "one of each app"
    assert "/hero_proc/" not in paths()


def test_public_paths_alone_are_exempt() -> None:
    """The app above a public path stays gated."""
    assert paths(publicPaths=["/hero_books/share/"]) == paths()
    public = a_tester().model_copy(update={"public_paths": ("/hero_books/",)})
    left = {each.path for each in demands(FQDN, public) if each.expect is GATED}
    assert set(paths()) - left == {"/hero_books/"}


def test_what_must_answer_without_sign_in_and_a_foreign_host_are_asked_too() -> None:
    asked = demands(FQDN, a_tester())
    assert {each.path for each in asked if each.expect in (HEALTH, CALLBACK)} == {"/health", "/oauth/callback"}
    (foreign,) = (each for each in asked if each.expect is FOREIGN)
    assert foreign.host != FQDN
    assert foreign not in outside_demands(FQDN, a_tester())


ASKED = (Demand(FQDN, "/", GATED), Demand(FQDN, "/health", HEALTH))
GOOD, SERVED, SILENT, ILL = (
    ProbeAnswer(302, ASKS),
    ProbeAnswer(200),
    ProbeAnswer(None, error="refused"),
    ProbeAnswer(502),
)
SIDES: Mapping[str, tuple[tuple[ProbeAnswer, ...], Verdict, bool, str]] = {
    "all good": ((GOOD, SERVED), PROTECTED, True, ""),
    "one open": ((SERVED, SERVED), OPEN, True, "/ answered 200"),
    "one open, one silent": ((SERVED, SILENT), OPEN, True, "/ answered 200"),
    "one silent": ((GOOD, SILENT), UNPROVEN, True, "/health did not answer (refused)"),
    "all silent": ((SILENT, SILENT), UNPROVEN, False, "/ did not answer (refused)"),
    "one was not asked": ((GOOD,), UNPROVEN, True, "/health did not answer (it was not asked)"),
}


@pytest.mark.parametrize("name", SIDES)
def test_what_a_side_proves(name: str) -> None:
    answers, verdict, alive, example = SIDES[name]
    proof = prove(ASKED, dict(zip(ASKED, answers, strict=False)), SIGN_IN)
    assert (proof.verdict, proof.alive, proof.example) == (verdict, alive, example)


def test_from_outside_the_gateways_own_error_is_no_sign_of_life() -> None:
    answers = dict.fromkeys(ASKED, ILL)
    assert prove(ASKED, answers, SIGN_IN).alive
    assert not prove(ASKED, answers, SIGN_IN, outside=True).alive


def test_without_questions_nothing_is_proven() -> None:
    assert prove((), {}, SIGN_IN).verdict is UNPROVEN


def test_one_question_answers_for_all_steps() -> None:
    """Sides, hosts and paths of the proof; versions, health, settings of everybody else."""
    desired = a_tester(components={"settings": {"hero_books": {"BOOKS_LIBRARIES": "hero"}}})
    query = machine_query(desired, some_facts())
    assert isinstance(query, MachineQuery)
    assert set(query.components) == set(catalogue()), "what testers installed themselves is seen as well"
    assert query.components[0] == desired.components[0].name
    assert set(query.health) == {each.health for each in desired.components if each.health}
    assert {("books", "BOOKS_LIBRARIES"), ("core", "FORGE_OAUTH_CLIENT_SECRET")} <= set(query.secrets)
    wanted = {Probe(side, each.host, each.path) for side in ("loopback", "inner") for each in demands(FQDN, desired)}
    working = {works_probe(each.sends) for each in desired.components if each.sends}
    assert set(query.probes) == wanted | working
    assert WHETHER_LISTENING in wanted
    assert query == machine_query(desired, some_facts())


def test_without_an_address_it_is_still_asked_whether_the_door_listens() -> None:
    probes = machine_query(a_tester(), some_facts(without=("gateway",))).probes
    assert [each for each in probes if each.side != "router"] == [WHETHER_LISTENING]
