"""Replays the wire fixtures: the clients must send the request that is written there, and understand the answer.

Fixtures of requests that no client makes (a wrong type, another server's dialect, later work) stand in `NOT_OURS`, so that a
new fixture is either replayed or looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconcilers.backends.compute import ComputeClient, DaemonName, GatewayOrder, VmOrder
from reconcilers.backends.forge import Account, ForgeClient
from reconcilers.backends.limits import Gate
from reconcilers.backends.transport import Wire
from reconcilers.clock import SystemClock
from reconcilers.errors import Blocked, NameTaken, OutcomeUnknown, OutsideError, Rejected, Throttled, Transient
from reconcilers.secret import Secret
from specs.fleet import GridNode, NodeSid

FOLDER = Path(__file__).parents[1] / "wire"
FIXTURES = {
    (each["system"], each["name"]): each
    for file in sorted(FOLDER.glob("*.json"))
    for each in json.loads(file.read_text())
}
KEPT = {
    "controller_token": "token-1",
    "token": "token-2",
    "compute_secret": "secret-1",
    "app_id": 7,
    "sid": "0001",
    "gateway": "0001",
}
PLACEHOLDER = re.compile(r"<(id|string|contains|any)(?::(.*))?>", re.DOTALL)
REDIRECT = "https://alicex1.gent1.grid.test/oauth/callback"
ALICE = Account(30, "alice-b", "alice@example.org", login_name="Alice-B")
BOB = Account(4, "bob", "bob@example.org")
ORDER = ("alice@example.org", Secret("Long-Enough-Password-1"), "Alice B")


def filled(value: Any) -> Any:
    """A fixture's value with its variables and placeholders replaced by samples."""
    if isinstance(value, dict):
        return {key: filled(each) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each) for each in value]
    if not isinstance(value, str):
        return value
    if value != "<any>" and (match := PLACEHOLDER.fullmatch(value)):
        kind, sample = match.groups()
        if kind == "id":
            return int(sample or 1)
        return json.loads(sample) if sample and sample[0] in "[{" else sample or ""
    if value == "<any>":
        return None
    if value.startswith("<other:"):
        return "another"
    if re.fullmatch(r"\{(\w+)\}", value):
        return KEPT[value[1:-1]]
    return re.sub(r"\{(\w+)\}", lambda match: str(KEPT[match[1]]), value)


def completed(value: Any) -> Any:
    """Fixtures write only the keys that matter; a real account or app has the others as well."""
    if isinstance(value, list):
        return [completed(each) for each in value]
    if isinstance(value, dict) and "login" in value:
        return {"id": 1, "email": "somebody@example.org"} | value
    if isinstance(value, dict) and "client_secret" in value:
        return {"id": 7, "client_id": "c-1", "name": "tester-alice"} | value
    return value


class Replay:
    """Answers what the fixture says, and everything else it is asked from the fixtures named in `also`."""

    def __init__(self, fixture: dict[str, Any], also: dict[str, int]) -> None:
        self.fixture, self.also = fixture, also
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self.requests:
            self.requests.append(request)
            return self._answer()
        login = request.url.path.rpartition("/")[2]
        return httpx.Response(
            self.also.get(request.url.path, 404), json={"id": 9, "login": login, "email": "x@example.org"}
        )

    def _answer(self) -> httpx.Response:
        answer = self.fixture["answer"]
        headers = {key: filled(value) for key, value in answer.get("headers", {}).items()}
        if "json" in answer:
            return httpx.Response(answer["status"], headers=headers, json=completed(filled(answer["json"])))
        return httpx.Response(answer["status"], headers=headers, text=filled(answer.get("text", "")))

    def check(self) -> None:
        """The request that was sent is the one that is written."""
        wanted, sent = self.fixture["request"], self.requests[0]
        assert (sent.method, sent.url.raw_path.decode()) == (wanted["method"], filled(wanted["path"]))
        for name, value in wanted.get("headers", {}).items():
            assert sent.headers[name] == filled(value)
        body = json.loads(sent.content) if sent.content else None
        assert body == filled(wanted.get("json"))


def forge(replay: Replay) -> ForgeClient:
    token = filled(replay.fixture["request"]["headers"]["Authorization"])
    gate = Gate("Forge", SystemClock(), 8, 1000)
    url = "http://forge.test"
    return ForgeClient(Wire(url, httpx.MockTransport(replay), gate, {"Authorization": token}), url)


def compute(replay: Replay) -> ComputeClient:
    gate = Gate("compute compute1", SystemClock(), 8, 1000)
    wire = Wire("http://daemon.test", httpx.MockTransport(replay), gate)
    return ComputeClient(DaemonName("compute1"), wire, Secret("secret-1"))


def vm_order(name: str = "alice_x7k2p9", sid: str = "0001", disk: int = 50) -> VmOrder:
    keys = ("ssh-ed25519 AAAAC3Nz installer",)
    return VmOrder(name, NodeSid(sid), "Ubuntu 24.04", 4, 8192, disk, 10, keys)


def gateway_order(name: str = "alicex7k2p9", node: str = "2") -> GatewayOrder:
    return GatewayOrder(name, GridNode(node), "400:1::1")


Ask = Callable[[Any], Awaitable[Any]]
F, C = "forge", "compute"

ACCEPTED: dict[tuple[str, str], tuple[Ask, Callable[[Any], bool]]] = {
    (F, "user_found_whatever_the_case"): (lambda f: f.account("BOB"), lambda a: a.login == "bob" and a.id == 4),
    (F, "user_unknown"): (lambda f: f.account("nobody"), lambda a: a is None),
    (F, "organisation_found"): (lambda f: f.organisation("geomind"), lambda found: found is True),
    (F, "organisation_unknown"): (lambda f: f.organisation("bob"), lambda found: found is False),
    (F, "whoami"): (lambda f: f.whoami(), lambda a: a.login == "controller" and a.is_admin),
    (F, "user_disabled_seen_by_admin"): (lambda f: f.account("bob"), lambda a: a.prohibited is True),
    (F, "user_is_an_organisation"): (lambda f: f.account("geomind"), lambda a: a is None),
    (F, "user_renamed"): (lambda f: f.account("bob"), lambda a: a.login == "robert"),
    (F, "list_users_first_page"): (lambda f: f.accounts(), lambda all: [each.id for each in all] == [1, 2, 3, 4]),
    (F, "reset_password"): (lambda f: f.reset_password(BOB, Secret("Another-Long-Password-2")), lambda a: a.id == 4),
    (F, "delete_user_and_purge"): (lambda f: f.delete_account("bob", True), lambda nothing: nothing is None),
    (F, "create_user"): (lambda f: f.create_account("Alice-B", *ORDER), lambda a: a.login == "Alice-B"),
    (F, "disable_user"): (lambda f: f.set_prohibited(ALICE, True), lambda a: a.prohibited is True),
    (F, "delete_user"): (lambda f: f.delete_account("alice-b", False), lambda a: a is None),
    (F, "delete_user_unknown"): (lambda f: f.delete_account("nobody", False), lambda a: a is None),
    (F, "keys_of_a_user"): (lambda f: f.keys("bob"), lambda keys: all(key.startswith("ssh-") for key in keys)),
    (F, "keys_of_nobody"): (lambda f: f.keys("nobody"), lambda keys: keys == ()),
    (F, "create_app"): (
        lambda f: f.create_oauth_app("tester-alice", REDIRECT),
        lambda new: bool(new.client_secret) and new.app.redirect_uris == (REDIRECT,) and new.app.confidential,
    ),
    (F, "list_apps_newest_first_without_secrets"): (lambda f: f.oauth_apps(), lambda apps: len(apps) > 0),
    (F, "change_app_always_makes_a_new_secret"): (
        lambda f: f.rotate_oauth_app(7, "tester-alice", REDIRECT),
        lambda new: bool(new.client_secret),
    ),
    (F, "delete_app"): (lambda f: f.delete_oauth_app(7), lambda nothing: nothing is None),
    (F, "delete_app_twice"): (lambda f: f.delete_oauth_app(7), lambda nothing: nothing is None),
    (F, "release_by_tag"): (
        lambda f: f.release("lhumina_code", "hero_books", "latest"),
        lambda release: release.tag == "latest" and bool(release.target_commitish),
    ),
    (F, "release_missing"): (lambda f: f.release("lhumina_code", "hero_books", "v9.9.9"), lambda r: r is None),
    (F, "release_of_no_repository"): (lambda f: f.release("lhumina_code", "nothing", "latest"), lambda r: r is None),
    (F, "add_collaborator"): (lambda f: f.add_reader("geomind", "fleet", "bob"), lambda nothing: nothing is None),
    (F, "add_collaborator_twice"): (lambda f: f.add_reader("geomind", "fleet", "bob"), lambda nothing: nothing is None),
    (F, "list_collaborators"): (
        lambda f: f.collaborators("geomind", "fleet"),
        lambda people: [each.login for each in people] == ["bob"],
    ),
    (F, "remove_collaborator"): (lambda f: f.remove_reader("geomind", "fleet", "bob"), lambda nothing: nothing is None),
    (F, "remove_collaborator_twice"): (
        lambda f: f.remove_reader("geomind", "fleet", "bob"),
        lambda nothing: nothing is None,
    ),
    (C, "deploy_vm"): (lambda c: c.deploy_vm(vm_order()), lambda vm: vm.vm_id == "0001" and vm.state == "running"),
    (C, "get_vm"): (lambda c: c.get_vm("0001"), lambda vm: vm.address == "400:1::1"),
    (C, "get_vm_unknown"): (lambda c: c.get_vm("0042"), lambda vm: vm is None),
    (C, "list_vms"): (lambda c: c.list_vms(), lambda vms: [vm.name for vm in vms] == ["alice_x7k2p9"]),
    (C, "delete_vm"): (lambda c: c.delete_vm("0001"), lambda nothing: nothing is None),
    (C, "delete_vm_twice"): (lambda c: c.delete_vm("0001"), lambda nothing: nothing is None),
    (C, "deploy_webgateway"): (
        lambda c: c.deploy_gateway(gateway_order()),
        lambda gateway: gateway.fqdn == "alicex7k2p9.gent1.grid.test",
    ),
    (C, "deploy_webgateway_answer_lacks_fqdn"): (lambda c: c.deploy_gateway(gateway_order()), lambda g: g.fqdn == ""),
    (C, "list_webgateways"): (
        lambda c: c.list_gateways(),
        lambda gateways: gateways[0].backends == ("http://[400:1::1]:9988",),
    ),
    (C, "delete_webgateway"): (lambda c: c.delete_gateway("0001"), lambda nothing: nothing is None),
    (C, "delete_webgateway_unknown"): (lambda c: c.delete_gateway("0042"), lambda nothing: nothing is None),
    (C, "list_nodes"): (
        lambda c: c.list_nodes(),
        lambda nodes: (
            (nodes[0].sid, nodes[0].grid_node, nodes[0].online) == ("0001", "2", True)
            and (nodes[0].memory_free_mb, nodes[0].disk_pools_free_gb[0]) == (98304, 700)
            and nodes[1].disk_pools_free_gb == ()
        ),
    ),
    (C, "discover"): (lambda c: c.missing_methods(), lambda missing: "ComputeService.get_vm" in missing),
}

REFUSED: dict[tuple[str, str], tuple[Ask, type[OutsideError], str]] = {
    (F, "create_user_taken"): (
        lambda f: f.create_account("alice-b", "other@example.org", *ORDER[1:]),
        NameTaken,
        "NameTaken",
    ),
    (F, "create_user_reserved"): (lambda f: f.create_account("admin", *ORDER), Rejected, "AccountRefused"),
    (F, "create_user_bad_name"): (lambda f: f.create_account("alice--b", *ORDER), Rejected, "AccountRefused"),
    (F, "create_user_weak_password"): (
        lambda f: f.create_account("Alice-B", "alice@example.org", Secret("short"), "Alice B"),
        Rejected,
        "PasswordRefused",
    ),
    (F, "create_user_mail_taken"): (lambda f: f.create_account("alice2", *ORDER), Rejected, "AccountRefused"),
    (F, "create_user_without_scope"): (lambda f: f.create_account("Alice-B", *ORDER), Blocked, "MissingRights"),
    (F, "create_user_not_an_admin"): (lambda f: f.create_account("Alice-B", *ORDER), Blocked, "MissingRights"),
    (F, "own_call_before_the_password_is_changed"): (lambda f: f.whoami(), Blocked, "MissingRights"),
    (F, "whoami_with_a_bad_token"): (lambda f: f.whoami(), Blocked, "TokenRefused"),
    (F, "user_with_a_bad_token"): (lambda f: f.account("bob"), Blocked, "TokenRefused"),
    (F, "delete_user_with_repositories"): (lambda f: f.delete_account("bob", False), Blocked, "OwnsRepositories"),
    (F, "throttled_by_a_proxy"): (lambda f: f.oauth_apps(), Throttled, "OutsideError"),
    (C, "deploy_vm_on_a_grid_node_id"): (lambda c: c.deploy_vm(vm_order(sid="2")), Rejected, "InvalidParameters"),
    (C, "deploy_vm_with_a_hyphen"): (lambda c: c.deploy_vm(vm_order("alice-1")), Rejected, "InvalidParameters"),
    (C, "deploy_vm_that_does_not_fit"): (lambda c: c.deploy_vm(vm_order(disk=900)), OutcomeUnknown, "OutcomeUnknown"),
    (C, "deploy_vm_on_an_offline_node"): (lambda c: c.deploy_vm(vm_order()), OutcomeUnknown, "OutcomeUnknown"),
    (C, "deploy_webgateway_on_a_daemon_node_id"): (
        lambda c: c.deploy_gateway(gateway_order(node="0001")),
        Rejected,
        "InvalidParameters",
    ),
    (C, "deploy_webgateway_taken_by_its_owner"): (
        lambda c: c.deploy_gateway(gateway_order()),
        NameTaken,
        "NameTaken",
    ),
    (C, "deploy_webgateway_with_capitals"): (
        lambda c: c.deploy_gateway(gateway_order("Alice")),
        Rejected,
        "InvalidParameters",
    ),
    (C, "deploy_webgateway_failed_but_exists"): (
        lambda c: c.deploy_gateway(gateway_order()),
        OutcomeUnknown,
        "OutcomeUnknown",
    ),
    (C, "restart_required"): (lambda c: c.list_vms(), Blocked, "DaemonConnectionDead"),
    (C, "relay_down"): (lambda c: c.list_vms(), Transient, "Transient"),
}

NOT_OURS: set[tuple[str, str]] = {
    ("compute", "deploy_vm_with_a_field_missing"),
    ("compute", "deploy_webgateway_backend_without_brackets"),
    ("compute", "get_vm_with_a_wrong_secret"),
    ("compute", "health"),
    ("compute", "list_vms_of_another_secret"),
    ("compute", "unknown_method"),
    ("forge", "change_app_confidential_left_out_means_false"),
    ("forge", "create_app_confidential_left_out"),
    ("forge", "create_app_twice_makes_two"),
    ("forge", "create_app_without_name"),
    ("forge", "create_user_bad_json"),
    ("forge", "create_user_bad_type"),
    ("forge", "get_app_never_shows_the_secret"),
    ("forge", "get_app_unknown"),
    ("forge", "list_apps_limit_without_page_is_ignored"),
    ("forge", "list_apps_paged"),
    ("forge", "list_users_clamped"),
    ("forge", "list_users_past_the_end"),
    ("forge", "list_users_second_page"),
    ("forge", "mint_a_token_is_refused"),
    ("forge", "post_status"),
    ("forge", "post_status_unknown_commit"),
    ("forge", "sign_in_documents"),
    ("forge", "statuses_newest_first"),
    ("forge", "unknown_route"),
    ("forge", "user_disabled_seen_by_nobody"),
    ("forge", "wrong_method"),
}


@pytest.mark.parametrize("name", sorted(ACCEPTED), ids="/".join)
async def test_the_client_sends_it_and_accepts_the_answer(name: tuple[str, str]) -> None:
    ask, right = ACCEPTED[name]
    replay = Replay(FIXTURES[name], {"/api/v1/orgs/geomind": 200, "/api/v1/users/robert": 200})
    assert right(await ask(forge(replay) if name[0] == F else compute(replay)))
    replay.check()


@pytest.mark.parametrize("name", sorted(REFUSED), ids="/".join)
async def test_the_client_sends_it_and_understands_the_refusal(name: tuple[str, str]) -> None:
    ask, kind, reason = REFUSED[name]
    taken = {"/api/v1/users/alice-b": 200} if name[1] == "create_user_taken" else {}
    replay = Replay(FIXTURES[name], taken)
    with pytest.raises(OutsideError) as caught:
        await ask(forge(replay) if name[0] == F else compute(replay))
    assert type(caught.value) is kind
    if kind is not Throttled:
        assert caught.value.reason == reason
    replay.check()


def test_every_fixture_is_replayed_or_known_not_to_be_ours() -> None:
    assert set(FIXTURES) - set(ACCEPTED) - set(REFUSED) == NOT_OURS
