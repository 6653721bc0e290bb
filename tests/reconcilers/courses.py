"""What befalls each step in the contract, as data: from absence to removal, with each kind of drift, and how much is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from examples.simulator.records import Domain
from reconcilers.engine_tokens import tenant_of
from tests.reconcilers.data import ADMIN_KEY, OTHER_KEY, OWN_KEY
from tests.reconcilers.driver import Life, both_engines, by_resend

SPEC: Mapping[str, Any] = {
    "components": {"settings": {"hero_db": {"DB_CACHE": "64"}}, "publicPaths": ["/hero_db/share/"]},
    "keys": {"providers": {"openrouter": "default"}, "ssh": [OWN_KEY]},
}
FLEET: Mapping[str, Any] = {
    "admins": [{"account": "mik", "sshKeys": [ADMIN_KEY]}],
    "forge": {"feedbackRepository": "geomind/feedback"},
    "engines": both_engines,
    "mail": by_resend,
}
STRANGER = "stranger.example.org"
EVIL = "https://evil.example.org"


@dataclass(frozen=True)
class Done:
    """What is done: the verbs of all actions in order, and how many writing calls the world sees."""

    verbs: tuple[str, ...] = ()
    writes: int = 0


@dataclass(frozen=True)
class Drift:
    """Something that happens behind our backs or in the spec, and what mends it."""

    do: Callable[[Life], Any]
    mends: Done


@dataclass(frozen=True)
class Course:
    """The life of one step. `again`: the same changes made twice, which must not need anything more."""

    birth: Done
    again: Done
    drifts: Mapping[str, Drift]
    removal: Done


def done(writes: int, *verbs: str) -> Done:
    return Done(verbs, writes)


NOTHING = Done()
CORE = "core"


def _lose_an_admin_key(life: Life) -> None:
    files = life.world.machine_named(life.vm).files
    kept = [line for line in (files.read(".ssh/authorized_keys") or b"").splitlines() if b"installer" in line]
    files.write(".ssh/authorized_keys", b"\n".join(kept) + b"\n")


def _no_key_but_the_installers_with_a_command(life: Life) -> None:
    files = life.world.machine_named(life.vm).files
    lines = (files.read(".ssh/authorized_keys") or b"").splitlines()
    spoilt = [b'command="id" ' + line if b"installer" not in line else line for line in lines]
    files.write(".ssh/authorized_keys", b"\n".join(spoilt) + b"\n")


def _ask(life: Life, part: str, **fields: int) -> None:
    """The spec changes: counters are raised."""
    changed = getattr(life.desired, part).model_copy(update=fields)
    life.desired = life.desired.model_copy(update={part: changed})


def _thrown_out(life: Life) -> None:
    life.world.state.forge.repositories["geomind/feedback"].collaborators.clear()


def _feedback_elsewhere(life: Life) -> None:
    life.world.forge.repositories.create("geomind", "wishes")
    forge = life.fleet.spec.forge.model_copy(update={"feedback_repository": "geomind/wishes"})
    spec = life.fleet.spec.model_copy(update={"forge": forge})
    life.fleet = life.fleet.model_copy(update={"spec": spec})


def _gateway_to_a_stranger(life: Life) -> None:
    for _, row in life.world.grid.gateways():
        row.backends = ["http://[400:9::9]:9988"]


def _gateway_of_another_machine(life: Life) -> None:
    row = life.rows["gateway"]
    life.rows["gateway"] = replace(row, identity={**row.identity, "machine": "gent/0000"})


def drop_the_sealed_secret(life: Life) -> None:
    del life.secrets["alice/oauth_client_secret"]


def tenant(life: Life) -> str:
    return tenant_of(life.view("engine_access").facts)


def _another_token(life: Life) -> None:
    engine = life.world.engines.named("voice")
    life.world.drift.add_tenant("voice", tenant(life), "not ours")
    engine.foreign.pop(tenant(life))


def _new_tokens(life: Life) -> None:
    life.desired = life.desired.model_copy(update={"engine_rotation": 1})


def _another_address(life: Life) -> None:
    told = life.facts["welcome"]
    life.facts["welcome"] = told.model_copy(update={"link": "https://old.example.org/hero_cockpit/web/"})


def _domain(life: Life) -> str:
    return next(iter(life.world.machine_named(life.vm).state.domains))


def _domain_set(life: Life, **fields: str) -> None:
    row = life.world.machine_named(life.vm).state.domains[_domain(life)]
    for name, value in fields.items():
        setattr(row, name, value)


def _a_strangers_domain(life: Life) -> None:
    row = Domain(domain=STRANGER, auth_mode="none", backend="http://127.0.0.1:9988")
    life.world.machine_named(life.vm).state.domains[STRANGER] = row


def _core(key: str, value: str) -> Callable[[Life], None]:
    """Somebody writes a setting that hero_proxy reads at its next start."""
    return lambda life: life.world.drift.set_secret(life.vm, CORE, key, value)


REGISTERED = done(2, "register")
MADE_ANEW = done(2, "delete", "create")
KEYS_SET = done(0, "set_keys")  # a file of ssh's, no call that the world counts
WRITTEN = done(1, "write")
SIGN_IN_WRITTEN = done(2, "write_sign_in", "restart_proxy")
SHUT_FIRST = done(5, "shut", "restart_proxy", "set_domain", "open", "restart_proxy")

COURSES: Mapping[str, Course] = {
    "account": Course(
        birth=done(2, "create", "give_access"),
        again=done(0, "give_access"),
        drifts={
            "disabled": Drift(lambda life: life.world.drift.disable_account("Alice-B"), done(1, "enable")),
            "a new password is asked for": Drift(
                lambda life: _ask(life, "account", password_reset=1), done(1, "reset_password")
            ),
            "thrown out of the feedback repository": Drift(_thrown_out, done(1, "give_access")),
            "the feedback repository is another one": Drift(_feedback_elsewhere, done(2, "give_access", "take_access")),
        },
        removal=done(2, "disable", "take_access"),
    ),
    "engine_access": Course(
        birth=done(4, "register", "register"),
        again=done(0, "register", "register"),
        drifts={
            "thrown out of one list": Drift(
                lambda life: life.world.drift.remove_tenant("embedder", tenant(life)), REGISTERED
            ),
            "another token in the other": Drift(_another_token, REGISTERED),
            "token lost": Drift(lambda life: life.secrets.pop("alice/engine_voice"), REGISTERED),
            "rotation is asked for": Drift(_new_tokens, done(4, "register", "register")),
        },
        removal=done(4, "revoke", "revoke", "erase", "erase"),
    ),
    "machine": Course(
        birth=done(1, "create"),
        again=NOTHING,
        drifts={
            "a new one is asked for": Drift(lambda life: _ask(life, "machine", rebuild=1), MADE_ANEW),
            "deleted": Drift(lambda life: life.world.drift.delete_vm(life.vm), done(1, "create")),
            "a larger one is asked for": Drift(
                lambda life: _ask(life, "machine", rebuild=2, memory_mb=16384), MADE_ANEW
            ),
        },
        removal=done(1, "delete"),
    ),
    "machine_access": Course(
        birth=NOTHING,  # the keys came with the machine
        again=NOTHING,
        drifts={
            "a key added": Drift(lambda life: life.world.drift.add_authorized_key(life.vm, OTHER_KEY), KEYS_SET),
            "a key lost": Drift(_lose_an_admin_key, KEYS_SET),
            "keys with a command before them": Drift(_no_key_but_the_installers_with_a_command, KEYS_SET),
        },
        removal=KEYS_SET,
    ),
    "gateway": Course(
        birth=done(1, "create"),
        again=NOTHING,
        drifts={
            "deleted": Drift(
                lambda life: life.world.drift.delete_gateway(life.rows["gateway"].name), done(1, "create")
            ),
            "leading to a stranger": Drift(_gateway_to_a_stranger, MADE_ANEW),
            "made for another machine": Drift(_gateway_of_another_machine, MADE_ANEW),
        },
        removal=done(1, "delete"),
    ),
    "sign_in_app": Course(
        birth=done(1, "create"),
        again=NOTHING,
        drifts={
            "redirect address changed": Drift(
                lambda life: life.world.drift.set_redirect(life.rows["sign_in_app"].name, EVIL), done(1, "rotate")
            ),
            "secret lost": Drift(drop_the_sealed_secret, done(1, "rotate")),
            "deleted": Drift(
                lambda life: life.world.drift.delete_app(life.rows["sign_in_app"].name), done(1, "create")
            ),
        },
        removal=done(1, "delete"),
    ),
    "supervisor": Course(
        birth=done(4, "install"),
        again=done(0, "install"),
        drifts={"stopped": Drift(lambda life: life.world.drift.stop_supervisor(life.vm), done(1, "install"))},
        removal=NOTHING,
    ),
    "front_door": Course(
        birth=done(5, "install", "install"),  # hero_proxy's listener is set to shut before it starts
        again=done(4, "install", "install"),
        drifts={
            "router stopped": Drift(
                lambda life: life.world.drift.stop_service(life.vm, "hero_router"), done(1, "start")
            ),
            "proxy stopped": Drift(lambda life: life.world.drift.stop_service(life.vm, "hero_proxy"), done(1, "start")),
            "proxy changed": Drift(
                lambda life: life.world.drift.set_version(life.vm, "hero_proxy", "v0.0.1"), done(3, "install")
            ),
        },
        removal=NOTHING,
    ),
    "settings": Course(
        birth=done(6, "write"),
        again=done(6, "write"),
        drifts={
            "changed": Drift(lambda life: life.world.drift.set_secret(life.vm, "db", "DB_CACHE", "1"), WRITTEN),
            "emptied": Drift(
                lambda life: life.world.drift.set_secret(life.vm, "cockpit", "OPENROUTER_API_KEY", ""), WRITTEN
            ),
            "removed": Drift(
                lambda life: life.world.drift.set_secret(life.vm, "cockpit", "OPENROUTER_API_KEY", None), WRITTEN
            ),
        },
        removal=NOTHING,
    ),
    "components": Course(
        birth=done(6, "install", "install", "install"),
        again=done(6, "install", "install", "install"),
        drifts={
            "stopped": Drift(lambda life: life.world.drift.stop_service(life.vm, "hero_db"), done(1, "start")),
            "dead though said to run": Drift(
                lambda life: life.world.drift.kill_service(life.vm, "hero_indexer"), done(1, "restart")
            ),
            "another version": Drift(
                lambda life: life.world.drift.set_version(life.vm, "hero_cockpit", "v0.0.1"), done(2, "install")
            ),
        },
        removal=NOTHING,
    ),
    "sign_in_gate": Course(
        birth=done(9, "write_sign_in", "set_domain", "restart_proxy", "open", "restart_proxy"),
        again=done(9, "write_sign_in", "set_domain", "restart_proxy", "open", "restart_proxy"),
        drifts={
            "allowlist edited": Drift(_core("HERO_PROXY_ALLOWED_USERS", "mallory"), SIGN_IN_WRITTEN),
            "client secret changed": Drift(_core("FORGE_OAUTH_CLIENT_SECRET", "x"), SIGN_IN_WRITTEN),
            "redirect address changed": Drift(_core("FORGE_OAUTH_REDIRECT_URI", EVIL), SIGN_IN_WRITTEN),
            "issuer changed": Drift(_core("FORGE_OAUTH_ISSUER", EVIL), SIGN_IN_WRITTEN),
            "listener off": Drift(
                _core("HERO_PROXY_SEED_GATEWAY_LISTENER", "0"), done(3, "restart_proxy", "open", "restart_proxy")
            ),
            "domain removed": Drift(lambda life: life.world.drift.remove_domain(life.vm, _domain(life)), SHUT_FIRST),
            "sign-in taken off": Drift(lambda life: _domain_set(life, auth_mode="none"), SHUT_FIRST),
            "sign-in made optional": Drift(lambda life: _domain_set(life, auth_mode="optional"), SHUT_FIRST),
            "a stranger's domain": Drift(_a_strangers_domain, done(1, "remove_domain")),
        },
        removal=done(3, "shut", "restart_proxy", "remove_domain"),
    ),
    "welcome": Course(
        birth=done(1, "send"),
        again=done(0, "send"),
        drifts={"the address changes": Drift(_another_address, done(1, "send"))},
        removal=NOTHING,
    ),
}
"""In graph order."""
