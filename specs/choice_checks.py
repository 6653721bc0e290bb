"""Rules for what a tester and the Fleet's defaults may both choose: components, settings, pins, providers, a node."""

from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Final

from specs.catalogue import Catalogue, Component
from specs.errors import Finding
from specs.fleet import Fleet
from specs.gone import gone_of, standing, used_engines
from specs.ownership import GATE_KEYS, context_of, fleet_places
from specs.references import SecretRef
from specs.suggest import nearest, suggestion
from specs.tester import Components, SecretValue, TesterDefaults

Path = tuple[str | int, ...]

_ALMOST: Final = 0.88


def check_choice(choice: TesterDefaults, at: Path, fleet: Fleet, catalogue: Catalogue) -> Iterator[Finding]:
    """Every name must exist, every component be allowed, every key have an owner and a holder."""
    components = choice.components
    yield from _set(components, (*at, "components", "set"), fleet)
    yield from _added(components, (*at, "components"), fleet, catalogue)
    yield from _removed(components, (*at, "components"), catalogue)
    yield from _settings(components, (*at, "components", "settings"), fleet, catalogue)
    yield from _owners(choice.version.pin, (*at, "version", "pin"), catalogue)
    yield from _providers(choice, (*at, "keys", "providers"), fleet)
    yield from _node(choice.machine.node, (*at, "machine", "node"), fleet)


def check_component(name: str, at: Path, catalogue: Catalogue) -> Iterator[Finding]:
    """A component must be known, and allowed in the sandbox."""
    if name not in catalogue:
        yield Finding(at, f"there is no component {name!r}", suggestion(name, catalogue))
    elif not catalogue[name].allowed:
        yield Finding(at, f"{name} is not allowed here: {catalogue[name].refusal}", "leave it out")


def path_owner(path: str, apps: Mapping[str, Component]) -> Component | None:
    """The app below which a public path lies."""
    service = path.split("/")[1]
    return next((app for app in apps.values() if service in (app.name, *app.services)), None)


def secrets_of(choice: TesterDefaults, at: Path) -> Iterator[tuple[Path, SecretRef]]:
    """Every secret that would go to a machine because it is named here, and where it is named."""
    for name, word in choice.keys.providers.items():
        if isinstance(word, SecretValue):
            yield (*at, "keys", "providers", name, "secret"), word.secret
    for name, values in choice.components.settings.items():
        for key, value in values.items():
            if isinstance(value, SecretValue):
                yield (*at, "components", "settings", name, key, "secret"), value.secret


def _set(components: Components, at: Path, fleet: Fleet) -> Iterator[Finding]:
    known = fleet.spec.component_sets
    if "set" in components.model_fields_set and components.set not in known:
        yield Finding(at, f"the Fleet has no set {components.set!r}", suggestion(components.set, known))


def _added(components: Components, at: Path, fleet: Fleet, catalogue: Catalogue) -> Iterator[Finding]:
    engines = {engine.name for engine in used_engines(fleet)}
    for index, name in enumerate(components.add):
        here = (*at, "add", index)
        yield from check_component(name, here, catalogue)
        if name in components.remove:
            yield Finding(here, f"{name} is both added and removed", "decide for one of the two")
        known = catalogue.get(name)
        if known is not None and known.shared_engine and name.removeprefix("hero_") not in engines:
            engine = name.removeprefix("hero_")
            yield Finding(here, f"{name} runs shared, and the Fleet has no engine {engine!r}", "add it to the Fleet")


def _removed(components: Components, at: Path, catalogue: Catalogue) -> Iterator[Finding]:
    for index, name in enumerate(components.remove):
        here = (*at, "remove", index)
        if name not in catalogue:
            yield Finding(here, f"there is no component {name!r}", suggestion(name, catalogue))
        elif catalogue[name].core:
            yield Finding(here, f"{name} is a core component and cannot be taken out", "leave it in")


def _owners(mapping: Mapping[str, object], at: Path, catalogue: Catalogue) -> Iterator[Finding]:
    for name in mapping:
        if name not in catalogue:
            yield Finding((*at, name), f"there is no component {name!r}", suggestion(name, catalogue), at_key=True)


def _settings(components: Components, at: Path, fleet: Fleet, catalogue: Catalogue) -> Iterator[Finding]:
    yield from _owners(components.settings, at, catalogue)
    owned = fleet_places(fleet)
    for name, values in components.settings.items():
        if name not in catalogue:
            continue
        for key in values:
            here = (*at, name, key)
            elsewhere = owned.get((context_of(catalogue[name], key), key))
            meant = _almost(key, catalogue[name])
            if key in GATE_KEYS:
                problem = f"{key} is kept by the sign-in gate"
                yield Finding(here, problem, "take it out; allowlist and address are enough", at_key=True)
            elif elsewhere is not None:
                yield Finding(here, f"{key} is not set here", elsewhere, at_key=True)
            elif meant is not None:
                yield Finding(here, f"{name} knows no setting {key}", f"did you mean {meant}?", at_key=True)


def _almost(key: str, component: Component) -> str | None:
    """The listed setting that an unlisted one is a slip of. Settings far from any listed one are taken as they are."""
    meant = None if key in component.settings else nearest(key, component.settings)
    return meant if meant is not None and SequenceMatcher(None, key, meant).ratio() >= _ALMOST else None


def _providers(choice: TesterDefaults, at: Path, fleet: Fleet) -> Iterator[Finding]:
    known = fleet.spec.providers
    for name, word in choice.keys.providers.items():
        here = (*at, name)
        if name not in known:
            yield Finding(here, f"the Fleet has no provider {name!r}", suggestion(name, known), at_key=True)
        elif word == "default" and known[name].default is None:
            remedy = f"set providers.{name}.default in the Fleet, or write own or {{secret: …}}"
            yield Finding(here, f"nobody holds a default key for {name}", remedy)


def _node(choice: str, at: Path, fleet: Fleet) -> Iterator[Finding]:
    if choice == "auto":
        return
    nodes = [f"{daemon.name}/{node.sid}" for daemon in standing(fleet).spec.compute for node in daemon.nodes]
    daemon, _, sid = choice.partition("/")
    if gone_of(fleet).place(daemon, sid):
        yield Finding(at, f"node {choice} is gone for good, the Fleet says", suggestion(choice, nodes))
    elif choice not in nodes:
        yield Finding(at, f"the Fleet has no node {choice!r}", suggestion(choice, nodes))
