"""What servers repeat of what they were told is in none of our errors (law 10), whichever client, however it is repeated."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from html import escape
from urllib.parse import quote_plus

import httpx
import pytest

from reconcilers.backends.compute import ComputeClient, DaemonName, GatewayOrder, GridNode
from reconcilers.backends.forge import Account, ForgeClient
from reconcilers.backends.hiding import unnamed, without
from reconcilers.backends.limits import Gate
from reconcilers.backends.machine_jobs import LOG_TAIL
from reconcilers.backends.machine_look import job_in
from reconcilers.backends.mail import Letter, ResendMailer
from reconcilers.backends.transport import Wire
from reconcilers.clock import SystemClock
from reconcilers.errors import OutsideError
from reconcilers.secret import HIDDEN, Secret

TOKEN = "canary-token-4f1e9b"
PASSWORD = Secret('Canary.pass"word+71=')
DAEMON = Secret("canary-daemon-2c80d7")
KEY = "re_canary-key-90aa31"
CANARIES = [TOKEN, PASSWORD.text(), json.dumps(PASSWORD.text())[1:-1], DAEMON.text(), KEY]
LETTER = Letter("alice@example.org", "Welcome", f"One-time password: {PASSWORD.text()}\n", "<p></p>", "key-1")
ACCOUNT = Account(7, "alice", "alice@example.org")


def gate(system: str) -> Gate:
    return Gate(system, SystemClock(), 3, 1000)


def forge(carrier: httpx.AsyncBaseTransport) -> ForgeClient:
    headers = {"Authorization": f"token {TOKEN}"}
    return ForgeClient(Wire("http://forge.test", carrier, gate("Forge"), headers), "http://forge.test")


def daemon(carrier: httpx.AsyncBaseTransport) -> ComputeClient:
    return ComputeClient(DaemonName("d"), Wire("http://d.test", carrier, gate("compute d")), DAEMON)


def mailer(carrier: httpx.AsyncBaseTransport) -> ResendMailer:
    wire = Wire("http://mail.test", carrier, gate("mail"), {"Authorization": f"Bearer {KEY}"})
    return ResendMailer(wire, "hero@example.org")


CALLS: dict[str, Callable[[httpx.AsyncBaseTransport], Awaitable[object]]] = {
    "create an account": lambda to: forge(to).create_account("alice", "alice@example.org", PASSWORD),
    "a new password": lambda to: forge(to).reset_password(ACCOUNT, PASSWORD),
    "delete an account": lambda to: forge(to).delete_account("alice", purge=False),
    "make an app": lambda to: forge(to).create_oauth_app("alice", "https://a.test/oauth/callback"),
    "list the apps": lambda to: forge(to).oauth_apps(),
    "give access": lambda to: forge(to).add_reader("geomind", "feedback", "alice"),
    "deploy": lambda to: daemon(to).deploy_gateway(GatewayOrder("alice", GridNode("2"), "400::1")),
    "list machines": lambda to: daemon(to).list_vms(),
    "send a letter": lambda to: mailer(to).send(LETTER),
}


def echo(status: int) -> httpx.MockTransport:
    """Repeats what it was told, at a place where an error of ours would have to cut it in two."""

    def answer(request: httpx.Request) -> httpx.Response:
        told = f"{request.headers.get('Authorization')} {request.content.decode()[:120]} "
        body = request.content.decode()
        at = body.find("anary")
        message = told + "." * 100 + body[max(0, at - 40) :]
        if b"jsonrpc" in request.content and status == 200:
            number = json.loads(body)["id"]
            return httpx.Response(200, json={"id": number, "error": {"code": -32602, "message": message}})
        return httpx.Response(status, json={"message": message, "name": "validation_error"})

    return httpx.MockTransport(answer)


def breaking() -> httpx.MockTransport:
    """What comes back is no HTTP, and the error about it quotes it."""

    def answer(request: httpx.Request) -> httpx.Response:
        told = f"{request.headers.get('Authorization')} {request.content.decode()}"
        raise httpx.RemoteProtocolError(f"illegal status line: {told!r}")

    return httpx.MockTransport(answer)


async def said(call: str, carrier: httpx.AsyncBaseTransport) -> str:
    """The error with everything that a log would show of it."""
    with pytest.raises(OutsideError) as caught:
        await CALLS[call](carrier)
    shown = ""
    error: BaseException | None = caught.value
    while error is not None:
        shown += f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return shown


STATUSES = (400, 401, 403, 409, 418, 422, 500, 503)
REFUSALS = [
    *((call, status) for call in CALLS for status in STATUSES),
    *((call, 200) for call in ("deploy", "list machines")),
]


@pytest.mark.parametrize(("call", "status"), REFUSALS)
async def test_a_server_that_repeats_what_it_was_told_gives_nothing_away(call: str, status: int) -> None:
    shown = await said(call, echo(status))
    assert "anary" not in shown, "whole or half of one"
    assert [canary for canary in CANARIES if canary in shown] == []


@pytest.mark.parametrize("call", CALLS)
async def test_nor_does_one_that_breaks_the_connection_with_it(call: str) -> None:
    shown = await said(call, breaking())
    assert "anary" not in shown
    assert HIDDEN in shown or call == "deploy"  # whose words are cut off before they come to it


@pytest.mark.parametrize(
    "form",
    [
        'key <"a+b=c">',
        json.dumps('key <"a+b=c">'),
        json.dumps(json.dumps('key <"a+b=c">'))[3:-3],
        quote_plus('key <"a+b=c">'),
        escape('key <"a+b=c">'),
        b64encode(b'key <"a+b=c">').decode().rstrip("="),
        'key  \n <"a+b=c">',
    ],
)
def test_however_it_is_written(form: str) -> None:
    assert (
        without(f"cannot take {form} here", [Secret('key <"a+b=c">')]).replace('"', "") == f"cannot take {HIDDEN} here"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GROQ_API_KEY=gsk_x,y hero", f"GROQ_API_KEY={HIDDEN} hero"),
        ("export A_TOKEN='a b' c", f"export A_TOKEN={HIDDEN} c"),
        ('{"SMTP_PASSWORD": "a \\" b", "x": 1}', f'{{"SMTP_PASSWORD": {HIDDEN}, "x": 1}}'),
        ('TENANT_TOKENS={"a": "b"}', f"TENANT_TOKENS={HIDDEN}"),
        ("A_KEY_2: x", f"A_KEY_2: {HIDDEN}"),
        (f"A_KEY={HIDDEN}", f"A_KEY={HIDDEN}"),
        ("a\n-----BEGIN OPENSSH PRIVATE KEY-----\nb\n-----END OPENSSH PRIVATE KEY-----\nc", f"a\n{HIDDEN}\nc"),
        ("-----BEGIN PRIVATE KEY-----\ncut off", HIDDEN),
        ("A_KEY=\nHOME=/root", "A_KEY=\nHOME=/root"),
        ("error: no secret FOO_KEY", "error: no secret FOO_KEY"),
        ("HERO_PROXY_SEED_GATEWAY_LISTENER=1 MONKEYS: 2", "HERO_PROXY_SEED_GATEWAY_LISTENER=1 MONKEYS: 2"),
    ],
)
def test_what_a_variable_holds_is_hidden_by_its_name(text: str, expected: str) -> None:
    assert unnamed(text) == expected


def test_a_tail_begins_with_a_whole_line() -> None:
    """What stands before its first line's end may be half a secret that nobody knows."""
    line = b"half_of_a_key\n"
    rest = b"x" * (LOG_TAIL - len(line))
    for log, kept in ((line + rest, rest), ((line + rest)[1:], (line + rest)[1:]), (b"y" * LOG_TAIL, b"y" * LOG_TAIL)):
        job = job_in("hero_books", "failed\nrc=1\n", log, held=False)
        assert job is not None
        assert job.log == kept.decode()


def test_the_first_half_of_one_that_was_cut_off_is_hidden_and_a_beginning_that_many_things_have_is_not() -> None:
    secret = Secret("https://canary-4c1/0f9a")
    assert without("no such: https://canary-4c", [secret]) == f"no such: {HIDDEN}"
    assert without("no such: https://else.where", [secret]) == "no such: https://else.where"


def test_a_line_of_a_key_is_hidden_too_and_what_is_too_short_to_be_secret_stays() -> None:
    key = Secret("-----BEGIN KEY-----\nb3BlbnNzaC1rZXktdjEA\nAAAABG5vbmUAAAAEbm9u\n-----END KEY-----\n")
    assert without("bad line AAAABG5vbmUAAAAEbm9u", [key]) == f"bad line {HIDDEN}"
    assert without("bad \\nAAAABG5vbmUAAAAEbm9u\\n", [key]) == f"bad \\n{HIDDEN}\\n"
    assert without("a token is needed", [Secret("a"), Secret(""), Secret("to")]) == "a token is needed"
