"""A YAML document as a tree that knows the line and column of everything in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

Path = tuple[str | int, ...]
Place = tuple[int, int]
"""Line and column, both from 1."""


@dataclass(slots=True)
class Scalar:
    """A word, quoted or not, and what it means."""

    place: Place
    text: str
    value: object
    size: int = 1


@dataclass(slots=True)
class Sequence:
    """A list."""

    place: Place
    items: list["Node"] = field(default_factory=list)
    size: int = 1


@dataclass(slots=True)
class Mapping:
    """Fields: key → the key's place and its value."""

    place: Place
    flow: bool = False
    entries: dict[str, tuple[Place, "Node"]] = field(default_factory=dict)
    size: int = 1


Node = Scalar | Sequence | Mapping


def value_of(node: Node) -> object:
    """The plain Python value."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [value_of(item) for item in node.items]
    return {key: value_of(child) for key, (_, child) in node.entries.items()}


def child_of(node: Node, step: str | int) -> Node | None:
    """The node one step down; None when there is none."""
    if isinstance(node, Mapping) and isinstance(step, str) and step in node.entries:
        return node.entries[step][1]
    if isinstance(node, Sequence) and isinstance(step, int) and 0 <= step < len(node.items):
        return node.items[step]
    return None


def node_at(root: Node, path: Path) -> Node | None:
    """The node at the path; None when there is none."""
    node: Node | None = root
    for step in path:
        node = child_of(node, step) if node is not None else None
    return node


def place_of(root: Node, path: Path, at_key: bool = False) -> Place:
    """Where the value at the path stands, or its key; for a missing field, where its nearest existing parent stands."""
    node, place = root, root.place
    for index, step in enumerate(path):
        below = child_of(node, step)
        if below is None:
            break
        last = index == len(path) - 1
        on_key = at_key and last and isinstance(node, Mapping) and isinstance(step, str)
        place = node.entries[step][0] if on_key and isinstance(node, Mapping) and isinstance(step, str) else below.place
        node = below
    return place


def scalars(node: Node, path: Path = ()) -> Iterator[tuple[Path, Place, str]]:
    """Every word of the document, keys included."""
    if isinstance(node, Scalar):
        yield path, node.place, node.text
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from scalars(item, (*path, index))
    else:
        for key, (place, child) in node.entries.items():
            yield path, place, key
            yield from scalars(child, (*path, key))
