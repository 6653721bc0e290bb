"""The fields of the language as a map: which are known at a path, and where a misplaced field belongs."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

Path = tuple[str | int, ...]


def known_fields(model: type[BaseModel], path: Path) -> tuple[str, ...]:
    """The names of the fields that may stand in the mapping at the path; none when it is not one of fixed fields."""
    models = {model}
    for step in path:
        models = {below for each in models for below in _below(each, step)}
    return tuple(dict.fromkeys(name for each in models for name in _aliases(each)))


@cache
def homes(model: type[BaseModel]) -> Mapping[str, tuple[str, ...]]:
    """Field → the dotted paths at which it may stand."""
    found: dict[str, list[str]] = {}
    for path in _paths(model, ()):
        found.setdefault(path[-1], []).append(".".join(path))
    return {name: tuple(paths) for name, paths in found.items()}


def _paths(model: type[BaseModel], at: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name, annotation in _aliases(model).items():
        yield (*at, name)
        for below in _unwrapped(annotation):
            if isinstance(below, type) and issubclass(below, BaseModel):
                yield from _paths(below, (*at, name))


def _aliases(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _below(model: Any, step: str | int) -> set[Any]:
    """What may stand one step below a model, or below the inside of a list or mapping."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        annotation = _aliases(model).get(step) if isinstance(step, str) else None
        return _unwrapped(annotation)
    arguments = get_args(model)
    inner = arguments[0] if get_origin(model) is tuple else arguments[-1]
    return _unwrapped(inner)


def _unwrapped(annotation: Any) -> set[Any]:
    """The models, lists and mappings that an annotation allows."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and origin is None:
        return {annotation} if issubclass(annotation, BaseModel) else set()
    if origin is Annotated:
        return _unwrapped(get_args(annotation)[0])
    if origin is tuple or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {annotation}
    return {each for argument in get_args(annotation) for each in _unwrapped(argument)}
