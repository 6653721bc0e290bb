"""What a process holds, to be compared from day to day: memory, objects by type, and what our own containers hold.

Nobody lists our caches here: every dict, list, set, deque and heap that can be reached from the controller over attributes
of our own classes is counted, under the way that leads there (`engine.sightings._facts[*]`).
"""

from __future__ import annotations

import functools
import gc
import sys
import types
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS = ("api", "controller", "reconcilers", "specs")
DEEPEST = 8
PAGE = 4096


@dataclass(frozen=True)
class Held:
    """At one moment. `resident` and `stored` in bytes; `types`: objects that the collector knows, by `module.name`."""

    day: int
    resident: int
    objects: int
    stored: int
    calls: int
    types: Mapping[str, int]
    containers: Mapping[str, int]
    rows: Mapping[str, int]


def resident() -> int:
    """Bytes of the process in memory; 0 where nobody tells."""
    told = Path("/proc/self/statm")
    return int(told.read_text().split()[1]) * PAGE if told.exists() else 0


def by_type() -> Counter[str]:
    """Objects that the collector knows, after a collection."""
    gc.collect()
    return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())


def containers(root: object) -> Counter[str]:
    """How many things are in every container that can be reached from here, by the way to it, and in our memoised functions."""
    sizes: Counter[str] = Counter(dict(_memoised()))
    seen: set[int] = set()
    waiting: deque[tuple[str, object, int]] = deque([("", root, 0)])
    while waiting:
        way, thing, depth = waiting.popleft()
        if id(thing) in seen or depth > DEEPEST:
            continue
        seen.add(id(thing))
        if isinstance(thing, Mapping | Set | list | tuple | deque) and not isinstance(thing, str):
            if not isinstance(thing, tuple):
                sizes[way] += len(thing)
            inside = list(thing.values() if isinstance(thing, Mapping) else thing)
            waiting.extend((f"{way}[*]", each, depth + 1) for each in inside)
        elif _is_ours(thing):
            waiting.extend((f"{way}.{name}".lstrip("."), each, depth + 1) for name, each in _attributes(thing))
    return sizes


def _is_ours(thing: object) -> bool:
    return type(thing).__module__.partition(".")[0] in OURS


def _attributes(thing: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if hasattr(thing, name):
                yield name, getattr(thing, name)


def _memoised() -> Iterator[tuple[str, int]]:
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] in OURS:
            for owner in (module, *(each for each in vars(module).values() if isinstance(each, type))):
                yield from _memoised_of(name, owner)


def _memoised_of(module: str, owner: types.ModuleType | type) -> Iterator[tuple[str, int]]:
    for each in list(vars(owner).values()):
        function = getattr(each, "__func__", each)
        if isinstance(function, functools._lru_cache_wrapper) and function.__module__ == module:
            known = function.cache_info()
            limit = "no limit" if known.maxsize is None else f"at most {known.maxsize:,}"
            yield f"{module}:{function.__qualname__} ({limit})", known.currsize


def grown(before: Mapping[str, int], after: Mapping[str, int], most: int) -> list[tuple[str, int, int]]:
    """What has more now, those with the most first: its name, then, now."""
    more = [(name, before.get(name, 0), number) for name, number in after.items() if number > before.get(name, 0)]
    return sorted(more, key=lambda row: (row[1] - row[2], row[0]))[:most]
