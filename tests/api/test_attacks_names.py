"""Names that are more than names: of testers, in headers, addresses and logs; of components, in paths on the machine."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest

from api import signatures
from controller import admission
from controller.admission import Admission, new_token
from controller.records import AddEvent, Condition, Event, Phase, PutCondition, PutTester, Status
from controller.running import Controller
from controller.store.tables import keepable
from controller.tokens import PutToken, TokenRecord
from controller.world import World
from reconcilers.backends import Backends
from reconcilers.looks import Looks
from reconcilers.secret import Secret
from specs.loading import load_documents
from tests.api import whole_specs
from tests.api.test_logs import Machines, Outside
from tests.controller.fakes import FLEET, START, ManualClock, a_tester, record_of

NAMES = [
    "a\r\nX-Injected: 1",
    "a\nX-Injected: 1",
    "a\rX-Injected: 1",
    "a\r\n\r\n<html>",
    "a\0b",
    "a\x0bX-Injected: 1",
    "a\u2028X-Injected: 1",
    "a\u010dX-Injected: 1",  # whose low byte is a carriage return
    "a\x85X-Injected: 1",
    '"; X-Injected=1',
    "../../etc/passwd",
    "..",
    "/",
    "//evil.example",
    "\\\\evil.example",
    "?token=x",
    "%0d%0aX-Injected: 1",
    "a; Set-Cookie: x=y",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_no_such_name_is_taken_in(name: str) -> None:
    tester = whole_specs.with_value(whole_specs.TESTER, ("metadata", "name"), name)
    files = {"a.yaml": json.dumps(tester).encode(), "fleet.yaml": json.dumps(whole_specs.FLEET).encode()}
    found = load_documents(files, START.date())
    assert found.testers == {}
    assert found.errors
    for error in found.errors:
        assert str(error).isprintable()


async def test_nor_does_one_that_were_there_reach_a_header(browser: httpx.AsyncClient, controller: Controller) -> None:
    """The windows must not depend on what is checked elsewhere."""
    for number, name in enumerate(map(keepable, NAMES)):
        record = replace(record_of(a_tester("dave"), uid=f"z7k2p{number}", phase=Phase.STALLED), name=name)
        await controller.store.write(
            PutTester(record),
            PutCondition(Condition(name, "Ready", Status.FALSE, "Blocked", name, 1, START)),
            AddEvent(Event(name, "machine", "Failed", name, START)),
        )
    there = [quote(name, safe="") for name in NAMES]
    for path in (
        "/",
        "/api/v1/testers",
        *(form.format(name) for name in there for form in ("/testers/{}", "/events?tester={}", "/api/v1/testers/{}")),
    ):
        answer = await browser.get(path)
        assert answer.status_code < 500, path
        assert "x-injected" not in answer.headers, path
        assert "set-cookie" not in answer.headers, path
        assert all(value.decode("latin-1").isprintable() for _, value in answer.headers.raw), path
    links = [part.partition('"')[0] for part in (await browser.get("/")).text.split('href="')[1:]]
    assert len(links) > len(NAMES)
    assert all(each.startswith(("/", "?", "#", "https://")) and not each.startswith("//") for each in links)


# ------------------------------------------------------------------------------------------------ logs

PATHS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "component-hero_books/../../../x",
    "hero_books/../../x",
    "hero_books\0",
    "hero_books\n",
    "hero_books ; cat /etc/passwd",
    "$(cat /etc/passwd)",
    "*",
    "HERO_BOOKS",
    "supervisor",
    "-n",
]


async def test_no_path_is_asked_of_a_machine(browser: httpx.AsyncClient, controller: Controller) -> None:
    """Only what the spec names has a log; nothing else comes near the machine's shell."""
    machines = Machines(log="root:x:0:0")
    backends = cast(Backends, Outside(machines))
    looks = Looks(backends, controller.clock, timedelta(seconds=10))
    controller.engine._world = World(FLEET, backends, looks, ())
    for component in PATHS:
        there = quote(component, safe="").replace(".", "%2e")
        answer = await browser.get(f"/api/v1/testers/alice/logs/{there}")
        assert answer.status_code in (404, 422), component
        page = await browser.get(f"/testers/alice?part=log&log={there}")
        assert page.status_code in (200, 422), component
        assert "root:x" not in answer.text + page.text, component
    assert {job for _, job in machines.asked} == {"look"}
    assert (await browser.get("/api/v1/testers/alice/logs/hero_books")).json()["log"] == "root:x:0:0"


# ------------------------------------------------------------------------------------------------ comparing


async def test_tokens_are_compared_in_constant_time_all_of_them(
    controller: Controller, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long it takes tells neither whether the first or the last fits, nor how much of one."""
    asked = Admission(controller.store, clock)
    tokens = [new_token() for _ in range(4)]
    for number, token in enumerate(tokens):
        record = TokenRecord(f"t{number}", admission.hash_of(token), START, START.replace(year=2027))
        await controller.store.write(PutToken(record))
    compared: list[Any] = []

    def counted(one: Any, other: Any) -> bool:
        compared.append(one)
        return original(one, other)

    original = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", counted)
    for given in (tokens[0], tokens[-1], new_token()):
        compared.clear()
        await asked.holder(given)
        assert len(compared) == len(tokens)


def test_signatures_are_compared_in_constant_time_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    secret, body = Secret("the secret of both sides"), b"{}"
    right = hmac.new(secret.reveal(), body, "sha256").hexdigest()
    compared: list[Any] = []

    def counted(one: Any, other: Any) -> bool:
        compared.append(one)
        return original(one, other)

    original = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", counted)
    for first in (right, "0" * 64, right[:-1] + "x", ""):
        compared.clear()
        given = {"x-forgejo-signature": first, "x-gitea-signature": right, "x-hub-signature-256": f"sha256={right}"}
        assert signatures.is_signed(body, given, secret) == (first == right)
        assert len(compared) == 3


async def test_what_looks_like_no_token_is_not_looked_up(
    browser: httpx.AsyncClient, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may send anything, as often as they like."""
    asked = 0

    async def tokens() -> tuple[TokenRecord, ...]:
        nonlocal asked
        asked += 1
        return ()

    monkeypatch.setattr(controller.store, "tokens", tokens)
    for given in ("x", "tct_", "tct_" + "a" * 300, "a" * 47, "tct_ü" + "a" * 40):
        raw = [("Authorization", f"Bearer {given}".encode())]
        assert (await browser.get("/api/v1/fleet", headers=raw)).status_code == 401  # type: ignore[arg-type]
    assert asked == 0
    assert (
        await browser.get("/api/v1/fleet", headers={"Authorization": f"Bearer {new_token().text()}"})
    ).status_code == 401
    assert asked == 1
