"""Who may look: admins who sign in with Forge, programs with a token, and nobody else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from fastapi import Request

from api.access.sessions import LIVES
from api.access.who import viewer_of
from controller.places import opened_store
from controller.records import Change, PutFleet
from controller.running import Controller
from controller.store import StoreError
from controller.tokens import DropToken
from tests.api.access_rig import BASE, CLIENT, FORGE, PAGE, SECRET, Rig, cookie, windows
from tests.controller.fakes import FLEET, ManualClock

HOUR = timedelta(hours=1)


@pytest.fixture
async def rig(controller: Controller, clock: ManualClock) -> AsyncIterator[Rig]:
    async with windows(controller, clock) as made:
        yield made


async def put_admins(rig: Rig, *accounts: str) -> None:
    document = FLEET.model_dump(mode="json", by_alias=True)
    document["spec"]["admins"] = [{"account": one} for one in accounts]
    await rig.controller.store.write(PutFleet(type(FLEET).model_validate(document).model_dump_json(), "r2"))


# ------------------------------------------------------------------------------------------------ people


async def test_an_admin_signs_in_and_sees(rig: Rig) -> None:
    assert await rig.looks() == 401
    location = await rig.to_forge("/testers/alice?part=graph")
    asked = dict(parse_qsl(urlsplit(location).query))
    assert location.startswith(f"{FORGE}/login/oauth/authorize?")
    assert (asked["client_id"], asked["response_type"], asked["code_challenge_method"]) == (CLIENT, "code", "S256")
    assert asked["redirect_uri"] == f"{BASE}/sign-in/callback"
    answer = await rig.back(location)
    assert (answer.status_code, answer.headers["location"]) == (303, "/testers/alice?part=graph")
    assert await rig.looks() == 200


async def test_the_code_is_redeemed_with_our_secret_and_the_verifier_of_the_challenge(rig: Rig) -> None:
    await rig.signed_in()
    form = rig.forge.form
    proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode().rstrip("=")
    assert proof == rig.forge.challenge
    assert (form["client_secret"], form["grant_type"]) == (SECRET, "authorization_code")
    assert form["redirect_uri"] == f"{BASE}/sign-in/callback"
    userinfo = rig.forge.asked[-1]
    assert userinfo.headers["authorization"] == "Bearer at-1"


@pytest.mark.parametrize(
    "claims", [{"iss": f"{FORGE}/"}, {"aud": [CLIENT]}, {"aud": ["another", CLIENT], "azp": CLIENT}, {"sub": 7}]
)
async def test_every_spelling_of_forges_versions_is_understood(rig: Rig, claims: dict[str, object]) -> None:
    rig.forge.claims = claims
    assert (await rig.signed_in()).status_code == 303


@pytest.mark.parametrize("algorithm", ["RS256", "HS256"])
async def test_a_signature_by_forges_key_or_with_our_secret_is_one(rig: Rig, algorithm: str) -> None:
    rig.forge.algorithm = algorithm
    assert (await rig.signed_in()).status_code == 303
    assert await rig.looks() == 200


async def test_only_admins_are_let_in(rig: Rig) -> None:
    rig.forge.account = "eve"
    answer = await rig.signed_in()
    assert answer.status_code == 403
    assert "You are eve at Forge, who is no admin" in answer.text
    assert rig.session() is None
    assert await rig.looks() == 401


async def test_an_admin_who_is_taken_out_loses_access_at_once(rig: Rig) -> None:
    await rig.signed_in()
    await put_admins(rig, "sara")
    assert await rig.looks() == 401
    await put_admins(rig, "sara", "Mik")  # Forge does not tell them apart
    assert await rig.looks() == 200


async def test_a_session_ends_after_eight_hours(rig: Rig) -> None:
    await rig.signed_in()
    rig.clock.pass_by(LIVES - timedelta(seconds=1))
    assert await rig.looks() == 200
    rig.clock.pass_by(timedelta(seconds=1))
    assert await rig.looks() == 401
    assert timedelta(hours=8) == LIVES


async def test_a_session_of_another_forge_is_none(rig: Rig) -> None:
    """`mik` there may be somebody else."""
    await rig.signed_in()
    document = FLEET.model_dump(mode="json", by_alias=True)
    document["spec"]["forge"]["url"] = "https://other.example.org"
    await rig.controller.store.write(PutFleet(type(FLEET).model_validate(document).model_dump_json(), "r2"))
    assert await rig.looks() == 401


async def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(rig: Rig) -> None:
    await rig.signed_in()
    copy = rig.session()
    answer = await rig.browser.post("/sign-out", headers={"Origin": BASE})
    assert (answer.status_code, answer.headers["location"]) == (303, "/signed-out")
    assert rig.session() is None
    assert await rig.looks(Cookie=f"__Host-testers-session={copy}") == 401
    assert (await rig.browser.get("/signed-out")).status_code == 200


@asynccontextmanager
async def another(controller: Controller, clock: ManualClock) -> AsyncIterator[Rig]:
    """A replica over the same books; or the same one after a restart."""
    places = controller.places
    async with opened_store(places, clock) as store, windows(Controller(places, store, clock), clock) as rig:
        yield rig


async def test_who_is_signed_out_at_one_replica_is_so_at_all_of_them_and_after_a_restart(
    rig: Rig, controller: Controller, clock: ManualClock
) -> None:
    await rig.signed_in()
    copy = {"Cookie": f"__Host-testers-session={rig.session()}"}
    async with another(controller, clock) as replica:
        assert await replica.looks(**copy) == 200
        assert (await rig.browser.post("/sign-out", headers={"Origin": BASE})).status_code == 303
        assert await replica.looks(**copy) == 401
    async with another(controller, clock) as restarted:
        assert await restarted.looks(**copy) == 401
        await restarted.signed_in()
        assert await restarted.looks() == 200


async def test_a_session_is_ended_once_and_not_when_it_is_over(rig: Rig) -> None:
    """Whoever keeps a cookie of before cannot have anything written."""
    await rig.signed_in()
    copy = rig.session() or ""
    await rig.access.sessions.end(copy)
    commits = rig.controller.store.commits
    await rig.access.sessions.end(copy)
    await rig.signed_in()
    rig.clock.pass_by(LIVES)
    await rig.access.sessions.end(rig.session() or "")
    assert rig.controller.store.commits == commits


async def test_who_cannot_be_signed_out_is_told_so_and_can_try_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*changes: Change) -> None:
        raise StoreError("The disk is full.")

    await rig.signed_in()
    with monkeypatch.context() as patch:
        patch.setattr(rig.controller.store, "write", full)
        answer = await rig.browser.post("/sign-out", headers={"Origin": BASE})
        assert (answer.status_code, await rig.looks()) == (503, 200)
    assert (await rig.browser.post("/sign-out", headers={"Origin": BASE})).status_code == 303
    assert await rig.looks() == 401


async def test_sessions_outlive_a_restart(rig: Rig, controller: Controller, clock: ManualClock) -> None:
    await rig.signed_in()
    async with windows(controller, clock) as again:
        assert await again.looks(Cookie=f"__Host-testers-session={rig.session()}") == 200


async def test_a_browser_gets_the_way_in_and_comes_back_to_where_it_was(rig: Rig) -> None:
    answer = await rig.browser.get("/events?severity=Warning", headers=PAGE)
    assert answer.status_code == 401
    assert 'href="/sign-in/forge?next=/events%3Fseverity%3DWarning"' in answer.text
    assert "alice" not in answer.text


async def test_a_dead_forge_is_said_so_and_sessions_go_on(rig: Rig) -> None:
    await rig.signed_in()
    rig.forge.dead = True
    answer = await rig.signed_in()
    assert answer.status_code == 503
    assert "Forge cannot be asked" in answer.text
    assert await rig.looks() == 200


async def test_without_a_fleet_nobody_signs_in_and_the_page_says_why(
    controller: Controller, clock: ManualClock
) -> None:
    async with windows(controller, clock) as rig:
        await controller.store.write(PutFleet("{}", "r9"))
        answer = await rig.browser.get("/sign-in/forge")
        assert answer.status_code == 503
        assert "no usable Fleet" in answer.text


# ------------------------------------------------------------------------------------------------ programs


async def test_a_token_opens_until_it_is_revoked_or_over(rig: Rig) -> None:
    token = await rig.a_token()
    bearer = {"Authorization": f"Bearer {token}"}
    assert await rig.looks(**bearer) == 200
    assert await rig.looks(Authorization=f"bearer {token}") == 200
    await rig.controller.store.write(DropToken("prometheus"))
    assert await rig.looks(**bearer) == 401
    short = await rig.a_token("short", expires_at=rig.clock.now() + HOUR)
    assert await rig.looks(Authorization=f"Bearer {short}") == 200
    rig.clock.pass_by(HOUR)
    assert await rig.looks(Authorization=f"Bearer {short}") == 401


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Bearer tct_wrong", "Bearer {token}x", "Bearer {hash}"])
async def test_what_is_no_token_is_refused_even_beside_a_session(rig: Rig, value: str) -> None:
    token = await rig.a_token()
    kept = (await rig.controller.store.tokens())[0].hash
    await rig.signed_in()
    answer = await rig.browser.get("/api/v1/fleet", headers={"Authorization": value.format(token=token, hash=kept)})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("value", ["Basic {token}", "{token}", "Basic bWlrOm1paw==", "Token {token}"])
async def test_another_scheme_proves_nothing_and_harms_nobody(rig: Rig, value: str) -> None:
    """A proxy with a password of its own passes it on."""
    given = {"Authorization": value.format(token=await rig.a_token())}
    assert await rig.looks(**given) == 401
    await rig.signed_in()
    assert await rig.looks(**given) == 200


async def test_when_a_token_was_used_is_noted_and_not_at_every_use(rig: Rig) -> None:
    token = await rig.a_token()
    await rig.looks(Authorization=f"Bearer {token}")
    first = (await rig.controller.store.tokens())[0].last_used_at
    assert first == rig.clock.now()
    rig.clock.pass_by(timedelta(minutes=1))
    commits = rig.controller.store.commits
    await rig.looks(Authorization=f"Bearer {token}")
    assert rig.controller.store.commits == commits
    rig.clock.pass_by(timedelta(minutes=10))
    await rig.looks(Authorization=f"Bearer {token}")
    assert (await rig.controller.store.tokens())[0].last_used_at == rig.clock.now()


async def test_a_token_is_not_kept(rig: Rig) -> None:
    token = await rig.a_token()
    [record] = await rig.controller.store.tokens()
    assert token not in repr(record)
    assert record.hash not in repr(record)
    assert record.hash == hashlib.sha256(token.encode()).hexdigest()


async def test_with_tokens_only_a_browser_is_told_so(controller: Controller, clock: ManualClock) -> None:
    async with windows(controller, clock, sign_in=False) as rig:
        answer = await rig.browser.get("/", headers=PAGE)
        assert (answer.status_code, "--sign-in-client" in answer.text) == (401, True)
        assert (await rig.browser.get("/sign-in/forge")).status_code == 404
        assert await rig.looks(Authorization=f"Bearer {await rig.a_token()}") == 200


# ------------------------------------------------------------------------------------------------ everybody


async def test_who_is_on_this_machine_looks_while_nothing_else_is_asked_for(browser: httpx.AsyncClient) -> None:
    assert (await browser.get("/api/v1/fleet")).status_code == 200
    assert (await browser.get("/api/v1/fleet", headers={"Authorization": "Bearer tct_wrong"})).status_code == 401


async def test_what_needs_nobody_known_tells_nothing(rig: Rig) -> None:
    alive = await rig.browser.get("/healthz")
    assert (alive.status_code, alive.json()["alive"]) == (200, True)
    assert not {"alice", "bob", "mik"} & set(alive.text.replace('"', " ").split())
    for path in ("/readyz", "/metrics", "/openapi.json", "/", "/api/v1/stream", "/nothing", "/docs"):
        assert (await rig.browser.get(path)).status_code == 401, path
    assert (await rig.browser.post("/hooks/forge", content=b"{}")).status_code == 404  # no webhook is expected


async def test_the_viewer_is_known_to_what_answers(rig: Rig) -> None:
    async def who(request: Request) -> dict[str, str]:
        viewer = viewer_of(request)
        return {"name": viewer.name, "how": viewer.how} if viewer is not None else {}

    rig.browser._transport.app.add_api_route("/who", who)  # type: ignore[attr-defined]
    await rig.signed_in()
    assert (await rig.browser.get("/who")).json() == {"name": "mik", "how": "forge"}
    token = await rig.a_token()
    answer = await rig.browser.get("/who", headers={"Authorization": f"Bearer {token}"})
    assert answer.json() == {"name": "prometheus", "how": "token"}


async def test_cookies_are_out_of_reach(rig: Rig) -> None:
    answer = await rig.signed_in()
    line = cookie(answer, "__Host-testers-session").lower()
    assert all(word in line for word in ("httponly", "secure", "samesite=lax", "path=/", "max-age=28800"))
    assert "domain" not in line
    assert "mik" not in line
    begun = await rig.browser.get("/sign-in/forge")
    line = cookie(begun, "__Host-testers-sign-in").lower()
    assert all(word in line for word in ("httponly", "secure", "samesite=lax", "path=/", "max-age=600"))


async def test_on_loopback_cookies_work_without_tls(controller: Controller, clock: ManualClock) -> None:
    async with windows(controller, clock, "http://127.0.0.1:8484") as rig:
        answer = await rig.signed_in()
        line = cookie(answer, "testers-session").lower()
        assert "secure" not in line
        assert "httponly" in line
        assert await rig.looks() == 200
        other = await rig.browser.get("/sign-in/forge", params={"next": "/x"}, headers={"Host": "localhost:8484"})
        assert other.headers["location"] == "http://127.0.0.1:8484/sign-in/forge?next=%2Fx"
