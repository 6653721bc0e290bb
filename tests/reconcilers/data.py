"""Values that the plan tests start from: one fleet, one tester, a machine on which everything is in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from reconcilers.actions import Action, Wait
from reconcilers.actions import Step as Planned
from reconcilers.backends.machine import Domain, Job, JobState, MachineLook, install_job
from reconcilers.facts import (
    AccountFacts,
    ComponentsFacts,
    Facts,
    FrontDoorFacts,
    GatewayFacts,
    MachineAccessFacts,
    MachineFacts,
    ObjectState,
    OutsideObject,
    SettingsFacts,
    SignInAppFacts,
    SignInGateFacts,
    StepFacts,
    SupervisorFacts,
)
from reconcilers.secret import Secret
from specs.catalogue import catalogue
from specs.desired import DesiredTester, desire
from specs.fleet import Fleet
from specs.tester import Tester

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADMIN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGFkbWluYWRtaW5hZG1pbmFkbWluYWRtaW5hZG1pbmFk mik"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG90aGVyb3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90 other"
OWN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG93bm93bm93bm93bm93bm93bm93bm93bm93bm93bm93 alice"
ADDRESS = "400:1::2"
FQDN = "alicex7k2p9.gent.example.org"
UID = "x7k2p9"
CLIENT_ID = "client-1"
OWNER = "controller"  # the account behind the Forge token
FORGE = "https://forge.example.org"

FLEET: dict[str, Any] = {
    "apiVersion": "hero.tester/v1",
    "kind": "Fleet",
    "metadata": {"name": "lab"},
    "spec": {
        "admins": [{"account": "mik", "sshKeys": [ADMIN_KEY]}],
        "installer": {"privateKey": "env:INSTALLER_KEY"},
        "forge": {"url": FORGE, "token": "env:FORGE_TOKEN"},
        "compute": [
            {
                "name": "gent",
                "url": "http://127.0.0.1:9000",
                "secret": "env:COMPUTE",
                "gatewayDomain": "gent.example.org",
                "nodes": [{"sid": "0001", "gridNode": "2"}, {"sid": "0002", "gridNode": "7"}],
            },
            {
                "name": "york",
                "url": "http://127.0.0.1:9001",
                "secret": "env:COMPUTE",
                "gatewayDomain": "york.example.org",
                "nodes": [{"sid": "0001", "gridNode": "11"}],
            },
        ],
        "componentSets": {"demo": ["hero_db", "hero_indexer", "hero_books"]},
        "providers": {"openrouter": {"setting": "OPENROUTER_API_KEY", "default": "env:OPENROUTER"}},
    },
}
TESTER: dict[str, Any] = {
    "apiVersion": "hero.tester/v1",
    "kind": "Tester",
    "metadata": {"name": "alice"},
    "spec": {"identity": {"email": "alice@example.org", "account": "Alice-B"}},
}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, mapping by mapping."""
    both = dict(base)
    for key, value in over.items():
        mine = both.get(key)
        both[key] = merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return both


def a_fleet(**spec: Any) -> Fleet:
    return Fleet.model_validate(merged(FLEET, {"spec": spec}))


def a_tester(fleet: Fleet | None = None, **spec: Any) -> DesiredTester:
    return desire(Tester.model_validate(merged(TESTER, {"spec": spec})), fleet or a_fleet(), catalogue())


LEARNT: Mapping[str, StepFacts] = {
    each.step: each
    for each in (
        AccountFacts(account="Alice-B", forge_id=7, made_by_us=True),
        MachineFacts(
            daemon="gent", vm_id="12", vm_name="alice_x7k2p9_1_1", node_sid="0001", grid_node="2", address=ADDRESS
        ),
        MachineAccessFacts(host_key="ssh-ed25519 HOST"),
        GatewayFacts(daemon="gent", gateway_id="3", gateway_name="alicex7k2p9", fqdn=FQDN),
        SignInAppFacts(
            app_id=5, client_id=CLIENT_ID, redirect_uri=f"https://{FQDN}/oauth/callback", owner="controller"
        ),
        SupervisorFacts(version="v1.0.0"),
        FrontDoorFacts(router="v1.0.0", proxy="v1.0.0"),
        SettingsFacts(written=1),
        ComponentsFacts(),
        SignInGateFacts(),
    )
}
SECRETS = {
    "alice/oauth_client_secret": Secret("the-client-secret"),
    "env:OPENROUTER": Secret("the-provider-key"),
}


def a_row(step: str, state: ObjectState = ObjectState.EXISTING, **fields: Any) -> OutsideObject:
    return OutsideObject(
        **{"tester": "alice", "step": step, "incarnation": 1, "attempt": 1, "name": "", "state": state, **fields}
    )


def some_facts(*more: StepFacts, without: tuple[str, ...] = (), **fields: Any) -> Facts:
    """Everything is learnt, but for what is `without`; `more` takes the place of what is known."""
    steps = {name: value for name, value in LEARNT.items() if name not in without}
    steps |= {each.step: each for each in more}
    given: dict[str, Any] = {
        "tester": "alice",
        "uid": UID,
        "fleet": a_fleet(),
        "steps": steps,
        "secrets": SECRETS,
        "forge_owner": OWNER,
        **fields,
    }
    return Facts(**given)


def done_job(component: str, version: str = "v1.0.0", **fields: Any) -> Job:
    return Job(**{"name": install_job(component), "state": JobState.SUCCEEDED, "rc": 0, "result": version, **fields})


def a_look(desired: DesiredTester | None = None, **changes: Any) -> MachineLook:
    """A machine on which everything that the tester should have is there and well."""
    wanted = desired or a_tester()
    settings = {(each.context, each.key): Secret(each.value) for each in wanted.settings if each.value is not None}
    settings |= {(each.context, each.key): SECRETS[each.secret] for each in wanted.settings if each.secret is not None}
    look = MachineLook(
        host_key="ssh-ed25519 HOST",
        authorized_keys=(),
        tools=frozenset({"curl", "lab", "hero_proc"}),
        supervisor_up=True,
        services={service: "running" for each in wanted.components for service in each.services},
        versions={each.name: each.version or "v1.0.0" for each in wanted.components},
        health={each.health: 200 for each in wanted.components if each.health},
        secrets=settings,
        domains=(Domain(FQDN, "oauth", "http://127.0.0.1:9988", wanted.public_paths),),
        jobs={
            install_job(each.name): done_job(each.name, each.version or "v1.0.0", wanted=each.version or "")
            for each in wanted.components
        },
        owned_settings=frozenset(settings),
        owned_components=frozenset(each.name for each in wanted.components),
    )
    return replace(look, **changes)


def brief(steps: tuple[Planned, ...]) -> list[str]:
    """A plan in words that a table can hold: `create account Alice-B`, `wait MachineStarting`."""
    return [f"wait {each.reason}" if isinstance(each, Wait) else f"{each.verb} {each.target}" for each in steps]


def actions(steps: tuple[Planned, ...]) -> list[Action]:
    return [each for each in steps if isinstance(each, Action)]
