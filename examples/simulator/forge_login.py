"""Forge's web side as far as sign-in and downloads need it: authorize, token, userinfo, the forced change of
password, assets.

A person signs in with HTTP basic authentication or, simpler, with the header `X-Sim-User: <account>`; the consent
page is skipped.
"""

import base64
import binascii
from collections.abc import Callable
from urllib.parse import urlencode

from examples.simulator.forge import Caller, Forge, ForgeError, digest
from examples.simulator.forge_names import password_good
from examples.simulator.forge_oauth import OAuthError
from examples.simulator.http import Answer, Request, Router, json_answer, page, redirect
from examples.simulator.records import Account, App

SIGN_IN_HEADER = "x-sim-user"


def configuration(forge: Forge, request: Request, path: dict[str, str]) -> Answer:
    base = forge.realm.forge_url
    return json_answer(
        {
            "issuer": base,
            "authorization_endpoint": f"{base}/login/oauth/authorize",
            "token_endpoint": f"{base}/login/oauth/access_token",
            "userinfo_endpoint": f"{base}/login/oauth/userinfo",
            "jwks_uri": f"{base}/login/oauth/keys",
            "response_types_supported": ["code", "id_token"],
            "scopes_supported": ["openid", "profile", "email", "groups"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
        }
    )


def _person(forge: Forge, request: Request) -> Account | None:
    """Who sits at the browser: the test header, or name and password."""
    if name := request.headers.get(SIGN_IN_HEADER):
        return forge.account(name)
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(value).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    account = forge.account(name)
    return account if account and account.password == digest(password) else None


def authorize(forge: Forge, request: Request, path: dict[str, str]) -> Answer:
    query = request.params()
    app = forge.oauth.by_client(query.get("client_id", ""))
    if app is None:
        return page("Authorization failed", 400, "<p>Client ID not registered</p>")
    uri = query.get("redirect_uri", "")
    if uri not in app.redirect_uris:
        return page("Authorization failed", 400, "<p>Unregistered Redirect URI</p>")
    account = _person(forge, request)
    if account is None:
        return redirect(f"/user/login?{urlencode({'redirect_to': request.target()})}", 303)
    if account.prohibit_login or not account.active:
        return page("Sign in prohibited", 200, "<p>Your account is prohibited from signing in.</p>")
    if account.must_change:
        return redirect("/user/settings/change_password", 303)
    return _grant(forge, app, account, query)


def _grant(forge: Forge, app: App, account: Account, query: dict[str, str]) -> Answer:
    uri, state = query["redirect_uri"], query.get("state", "")
    challenge = query.get("code_challenge", "")
    if query.get("response_type") != "code":
        return _back(
            uri, state, error="unsupported_response_type", error_description="Only code response type is supported."
        )
    if not app.confidential and not challenge:
        return _back(uri, state, error="invalid_request", error_description="PKCE is required for public clients")
    return _back(uri, state, code=forge.oauth.grant_code(app, account, uri, challenge, query.get("nonce", "")))


def _back(uri: str, state: str, **values: str) -> Answer:
    return redirect(f"{uri}{'&' if '?' in uri else '?'}{urlencode({**values, 'state': state})}", 303)


def access_token(forge: Forge, request: Request, path: dict[str, str]) -> Answer:
    form = request.form()
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        name, _, password = base64.b64decode(value).decode("utf-8", "replace").partition(":")
        form = {**form, "client_id": name, "client_secret": password}
    try:
        return json_answer(forge.oauth.exchange(form))
    except OAuthError as error:
        return json_answer({"error": error.error, "error_description": error.description}, 400)


def userinfo(forge: Forge, request: Request, path: dict[str, str]) -> Answer:
    """A disabled account gets 200 with HTML (V): the content type has to be looked at."""
    account = forge.oauth.bearer(request.headers.get("authorization", ""))
    if account is None:
        return Answer(401, b"", (("www-authenticate", "Bearer realm=Forgejo"),))
    if account.prohibit_login or not account.active:
        return page("Sign in prohibited", 200)
    return json_answer(
        {
            "sub": str(account.id),
            "name": account.full_name or account.name,
            "preferred_username": account.name,
            "email": account.email,
            "picture": f"{forge.realm.forge_url}/avatars/{account.id}",
        }
    )


def login_page(forge: Forge, request: Request, path: dict[str, str]) -> Answer:
    return page("Sign in", 200, "<p>Send the header X-Sim-User, or name and password.</p>")


def change_password(forge: Forge, request: Request, path: dict[str, str]) -> Answer:
    """The page that an account with a one-time password is sent to; form field `password`."""
    account = _person(forge, request)
    password = request.form().get("password", "")
    if account is None:
        return redirect("/user/login", 303)
    if request.method == "GET" or not password_good(password):
        return page("Update your password", 200)
    account.password, account.must_change = digest(password), False
    return redirect("/", 303)


def asset(forge: Forge, request: Request, path: dict[str, str]) -> Answer:
    found = forge.repositories.asset(path["owner"], path["repo"], path["tag"], path["asset"])
    if found is None:
        return page("Page not found", 404)
    return Answer(200, found.content.encode(), (("content-type", "application/octet-stream"),))


def home(forge: Forge, request: Request, path: dict[str, str]) -> Answer:
    return page("Forge")


Page = Callable[[Forge, Request, dict[str, str]], Answer]
PAGES: Router[Page] = Router(
    {
        ("GET", "/"): home,
        ("GET", "/.well-known/openid-configuration"): configuration,
        ("GET", "/login/oauth/authorize"): authorize,
        ("POST", "/login/oauth/access_token"): access_token,
        ("GET", "/login/oauth/userinfo"): userinfo,
        ("GET", "/user/login"): login_page,
        ("GET", "/user/settings/change_password"): change_password,
        ("POST", "/user/settings/change_password"): change_password,
        ("GET", "/{owner}/{repo}/releases/download/{tag}/{asset}"): asset,
    }
)


def answer_web(forge: Forge, request: Request) -> Answer:
    found = PAGES.find(request.method, request.path)
    if isinstance(found, int):
        return page("Page not found", found)
    run, path = found
    return run(forge, request, path)


def who_calls(forge: Forge, request: Request) -> Caller:
    """For the log only: never refuses."""
    try:
        return forge.caller(request.headers.get("authorization", ""))
    except ForgeError:
        return Caller()
