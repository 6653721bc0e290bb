"""The one mail that a tester gets, once the door is proven and everything is well; a later one when the address changes,
and when there is a one-time password that none has told.

Exactly once: that a letter is being sent is written down, and the letter itself sealed, before it is handed over. Whether
one whose answer was lost went out is asked for by sending the same letter with the same key, where the provider knows it
(Resend, for a day); otherwise a person decides, by raising `welcomeEmail.resend`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from reconcilers.actions import Action, FieldChange, Finding, Step, Wait
from reconcilers.backends import Backends
from reconcilers.backends.mail import Letter, MailKind
from reconcilers.contract import Base, Ports, TesterView
from reconcilers.door import proof_digest
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError
from reconcilers.facts import (
    AccountFacts,
    ComponentsFacts,
    Facts,
    GatewayFacts,
    KnownAfter,
    MachineFacts,
    SignInAppFacts,
    SignInGateFacts,
    WelcomeFacts,
)
from reconcilers.letters import (
    ADDRESS,
    EARLIER_PASSWORD,
    OWN_PASSWORD,
    PASSWORD,
    WELCOME,
    Told,
    cockpit_link,
    packed,
    unpacked,
    write_letter,
)
from reconcilers.looks import TesterLooks
from reconcilers.secret import HIDDEN, Secret
from specs.desired import DesiredTester
from specs.mail import LetterTemplate

ONE_TIME_PASSWORD = "one_time_password"  # noqa: S105 - the short name under which the account's step seals it
SEALED_LETTER = "welcome_letter"
KEY_KEPT = timedelta(hours=23)  # the provider remembers a key for 24 (P)
SENDING, SENT, LOGGED, OFF = "sending", "sent", "logged", "off"
SYSTEM = "mail"
ALL_OTHERS = (
    "account",
    "engine_access",
    "machine",
    "machine_access",
    "gateway",
    "sign_in_app",
    "supervisor",
    "front_door",
    "settings",
    "components",
    "sign_in_gate",
)
"""Every other step: the letter that says "it is ready" goes out only while that is true of each (lesson 37: one key of two
was there)."""


@dataclass(frozen=True, slots=True)
class SeenPost:
    """What can be known before a letter is sent: the moment (UTC, by our clock), the way out, and whether any is wanted."""

    at: datetime
    way: MailKind
    wanted: bool


class WelcomeReconciler(Base):
    """Keeps the tester informed: once each of welcome, new address, new one-time password."""

    name = "welcome"
    needs: tuple[str, ...] = ("sign_in_gate", "components")

    def __init__(self, backends: Backends) -> None:
        self.backends = backends

    async def observe(self, tester: TesterView, looks: TesterLooks) -> SeenPost:
        """Nobody can be asked what was delivered: the way out is all there is to see."""
        return SeenPost(looks.now(), self.backends.mail.kind, tester.desired.welcome.send)

    def plan(self, desired: DesiredTester | None, observed: SeenPost | None, facts: Facts) -> tuple[Step, ...]:
        """Send what is due, ask again for what is unknown, erase what went out. Never before the door is proven.

        Raises Blocked WelcomeUnknown.
        """
        if desired is None:
            return ()
        known = facts.get(WelcomeFacts) or WelcomeFacts()
        if observed is None:
            return (_send(WELCOME, desired, facts, None),) if desired.welcome.send else ()
        spent = _spent(known, facts)
        if spent:
            return (_erase(spent),)
        if known.state == SENDING and desired.welcome.send and desired.welcome.resend <= known.counter:
            return _ask_again(desired, observed, facts, known)
        kind = due_letter(desired, facts, known)
        if kind is None:
            return ()
        waits = _not_yet(desired, facts)
        return waits or (_send(kind, desired, facts, observed),)

    async def apply(self, action: Action, tester: TesterView, ports: Ports) -> SeenPost | None:
        """Hand one letter over, or erase the password of one that went out."""
        known = tester.facts.get(WelcomeFacts) or WelcomeFacts()
        if action.verb == "erase":
            for name in _spent(known, tester.facts):  # as things are by now
                await ports.erase(name)
            return None
        sealed = tester.facts.sealed(SEALED_LETTER)
        if action.verb == "send_again" and sealed is not None:
            await self._hand_over(unpacked(sealed), known, known, tester.facts, ports)
            return None
        letter, begun = _compose(action.args[0], tester, self.backends.mail.kind, action.args[1])
        if known.key == letter.key and known.state in (SENT, LOGGED):
            return None  # this very letter went out already
        await ports.seal(SEALED_LETTER, packed(letter))
        await ports.record(begun)
        await self._hand_over(letter, begun, known, tester.facts, ports)
        return None

    async def _hand_over(
        self, letter: Letter, begun: WelcomeFacts, before: WelcomeFacts, facts: Facts, ports: Ports
    ) -> None:
        """A definite no leaves things as they were; an unknown end leaves the letter on its way."""
        try:
            letter_id = await self.backends.mail.send(letter)
        except OutcomeUnknown:
            raise
        except OutsideError:
            await ports.record(before)
            raise
        state = LOGGED if begun.how == "none" else SENT
        ended = begun if state == SENT else begun.model_copy(update={"password": ""})
        await ports.record(ended.model_copy(update={"state": state, "letter_id": letter_id}))
        for name in (SEALED_LETTER, *(_told(begun, facts) if state == SENT else ())):
            await ports.erase(name)

    def learn(self, observed: SeenPost, facts: Facts) -> WelcomeFacts | None:
        """That nobody is written to; all else is recorded as it is done."""
        known = facts.get(WelcomeFacts)
        state = known.state if known else ""
        if not observed.wanted and state == "":
            return WelcomeFacts(state=OFF)
        if observed.wanted and state == OFF:
            return WelcomeFacts()
        return known

    def findings(self, desired: DesiredTester, observed: object, facts: Facts) -> tuple[Finding, ...]:
        """WelcomeSent."""
        known = facts.get(WelcomeFacts) or WelcomeFacts()
        to, kind = desired.account.email, "WelcomeSent"
        reveal = f"`testerctl reveal {facts.tester}` shows the one-time password, if there is one"
        match known.state:
            case "sent":
                return (Finding(kind, True, "Sent", f"the last letter to {to} went out {_moment(known.at)}"),)
            case "logged":
                return (Finding(kind, False, "NotSent", f"no way out for mail: it was only logged; {reveal}"),)
            case "sending":
                return (Finding(kind, None, "Unknown", f"a letter to {to} was begun {_moment(known.at)}"),)
        if not desired.welcome.send:
            return (Finding(kind, None, "Off", f"no mail is wanted; {reveal}"),)
        return (Finding(kind, None, "NotYet", f"{to} is written to when everything is ready"),)


# ------------------------------------------------------------------ what is due


def due_letter(desired: DesiredTester, facts: Facts, known: WelcomeFacts) -> str | None:
    """The kind of the letter that the tester should get now; None: they know everything."""
    if not desired.welcome.send:
        return None
    if desired.welcome.resend > known.counter or known.state not in (SENT, LOGGED):
        return WELCOME
    gateway, account = facts.get(GatewayFacts), facts.get(AccountFacts)
    if gateway is not None and cockpit_link(gateway.fqdn) != known.link:
        return ADDRESS
    password = _carried(facts)
    if account is None or password is None or _mark(password, facts) == known.password:
        return None
    # A letter that was only logged told nobody a password: the one that it could not tell is no news.
    return PASSWORD if known.state == SENT or account.password_reset > known.password_reset else None


def _not_yet(desired: DesiredTester, facts: Facts) -> tuple[Wait, ...]:
    """Nobody is written to before the door of this very address is proven and the components are well."""
    lacks = []
    gate, components = facts.get(SignInGateFacts), facts.get(ComponentsFacts)
    if gate is None or not _is_proven(desired, facts, gate):
        lacks.append("the door to be proven")
    if components is None or not components.healthy:
        lacks.append("the components to be well")
    if not lacks:
        return ()
    timing = facts.fleet.spec.timing
    limit = timing.reachable_limit + timing.install_limit
    text = f"the letter to {desired.account.email} waits for {' and '.join(lacks)}"
    # Whoever is waited for has a pace of its own, and what it learns brings this step another turn at once.
    return (Wait("WaitingForReady", text, limit, blames="sign_in_gate, components", poll=timing.look_age),)


def _is_proven(desired: DesiredTester, facts: Facts, gate: SignInGateFacts) -> bool:
    if any(facts.get(kind) is None for kind in (GatewayFacts, SignInAppFacts, MachineFacts)):
        return False
    return not gate.cut and gate.listening and gate.proven == proof_digest(desired, facts)


def _ask_again(desired: DesiredTester, observed: SeenPost, facts: Facts, known: WelcomeFacts) -> tuple[Step, ...]:
    """The same letter with the same key while the provider remembers it. Raises Blocked WelcomeUnknown when nobody can tell."""
    remembered = known.at is not None and observed.at - known.at < KEY_KEPT
    repeatable = known.how == "none" or (known.how == "resend" and remembered)
    if observed.way == known.how and repeatable and facts.sealed(SEALED_LETTER) is not None:
        return (
            Action(
                "send_again",
                f"{known.kind} letter to {desired.account.email}",
                consequences=("the provider sends it only if it has not done so already",),
                args=(known.kind,),
                reason="LetterAskedFor",
            ),
        )
    raise Blocked(
        f"whether the letter to {desired.account.email} of {_moment(known.at)} went out is not known, and cannot be asked: "
        f"ask the tester, and raise welcomeEmail.resend to {known.counter + 1} to have it sent (once more)",
        system=SYSTEM,
        reason="WelcomeUnknown",
    )


def _spent(known: WelcomeFacts, facts: Facts) -> tuple[str, ...]:
    """What is still sealed though it is done with: the letter, and the very password that was told in one that went out."""
    done = known.state in (SENT, LOGGED) and facts.sealed(SEALED_LETTER) is not None
    return (*((SEALED_LETTER,) if done else ()), *(_told(known, facts) if known.state == SENT else ()))


def _told(known: WelcomeFacts, facts: Facts) -> tuple[str, ...]:
    """The one-time password, if it is the one that the letter of `known` tells: another may have taken its place since."""
    password = facts.sealed(ONE_TIME_PASSWORD)
    return (ONE_TIME_PASSWORD,) if password is not None and _mark(password, facts) == known.password else ()


def _carried(facts: Facts) -> Secret | None:
    """The one-time password that a letter of now would tell: that of an account which we made."""
    account = facts.get(AccountFacts)
    return facts.sealed(ONE_TIME_PASSWORD) if account is not None and account.made_by_us else None


def _mark(password: Secret, facts: Facts) -> str:
    """By which a password is known again, without keeping it."""
    return hashlib.sha256(f"{facts.uid}/".encode() + password.reveal()).hexdigest()[:16]


# ------------------------------------------------------------------ the letter


def _compose(kind: str, tester: TesterView, way: MailKind, at: str) -> tuple[Letter, WelcomeFacts]:
    """The letter, and what is written down before it is handed over."""
    desired, facts = tester.desired, tester.facts
    account, gateway = facts.need(AccountFacts), facts.need(GatewayFacts)
    known = facts.get(WelcomeFacts) or WelcomeFacts()
    password, link = _carried(facts), cockpit_link(gateway.fqdn)
    mark = _mark(password, facts) if password is not None else known.password
    theirs = EARLIER_PASSWORD if account.made_by_us else OWN_PASSWORD
    told = Told(desired.account.full_name or account.account, account.account, link, password, theirs)
    mail = facts.fleet.spec.mail
    counter = desired.welcome.resend
    key = _key(kind, facts, counter, account.password_reset, f"{link} {mark}")
    letter = write_letter(kind, desired.account.email, told, mail.template if mail else LetterTemplate(), key)
    begun = WelcomeFacts(
        counter=counter,
        state=SENDING,
        kind=kind,
        how=way,
        key=key,
        at=datetime.fromisoformat(at),
        link=link,
        password=mark,
        password_reset=account.password_reset,
    )
    return letter, begun


def _key(kind: str, facts: Facts, counter: int, reset: int, told: str) -> str:
    """One letter, one key: the same after a restart, another one for every other letter. `told`: address and mark of the
    password, which may change without a counter of the spec."""
    digest = hashlib.sha256(told.encode()).hexdigest()[:10]
    return f"hero-{kind}-{facts.tester}-{facts.uid}-{counter}-{reset}-{digest}"


def _send(kind: str, desired: DesiredTester, facts: Facts, observed: SeenPost | None) -> Action:
    """`observed` None: a preview."""
    gateway, logs_only = facts.get(GatewayFacts), observed is not None and observed.way == "none"
    link = cockpit_link(gateway.fqdn) if gateway is not None else KnownAfter("gateway")
    changes: tuple[FieldChange, ...] = (FieldChange("letter", None, f"{kind}: {link}"),)
    told: tuple[str, ...] = ()
    if logs_only:
        told = ("it is only logged: the Fleet names no way out for mail",)
    elif facts.sealed(ONE_TIME_PASSWORD) is not None:
        told = ("the one-time password is erased here once it went out",)
    return Action(
        "send",
        f"{kind} letter to {desired.account.email}",
        changes=changes,
        consequences=told,
        args=(kind, observed.at.isoformat() if observed is not None else ""),
        reason="LetterLogged" if logs_only else "LetterSent",
        only_while=_only_while(kind, facts),
    )


def _only_while(kind: str, facts: Facts) -> tuple[str, ...]:
    """A password is sealed before Forge hears of it: it is told once the account is seen to be as it should. Whoever only
    moved is not kept waiting."""
    if kind == WELCOME:
        return ALL_OTHERS
    return ("account",) if _carried(facts) is not None else ()


def _erase(names: tuple[str, ...]) -> Action:
    return Action(
        "erase",
        "what the letter told",
        changes=tuple(FieldChange(name, HIDDEN, None) for name in names),
        consequences=("it went out by mail and is kept no longer",),
        args=names,
        reason="PasswordErased",
    )


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at is not None else "at an unknown time"
