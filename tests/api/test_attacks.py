"""What somebody may try who should not look: with tokens, addresses, hosts, long answers and bodies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import httpx
import pytest
from starlette.responses import StreamingResponse

from api import patience
from api.access.sessions import LIVES
from api.server import bound, make_app, place, serve
from api.window import Window
from controller.admission import Admission
from controller.records import Phase, PutFleet, SetStatus
from controller.running import Controller
from controller.tokens import DropToken
from reconcilers.backends.forge_sign_in import Person
from tests.api.access_rig import BASE, FORGE, PAGE, Rig, windows
from tests.api.sockets import said
from tests.controller.fakes import FLEET, ManualClock

NEWS = SetStatus("alice", Phase.FAILING, 1, "", 1, None)
LATER = SetStatus("later", Phase.FAILING, 1, "", 1, None)
ADDRESSES = ("/", "/api/v1/fleet", "/api/v1/testers/alice", "/healthz", "/sign-in", "/sign-in/callback", "/nothing")


@pytest.fixture
async def rig(controller: Controller, clock: ManualClock) -> AsyncIterator[Rig]:
    async with windows(controller, clock) as made:
        yield made


# ------------------------------------------------------------------------------------------------ addresses and hosts


@pytest.mark.parametrize(
    "query",
    [
        "token={token}",
        "access_token=x",
        "TOKEN=x",
        "api_key=x",
        "q={token}",
        "q=%74%63%74_abc",
        "authorization=Bearer+x",
    ],
)
async def test_tokens_in_addresses_are_refused(rig: Rig, query: str) -> None:
    token = await rig.a_token()
    for path in ("/api/v1/fleet", "/healthz"):
        answer = await rig.browser.get(
            f"{path}?{query.format(token=token)}", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 400
        assert "revoke it" in answer.text
        assert token not in answer.text


async def test_a_token_in_a_path_is_refused(rig: Rig) -> None:
    assert (await rig.browser.get(f"/api/v1/testers/{await rig.a_token()}")).status_code == 400


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "testers.example.org.evil.example",
        "10.0.0.1",
        "",
        "a\tb",
        "127.0.0.1/healthz?",
        "localhost/healthz",
        "testers.example.org/static/",
        "testers.example.org:80/healthz",
        "evil.example@testers.example.org",
        "testers.example.org, evil.example",
    ],
)
async def test_other_names_than_ours_are_refused_and_stand_in_no_answer(rig: Rig, host: str) -> None:
    for path in ("/", "/sign-in/forge", "/healthz"):
        answer = await rig.browser.get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert "evil" not in f"{answer.text}{answer.headers}"


async def test_forge_is_told_our_own_address_whatever_a_proxy_or_somebody_says(rig: Rig) -> None:
    given = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http", "Forwarded": "host=evil.example"}
    answer = await rig.browser.get("/sign-in/forge", headers=given)
    assert (
        f"redirect_uri={BASE.replace(':', '%3A').replace('/', '%2F')}%2Fsign-in%2Fcallback"
        in answer.headers["location"]
    )
    assert "evil" not in answer.headers["location"]


@pytest.mark.parametrize(
    "path", ["//api/v1/fleet", "/static/../api/v1/fleet", "/sign-in/../api/v1/fleet", "/healthz/", "/API/V1/fleet"]
)
async def test_no_spelling_of_an_address_gets_past(rig: Rig, path: str) -> None:
    transport = rig.browser._transport
    scope_path = path.encode()
    request = httpx.Request("GET", BASE, extensions={"target": scope_path})
    request.url = request.url.copy_with(raw_path=scope_path)
    answer = await transport.handle_async_request(request)
    body = await answer.aread()
    assert answer.status_code in (400, 401, 404, 307)
    assert b"phases" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
async def test_nothing_can_be_changed_by_anybody(rig: Rig, method: str) -> None:
    await rig.signed_in()
    for path in (*ADDRESSES, "/hooks/forge", "/sign-out"):
        if method == "POST" and path in ("/hooks/forge", "/sign-out"):
            continue
        assert (await rig.browser.request(method, path)).status_code == 405, path


async def test_too_long_an_address_is_refused(rig: Rig) -> None:
    assert (await rig.browser.get("/" + "a" * 9000)).status_code == 414
    assert (await rig.browser.get("/sign-in/callback", params={"code": "a" * 5000})).status_code == 422


async def test_refusals_have_every_header_too_and_https_is_remembered(rig: Rig) -> None:
    for answer in (
        await rig.browser.get("/", headers=PAGE),
        await rig.browser.get("/", headers={"Host": "evil.example"}),
        await rig.browser.post("/"),
    ):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["strict-transport-security"]


async def test_a_mistake_of_ours_has_the_headers_too(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def mistaken() -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(rig.access.admission, "fleet", mistaken)
    kept = rig.access.sessions.begin(Person("7", "mik"), FORGE)
    answer = await rig.browser.get("/api/v1/fleet", headers={"Cookie": f"__Host-testers-session={kept}"})
    assert answer.status_code == 500
    assert "inside" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


# ------------------------------------------------------------------------------------------------ long answers


async def test_an_answer_that_goes_on_ends_with_the_access(rig: Rig) -> None:
    """A stream is for an admin as long as they are one."""

    async def told() -> AsyncIterator[bytes]:
        for number in range(100):
            if number == 3:
                document = FLEET.model_dump(mode="json", by_alias=True)
                document["spec"]["admins"] = [{"account": "sara"}]
                await rig.controller.store.write(PutFleet(type(FLEET).model_validate(document).model_dump_json(), "r2"))
            rig.clock.pass_by(timedelta(seconds=1))
            yield f"data: {number}\n\n".encode()

    async def stream() -> StreamingResponse:
        return StreamingResponse(told(), media_type="text/event-stream")

    rig.browser._transport.app.add_api_route("/long", stream)  # type: ignore[attr-defined]
    await rig.signed_in()
    answer = await rig.browser.get("/long")
    assert "data: 2\n" in answer.text
    assert "data: 3\n" not in answer.text


async def _is_signed_out(rig: Rig) -> None:
    await rig.access.sessions.end(rig.session() or "")


async def _is_no_admin_any_more(rig: Rig) -> None:
    document = FLEET.model_dump(mode="json", by_alias=True)
    document["spec"]["admins"] = [{"account": "sara"}]
    await rig.controller.store.write(PutFleet(type(FLEET).model_validate(document).model_dump_json(), "r2"))


async def _has_no_token_any_more(rig: Rig) -> None:
    await rig.controller.store.write(DropToken("prometheus"))


async def _is_over(rig: Rig) -> None:
    rig.clock.pass_by(LIVES)


@pytest.mark.parametrize(
    ("how", "ends"),
    [
        ("session", _is_signed_out),
        ("session", _is_no_admin_any_more),
        ("session", _is_over),
        ("token", _has_no_token_any_more),
    ],
)
async def test_a_stream_ends_with_the_access_and_gives_its_place_back(
    rig: Rig, how: str, ends: Callable[[Rig], Awaitable[None]]
) -> None:
    """The stream itself, not one like it: it must not go on unheard either."""
    headers = {"Authorization": f"Bearer {await rig.a_token()}"} if how == "token" else {}
    if how == "session":
        await rig.signed_in()
    app = rig.browser._transport.app  # type: ignore[attr-defined]
    following = asyncio.ensure_future(rig.browser.get("/api/v1/stream", headers=headers))
    async with asyncio.timeout(30):
        while not app.state.streams:  # noqa: ASYNC110 - a set, of another's
            await asyncio.sleep(0)
        await rig.controller.store.write(NEWS)
        await ends(rig)
        rig.clock.pass_by(timedelta(seconds=2))
        await rig.controller.store.write(LATER)
        answer = await following
    assert '"name": "later"' not in answer.text
    assert not app.state.streams


# ------------------------------------------------------------------------------------------------ bodies, on a real socket


@pytest.fixture
async def served(controller: Controller, clock: ManualClock) -> AsyncIterator[int]:
    """The port of windows that answer on loopback."""
    sock, where = bound(place("127.0.0.1:0"))
    stop = asyncio.Event()
    serving = asyncio.ensure_future(serve(make_app(Window(controller)), sock, stop))
    try:
        yield where.port
    finally:
        stop.set()
        await serving


HEAD = b"%s %s HTTP/1.1\r\nHost: 127.0.0.1\r\n"


@pytest.mark.parametrize(
    "path", [b"/", b"/api/v1/fleet", b"/healthz", b"/hooks/forge", b"/sign-out", b"/sign-in/callback"]
)
async def test_a_body_that_is_too_large_is_refused_before_it_has_come(served: int, path: bytes) -> None:
    method = b"POST" if path in (b"/hooks/forge", b"/sign-out") else b"GET"
    answer = await said(served, HEAD % (method, path) + b"Content-Length: 99999999999\r\n\r\n" + b"x" * 1000)
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_heads_that_are_too_large_or_broken_are_refused(served: int) -> None:
    assert (await said(served, HEAD % (b"GET", b"/") + b"X: " + b"a" * 100_000)).startswith(b"HTTP/1.1 400 ")
    assert (await said(served, b"\x16\x03\x01 hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    smuggled = HEAD % (b"POST", b"/hooks/forge") + b"Content-Length: 4\r\nTransfer-Encoding: gzip\r\n\r\n"
    assert b" 400 " in (await said(served, smuggled)).split(b"\r\n")[0] + b" "


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET / HT",
        HEAD % (b"GET", b"/healthz"),
        HEAD % (b"GET", b"/healthz") + b"\r\n" + b"GET / ",  # the second one on its connection
        HEAD % (b"GET", b"/healthz") + b"Content-Length: 100000\r\n\r\n",  # a body that nobody reads
    ],
    ids=["silence", "half a line", "half a head", "half a second head", "half a body"],
)
async def test_who_takes_too_long_is_hung_up_on(served: int, beginning: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte now and then must not keep a place for ever."""
    monkeypatch.setattr(patience, "HEAD_LIMIT", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", served)
    writer.write(beginning)

    async def drip() -> None:
        while beginning:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.02)

    dripping = asyncio.ensure_future(drip())
    try:
        async with asyncio.timeout(30):
            while await reader.read(1000):
                pass
    except ConnectionError:
        pass
    finally:
        dripping.cancel()
        await asyncio.wait((dripping,))
        writer.close()


async def test_who_is_answered_is_not_hung_up_on(served: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[patience.PatientProtocol] = []
    original = patience.PatientProtocol.connection_made

    def noted(self: patience.PatientProtocol, transport: asyncio.Transport) -> None:
        original(self, transport)
        assert self._hanging_up is not None
        made.append(self)

    monkeypatch.setattr(patience.PatientProtocol, "connection_made", noted)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{served}", trust_env=False, timeout=30) as client:
        for _ in range(2):
            assert (await client.get("/healthz")).status_code == 200
            (connection,) = made
            assert connection._hanging_up is None


async def test_a_store_that_cannot_be_read_lets_nobody_in(rig: Rig, controller: Controller) -> None:
    token = await rig.a_token()
    await rig.signed_in()
    await controller.store.aclose()
    assert await rig.looks() == 503
    assert await rig.looks(Authorization=f"Bearer {token}") == 503


def test_what_is_sealed_is_for_one_purpose(controller: Controller, clock: ManualClock) -> None:
    admission = Admission(controller.store, clock)
    box = admission.sealed("session", b"x")
    assert admission.opened("session", box) == b"x"
    assert admission.opened("sign-in", box) is None
