"""Lays the Fleet's defaults under a tester: what a document sets wins, mappings merge by key, the rest is replaced."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel

from specs.fleet import Fleet
from specs.tester import Components, TesterDefaults, TesterSpec

M = TypeVar("M", bound=BaseModel)


def effective(own: TesterSpec, fleet: Fleet) -> TesterSpec:
    """A tester's spec with the Fleet's defaults under it. `model_fields_set` then holds both."""
    defaults = fleet.spec.defaults
    spec = merged(defaults, own)
    return spec.model_copy(update={"components": _components(defaults.components, own.components, spec)})


def merged(under: BaseModel, over: M) -> M:
    """`over`, with every field that it leaves unset taken from `under`. Both are left as they are."""
    update: dict[str, object] = {}
    for name in under.model_fields_set & set(type(over).model_fields):
        below = getattr(under, name)
        update[name] = _value(below, getattr(over, name)) if name in over.model_fields_set else below
    return over.model_copy(update=update)


def _value(under: object, over: object) -> object:
    if isinstance(under, BaseModel) and type(under) is type(over):
        return merged(under, over)
    if isinstance(under, Mapping) and isinstance(over, Mapping):
        both = {**under, **over}
        return {key: _value(under[key], over[key]) if key in under and key in over else both[key] for key in both}
    return over


def _components(under: Components, over: Components, spec: TesterDefaults) -> Components:
    """A tester's `add` answers a default's `remove`, and the reverse: neither is then a contradiction."""
    components = spec.components
    add = tuple(name for name in components.add if name in over.add or name not in over.remove)
    remove = tuple(name for name in components.remove if name in over.remove or name not in over.add)
    return components.model_copy(update={"add": add, "remove": remove})
