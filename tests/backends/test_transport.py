"""The one seam under every HTTP client: what each kind of failure means, limits, rest after 429, sizes, hooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from reconcilers.backends.haste import HASTE, Haste
from reconcilers.backends.limits import Call, Gate, asked_before_writing
from reconcilers.backends.transport import BODY_LIMIT, Wire, retry_after
from reconcilers.errors import OutcomeUnknown, OutsideError, Throttled, Transient, Unreachable

START = datetime(2026, 1, 1, tzinfo=UTC)


class StillClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    async def sleep(self, span: timedelta) -> None:
        self.time += span


def wire(
    answer: httpx.Response | Exception | Callable[[httpx.Request], httpx.Response], gate: Gate | None = None
) -> Wire:
    def respond(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    return Wire("http://x.test", httpx.MockTransport(respond), gate or Gate("Forge", StillClock(), 8, 1000))


REQUEST = httpx.Request("GET", "http://x.test")


@pytest.mark.parametrize(
    ("failure", "reading", "writing"),
    [
        (httpx.ConnectError("refused"), Unreachable, Unreachable),
        (httpx.ConnectTimeout("slow"), Unreachable, Unreachable),
        (httpx.PoolTimeout("full"), Unreachable, Unreachable),
        (httpx.ProxyError("host unreachable"), Unreachable, Unreachable),
        (httpx.ReadTimeout("slow"), Transient, OutcomeUnknown),
        (httpx.WriteError("cut"), Transient, OutcomeUnknown),
        (httpx.ReadError("cut"), Transient, OutcomeUnknown),
        (httpx.RemoteProtocolError("half"), Transient, OutcomeUnknown),
        (httpx.Response(500), Transient, OutcomeUnknown),
        (httpx.Response(502, html="<h1>bad gateway"), Transient, OutcomeUnknown),
        (httpx.Response(503), Transient, OutcomeUnknown),
        (httpx.Response(504), Transient, OutcomeUnknown),
        (httpx.Response(429), Throttled, Throttled),
        (httpx.Response(200, content=b"x" * (BODY_LIMIT + 1)), Transient, OutcomeUnknown),
    ],
)
async def test_every_failure_has_one_meaning(
    failure: httpx.Response | Exception, reading: type[OutsideError], writing: type[OutsideError]
) -> None:
    for kind, is_writing in ((reading, False), (writing, True)):
        with pytest.raises(OutsideError) as caught:
            await wire(failure).send("POST", "/a?secret=x", writing=is_writing)
        assert type(caught.value) is kind
        assert caught.value.system == "Forge"
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(200, html="<html>sign in"), httpx.Response(200, text='{"id": 4, "lo'), httpx.Response(200)],
)
async def test_what_is_no_json_is_no_answer(answer: httpx.Response) -> None:
    here = wire(answer)
    got = await here.send("GET", "/a", writing=False)
    for kind, writing in ((Transient, False), (OutcomeUnknown, True)):
        with pytest.raises(kind):
            here.json(got, writing=writing)


async def test_every_call_stands_alone_no_redirect_is_followed_and_no_cookie_sent_back() -> None:
    asked: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(302, headers={"Location": "http://[elsewhere", "Set-Cookie": "session=1; Path=/"})

    here = wire(respond)
    assert [(await here.send("GET", "/a", writing=False)).status_code for _ in range(2)] == [302, 302]
    assert [(each.url.path, "Cookie" in each.headers) for each in asked] == [("/a", False)] * 2


async def test_a_whole_call_has_one_limit_however_it_trickles() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.001)

    here = wire(lambda request: httpx.Response(200, content=trickle()))
    with pytest.raises(OutcomeUnknown):
        await here.send("POST", "/a", writing=True, limit=0.05)


async def test_a_cancelled_call_is_cancelled_and_gives_its_place_back() -> None:
    asked = asyncio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    gate = Gate("Forge", StillClock(), in_flight=1, per_second=1000)
    here = Wire("http://x.test", httpx.MockTransport(never), gate)
    task = asyncio.create_task(here.send("POST", "/a", writing=True))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await wire(httpx.Response(200), gate).send("GET", "/", writing=False)).status_code == 200


async def test_no_more_calls_are_under_way_than_allowed() -> None:
    now, most = 0, 0

    async def slow(request: httpx.Request) -> httpx.Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        for _ in range(5):
            await asyncio.sleep(0)
        now -= 1
        return httpx.Response(200)

    here = Wire("http://x.test", httpx.MockTransport(slow), Gate("Forge", StillClock(), 3, 1000))
    await asyncio.gather(*(here.send("GET", "/", writing=False) for _ in range(20)))
    assert most == 3


async def test_calls_that_a_change_asked_for_go_before_all_that_wait() -> None:
    told: list[str] = []
    gate = Gate("Forge", StillClock(), in_flight=2, per_second=1000)

    async def call(name: str, *, first: bool = False) -> None:
        HASTE.set(Haste(first))
        async with gate.passing(Call("Forge", name, writing=False)):
            told.append(name)
            for _ in range(10):
                await asyncio.sleep(0)

    waiting = [asyncio.create_task(call(f"resync {number}")) for number in range(6)]
    await asyncio.sleep(0)
    changes = [asyncio.create_task(call(f"change {number}", first=True)) for number in range(3)]
    await asyncio.gather(*waiting, *changes)
    assert told[:5] == ["resync 0", "resync 1", "change 0", "change 1", "change 2"]
    assert sorted(told[5:]) == [f"resync {number}" for number in range(2, 6)]


async def test_who_may_have_changed_his_mind_is_asked_when_his_first_writing_call_has_its_turn() -> None:
    told: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        told.append(request.url.path)
        return httpx.Response(200)

    async def asked() -> None:
        told.append("asked")

    async def withdrawn() -> None:
        raise Transient("it is not wanted any more", system="controller")

    here = wire(respond)
    with asked_before_writing(asked):
        await here.send("GET", "/look", writing=False)
        await here.send("DELETE", "/a", writing=True)
        await here.send("DELETE", "/b", writing=True)
    await here.send("DELETE", "/c", writing=True)
    with asked_before_writing(withdrawn), pytest.raises(Transient):
        await here.send("DELETE", "/d", writing=True)
    assert told == ["/look", "asked", "/a", "/b", "/c"]


async def test_after_429_the_whole_bucket_rests() -> None:
    clock = StillClock()
    answers = [httpx.Response(429, headers={"Retry-After": "30"}), httpx.Response(200)]
    seen = []

    def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.path)
        return answers.pop(0)

    here = wire(respond, Gate("Forge", clock, 8, 1000))
    with pytest.raises(Throttled) as caught:
        await here.send("GET", "/a", writing=False)
    assert caught.value.retry_after == timedelta(seconds=30)
    clock.time += timedelta(seconds=10)
    with pytest.raises(Throttled) as caught:
        await here.send("POST", "/b", writing=True)
    assert caught.value.retry_after == timedelta(seconds=20)
    assert seen == ["/a"]
    # A short rest is waited for.
    clock.time += timedelta(seconds=19)
    await here.send("GET", "/c", writing=False)
    assert (seen, clock.time) == (["/a", "/c"], START + timedelta(seconds=30))


async def test_a_rest_that_was_asked_for_before_the_clock_was_set_back_is_no_longer_for_it() -> None:
    clock = StillClock()
    gate = Gate("Forge", clock, 8, 1000)
    gate.rest(timedelta(seconds=30))
    clock.time -= timedelta(days=1)
    here = wire(httpx.Response(200), gate)
    with pytest.raises(Throttled) as caught:
        await here.send("GET", "/a", writing=False)
    assert caught.value.retry_after == timedelta(seconds=30)
    clock.time += timedelta(seconds=29)
    await here.send("GET", "/b", writing=False)
    gate.rest(timedelta(seconds=9))
    gate.rest(timedelta(seconds=3))
    with pytest.raises(Throttled) as caught:
        await here.send("GET", "/c", writing=False)
    assert caught.value.retry_after == timedelta(seconds=9), "a shorter one takes nothing from it"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60),
        ("Thu, 01 Jan 2015 00:01:00 GMT", 0),
        ("99999999999999999999", 3600),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("²", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: int | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_after({"Retry-After": header}, StillClock()) == expected


async def test_hooks_see_every_call_and_may_stage_a_crash_before_or_after_it() -> None:
    class Crash(Exception):
        pass

    class Hook:
        def __init__(self, crash: str) -> None:
            self.crash = crash
            self.calls: list[tuple[str, str, bool]] = []

        async def before(self, call: Call) -> None:
            self.calls.append(("before", call.name, call.writing))
            if self.crash == "before":
                raise Crash

        async def after(self, call: Call, failure: BaseException | None) -> None:
            self.calls.append(("after", call.name, failure is None))
            if self.crash == "after":
                raise Crash

    sent = []

    def respond(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(201)

    for crash, effects in (("before", 0), ("after", 1)):
        hook = Hook(crash)
        sent.clear()
        here = wire(respond, Gate("Forge", StillClock(), 1, 1000, (hook,)))
        for _ in range(2):  # twice: the place was given back
            with pytest.raises(Crash):
                await here.send("POST", "/admin/users", writing=True)
        assert len(sent) == 2 * effects
        assert hook.calls[0] == ("before", "POST /admin/users", True)


async def test_redirects_are_not_followed_and_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    here = wire(httpx.Response(302, headers={"Location": "http://evil.test/"}))
    assert (await here.send("GET", "/", writing=False)).status_code == 302
