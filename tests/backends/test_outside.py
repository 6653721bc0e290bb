"""The public address as a stranger sees it: errors are answers, redirects are seen and not followed."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from reconcilers.backends.limits import Gate
from reconcilers.backends.outside import PublicProbe
from reconcilers.backends.probes import ProbeAnswer
from reconcilers.clock import SystemClock


class Counted(httpx.MockTransport):
    """Counts how often it is closed."""

    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


def probe(answer: Callable[[httpx.Request], httpx.Response]) -> tuple[PublicProbe, list[Counted]]:
    made: list[Counted] = []

    def connect() -> httpx.AsyncBaseTransport:
        made.append(Counted(answer))
        return made[-1]

    return PublicProbe(Gate("public address", SystemClock(), 8, 1000), connect), made


async def test_every_path_gets_its_answer_over_a_connection_of_this_run() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        match request.url.path:
            case "/gated":
                return httpx.Response(302, headers={"Location": "https://forge.test/login/oauth/authorize?client_id=c"})
            case "/relative":
                return httpx.Response(302, headers={"Location": "/login"})
            case "/broken":
                return httpx.Response(302, headers={"Location": "http://[bad"})
            case "/dead":
                raise httpx.ConnectError("refused")
            case "/slow":
                raise httpx.ReadTimeout("slow")
            case "/health":
                return httpx.Response(200)
        return httpx.Response(502, html="bad gateway")

    here, made = probe(answer)
    paths = ("/gated", "/relative", "/broken", "/dead", "/slow", "/health", "/else", "/gated")
    answers = await here.probe("a.gent1.test", paths)
    assert dict(answers) == {
        "/gated": ProbeAnswer(302, "https://forge.test/login/oauth/authorize?client_id=c"),
        "/relative": ProbeAnswer(302, "https://a.gent1.test/login"),
        "/broken": ProbeAnswer(302, "http://[bad"),
        "/dead": ProbeAnswer(None, error="no connection (refused)"),
        "/slow": ProbeAnswer(None, error="no answer in time"),
        "/health": ProbeAnswer(200),
        "/else": ProbeAnswer(502),
    }
    assert len(seen) == 7
    assert all("Authorization" not in each.headers and "Cookie" not in each.headers for each in seen)
    assert all(each.url.host == "a.gent1.test" for each in seen)
    await here.probe("a.gent1.test", ("/health",))
    assert [each.closed for each in made] == [1, 1]


async def test_being_throttled_is_an_answer_too() -> None:
    here, _ = probe(lambda request: httpx.Response(429, headers={"Retry-After": "60"}))
    assert (await here.probe("a.test", ("/",)))["/"].status == 429
    assert (await here.probe("a.test", ("/",)))["/"] == ProbeAnswer(None, error="the address asked us to slow down")


@pytest.mark.parametrize("path", ["/\x00", "/ü", "/a b"])
async def test_an_odd_path_never_raises(path: str) -> None:
    here, _ = probe(lambda request: httpx.Response(200))
    assert path in await here.probe("a.test", (path,))
