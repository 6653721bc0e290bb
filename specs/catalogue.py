"""The component catalogue: what each component is, as data (catalogue.yaml), and in which order components start."""

from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from graphlib import TopologicalSorter
from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Any, Final

import yaml
from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from specs.frozen import Frozen
from specs.text import ItemName

SUPERVISOR: Final = "hero_proc"


class Setting(Frozen):
    """A setting that a component reads from hero_proc's secrets."""

    context: str
    """The context in which it is kept."""
    readers: tuple[str, ...]
    """The services that read it at start, and must restart when it changes."""
    description: str
    """What it is for."""
    default: str | None = None
    """What it is set to when no spec says otherwise. None: it is then not set by us."""


class Component(Frozen):
    """One Hero component."""

    name: str
    """Its name, and its executable's."""
    title: str
    """What people call it."""
    services: tuple[str, ...]
    """What hero_proc supervises of it."""
    health: str | None
    """The service that answers /<service>/health for it; None when it has no such page."""
    core: bool = False
    """Always there, cannot be taken out."""
    needs: tuple[str, ...] = ()
    """Components that must run for this one to start."""
    context: str
    """Where settings go that are not listed."""
    settings: Mapping[str, Setting] = {}
    """The settings that we know it reads."""
    allowed: bool = True
    """Whether the sandbox allows it."""
    refusal: str | None = None
    """Why the sandbox does not allow it."""
    shared_engine: bool = False
    """It runs once for everybody: a tester's machine gets the client's settings, not the engine."""
    sends: str | None = None
    """A path that must answer for it to count as functional."""
    assumed: bool = False
    """That path is an assumption (A): an app that does not know it says nothing about itself."""


Catalogue = Mapping[str, Component]


class _Listed:
    """Makes an editor offer the components' names. Unknown ones are refused by the checks, which know what was meant."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": [name for name, component in catalogue().items() if component.allowed]}


ComponentName = Annotated[ItemName, _Listed()]
"""The name of a component."""


@cache
def catalogue() -> Catalogue:
    """Every component that we know, by name. Read once."""
    raw: dict[str, dict[str, Any]] = yaml.safe_load(files("specs").joinpath("catalogue.yaml").read_text("utf-8"))
    return MappingProxyType({name: _component(name, entry) for name, entry in raw.items()})


@cache
def owner_of(service: str) -> str:
    """The component to which a service belongs; for one that we do not know, a component of the same name."""
    return next((name for name, component in catalogue().items() if service in component.services), service)


def start_order(names: Iterable[str], among: Catalogue | None = None) -> tuple[str, ...]:
    """The components so that each comes after those that it needs; otherwise in the catalogue's order.

    Needs that are not among the names are left out. Raises KeyError for an unknown name.
    """
    known = catalogue() if among is None else among
    return _in_order(frozenset((name, known[name].needs) for name in names), tuple(known))


@lru_cache(maxsize=256)  # most testers have the same components
def _in_order(needs_of: frozenset[tuple[str, tuple[str, ...]]], known: tuple[str, ...]) -> tuple[str, ...]:
    needs = dict(needs_of)
    rank = {name: index for index, name in enumerate(known)}
    sorter = TopologicalSorter({name: set(needs[name]) & needs.keys() for name in needs})
    sorter.prepare()
    order: list[str] = []
    ready: list[str] = []
    while sorter.is_active():
        ready = sorted([*ready, *sorter.get_ready()], key=rank.__getitem__)
        first = ready.pop(0)
        order.append(first)
        sorter.done(first)
    return tuple(order)


def _component(name: str, entry: dict[str, Any]) -> Component:
    services = entry.get("services", [name])
    health = entry.get("health", services[0] if services else "none")
    needs = entry.get("needs", [])
    made = {
        **entry,
        "name": name,
        "services": services,
        "health": None if health == "none" else health,
        "needs": needs if name == SUPERVISOR else [SUPERVISOR, *needs],
        "context": entry.get("context", name.removeprefix("hero_")),
    }
    return Component.model_validate(made)
