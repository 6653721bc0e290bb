"""The letters: what is said, when one is due, and that none goes out twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reconcilers.actions import Action
from reconcilers.backends.mail import Letter
from reconcilers.contract import TesterView
from reconcilers.door import proof_digest
from reconcilers.errors import Blocked
from reconcilers.facts import AccountFacts, ComponentsFacts, Facts, GatewayFacts, SignInGateFacts, WelcomeFacts
from reconcilers.letters import (
    ADDRESS,
    EARLIER_PASSWORD,
    OWN_PASSWORD,
    PASSWORD,
    SANDBOX,
    WELCOME,
    Told,
    packed,
    unpacked,
    write_letter,
)
from reconcilers.secret import Secret
from reconcilers.steps import all_steps
from reconcilers.welcome import KEY_KEPT, SeenPost, WelcomeReconciler, _mark
from specs.mail import LetterTemplate
from tests.reconcilers.data import FQDN, NOW, SECRETS, a_fleet, a_tester, actions, brief, some_facts

STEP = WelcomeReconciler(None)  # type: ignore[arg-type]
ALICE = a_tester()
LINK = f"https://{FQDN}/hero_cockpit/web/"
ONE_TIME = Secret("One-time-password-24-ch!")
WELL = ComponentsFacts(healthy=True)
PROVEN = SignInGateFacts(proven=proof_digest(ALICE, some_facts()), listening=True)
SENT = WelcomeFacts(state="sent", kind="welcome", how="resend", at=NOW, link=LINK, key="k")
SENDING = SENT.model_copy(update={"state": "sending"})


def facts(*more: Any, password: bool = True, letter: bool = False, **fields: Any) -> Facts:
    secrets = dict(SECRETS)
    if password:
        secrets["alice/one_time_password"] = ONE_TIME
    if letter:
        secrets["alice/welcome_letter"] = Secret("{}")
    return some_facts(PROVEN, WELL, *more, secrets=secrets, **fields)


MARK = _mark(ONE_TIME, facts())


def post(way: Any = "resend", after: timedelta = timedelta(0), wanted: bool = True) -> SeenPost:
    return SeenPost(NOW + after, way, wanted)


def told(**changes: Any) -> WelcomeFacts:
    return SENT.model_copy(update=changes)


TO = "letter to alice@example.org"
ELSEWHERE = GatewayFacts(daemon="gent", gateway_id="4", gateway_name="b", fqdn="b.gent.example.org")
RESET = AccountFacts(account="Alice-B", made_by_us=True, password_reset=1)
ADOPTED = AccountFacts(account="Alice-B", made_by_us=False)
CASES: Mapping[str, tuple[Facts, SeenPost, list[str]]] = {
    "everything is ready": (facts(), post(), [f"send welcome {TO}"]),
    "by SMTP": (facts(), post("smtp"), [f"send welcome {TO}"]),
    "no way out": (facts(), post("none"), [f"send welcome {TO}"]),
    "the door is not proven": (facts(SignInGateFacts(listening=True)), post(), ["wait WaitingForReady"]),
    "it was proven for another address": (facts(ELSEWHERE), post(), ["wait WaitingForReady"]),
    "the door is cut": (
        facts(PROVEN.model_copy(update={"cut": True})),
        post(),
        ["wait WaitingForReady"],
    ),
    "the door is shut": (facts(PROVEN.model_copy(update={"listening": False})), post(), ["wait WaitingForReady"]),
    "a component is not well": (facts(ComponentsFacts()), post(), ["wait WaitingForReady"]),
    "sent": (facts(SENT, password=False), post(), []),
    "sent, and the door is shut later": (facts(SENT, SignInGateFacts(), password=False), post(), []),
    "logged": (facts(told(state="logged")), post("none"), []),
    "logged, and a way out appears": (facts(told(state="logged")), post(), []),
    "sent, the password still there": (facts(told(password=MARK)), post(), ["erase what the letter told"]),
    "sent, the letter still there": (facts(SENT, password=False, letter=True), post(), ["erase what the letter told"]),
    "sent, and another password was made": (facts(told(password=MARK), RESET, password=False), post(), []),
    "a new password": (facts(SENT, RESET), post(), [f"send password {TO}"]),
    "a new password that was told": (
        facts(told(password_reset=1, password=MARK), RESET),
        post(),
        ["erase what the letter told"],
    ),
    "a new account, and the letter told the old one's": (
        facts(told(password="the mark of another")),
        post(),
        [f"send password {TO}"],
    ),
    "an account that we made after an adopted one": (facts(SENT), post(), [f"send password {TO}"]),
    "an adopted account after one that we made": (facts(SENT, ADOPTED), post(), []),
    "logged, and the account is made anew": (facts(told(state="logged")), post("none"), []),
    "logged, and a new password": (facts(told(state="logged"), RESET), post("none"), [f"send password {TO}"]),
    "another address, proven": (
        facts(told(link="https://old.example.org/"), password=False),
        post(),
        [f"send address {TO}"],
    ),
    "another address, not proven yet": (
        facts(told(link="https://old.example.org/"), SignInGateFacts(), password=False),
        post(),
        ["wait WaitingForReady"],
    ),
    "unknown": (facts(SENDING, letter=True), post(), [f"send_again welcome {TO}"]),
    "unknown, nearly a day": (
        facts(SENDING, letter=True),
        post(after=KEY_KEPT - timedelta(minutes=1)),
        [f"send_again welcome {TO}"],
    ),
    "only logged, and cut off there": (
        facts(SENDING.model_copy(update={"how": "none"}), letter=True),
        post("none", timedelta(days=9)),
        [f"send_again welcome {TO}"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_due(name: str) -> None:
    known, seen, expected = CASES[name]
    assert brief(STEP.plan(ALICE, seen, known)) == expected


def test_the_welcome_waits_until_all_is_well_other_letters_do_not() -> None:
    """Ready is asked of every step, so the letter that says so is too. Whoever moved or lost a password needs to know now."""
    (welcome,) = actions(STEP.plan(ALICE, post(), facts()))
    assert set(welcome.only_while) == {step.name for step in all_steps(None)} - {STEP.name}  # type: ignore[arg-type]
    old = told(link="https://old.example.org/")
    (moved,) = actions(STEP.plan(ALICE, post(), facts(old, password=False)))
    assert moved.only_while == ()
    for known in (facts(old), facts(SENT, RESET)):
        (letter,) = actions(STEP.plan(ALICE, post(), known))
        assert letter.only_while == ("account",), "a password is sealed before Forge hears of it"


UNKNOWABLE: Mapping[str, tuple[WelcomeFacts, bool, SeenPost]] = {
    "by SMTP": (SENDING.model_copy(update={"how": "smtp"}), True, post("smtp")),
    "after a day": (SENDING, True, post(after=timedelta(hours=24))),
    "another way out now": (SENDING, True, post("smtp")),
    "no way out now": (SENDING, True, post("none")),
    "the letter is lost": (SENDING, False, post()),
}


@pytest.mark.parametrize("name", UNKNOWABLE)
def test_what_cannot_be_asked_for_is_a_persons_to_decide(name: str) -> None:
    known, letter, seen = UNKNOWABLE[name]
    with pytest.raises(Blocked, match=r"welcomeEmail\.resend to 1") as caught:
        STEP.plan(ALICE, seen, facts(known, letter=letter))
    assert caught.value.reason == "WelcomeUnknown"
    again = a_tester(welcomeEmail={"resend": 1})
    assert brief(STEP.plan(again, seen, facts(known, letter=letter))) == [f"send welcome {TO}"]


def test_resend_sends_once_more_and_a_lower_counter_nothing() -> None:
    twice = a_tester(welcomeEmail={"resend": 2})
    assert brief(STEP.plan(twice, post(), facts(SENT, password=False))) == [f"send welcome {TO}"]
    assert STEP.plan(twice, post(), facts(told(counter=2), password=False)) == ()
    assert STEP.plan(ALICE, post(), facts(told(counter=2), password=False)) == ()


def test_off_is_off_and_keeps_the_password() -> None:
    quiet = a_tester(welcomeEmail=False)
    fleetwide = a_tester(a_fleet(mail={"from": "a@example.org", "send": False}))
    for desired in (quiet, fleetwide):
        seen = post(wanted=desired.welcome.send)
        assert STEP.plan(desired, seen, facts()) == ()
        assert STEP.plan(desired, seen, facts(SENDING, letter=True)) == ()
        assert STEP.learn(seen, facts()) == WelcomeFacts(state="off")
        (finding,) = STEP.findings(desired, seen, facts(WelcomeFacts(state="off")))
        assert "testerctl reveal alice" in finding.message
    on_again = STEP.learn(post(), facts(WelcomeFacts(state="off")))
    assert on_again == WelcomeFacts()
    assert brief(STEP.plan(ALICE, post(), facts(on_again))) == [f"send welcome {TO}"]


def test_it_goes_with_the_machine_and_a_preview_shows_it() -> None:
    assert STEP.leaves == "machine"
    assert STEP.plan(None, post(), facts()) == ()
    (shown,) = actions(STEP.plan(ALICE, None, some_facts(without=("gateway", "sign_in_gate", "components"))))
    assert "(known after gateway)" in str(shown.changes[0].after)


def test_no_secret_stands_in_a_plan() -> None:
    for known, seen, _ in CASES.values():
        assert ONE_TIME.text() not in repr(STEP.plan(ALICE, seen, known))


# ------------------------------------------------------------------ the letter

ALICES = Told("Alice Example", "Alice-B", LINK, ONE_TIME)


@pytest.mark.parametrize("kind", [WELCOME, ADDRESS, PASSWORD])
@pytest.mark.parametrize("password", [ONE_TIME, None])
def test_lesson_39_the_facts_are_always_there(kind: str, password: Secret | None) -> None:
    template = LetterTemplate.model_validate({"subject": "Hi ${name}", "text": "Nothing about it."})
    letter = write_letter(kind, "a@example.org", Told("A", "Alice-B", LINK, password), template, "k")
    for text in (letter.text, letter.html):
        assert "Alice-B" in text
        assert LINK in text
        assert (password.text() if password else "your own password") in text
        assert SANDBOX in text
    assert letter.subject == ("Hi A" if kind == WELCOME else letter.subject)
    assert ("Nothing about it." in letter.text) == (kind == WELCOME)


async def composed(known: Facts, kind: str = WELCOME) -> Letter:
    """What is handed over."""
    sent = Sent()
    step = WelcomeReconciler(sent)  # type: ignore[arg-type]
    view = TesterView(ALICE, known)
    await step.apply(Action("send", TO, args=(kind, NOW.isoformat())), view, sent)
    return sent.letters[0]


class Sent:
    """A way out that keeps what it is given, and ports that keep nothing."""

    kind = "resend"

    def __init__(self) -> None:
        self.mail = self
        self.letters: list[Letter] = []
        self.erased: list[str] = []

    async def send(self, letter: Letter) -> str:
        self.letters.append(letter)
        return "1"

    async def seal(self, *_: Any) -> None:
        pass

    record = seal

    async def erase(self, name: str) -> None:
        self.erased.append(name)


@pytest.mark.parametrize(("mark", "erased"), [(MARK, ["one_time_password"]), ("of the one that was told", [])])
async def test_only_the_password_that_was_told_is_erased(mark: str, erased: list[str]) -> None:
    """Another may have been sealed since, by the account's step."""
    ports = Sent()
    action = Action("erase", "what the letter told", args=("one_time_password",))
    await STEP.apply(action, TesterView(ALICE, facts(told(password=mark))), ports)
    again = Action("send_again", TO, args=(WELCOME,))
    letter = packed(Letter("a@example.org", "Hi", "x", "<p>x</p>", "k"))
    known = facts(SENDING.model_copy(update={"password": mark}))
    known = replace(known, secrets={**known.secrets, "alice/welcome_letter": letter})
    await WelcomeReconciler(ports).apply(again, TesterView(ALICE, known), ports)  # type: ignore[arg-type]
    assert ports.erased == [*erased, "welcome_letter", *erased]


async def test_a_repeated_welcome_names_the_password_that_is_really_theirs() -> None:
    repeated = await composed(facts(SENT, password=False))
    assert EARLIER_PASSWORD in repeated.text
    assert OWN_PASSWORD not in repeated.text
    adopted = await composed(facts(SENT, ADOPTED))
    assert OWN_PASSWORD in adopted.text
    assert ONE_TIME.text() not in adopted.text


async def test_a_letter_with_another_password_has_another_key_that_does_not_give_it_away() -> None:
    first, again = await composed(facts(SENT), PASSWORD), await composed(facts(SENT), PASSWORD)
    other = replace(facts(SENT), secrets={**SECRETS, "alice/one_time_password": Secret("Another-one-of-24-chars!")})
    assert (first.key, ONE_TIME.text() in first.text) == (again.key, True)
    assert (await composed(other, PASSWORD)).key != first.key
    assert ONE_TIME.text() not in first.key


def test_placeholders_are_filled_in_and_html_is_escaped() -> None:
    template = LetterTemplate.model_validate(
        {"subject": "For ${account}", "text": "Dear ${name} <b>,\n\n${link} costs $$5"}
    )
    letter = write_letter(WELCOME, "a@example.org", ALICES, template, "k")
    assert letter.subject == "For Alice-B"
    assert letter.text.startswith(f"Dear Alice Example <b>,\n\n{LINK} costs $5\n")
    assert "&lt;b&gt;" in letter.html
    assert "<b>," not in letter.html


def test_a_sealed_letter_is_the_same_to_the_last_byte_and_shows_nothing() -> None:
    letter = write_letter(WELCOME, "a@example.org", ALICES, LetterTemplate(), "k")
    assert unpacked(packed(letter)) == letter
    assert ONE_TIME.text() not in repr(letter) + repr(packed(letter))
    with pytest.raises(ValueError, match="cannot be read"):
        unpacked(Secret("{"))
