"""What somebody may try who should not look: at the sign-in, and with the cookies of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import RSAKey
from starlette.requests import Request

from api.access.coming_back import ours
from api.access.limits import MOST, Allowance, place_of
from controller.running import Controller
from reconcilers.backends.forge_sign_in import SKEW
from tests.api.access_rig import BASE, CLIENT, FORGE, RSA, SECRET, Rig, windows
from tests.controller.fakes import START, ManualClock

STRANGER = RSAKey.generate_key(2048, {"kid": "k1"})


@pytest.fixture
async def rig(controller: Controller, clock: ManualClock) -> AsyncIterator[Rig]:
    async with windows(controller, clock) as made:
        yield made


async def test_a_sign_in_that_another_browser_began_is_worth_nothing(rig: Rig) -> None:
    """Else somebody could make a victim look with the attacker's account, or use a code that was not theirs."""
    location = await rig.to_forge()
    rig.browser.cookies.clear()
    assert (await rig.back(location)).status_code == 400
    assert rig.session() is None
    assert rig.forge.asked == []


@pytest.mark.parametrize("state", ["", "x", "A" * 43, "ü"])
async def test_what_comes_back_with_another_state_is_worth_nothing(rig: Rig, state: str) -> None:
    location = await rig.to_forge()
    assert (await rig.back(location, state=state)).status_code == 400
    assert rig.forge.asked == [], "the code was not shown to Forge"


async def test_a_sign_in_counts_once_and_not_for_ever(rig: Rig) -> None:
    location = await rig.to_forge()
    await rig.back(location)
    assert (await rig.back(location)).status_code == 400
    location = await rig.to_forge()
    rig.clock.pass_by(timedelta(minutes=10))
    assert (await rig.back(location)).status_code == 400


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"nonce": ["x"]},
        {"iss": "https://evil.example"},
        {"iss": f"{FORGE}.evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": None},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"exp": int((START - SKEW).timestamp()) - 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": float("nan")},
        {"sub": ""},
        {"sub": None},
        {"sub": "8"},
    ],
    ids=str,
)
async def test_an_id_token_that_does_not_fit_is_refused(rig: Rig, claims: dict[str, Any]) -> None:
    rig.forge.claims = claims
    answer = await rig.signed_in()
    assert answer.status_code == 403
    assert rig.session() is None


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", STRANGER),
        ("HS256", b"guessed-secret-of-somebody-else"),
        ("HS256", RSA.as_pem(private=False)),
    ],
    ids=["another key", "another secret", "Forge's public key as a secret"],
)
async def test_an_id_token_that_somebody_else_signed_is_refused(rig: Rig, algorithm: str, key: Any) -> None:
    rig.forge.algorithm, rig.forge.signs_with = algorithm, key
    assert (await rig.signed_in()).status_code == 403
    assert rig.session() is None


@pytest.mark.parametrize("token", ["eyJhbGciOiJub25lIn0.eyJzdWIiOiI3In0.", "x", "", "..", "W10.W10.W10", 7, None])
async def test_what_is_no_signed_token_is_refused(rig: Rig, token: object) -> None:
    rig.forge.answers["/login/oauth/access_token"] = httpx.Response(200, json={"access_token": "a", "id_token": token})
    assert (await rig.signed_in()).status_code == 403


@pytest.mark.parametrize(
    "told",
    [
        {"preferred_username": "mik/../sara"},
        {"preferred_username": "mik\r\nSet-Cookie: a=b"},
        {"preferred_username": ""},
        {"preferred_username": None},
        {"preferred_username": ["mik"]},
        {"sub": "8"},
        {"sub": None},
    ],
    ids=str,
)
async def test_userinfo_of_somebody_else_or_without_a_name_is_refused(rig: Rig, told: dict[str, Any]) -> None:
    rig.forge.info = told
    answer = await rig.signed_in()
    assert answer.status_code == 403
    assert "does not prove who you are" in answer.text
    assert rig.session() is None


async def test_a_page_in_the_place_of_userinfo_is_refused(rig: Rig) -> None:
    """So Forge answers for a disabled account: 200, with a page (V)."""
    rig.forge.userinfo_kind = "text/html; charset=utf-8"
    assert (await rig.signed_in()).status_code == 403
    assert rig.session() is None


async def test_the_issuer_that_comes_back_must_be_ours(rig: Rig) -> None:
    assert (await rig.back(await rig.to_forge(), iss="https://evil.example")).status_code == 400
    assert (await rig.back(await rig.to_forge(), iss=f"{FORGE}/")).status_code == 303


async def test_forges_words_reach_no_page_and_our_secret_no_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    words = {"error": "unauthorized_client", "error_description": f"<script>no {SECRET} like that</script>"}
    rig.forge.answers["/login/oauth/access_token"] = httpx.Response(400, json=words)
    answer = await rig.signed_in()
    assert answer.status_code == 403
    assert "<script>" not in answer.text
    assert "unauthorized" not in answer.text
    assert "like that" in caplog.text
    assert SECRET not in caplog.text
    declined = await rig.back(await rig.to_forge(), error='"><script>', code="")
    assert "script>" not in declined.text.replace('<script src="', "")


@pytest.mark.parametrize(
    "wanted",
    [
        "https://evil.example/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/x\r\nSet-Cookie: a=b",
        "/x\nLocation: https://evil.example",
        "javascript:alert(1)",
        "/<script>",
        '/"onload=',
        "evil.example",
        "@evil.example",
        " /x",
        "/sign-in/forge",
        "/sign-out",
        "/" + "a" * 1000,
        "",
    ],
)
async def test_nobody_is_led_elsewhere_after_the_sign_in(rig: Rig, wanted: str) -> None:
    answer = await rig.signed_in(wanted)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = await rig.browser.get("/sign-in", params={"next": wanted})
    assert 'href="/sign-in/forge"' in page.text


@given(st.text(max_size=40) | st.from_regex(r"[/\\\\@:.a-z\t?#%]{1,12}", fullmatch=True))
def test_wherever_somebody_wants_to_go_it_is_a_page_of_ours(wanted: str) -> None:
    there = urlsplit(urljoin(BASE, ours(wanted)))
    assert (there.scheme, there.netloc) == ("https", "testers.example.org")
    assert ours(wanted).isprintable()


@pytest.mark.parametrize(
    "path", ["/", "/testers/alice", "/?phase=Ready&sort=-name", "/testers/alice?part=graph", "/a%20b"]
)
def test_pages_of_ours_are_come_back_to(path: str) -> None:
    assert ours(path) == path


async def test_a_session_that_the_browser_brought_is_not_the_one_it_gets(rig: Rig) -> None:
    """Somebody may have planted a session of their own."""
    await rig.signed_in()
    planted = rig.session()
    await rig.signed_in()
    assert rig.session() != planted
    assert await rig.looks() == 200
    rig.browser.cookies.clear()
    assert await rig.looks(Cookie=f"__Host-testers-session={planted}") == 401


async def test_a_cookie_that_was_changed_or_made_for_something_else_opens_nothing(rig: Rig) -> None:
    begun = await rig.browser.get("/sign-in/forge")
    assert begun.status_code == 303
    other_purpose = rig.browser.cookies["__Host-testers-sign-in"]
    await rig.signed_in()
    good = rig.session() or ""
    key, _, box = good.partition(".")
    flipped = f"{key}.{box[:-3]}{'A' if box[-3] != 'A' else 'B'}{box[-2:]}"
    rig.browser.cookies.clear()
    for bad in (other_purpose, flipped, f"x.{box}", box, good + "A" * 5000, f"{key}.", ".", "ü", "mik"):
        raw = [("Cookie", f"__Host-testers-session={bad}".encode())]
        answer = await rig.browser.get("/api/v1/fleet", headers=raw)  # type: ignore[arg-type]
        assert answer.status_code == 401, bad
    assert await rig.looks(Cookie=f"testers-session={good}") == 401, "a name that anybody may set"
    assert await rig.looks(Cookie=f"__Host-testers-session={good}") == 200


@pytest.mark.parametrize(
    "given",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_no_other_site_signs_somebody_out(rig: Rig, given: dict[str, str]) -> None:
    await rig.signed_in()
    assert (await rig.browser.post("/sign-out", headers=given)).status_code == 403
    assert (await rig.browser.get("/sign-out")).status_code == 405
    assert await rig.looks() == 200


async def test_signing_in_is_limited_for_each_place(rig: Rig) -> None:
    def here(number: int) -> dict[str, str]:
        return {"X-Forwarded-For": f"203.0.113.250, 198.51.100.{number}"}

    for path in ("/sign-in/forge", "/sign-in/callback"):
        for _ in range(MOST):
            assert (await rig.browser.get(path, headers=here(1))).status_code != 429
        refused = await rig.browser.get(path, headers=here(1))
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
        assert (await rig.browser.get(path, headers=here(2))).status_code != 429
    assert rig.forge.asked == []
    rig.clock.pass_by(timedelta(minutes=1))
    assert (await rig.browser.get("/sign-in/forge", headers=here(1))).status_code == 303


def test_all_together_are_limited_too_and_memory_is_bounded(clock: ManualClock) -> None:
    allowance = Allowance(clock, most=2, most_of_all=5)
    assert [allowance.takes(f"{number}") for number in range(7)] == [True] * 5 + [False] * 2
    many = Allowance(clock, most_of_all=10**6)
    assert all(many.takes(f"{number}") for number in range(10_100))
    assert len(many._seen) <= 10_000


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxy", "place"),
    [
        ("198.51.100.1", "203.0.113.9", True, "198.51.100.1"),  # not our proxy: it could write what it likes
        ("127.0.0.1", "203.0.113.9", False, "127.0.0.1"),
        ("127.0.0.1", "1.2.3.4, 203.0.113.9", True, "203.0.113.9"),
        ("127.0.0.1", "", True, "127.0.0.1"),
        ("127.0.0.1", "not an address", True, "unknown"),
        ("2001:db8:1:2::5", "", True, "2001:db8:1:2::/64"),
    ],
)
def test_a_place_is_an_address_that_cannot_be_made_up(peer: str, forwarded: str, proxy: bool, place: str) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    request = Request({"type": "http", "headers": headers, "client": (peer, 1)})
    assert place_of(request, proxy) == place
