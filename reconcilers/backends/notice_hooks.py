"""Webhooks that take notices: one POST of JSON, signed if there is a secret. Its address is a secret itself.

Assumptions (A): none; the answer is any 2xx.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from reconcilers.backends.hiding import without
from reconcilers.backends.limits import Call, Gate
from reconcilers.backends.transport import LimitedTransport, why
from reconcilers.errors import Blocked, OutcomeUnknown, Rejected, Throttled, Unreachable
from reconcilers.secret import Secret

LIMIT = 10.0  # seconds for one delivery


@dataclass(frozen=True, slots=True)
class Delivery:
    """`text` for people; `notices` for programs. `key`: the same when it is sent again."""

    text: str
    notices: Sequence[Mapping[str, object]]
    key: str


@dataclass
class NoticeHook:
    """One webhook. `problem`: why it cannot be used, None when it can."""

    name: str
    gate: Gate
    connect: Callable[[], httpx.AsyncBaseTransport]
    url: Secret | None = None
    secret: Secret | None = None
    problem: Blocked | None = None

    async def send(self, delivery: Delivery) -> None:
        """Raises Blocked SecretMissing or AddressUnusable, Unreachable, Throttled, Rejected, OutcomeUnknown."""
        url = self._address()
        body = json.dumps(
            {"text": delivery.text, "notices": list(delivery.notices), "key": delivery.key}, ensure_ascii=False
        )
        headers = {"Content-Type": "application/json", "Idempotency-Key": delivery.key}
        if self.secret is not None:
            made = hmac.new(self.secret.reveal().strip(), body.encode(), hashlib.sha256).hexdigest()
            headers["X-Hub-Signature-256"] = f"sha256={made}"
        transport = LimitedTransport(self.connect(), self.gate)
        call = Call(self.gate.system, "notice", True)
        async with httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False) as client:
            try:
                extensions = {"call": call, "limit": LIMIT}
                answer = await client.post(url, content=body.encode(), headers=headers, extensions=extensions)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
                raise Unreachable(self._without(why(error)), system=self.gate.system) from None
            except httpx.HTTPError as error:
                raise OutcomeUnknown(self._without(why(error)), system=self.gate.system) from None
        self._judge(answer)

    def _address(self) -> str:
        if self.problem is not None:
            raise Blocked(self.problem.message, system=self.problem.system, reason=self.problem.reason)
        try:
            url = self.url.text().strip() if self.url is not None else ""
            parts = httpx.URL(url)
            usable = parts.scheme in ("http", "https") and bool(urlsplit(url).hostname)
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable:
            message = f"the secret of spec.notify.hooks.{self.name}.url is no address of a webhook: an admin mends it"
            raise Blocked(message, system=self.gate.system, reason="AddressUnusable")
        return url

    def _judge(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if 200 <= status < 300:
            return
        if status == 429:
            raise Throttled("it takes no more just now", system=self.gate.system)
        if 300 <= status < 500:
            raise Rejected(f"a notice is refused: {status}", system=self.gate.system, reason="NoticeRefused")
        raise OutcomeUnknown(f"a notice was answered with {status}", system=self.gate.system)

    def _without(self, words: str) -> str:
        parts = urlsplit(self.url.text().strip()) if self.url is not None else urlsplit("")
        hidden: list[Secret | str] = [one for one in (self.url, parts.path.strip("/"), parts.query) if one]
        return without(words, hidden)
