"""From a tester, the Fleet and the catalogue to the explicit desired state that reconcilers are given. Pure."""

from collections.abc import Iterable
from typing import Any

from specs.catalogue import Catalogue, Component, start_order
from specs.checks import check_tester
from specs.choice_checks import path_owner
from specs.desired_state import (
    DesiredAccount,
    DesiredComponent,
    DesiredEngine,
    DesiredMachine,
    DesiredSetting,
    DesiredTester,
    DesiredWelcome,
    digest,
    needs_of_secret,
)
from specs.errors import Refused
from specs.fleet import Fleet
from specs.gone import used_engines
from specs.merging import effective
from specs.ownership import chosen_components, component_settings, readers_of
from specs.ssh_keys import key_identity
from specs.tester import SecretValue, Tester, TesterSpec, WelcomeEmail

__all__ = [
    "DesiredAccount",
    "DesiredComponent",
    "DesiredEngine",
    "DesiredMachine",
    "DesiredSetting",
    "DesiredTester",
    "DesiredWelcome",
    "desire",
    "desire_alike",
    "desire_sound",
    "digest",
    "needs_of_secret",
]


def desire(tester: Tester, fleet: Fleet, catalogue: Catalogue) -> DesiredTester:
    """What the tester should have. Raises Refused with every broken rule when the three do not fit."""
    findings = check_tester(tester, fleet, catalogue)
    if findings:
        raise Refused(findings)
    return desire_sound(tester, fleet, catalogue)


def desire_sound(tester: Tester, fleet: Fleet, catalogue: Catalogue) -> DesiredTester:
    """The same for a tester that was checked already (`check_tester`) and breaks no rule."""
    spec = effective(tester.spec, fleet)
    chosen = {name: catalogue[name] for name in chosen_components(spec.components, fleet, catalogue)}
    admins = tuple(admin.account for admin in fleet.spec.admins)
    tester_keys = () if spec.keys.ssh == "required" else spec.keys.ssh
    admin_keys = [key for admin in fleet.spec.admins for key in admin.ssh_keys]
    return DesiredTester(
        **_own(tester, fleet),
        admins=admins,
        ssh_keys=_unique_keys([*admin_keys, *tester_keys]),
        ssh_key_required=spec.keys.ssh == "required",
        components=_components(spec, chosen),
        settings=_settings(spec, fleet, chosen),
        foreign_settings=_foreign(spec, fleet),
        engines=_engines(fleet, chosen),
        engine_rotation=spec.keys.rotate_engine_tokens,
        public_paths=tuple(path for path in spec.components.public_paths if path_owner(path, chosen)),
        channel=spec.version.channel,
        updates=spec.version.updates,
        machine=_machine(spec),
        welcome=_welcome(spec, fleet),
    )


def desire_alike(tester: Tester, fleet: Fleet, like: DesiredTester) -> DesiredTester:
    """The same for a tester who chooses what another does under this Fleet: `like` is that one's."""
    return like.model_copy(update=_own(tester, fleet))


def _own(tester: Tester, fleet: Fleet) -> dict[str, Any]:
    """What hangs on who it is."""
    spec = tester.spec
    others = spec if "allowlist" in spec.model_fields_set else fleet.spec.defaults
    return {
        "name": tester.name,
        "account": _account(tester),
        "allowlist": _unique([tester.account, *(admin.account for admin in fleet.spec.admins), *others.allowlist]),
        "address": spec.address,
        "expires": spec.expires,
        "paused": spec.paused,
    }


def _account(tester: Tester) -> DesiredAccount:
    identity = tester.spec.identity
    return DesiredAccount(
        name=tester.account,
        email=identity.email,
        existing=identity.existing,
        when_removed="keep" if identity.existing else identity.when_removed,
        full_name=identity.full_name,
        password_reset=identity.password_reset,
    )


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    """Without names that differ only in case; the first spelling stays."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(name.casefold(), name)
    return tuple(first.values())


def _unique_keys(keys: Iterable[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for key in keys:
        first.setdefault(key_identity(key), key)
    return tuple(first.values())


def _components(spec: TesterSpec, chosen: dict[str, Component]) -> tuple[DesiredComponent, ...]:
    return tuple(
        DesiredComponent(
            name=name,
            version=spec.version.pin.get(name),
            services=chosen[name].services,
            health=chosen[name].health,
            needs=tuple(need for need in chosen[name].needs if need in chosen),
            sends=chosen[name].sends,
            assumed=chosen[name].assumed,
        )
        for name in start_order(chosen, chosen)
    )


def _settings(spec: TesterSpec, fleet: Fleet, chosen: dict[str, Component]) -> tuple[DesiredSetting, ...]:
    """Catalogue defaults, under the spec's settings, under what engines and providers own."""
    settings: dict[tuple[str, str], DesiredSetting] = {}
    for setting in component_settings(spec.components.settings, chosen):
        settings[setting.context, setting.key] = setting
    for engine in used_engines(fleet):
        settings[engine.context, engine.url_setting] = DesiredSetting(
            context=engine.context,
            key=engine.url_setting,
            value=engine.url,
            readers=readers_of(engine.context, engine.url_setting, chosen),
            origin=f"engine {engine.name}",
        )
    for name, choice in spec.keys.providers.items():
        provider = fleet.spec.providers[name]
        secret = choice.secret if isinstance(choice, SecretValue) else provider.default
        if choice in ("own", "none") or secret is None:
            continue
        settings[provider.context, provider.setting] = DesiredSetting(
            context=provider.context,
            key=provider.setting,
            secret=secret,
            readers=readers_of(provider.context, provider.setting, chosen),
            origin=f"provider {name}",
        )
    return tuple(settings[place] for place in sorted(settings))


def _foreign(spec: TesterSpec, fleet: Fleet) -> tuple[tuple[str, str], ...]:
    own = [fleet.spec.providers[name] for name, choice in spec.keys.providers.items() if choice == "own"]
    return tuple(sorted((provider.context, provider.setting) for provider in own))


def _engines(fleet: Fleet, chosen: dict[str, Component]) -> tuple[DesiredEngine, ...]:
    return tuple(
        DesiredEngine(
            name=engine.name,
            url=engine.url,
            context=engine.context,
            token_setting=engine.token_setting,
            readers=readers_of(engine.context, engine.token_setting, chosen),
        )
        for engine in used_engines(fleet)
    )


def _machine(spec: TesterSpec) -> DesiredMachine:
    machine = spec.machine
    return DesiredMachine(
        memory_mb=machine.memory,
        cpu=machine.cpu,
        disk_gb=machine.disk,
        rootfs_gb=machine.rootfs,
        image=machine.image,
        node=machine.node,
        rebuild=machine.rebuild,
        keep_after_removal=machine.keep_after_removal,
    )


def _welcome(spec: TesterSpec, fleet: Fleet) -> DesiredWelcome:
    choice = spec.welcome_email
    wanted = choice if isinstance(choice, WelcomeEmail) else WelcomeEmail(send=choice)
    allowed = fleet.spec.mail is None or fleet.spec.mail.send
    return DesiredWelcome(send=wanted.send and allowed, resend=wanted.resend)
