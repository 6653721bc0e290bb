"""Forge's REST API, `/api/v1`: a table of endpoints over `Forge`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from examples.simulator.forge import Caller, Forge, ForgeError, digest, refuse
from examples.simulator.forge_call import Call, error_answer
from examples.simulator.forge_names import mail_problem, password_good
from examples.simulator.forge_pulls import comment_change, comment_create, comment_list, pull_list
from examples.simulator.forge_shapes import (
    account_shape,
    app_shape,
    key_shape,
    organisation_as_user,
    organisation_shape,
    release_shape,
    repository_shape,
    status_shape,
)
from examples.simulator.http import Answer, Request, Router, conditional, json_answer, redirect, text
from examples.simulator.records import App, Release

NO_CONTENT = Answer(204)


def version(call: Call) -> Answer:
    return json_answer({"version": "7.0.0+gitea-1.21.0" if call.forge.state.legacy else "15.0.0+gitea-1.22.0"})


def me(call: Call) -> Answer:
    return json_answer(account_shape(call.forge, call.me(), call.caller))


def user_get(call: Call) -> Answer:
    name = call.path["name"]
    if org := call.forge.organisation(name):
        return json_answer(organisation_as_user(call.forge, org))
    new = call.forge.state.renamed.get(name.lower())
    if call.forge.account(name) is None and new is not None and call.forge.account(new):
        return redirect(f"/api/v1/users/{new}", 307)
    return json_answer(account_shape(call.forge, call.named(), call.caller))


def org_get(call: Call) -> Answer:
    org = call.forge.organisation(call.path["name"]) or refuse(404, "GetOrgByName")
    return json_answer(organisation_shape(org))


def user_keys(call: Call) -> Answer:
    return call.paged(call.named().keys, key_shape, all_without_page=True)


def token_refused(call: Call) -> Answer:
    """Minting a user's token works with that user's password only, never with a token (lesson 2)."""
    if call.caller.by_token or call.caller.account is None:
        refuse(401, "auth required")
    return refuse(403, "minting tokens is not part of this world")


def _shown(call: Call, listing: str, name: str, created: float) -> bool:
    return call.forge.shows(listing, name, call.forge.realm.now() - created)


# -- administration of accounts


def admin_list(call: Call) -> Answer:
    accounts = sorted(call.forge.state.accounts.values(), key=lambda account: account.id)
    rows = [account for account in accounts if _shown(call, "GET /admin/users", account.name, account.created)]
    return call.paged(
        call.forge.cuts("GET /admin/users", rows), lambda account: account_shape(call.forge, account, call.caller)
    )


def admin_create(call: Call) -> Answer:
    account = call.forge.create_account(
        call.field("username", str),
        call.field("email", str),
        call.field("password", str, ""),
        full_name=call.field("full_name", str, ""),
        must_change=call.field("must_change_password", bool, True),
        source_id=call.field("source_id", int, 0),
        login_name=call.field("login_name", str, ""),
    )
    return json_answer(account_shape(call.forge, account, call.caller), 201)


_PATCHED = (
    ("full_name", "full_name", str),
    ("admin", "admin", bool),
    ("active", "active", bool),
    ("prohibit_login", "prohibit_login", bool),
    ("must_change_password", "must_change", bool),
    ("visibility", "visibility", str),
    ("source_id", "source_id", int),
    ("login_name", "login_name", str),
)


def admin_change(call: Call) -> Answer:
    """Older servers insist on source_id and login_name; every server takes them at their word and rebinds the account."""
    account = call.named()
    if call.forge.state.legacy:
        call.field("source_id", int)
        call.field("login_name", str)
    email = call.field("email", str, None)
    if email is not None and (problem := mail_problem(email)):
        refuse(422, problem)
    password = call.field("password", str, None)
    if password and not password_good(password):
        refuse(400, "PasswordComplexity")
    changes = {attribute: call.field(field, kind, None) for field, attribute, kind in _PATCHED}
    for attribute, value in changes.items():
        if value is not None:
            setattr(account, attribute, value)
    account.email = email or account.email
    account.password = digest(password) if password else account.password
    return json_answer(account_shape(call.forge, account, call.caller))


def admin_delete(call: Call) -> Answer:
    purge = call.request.params().get("purge", "").lower() in ("1", "true")
    call.forge.delete_account(call.named(), call.caller, purge)
    return NO_CONTENT


def admin_add_key(call: Call) -> Answer:
    return json_answer(
        key_shape(call.forge.add_key(call.named(), call.field("title", str), call.field("key", str))), 201
    )


# -- OAuth applications of the caller


def _app(call: Call) -> App:
    return call.forge.oauth.find(call.me(), call.path["id"]) or refuse(404, "The target couldn't be found.")


def _app_fields(call: Call) -> tuple[str, list[str], bool]:
    """A confidential_client that is left out means false, in PATCH as well (V)."""
    uris = call.field("redirect_uris", list)
    if not uris:
        refuse(422, "[RedirectURIs]: Required")
    return call.field("name", str), uris, call.field("confidential_client", bool, False)


def app_list(call: Call) -> Answer:
    mine = call.forge.oauth.of(call.me())
    rows = [app for app in mine if _shown(call, "GET /user/applications/oauth2", app.name, app.created)]
    rows = call.forge.cuts("GET /user/applications/oauth2", rows)
    return call.paged(rows, lambda app: app_shape(call.forge, app), all_without_page=True)


def app_create(call: Call) -> Answer:
    app = call.forge.oauth.create(call.me(), *_app_fields(call))
    return json_answer(app_shape(call.forge, app, with_secret=True), 201)


def app_get(call: Call) -> Answer:
    return json_answer(app_shape(call.forge, _app(call)))


def app_change(call: Call) -> Answer:
    app = call.forge.oauth.change(_app(call), *_app_fields(call))
    return json_answer(app_shape(call.forge, app, with_secret=True))


def app_delete(call: Call) -> Answer:
    call.forge.oauth.delete(_app(call))
    return NO_CONTENT


# -- repositories


def repo_get(call: Call) -> Answer:
    return json_answer(repository_shape(call.forge, call.repository()))


def release_by_tag(call: Call) -> Answer:
    release = call.forge.repositories.release(call.path["owner"], call.path["repo"], call.path["tag"])
    return _release(call, release)


def release_newest(call: Call) -> Answer:
    release = call.forge.repositories.newest_release(call.path["owner"], call.path["repo"])
    return _release(call, release)


def _release(call: Call, release: Release | None) -> Answer:
    found = release or refuse(404, "The target couldn't be found.")
    return conditional(call.request, json_answer(release_shape(call.forge, call.repository(), found)), found.published)


def release_list(call: Call) -> Answer:
    repository = call.repository()
    answer = call.paged(repository.releases, lambda release: release_shape(call.forge, repository, release))
    newest = max((release.published for release in repository.releases), default=0.0)
    return conditional(call.request, answer, newest)


def status_create(call: Call) -> Answer:
    """The state is not validated by the server (V): whatever comes is stored."""
    fields = {name: call.field(name, str, "") for name in ("state", "target_url", "description", "context")}
    made = call.forge.repositories.add_status(call.repository(), call.path["sha"], fields, call.me().name)
    return json_answer(
        status_shape(call.forge, made or refuse(404, f"object does not exist [id: {call.path['sha']}]")), 201
    )


def status_list(call: Call) -> Answer:
    rows = call.forge.repositories.statuses(call.repository(), call.path["sha"])
    return call.paged(rows, lambda status: status_shape(call.forge, status))


def collaborator_put(call: Call) -> Answer:
    account = call.forge.account(call.path["name"]) or refuse(422, f"user does not exist [name: {call.path['name']}]")
    call.repository().collaborators[account.name] = call.field("permission", str, "write")
    return NO_CONTENT


def collaborator_get(call: Call) -> Answer:
    return (
        NO_CONTENT
        if call.named().name in call.repository().collaborators
        else refuse(404, "The target couldn't be found.")
    )


def collaborator_list(call: Call) -> Answer:
    named = [call.forge.account(name) for name in call.repository().collaborators]
    rows = [account for account in named if account is not None]
    return call.paged(rows, lambda account: account_shape(call.forge, account, call.caller))


def collaborator_permission(call: Call) -> Answer:
    """An administrator sees everybody's; a stranger's is `none` (P)."""
    account = call.named()
    permission = call.repository().collaborators.get(account.name, "none")
    user = account_shape(call.forge, account, call.caller)
    return json_answer({"permission": permission, "role_name": permission, "user": user})


def collaborator_delete(call: Call) -> Answer:
    call.repository().collaborators.pop(call.named().name, None)
    return NO_CONTENT


@dataclass(frozen=True)
class Endpoint:
    """`scope` None: also for nobody. `admin`: site administrators only."""

    run: Callable[[Call], Answer]
    scope: str | None = None
    admin: bool = False


_APPS = "/user/applications/oauth2"
_REPO = "/repos/{owner}/{repo}"
_COLLABORATOR = _REPO + "/collaborators/{name}"
_TABLE: dict[tuple[str, str], Endpoint] = {
    ("GET", "/version"): Endpoint(version),
    ("GET", "/user"): Endpoint(me, "read:user"),
    ("GET", "/users/{name}"): Endpoint(user_get),
    ("GET", "/users/{name}/keys"): Endpoint(user_keys),
    ("POST", "/users/{name}/tokens"): Endpoint(token_refused),
    ("GET", "/orgs/{name}"): Endpoint(org_get),
    ("GET", "/admin/users"): Endpoint(admin_list, "read:admin", admin=True),
    ("POST", "/admin/users"): Endpoint(admin_create, "write:admin", admin=True),
    ("PATCH", "/admin/users/{name}"): Endpoint(admin_change, "write:admin", admin=True),
    ("DELETE", "/admin/users/{name}"): Endpoint(admin_delete, "write:admin", admin=True),
    ("POST", "/admin/users/{name}/keys"): Endpoint(admin_add_key, "write:admin", admin=True),
    ("GET", _APPS): Endpoint(app_list, "read:user"),
    ("POST", _APPS): Endpoint(app_create, "write:user"),
    ("GET", _APPS + "/{id}"): Endpoint(app_get, "read:user"),
    ("PATCH", _APPS + "/{id}"): Endpoint(app_change, "write:user"),
    ("DELETE", _APPS + "/{id}"): Endpoint(app_delete, "write:user"),
    ("GET", _REPO): Endpoint(repo_get),
    ("GET", _REPO + "/releases"): Endpoint(release_list),
    ("GET", _REPO + "/releases/latest"): Endpoint(release_newest),
    ("GET", _REPO + "/releases/tags/{tag}"): Endpoint(release_by_tag),
    ("POST", _REPO + "/statuses/{sha}"): Endpoint(status_create, "write:repository"),
    ("GET", _REPO + "/statuses/{sha}"): Endpoint(status_list),
    ("GET", _REPO + "/commits/{sha}/statuses"): Endpoint(status_list),
    ("GET", _REPO + "/pulls"): Endpoint(pull_list, "read:repository"),
    ("GET", _REPO + "/issues/{index}/comments"): Endpoint(comment_list, "read:issue"),
    ("POST", _REPO + "/issues/{index}/comments"): Endpoint(comment_create, "write:issue"),
    ("PATCH", _REPO + "/issues/comments/{id}"): Endpoint(comment_change, "write:issue"),
    ("PUT", _COLLABORATOR): Endpoint(collaborator_put, "write:repository"),
    ("GET", _COLLABORATOR): Endpoint(collaborator_get, "read:repository"),
    ("GET", _REPO + "/collaborators"): Endpoint(collaborator_list, "read:repository"),
    ("GET", _COLLABORATOR + "/permission"): Endpoint(collaborator_permission, "read:repository"),
    ("DELETE", _COLLABORATOR): Endpoint(collaborator_delete, "write:repository"),
}
ROUTES: Router[Endpoint] = Router({(method, f"/api/v1{path}"): endpoint for (method, path), endpoint in _TABLE.items()})


def answer_api(forge: Forge, request: Request) -> Answer:
    """Unknown route: plain-text 404; a wrong method: 405 with an empty body (V)."""
    found = ROUTES.find(request.method, request.path)
    if found == 404:
        return text("404 page not found\n", 404)
    if found == 405:
        return Answer(405)
    endpoint, path = found
    try:
        caller = forge.caller(request.headers.get("authorization", ""))
        _may(caller, endpoint)
        return endpoint.run(Call(forge, request, path, caller))
    except ForgeError as error:
        return error_answer(error, forge.realm.forge_url)


def _may(caller: Caller, endpoint: Endpoint) -> None:
    if endpoint.scope is None:
        return
    if caller.account is None:
        refuse(401, "token is required")
    if not _covers(caller.scopes, endpoint.scope):
        refuse(403, f"token does not have at least one of required scope(s): [{endpoint.scope}]")
    if endpoint.admin and not caller.is_admin:
        refuse(403, "user should be the site admin")


def _covers(scopes: tuple[str, ...], wanted: str) -> bool:
    accepted: set[Any] = {"all", wanted, wanted.replace("read:", "write:")}
    return bool(accepted.intersection(scopes))
