"""Mail: Resend's `POST /emails`, and what both it and the SMTP server put into the one mailbox of the world."""

import hashlib
import json
import re
from typing import Any

from examples.simulator.faults import Faults
from examples.simulator.http import Answer, Request, json_answer
from examples.simulator.realm import Realm
from examples.simulator.records import Mail, PostState, Remembered, Violation

KEY_KEPT = 86_400.0
"""Simulated seconds that Resend remembers an Idempotency-Key: a day (P)."""
TAKES = 0.3
"""Simulated seconds of a call."""
LONGEST_KEY = 256
MOST_RECIPIENTS = 50
SMTP_USER = "mailer"
_ADDRESS = re.compile(r"(?:[^<>]*<)?[^@\s<>]+@[^@\s<>]+\.[^@\s<>]+>?")


class Post:
    """The world's post office."""

    def __init__(self, state: PostState, realm: Realm, faults: Faults, violations: list[Violation]) -> None:
        self.state = state
        self._realm = realm
        self.faults = faults
        self._violations = violations
        if not state.resend_key:
            state.resend_key, state.smtp_password = f"re_{realm.secret('resend')}", realm.secret("smtp")

    def deliver(self, how: str, fields: dict[str, Any]) -> Mail:
        """Into the mailbox; the second one of a recipient and a key is a violation."""
        mail = Mail(id=_uuid(self._realm.draw(32)), at=self._realm.now(), how=how, **fields)
        if mail.key:
            for earlier in self.state.mailbox:
                if earlier.key == mail.key and set(earlier.to) & set(mail.to):
                    what = f"{', '.join(mail.to)} was mailed twice with the key {mail.key}"
                    self._violations.append(Violation(time=mail.at, kind="SecondMail", what=what))
                    break
        self.state.mailbox.append(mail)
        return mail

    def mail(self, which: str | int) -> Mail:
        """By id, by place in the mailbox, or the newest to an address. Raises KeyError."""
        if isinstance(which, int):
            if -len(self.state.mailbox) <= which < len(self.state.mailbox):
                return self.state.mailbox[which]
            raise KeyError(f"no mail {which}")
        for mail in reversed(self.state.mailbox):
            if which == mail.id or which.lower() in [one.lower() for one in mail.to]:
                return mail
        raise KeyError(f"no mail {which!r}")

    # -- Resend

    async def answer(self, request: Request) -> Answer:
        """Errors are `{name, message, statusCode}` (P)."""
        if (request.method, request.path) == ("GET", "/domains"):
            return self._unknown_key(request) or self._domains()
        if request.path != "/emails":
            return refused(404, "not_found", "The requested endpoint does not exist")
        if request.method != "POST":
            return refused(405, "method_not_allowed", "Method is not allowed for the requested path")
        await self._realm.clock.sleep(TAKES)
        return self._unwelcome(request) or self._sent(request)

    def _domains(self) -> Answer:
        if self.state.only_sends:
            return refused(401, "restricted_api_key", "This API key is restricted to only send emails")
        return json_answer({"object": "list", "data": [{"name": "example.org", "status": "verified"}]})

    def _unknown_key(self, request: Request) -> Answer | None:
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not key.strip():
            return refused(401, "missing_api_key", "Missing API key in the authorization header")
        if key.strip() != self.state.resend_key:
            return refused(403, "invalid_api_key", "API key is invalid")
        return None

    def _unwelcome(self, request: Request) -> Answer | None:
        if unknown := self._unknown_key(request):
            return unknown
        if "idempotency-key" in request.headers and not 1 <= len(request.headers["idempotency-key"]) <= LONGEST_KEY:
            return refused(400, "invalid_idempotency_key", "The key must be between 1 and 256 characters")
        busy = self.faults.take("mail", "POST /emails", ("rate_limited",))
        if busy is None:
            return None
        after = ("retry-after", str(busy.options.get("retry_after", 1)))
        return refused(429, "rate_limit_exceeded", "Too many requests", (after,))

    def _sent(self, request: Request) -> Answer:
        fields = _fields(request.body)
        if isinstance(fields, Answer):
            return fields
        key = request.headers.get("idempotency-key", "")
        digest = hashlib.sha256(json.dumps(json.loads(request.body), sort_keys=True).encode()).hexdigest()
        known = self.state.keys.get(key)
        if known is not None and self._realm.now() - known.at < KEY_KEPT:
            if known.digest != digest:
                message = "This idempotency key has been used with a different request payload"
                return refused(409, "invalid_idempotent_request", message)
            return json_answer({"id": known.id})
        refusal = self.faults.take("mail", "POST /emails", ("refused",), fields["to"][0])
        if refusal is not None:
            return refused(403, "validation_error", "The domain of the sender is not verified")
        mail = self.deliver("resend", {**fields, "key": key})
        if key:
            self.state.keys[key] = Remembered(digest=digest, id=mail.id, at=mail.at)
        done = json_answer({"id": mail.id})
        lost = self.faults.take("mail", "POST /emails", ("answer_lost",), mail.to[0])
        return done.travelling("cut") if lost else done


def refused(status: int, name: str, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    return json_answer({"statusCode": status, "name": name, "message": message}, status, headers)


def _fields(body: bytes) -> dict[str, Any] | Answer:
    """The mail of a request, or the refusal."""
    try:
        asked = json.loads(body)
    except ValueError:
        asked = None
    if not isinstance(asked, dict):
        return refused(422, "validation_error", "The request body is not a JSON object")
    for name in ("from", "to", "subject"):
        if not asked.get(name):
            return refused(422, "missing_required_field", f"Missing `{name}` field")
    if not asked.get("text") and not asked.get("html"):
        return refused(422, "missing_required_field", "Missing `html` or `text` field")
    to, reply_to = _several(asked["to"]), _several(asked.get("reply_to") or [])
    wrong = [address for address in (*to, *reply_to) if not _ADDRESS.fullmatch(address)]
    if wrong or len(to) > MOST_RECIPIENTS:
        return refused(422, "validation_error", "Invalid `to` or `reply_to` field: use `email@example.com`")
    if not isinstance(asked["from"], str) or not _ADDRESS.fullmatch(asked["from"]):
        return refused(422, "invalid_from_address", "Invalid `from` field: use `email@example.com` or `Name <…>`")
    plain = {name: str(asked.get(name) or "") for name in ("subject", "text", "html")}
    return {"sender": asked["from"], "to": to, "reply_to": reply_to, **plain}


def _several(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _uuid(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))
