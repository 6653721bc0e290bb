"""Who owns what on a machine: which components a tester gets, whose settings are which, and which services read."""

from collections.abc import Iterator, Mapping
from typing import Final

from specs.catalogue import Catalogue, Component
from specs.desired_state import DesiredSetting
from specs.fleet import Fleet
from specs.gone import used_engines
from specs.tester import Components, SecretValue, SettingValue

Place = tuple[str, str]
"""A setting's context and key."""

GATE_SETTINGS: Final = frozenset(
    ("core", key)
    for key in (
        "FORGE_OAUTH_CLIENT_ID",
        "FORGE_OAUTH_CLIENT_SECRET",
        "FORGE_OAUTH_ISSUER",
        "FORGE_OAUTH_REDIRECT_URI",
        "HERO_PROXY_ALLOWED_USERS",
        "HERO_PROXY_SEED_GATEWAY_LISTENER",
    )
)
"""What the sign-in gate keeps and hero_proxy reads (names A). Never among a tester's settings, whoever asks."""

GATE_KEYS: Final = frozenset(key for _, key in GATE_SETTINGS)


def chosen_components(components: Components, fleet: Fleet, catalogue: Catalogue) -> tuple[str, ...]:
    """The set, with core components and additions, without removals and without engines that run shared.

    Unknown names and an unknown set are passed over: the checks report them.
    """
    core = [name for name, component in catalogue.items() if component.core]
    wanted = [*core, *fleet.spec.component_sets.get(components.set, ()), *components.add]
    gone = set(components.remove) - set(core)
    return tuple(
        name
        for name in dict.fromkeys(wanted)
        if name in catalogue and name not in gone and not catalogue[name].shared_engine
    )


def readers_of(context: str, key: str, chosen: Mapping[str, Component]) -> tuple[str, ...]:
    """The services of the chosen components that read the setting at start."""
    readers: dict[str, None] = {}
    for component in chosen.values():
        setting = component.settings.get(key)
        if setting is not None and setting.context == context:
            readers.update(dict.fromkeys(setting.readers))
    return tuple(readers)


def context_of(component: Component, key: str) -> str:
    """Where a component's setting is kept."""
    setting = component.settings.get(key)
    return setting.context if setting else component.context


def component_settings(
    settings: Mapping[str, Mapping[str, SettingValue]], chosen: Mapping[str, Component]
) -> Iterator[DesiredSetting]:
    """The chosen components' settings: the catalogue's defaults, then the spec's, which come later and win."""
    for component in chosen.values():
        for key, setting in component.settings.items():
            if setting.default is not None:
                yield _setting(component, key, setting.default, chosen)
    for name, values in settings.items():
        if name in chosen:
            for key, value in values.items():
                yield _setting(chosen[name], key, value, chosen)


def fleet_places(fleet: Fleet) -> dict[Place, str]:
    """The settings that engines and providers own, and what a spec writes instead."""
    places: dict[Place, str] = {}
    for engine in used_engines(fleet):
        places[engine.context, engine.url_setting] = f"it comes from engine {engine.name} of the Fleet"
        places[engine.context, engine.token_setting] = f"it comes from engine {engine.name} of the Fleet"
    for name, provider in fleet.spec.providers.items():
        places[provider.context, provider.setting] = f"use keys.providers.{name}"
    return places


def _setting(component: Component, key: str, value: SettingValue, chosen: Mapping[str, Component]) -> DesiredSetting:
    context = context_of(component, key)
    listed = readers_of(context, key, chosen)
    readers = listed if key in component.settings else tuple(dict.fromkeys([*listed, *component.services]))
    return DesiredSetting(
        context=context,
        key=key,
        value=None if isinstance(value, SecretValue) else value,
        secret=value.secret if isinstance(value, SecretValue) else None,
        readers=readers,
        origin=f"component {component.name}",
    )
