"""Which settings a tester's machine should hold: the spec's, the fleet's, and the tokens for the shared engines. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from reconcilers.backends.machine import SettingKey
from reconcilers.engine_tokens import sealed_token
from reconcilers.facts import Facts
from reconcilers.secret import Secret
from specs.catalogue import catalogue
from specs.desired import DesiredEngine, DesiredSetting, DesiredTester
from specs.fleet import Fleet
from specs.ownership import readers_of


@dataclass(frozen=True, slots=True)
class WantedSetting:
    """One setting.

    value     None: nobody holds it, or it is still to be made
    clear     the value where it may be shown; None for a secret
    readers   services that read it when they start
    demanded  without its value the spec cannot be met
    warning   what an admin should know when it is written
    """

    place: SettingKey
    value: Secret | None
    readers: tuple[str, ...]
    origin: str
    clear: str | None = None
    reference: str = ""
    demanded: bool = True
    warning: str = ""


def wanted_settings(desired: DesiredTester, facts: Facts) -> tuple[WantedSetting, ...]:
    """All of them, by context and key."""
    spec = [_of_spec(each, facts) for each in desired.settings]
    return tuple(sorted((*spec, *(_of_engine(each, facts) for each in desired.engines)), key=lambda each: each.place))


def _of_spec(setting: DesiredSetting, facts: Facts) -> WantedSetting:
    value = Secret(setting.value) if setting.value is not None else facts.secrets.get(setting.secret or "")
    shared = is_shared_key(setting, facts.fleet)
    return WantedSetting(
        place=(setting.context, setting.key),
        value=value,
        readers=setting.readers,
        origin=setting.origin,
        clear=setting.value,
        reference=setting.secret or "",
        warning=f"{setting.key} is the fleet's own key: a determined tester can read it on the machine"
        if shared
        else "",
    )


def _of_engine(engine: DesiredEngine, facts: Facts) -> WantedSetting:
    """An engine that is down is no reason to hold up the others: its token comes when there is one."""
    return WantedSetting(
        place=(engine.context, engine.token_setting),
        value=facts.sealed(sealed_token(engine.name)),
        readers=engine.readers,
        origin=f"engine {engine.name}",
        demanded=False,
    )


def is_shared_key(setting: DesiredSetting, fleet: Fleet) -> bool:
    """A provider's default key, which every tester that has it could read (lesson 46)."""
    kind, _, name = setting.origin.partition(" ")
    provider = fleet.spec.providers.get(name) if kind == "provider" else None
    return provider is not None and setting.secret is not None and setting.secret == provider.default


def provider_places(fleet: Fleet) -> frozenset[SettingKey]:
    """Where providers' keys are kept, ours and testers' own."""
    return frozenset((each.context, each.setting) for each in fleet.spec.providers.values())


def readers_of_gone(place: SettingKey, desired: DesiredTester) -> tuple[str, ...]:
    """The services that read a setting which no spec names any more; of an unlisted one those of its context."""
    context, key = place
    known = catalogue()
    chosen = {each.name: known[each.name] for each in desired.components if each.name in known}
    listed = readers_of(context, key, chosen)
    if any(key in component.settings for component in known.values()):
        return listed
    of_context = (service for each in chosen.values() if each.context == context for service in each.services)
    return tuple(dict.fromkeys((*listed, *of_context)))


def mark_of(value: Secret, place: SettingKey, facts: Facts) -> str:
    """By which a key that we wrote is known again, without keeping it."""
    salted = f"{facts.uid}/{shown_place(place)}/".encode() + value.reveal()
    return hashlib.sha256(salted).hexdigest()[:16]


def shown_place(place: SettingKey) -> str:
    return "/".join(place)


def parse_place(shown: str) -> SettingKey:
    context, _, key = shown.partition("/")
    return context, key
