"""The letters that testers get: what is said, and the facts that are always there (lesson 39). Pure.

The wording before the facts is the Fleet's to choose; account, password and link are always added, so that no template
can forget them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from html import escape
from string import Template

from reconcilers.backends.mail import Letter
from reconcilers.secret import Secret
from specs.mail import LetterTemplate

COCKPIT_PATH = "/hero_cockpit/web/"
WELCOME, ADDRESS, PASSWORD = "welcome", "address", "password"

SUBJECTS = {
    WELCOME: "Your Hero OS machine is ready",
    ADDRESS: "Your Hero OS machine has a new address",
    PASSWORD: "Your new one-time password for Hero OS",
}
OPENINGS = {
    WELCOME: "Welcome, ${account}!\n\nYour own Hero OS machine is ready. Open the link below in a browser and sign in.",
    ADDRESS: "Hello ${account},\n\nyour Hero OS machine is reached at another address from now on; the old one does not "
    "answer any more. If the machine was built anew, what was on the old one is gone. You sign in as before.",
    PASSWORD: "Hello ${account},\n\nyour account, named below, has a new one-time password. What you had before "
    "does not work any more.",
}
OWN_PASSWORD = "your own password"  # noqa: S105
EARLIER_PASSWORD = "the one-time password of the earlier letter, or the one you chose since"  # noqa: S105
SANDBOX = "This is a sandbox for trying things out, not for production: what you keep there may be lost."
FIRST_SIGN_IN = "At the first sign-in you choose a password of your own."


@dataclass(frozen=True, slots=True)
class Told:
    """What a letter tells. `password` None: the tester has one already, and `theirs` says which."""

    name: str
    account: str
    link: str
    password: Secret | None = None
    theirs: str = OWN_PASSWORD


def cockpit_link(fqdn: str) -> str:
    """The one address that testers are shown (lesson 16)."""
    return f"https://{fqdn}{COCKPIT_PATH}"


def write_letter(kind: str, to: str, told: Told, template: LetterTemplate, key: str) -> Letter:
    """The whole letter. The Fleet's wording is that of the welcome; the other letters have one of their own."""
    filled = {"account": told.account, "link": told.link, "name": told.name}
    subject, opening = SUBJECTS[kind], OPENINGS[kind]
    if kind == WELCOME:
        subject, opening = template.subject or subject, template.text or opening
    said = Template(opening).safe_substitute(filled).strip()
    facts = _facts(told)
    closing = [SANDBOX] if told.password is None else [FIRST_SIGN_IN, SANDBOX]
    lines = [said, "", *(f"{what}: {value}" for what, value in facts), "", *closing, ""]
    one_line = " ".join(Template(subject).safe_substitute(filled).split())
    return Letter(to, one_line, "\n".join(lines), _html(said, facts, closing), key)


def _facts(told: Told) -> tuple[tuple[str, str], ...]:
    known = ("Password", told.theirs) if told.password is None else ("One-time password", told.password.text())
    return (("Account", told.account), known, ("Link", told.link))


def _html(said: str, facts: tuple[tuple[str, str], ...], closing: list[str]) -> str:
    paragraphs = "".join(f"<p>{escape(each).replace(chr(10), '<br>')}</p>" for each in said.split("\n\n"))
    rows = "".join(f"<tr><td>{escape(what)}</td><td>{_value(value)}</td></tr>" for what, value in facts)
    end = "".join(f"<p>{escape(each)}</p>" for each in closing)
    return f"<html><body>{paragraphs}<table>{rows}</table>{end}</body></html>"


def _value(value: str) -> str:
    shown = escape(value)
    return f'<a href="{shown}">{shown}</a>' if value.startswith("https://") else f"<b>{shown}</b>"


def packed(letter: Letter) -> Secret:
    """A letter as it is sealed before it is handed over: sent again it must be the same to the last byte (P)."""
    return Secret(json.dumps(asdict(letter)))


def unpacked(value: Secret) -> Letter:
    """Raises ValueError, without the letter's words, when it is none."""
    try:
        return Letter(**json.loads(value.reveal()))
    except (ValueError, TypeError):
        raise ValueError("the sealed letter cannot be read") from None
