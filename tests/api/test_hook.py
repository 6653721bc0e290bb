"""The webhook: signed, once, bounded, and believed in nothing but the branch."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from api import problems
from api.routes import hook
from api.routes.hook import AT_ONCE, LARGEST, REMEMBERED, SAME_AGAIN, Doorbell
from reconcilers.secret import Secret
from tests.controller.fakes import ManualClock

SECRET = Secret("the secret of both sides")
PUSH = json.dumps({"ref": "refs/heads/main", "after": "0" * 40}).encode()
ANOTHER = json.dumps({"ref": "refs/heads/main", "after": "1" * 40}).encode()


def signature(body: bytes, secret: Secret = SECRET) -> str:
    return hmac.new(secret.reveal(), body, hashlib.sha256).hexdigest()


def headers(body: bytes, delivery: str = "d1", **more: str) -> dict[str, str]:
    usual = {"X-Forgejo-Signature": signature(body), "X-Forgejo-Delivery": delivery, "X-Forgejo-Event": "push"}
    return {name: value for name, value in {**usual, **more}.items() if value != "(none)"}


class Bell:
    def __init__(self) -> None:
        self.rung = self.rung_for_pulls = 0
        self.app = FastAPI()
        self.app.include_router(hook.router)
        problems.register(self.app)
        self.clock = ManualClock()
        self.app.state.doorbell = Doorbell(SECRET, "main", self.ring, self.ring_for_pulls, self.clock)

    def ring(self) -> None:
        self.rung += 1

    def ring_for_pulls(self) -> None:
        self.rung_for_pulls += 1

    async def deliver(self, body: bytes | AsyncIterator[bytes], given: dict[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.post("/hooks/forge", content=body, headers=given)

    def scope(self) -> dict[str, Any]:
        """Of a delivery whose body somebody else brings."""
        raw = [(name.lower().encode(), value.encode()) for name, value in headers(PUSH).items()]
        return {
            "type": "http",
            "method": "POST",
            "path": "/hooks/forge",
            "headers": raw,
            "query_string": b"",
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "root_path": "",
            "app": self.app,
        }


@pytest.fixture
def bell() -> Bell:
    return Bell()


async def test_a_push_to_our_branch_has_the_source_read_once(bell: Bell) -> None:
    for _ in range(3):  # the same delivery can arrive three times (V)
        answer = await bell.deliver(PUSH, headers(PUSH))
        assert answer.status_code == 202
    assert bell.rung == 1
    await bell.deliver(ANOTHER, headers(ANOTHER, "d2"))
    assert bell.rung == 2


@pytest.mark.parametrize(
    "given",
    [
        {"X-Forgejo-Signature": "(none)"},
        {"X-Forgejo-Signature": ""},
        {"X-Forgejo-Signature": signature(PUSH + b" ")},
        {"X-Forgejo-Signature": signature(PUSH, Secret("another"))},
        {"X-Forgejo-Signature": signature(PUSH).upper()},
        {"X-Forgejo-Signature": "\xfc" * 64},
        {"X-Forgejo-Signature": "(none)", "X-Hub-Signature-256": signature(PUSH)},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Gitea-Signature": ""},
    ],
)
async def test_what_is_not_signed_is_refused(bell: Bell, given: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers(PUSH, **given).items()}
    answer = await bell.deliver(PUSH, raw)  # type: ignore[arg-type]
    assert answer.status_code == 401
    assert bell.rung == 0
    assert (await bell.deliver(PUSH, headers(PUSH))).json()["done"] == "the source is read now"  # it was not remembered


@pytest.mark.parametrize("name", ["X-Gitea-Signature", "X-Hub-Signature-256"])
async def test_every_spelling_of_the_signature_will_do(bell: Bell, name: str) -> None:
    value = signature(PUSH) if name == "X-Gitea-Signature" else f"sha256={signature(PUSH)}"
    await bell.deliver(PUSH, headers(PUSH, **{"X-Forgejo-Signature": "(none)", name: value}))
    assert bell.rung == 1


@pytest.mark.parametrize(
    ("body", "event"),
    [
        (json.dumps({"ref": "refs/tags/main"}).encode(), "push"),  # pushes of tags are `push` too
        (json.dumps({"ref": "refs/heads/other"}).encode(), "push"),
        (PUSH, "issues"),
        (b"[]", "push"),
        (b"{", "push"),
        (b"[" * 100_000, "push"),
        (b"\xff\xfe", "push"),
        (json.dumps({"ref": {"x": 1}}).encode(), "push"),
    ],
)
async def test_what_speaks_of_something_else_rings_nobody(bell: Bell, body: bytes, event: str) -> None:
    answer = await bell.deliver(body, headers(body, **{"X-Forgejo-Event": event}))
    assert (answer.status_code, bell.rung) == (202, 0)


@pytest.mark.parametrize("event", ["pull_request", "pull_request_sync"])
async def test_a_pull_request_is_looked_at_and_the_source_is_not(bell: Bell, event: str) -> None:
    body = json.dumps({"action": "synchronized", "number": 7}).encode()
    for _ in range(3):
        await bell.deliver(body, headers(body, **{"X-Forgejo-Event": event}))
    assert (bell.rung_for_pulls, bell.rung) == (1, 0)
    unsigned = headers(body, "d9", **{"X-Forgejo-Event": event, "X-Forgejo-Signature": ""})
    assert (await bell.deliver(body, unsigned)).status_code == 401
    assert bell.rung_for_pulls == 1


async def test_a_delivery_without_an_id_is_refused(bell: Bell) -> None:
    assert (await bell.deliver(PUSH, headers(PUSH, ""))).status_code == 400
    assert bell.rung == 0


async def test_too_much_is_refused_before_all_of_it_has_come(bell: Bell) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * LARGEST:
            sent += 64 * 1024
            yield b"x" * 64 * 1024

    assert (await bell.deliver(endless(), headers(PUSH))).status_code == 413
    assert sent <= 2 * LARGEST


async def test_one_that_never_ends_is_given_up(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "PATIENCE", hook.PATIENCE / 100)

    class Never:
        """A client that sends the beginning of a body and no more."""

        def __init__(self) -> None:
            self.sent: list[dict[str, Any]] = []

        async def receive(self) -> dict[str, Any]:
            if not self.sent:
                await asyncio.get_running_loop().create_future()
            return {"type": "http.disconnect"}

        async def send(self, message: Any) -> None:
            self.sent.append(message)

    never = Never()
    await bell.app(bell.scope(), never.receive, never.send)
    assert never.sent[0]["status"] == 408


async def test_what_was_overheard_rings_no_more_often_than_the_source_is_read_anyway(bell: Bell) -> None:
    """The id is not signed: whoever has one delivery could send it under many."""
    for number in range(20):
        assert (await bell.deliver(PUSH, headers(PUSH, f"d{number}"))).status_code == 202
    assert bell.rung == 1
    bell.clock.pass_by(SAME_AGAIN)
    assert (await bell.deliver(PUSH, headers(PUSH, "later"))).json()["done"] == "the source is read now"
    bell.clock.pass_by(-2 * SAME_AGAIN)  # a clock that was set back keeps nobody waiting
    await bell.deliver(PUSH, headers(PUSH, "earlier"))
    assert bell.rung == 3


async def test_of_what_bears_no_signature_nothing_is_read(bell: Bell) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(8):
            sent += 1
            yield b"x" * 1024

    unsigned = headers(PUSH, **{"X-Forgejo-Signature": ""})
    assert (await bell.deliver(body(), unsigned)).status_code == 401
    assert sent == 0


async def test_only_so_many_may_be_arriving(bell: Bell) -> None:
    """Each holds up to a mebibyte before anybody knows whether it is signed."""
    doorbell: Doorbell = bell.app.state.doorbell
    doorbell.arriving = AT_ONCE
    refused = await bell.deliver(PUSH, headers(PUSH))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    doorbell.arriving = AT_ONCE - 1
    assert (await bell.deliver(PUSH, headers(PUSH))).status_code == 202
    assert (await bell.deliver(b"x" * (LARGEST + 1), headers(PUSH))).status_code == 413
    assert doorbell.arriving == AT_ONCE - 1, "each has made room again, however it ended"


async def test_one_that_breaks_off_is_no_mistake_of_ours(bell: Bell) -> None:
    async def broken_off() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await bell.app(bell.scope(), broken_off, send)
    assert sent[0]["status"] == 400
    assert bell.app.state.doorbell.arriving == 0


async def test_without_a_secret_there_is_no_such_door(bell: Bell) -> None:
    bell.app.state.doorbell = None
    assert (await bell.deliver(PUSH, headers(PUSH))).status_code == 404


async def test_memory_of_deliveries_is_bounded(bell: Bell) -> None:
    doorbell: Doorbell = bell.app.state.doorbell
    assert all(doorbell.is_new(f"{number}", f"{number}".encode()) for number in range(REMEMBERED + 1))
    assert doorbell.is_new("0", b"0")
    assert not doorbell.is_new(f"{REMEMBERED}", b"another")
    assert not doorbell.is_new("another", f"{REMEMBERED}".encode())
