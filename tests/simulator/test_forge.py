"""Forge beyond the wire fixtures: sign-in, the forced change of password, signatures, what removal takes along."""

import hashlib
import hmac
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from examples.simulator.forge_oauth import OAuthError, sign_webhook
from examples.simulator.http import Request

if TYPE_CHECKING:
    from tests.simulator.conftest import Town, Virtually

APPS = "/api/v1/user/applications/oauth2"
BACK = "https://alice1.gent1.grid.test/oauth/callback"


async def an_app(town: "Town", **more: Any) -> dict[str, Any]:
    body = {"name": "t", "redirect_uris": [BACK], "confidential_client": True, **more}
    made: dict[str, Any] = (await town.forge("POST", APPS, body)).json()
    return made


async def a_code(town: "Town", app: dict[str, Any], user: str, **more: str) -> dict[str, str]:
    """What Forge hands to the redirect address."""
    query = {"client_id": app["client_id"], "redirect_uri": BACK, "response_type": "code", "state": "s", **more}
    answer = await town.forge("GET", f"/login/oauth/authorize?{urlencode(query)}", token="", **{"x-sim-user": user})
    assert answer.status == 303, answer
    return {key: values[0] for key, values in parse_qs(urlsplit(answer.header("location") or "").query).items()}


async def exchanged(town: "Town", app: dict[str, Any], code: str, **more: str) -> Any:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "client_id": app["client_id"],
        "client_secret": app["client_secret"],
        "redirect_uri": BACK,
        **more,
    }
    return town.world.forge.oauth.exchange(form)


def test_a_whole_sign_in(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        app = await an_app(town)
        back = await a_code(town, app, "bob")
        assert back["state"] == "s"
        tokens = await exchanged(town, app, back["code"])
        about = await town.forge(
            "GET", "/login/oauth/userinfo", token="", authorization=f"Bearer {tokens['access_token']}"
        )
        assert about.json()["preferred_username"] == "bob"
        town.world.drift.disable_account("bob")
        about = await town.forge(
            "GET", "/login/oauth/userinfo", token="", authorization=f"Bearer {tokens['access_token']}"
        )
        assert about.status == 200
        assert "html" in (about.header("content-type") or "")

    virtually(scenario())


@pytest.mark.parametrize(
    ("spoilt", "error"),
    [
        ({"client_secret": "wrong"}, "invalid client secret"),
        ({"client_id": "unknown"}, "cannot load client"),
        ({"redirect_uri": "https://other.test/oauth/callback"}, "unexpected redirect URI"),
        ({"code": "made-up"}, "client is not authorized"),
        ({"grant_type": "password"}, "grant type"),
    ],
)
def test_the_token_endpoint_refuses(town: "Town", virtually: "Virtually", spoilt: dict[str, str], error: str) -> None:
    async def scenario() -> None:
        app = await an_app(town)
        code = (await a_code(town, app, "bob"))["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
        form |= {"client_id": app["client_id"], "client_secret": app["client_secret"], **spoilt}
        request = Request("POST", "/login/oauth/access_token", body=urlencode(form).encode())
        answer = await town.world.ask_forge(request)
        assert answer.status == 400
        assert error in answer.json()["error_description"]

    virtually(scenario())


def test_a_code_works_once_and_dies_with_the_secret(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        app = await an_app(town)
        code = (await a_code(town, app, "bob"))["code"]
        await exchanged(town, app, code)
        with pytest.raises(OAuthError, match="not authorized"):
            await exchanged(town, app, code)
        again = (await a_code(town, app, "bob"))["code"]
        town.world.drift.rotate_secret("t")
        with pytest.raises(OAuthError, match="invalid client secret"):
            await exchanged(town, app, again)

    virtually(scenario())


def test_a_client_that_is_not_confidential_cannot_sign_in_plainly(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        app = await an_app(town, confidential_client=False)
        assert (await a_code(town, app, "bob"))["error"] == "invalid_request"

    virtually(scenario())


def test_an_unregistered_redirect_address_is_not_followed(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        app = await an_app(town)
        query = {"client_id": app["client_id"], "redirect_uri": "https://evil.test/", "response_type": "code"}
        answer = await town.forge(
            "GET", f"/login/oauth/authorize?{urlencode(query)}", token="", **{"x-sim-user": "bob"}
        )
        assert answer.status == 400

    virtually(scenario())


def test_a_one_time_password_must_be_changed_first(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        app = await an_app(town)
        town.world.drift.add_account("Alice", "alice@example.org", must_change=True)
        query = {"client_id": app["client_id"], "redirect_uri": BACK, "response_type": "code"}
        authorize = f"/login/oauth/authorize?{urlencode(query)}"
        answer = await town.forge("GET", authorize, token="", **{"x-sim-user": "alice"})
        assert answer.header("location") == "/user/settings/change_password"
        form = Request(
            "POST", "/user/settings/change_password", headers={"x-sim-user": "alice"}, body=b"password=a-new-password"
        )
        await town.world.ask_forge(form)
        assert "code" in await a_code(town, app, "alice")

    virtually(scenario())


def test_purging_takes_what_the_account_owns(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        assert (await town.forge("DELETE", "/api/v1/admin/users/bob")).status == 422
        assert (await town.forge("DELETE", "/api/v1/admin/users/bob?purge=true")).status == 204
        assert (await town.forge("GET", "/api/v1/repos/bob/notes")).status == 404
        assert (await town.forge("DELETE", "/api/v1/admin/users/controller")).status == 422

    virtually(scenario())


def test_patching_rebinds_as_told(town: "Town", virtually: "Virtually") -> None:
    """Why source_id is never sent for an account of another source."""

    async def scenario() -> None:
        town.world.forge.need_account("bob").source_id = 3
        await town.forge("PATCH", "/api/v1/admin/users/bob", {"prohibit_login": True})
        assert town.world.forge.need_account("bob").source_id == 3
        await town.forge(
            "PATCH", "/api/v1/admin/users/bob", {"prohibit_login": True, "source_id": 0, "login_name": "bob"}
        )
        assert town.world.forge.need_account("bob").source_id == 0
        town.world.state.forge.legacy = True
        assert (await town.forge("PATCH", "/api/v1/admin/users/bob", {"prohibit_login": True})).status == 422

    virtually(scenario())


def test_webhook_signatures() -> None:
    proof = hmac.new(b"s", b"body", hashlib.sha256).hexdigest()
    signed = sign_webhook("s", b"body")
    assert signed["X-Forgejo-Signature"] == signed["X-Gitea-Signature"] == proof
    assert signed["X-Hub-Signature-256"] == f"sha256={proof}"
    assert sign_webhook("", b"body")["X-Forgejo-Signature"] == ""


RELEASE = "/api/v1/repos/lhumina_code/hero_books/releases/tags/latest"


def test_releases_are_told_once(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        first = await town.forge("GET", RELEASE)
        etag, changed = first.header("etag") or "", first.header("last-modified") or ""
        asked = [{"if-none-match": etag}, {"if-none-match": f'W/{etag}, "x"'}, {"if-modified-since": changed}]
        for headers in asked:
            again = await town.forge("GET", RELEASE, **headers)
            assert (again.status, again.body, again.header("etag")) == (304, b"", etag)
        assert (
            await town.forge("GET", RELEASE, **{"if-none-match": '"x"', "if-modified-since": changed})
        ).status == 200
        assert (await town.forge("GET", RELEASE, **{"if-modified-since": "yesterday"})).status == 200
        await town.world.clock.sleep(5)
        town.world.drift.publish("hero_books", "v0.4.0")
        for headers in asked:
            fresh = await town.forge("GET", RELEASE, **headers)
            assert (fresh.status, fresh.json()["name"]) == (200, "v0.4.0")
        missing = await town.forge("GET", RELEASE.replace("latest", "v9"), **{"if-none-match": "*"})
        assert missing.status == 404

    virtually(scenario())


def test_who_owns_something_is_not_deleted(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        for name in ("anna", "berta"):
            town.world.drift.add_account(name, f"{name}@example.org")
        town.world.drift.own_repository("anna", "notes")
        town.world.drift.own_package("berta", "tool")
        for name, what in (("anna", "repositories"), ("berta", "packages")):
            refused = await town.forge("DELETE", f"/api/v1/admin/users/{name}")
            assert (refused.status, what in refused.json()["message"]) == (422, True)
            assert (await town.forge("DELETE", f"/api/v1/admin/users/{name}?purge=true")).status == 204

    virtually(scenario())


def test_collaborators(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        base = "/api/v1/repos/geomind/feedback/collaborators"
        town.world.drift.add_account("Anna", "anna@example.org")
        assert (await town.forge("GET", f"{base}/anna")).status == 404
        for _ in range(2):
            assert (await town.forge("PUT", f"{base}/anna", {"permission": "read"})).status == 204
        assert (await town.forge("GET", f"{base}/anna")).status == 204
        assert [row["login"] for row in (await town.forge("GET", base)).json()] == ["Anna"]
        permissions = [(await town.forge("GET", f"{base}/{name}/permission")).json() for name in ("anna", "bob")]
        assert [one["permission"] for one in permissions] == ["read", "none"]
        assert town.world.books()["collaborators"] == {"geomind/feedback": {"Anna": "read"}}
        await town.forge("DELETE", "/api/v1/admin/users/anna")
        assert (await town.forge("GET", base)).json() == []

    virtually(scenario())


def test_lesson_3_rights_come_and_go(town: "Town", virtually: "Virtually") -> None:
    async def scenario() -> None:
        body = {"username": "anna", "email": "anna@example.org", "password": "Long-Enough-1"}
        town.world.drift.set_admin("controller", False)
        assert (await town.forge("POST", "/api/v1/admin/users", body)).status == 403
        town.world.drift.drop_tokens("controller")
        token = town.world.drift.add_token("controller", ["write:user"])
        assert (await town.forge("GET", "/api/v1/user", token="0" * 40)).status == 401
        assert (await town.forge("GET", "/api/v1/user", token=token)).status == 200

    virtually(scenario())


def test_a_former_name_leads_to_the_account_until_that_is_gone(town: "Town", virtually: "Virtually") -> None:
    async def asked(name: str) -> tuple[int, str | None]:
        answer = await town.forge("GET", f"/api/v1/users/{name}")
        return answer.status, answer.header("location")

    async def scenario() -> None:
        town.world.drift.rename_account("bob", "robert")
        town.world.drift.rename_account("robert", "rob")
        assert [await asked("bob"), await asked("robert")] == [(307, "/api/v1/users/rob")] * 2
        town.world.drift.rename_account("rob", "bob")
        assert [await asked("bob"), await asked("rob")] == [(200, None), (307, "/api/v1/users/bob")]
        town.world.drift.delete_account("bob")
        assert [await asked("bob"), await asked("rob")] == [(404, None)] * 2

    virtually(scenario())
