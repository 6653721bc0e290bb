"""How mail goes out: by Resend, by an SMTP server, or not at all; and the wording that an admin may change."""

import re
from string import Template
from typing import Annotated, Final

from pydantic import AfterValidator, Field, WithJsonSchema

from specs.errors import refusal
from specs.frozen import Frozen
from specs.references import SecretRef
from specs.suggest import suggestion
from specs.text import Email, Flag, Host, Sentence, Url, Whole

PLACEHOLDERS: Final = ("account", "link", "name")
TEXT_LIMIT: Final = 10_000

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def _template(value: str) -> str:
    """Raises a refusal for a `$` that starts no placeholder, and for a placeholder that nobody fills in."""
    template = Template(value)
    if not template.is_valid():
        raise refusal("a $ in it starts no placeholder", "write ${account}, ${link} or ${name}; write $$ for a plain $")
    for name in template.get_identifiers():
        if name not in PLACEHOLDERS:
            raise refusal(f"nothing is known as ${{{name[:40]}}}", suggestion(name, PLACEHOLDERS))
    return value


def _text(value: str) -> str:
    if len(value) > TEXT_LIMIT:
        raise refusal(f"this is {len(value)} characters long", f"at most {TEXT_LIMIT}")
    if _CONTROL.search(value):
        raise refusal("there are control characters in it", "only plain lines of text")
    if not value.strip():
        raise refusal("there is nothing in it", "write a text, or take the field out")
    return _template(value)


TemplateLine = Annotated[Sentence, AfterValidator(_template)]
"""One line with placeholders."""

TemplateText = Annotated[
    str,
    AfterValidator(_text),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": TEXT_LIMIT, "examples": ["Welcome, ${account}!"]}),
]
"""Lines with placeholders."""


class LetterTemplate(Frozen):
    """The wording of the welcome mail. `${account}`, `${link}` and `${name}` are filled in; `$$` is a plain `$`."""

    subject: TemplateLine | None = None
    """The subject. Without it: ours."""
    text: TemplateText | None = None
    """What stands before the facts (account, password, link), which are always added. Without it: ours."""


class Smtp(Frozen):
    """A mail server."""

    host: Host
    """Its name or address."""
    port: Annotated[Whole, Field(ge=1, le=65_535)] = 587
    """Its port. On 465 the connection is encrypted from its first byte."""
    start_tls: Flag = True
    """Whether the connection is encrypted before anything is said. A server that cannot is then not used."""
    user: Sentence | None = None
    """Who signs in. Without it nobody does."""
    password: SecretRef | None = None
    """Where the password is kept."""

    @property
    def encrypted(self) -> bool:
        """Whether nobody on the way can read along."""
        return self.start_tls or self.port == 465


class Mail(Frozen):
    """How mail goes out: by `resendKey`, by `smtp`, or, without either, only as a line in the log."""

    sender: Annotated[Email, Field(alias="from")]
    """The sender's address."""
    reply_to: Email | None = None
    """Where answers go. Without it: to the sender."""
    send: Flag = True
    """false: nobody of the fleet is sent anything; `testerctl reveal` then shows a one-time password, each time with an event."""
    resend_key: SecretRef | None = None
    """Where Resend's key is kept."""
    resend_url: Url = "https://api.resend.com"
    """Resend's address."""
    smtp: Smtp | None = None
    """A mail server instead of Resend."""
    template: LetterTemplate = LetterTemplate()
    """The wording."""
