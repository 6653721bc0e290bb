"""Reads bytes into YAML trees with positions, safely: nothing is made but text, numbers, truth, lists and fields.

Refused, each with its place: what is not UTF-8, control characters, syntax errors, duplicate keys, keys that are not
text, tags, merge keys, aliases that grow without limit or refer to themselves, and what is too large or too deep.
Bad input never raises here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from specs.errors import SpecError, dotted
from specs.secrecy import shown
from specs.yaml_tree import Mapping, Node, Path, Place, Scalar, Sequence
from specs.yaml_words import meaning

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 50
MAX_NODES: Final = 20_000
MAX_ERRORS: Final = 100

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file holds: its documents as far as they could be read, and what is wrong with it."""

    documents: tuple["Document", ...]
    errors: tuple[SpecError, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One document. `sound` is false when an error lies within it: its tree is then incomplete."""

    root: Node
    line: int
    sound: bool


class _Stop(Exception):
    """The rest of the file cannot be read."""


@dataclass(slots=True)
class _Open:
    """A list or fields still being read."""

    node: Sequence | Mapping
    anchor: str | None
    path: Path
    key: tuple[str, Place] | None = None


@dataclass(slots=True)
class _Builder:
    """Turns events into trees. Keeps its own stack, so that depth costs no recursion."""

    file: str
    documents: list[Document] = field(default_factory=list)
    errors: list[SpecError] = field(default_factory=list)
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, Node] = field(default_factory=dict)
    root: Node | None = None
    start: int = 1
    before: int = 0
    count: int = 0

    def take(self, event: Event) -> None:
        """One event of the parser. Raises _Stop when reading on makes no sense."""
        match event:
            case ScalarEvent():
                self._scalar(event)
            case MappingStartEvent():
                self._open(event, Mapping(_place(event), bool(event.flow_style)))
            case SequenceStartEvent():
                self._open(event, Sequence(_place(event)))
            case SequenceEndEvent() | MappingEndEvent():
                self._close()
            case AliasEvent():
                self._alias(event)
            case DocumentStartEvent():
                self.root, self.anchors, self.count, self.before = None, {}, 0, len(self.errors)
                self.start = _place(event)[0]
            case DocumentEndEvent() if self.root is not None:
                self.documents.append(Document(self.root, self.start, len(self.errors) == self.before))

    def refuse(self, place: Place, problem: str, remedy: str, path: Path = ()) -> None:
        """Notes an error. After a hundred of them nobody reads on, and neither do we."""
        self.errors.append(SpecError(self.file, *place, dotted(path), problem, remedy))
        if len(self.errors) >= MAX_ERRORS:
            raise _Stop

    def _scalar(self, event: ScalarEvent) -> None:
        place, text = _place(event), event.value
        self._begin(event.tag, place)
        hidden = _FORBIDDEN.search(text)
        if hidden:
            self.refuse(place, f"the character U+{ord(hidden[0]):04X} has no place here", "take it out", self._path())
        plain = event.implicit[0] and event.style in (None, "")
        self._put(Scalar(place, text, meaning(text) if plain else text), event.anchor)

    def _open(self, event: SequenceStartEvent | MappingStartEvent, node: Sequence | Mapping) -> None:
        self._begin(event.tag, node.place)
        if len(self.stack) >= MAX_DEPTH:
            self._give_up(node.place, "this is nested too deeply", f"at most {MAX_DEPTH} levels")
        path = self._path()
        if self._awaits_key():
            self._key_error(node.place)
        self.stack.append(_Open(node, event.anchor, path))

    def _begin(self, tag: str | None, place: Place) -> None:
        if tag is not None and tag != "!":
            self.refuse(place, "tags are not used here", "take out what begins with !", self._path())
        self._grow(1, place)

    def _alias(self, event: AliasEvent) -> None:
        place = _place(event)
        target = self.anchors.get(event.anchor or "")
        if target is None:
            open_too = any(each.anchor == event.anchor for each in self.stack)
            problem = "refers to itself" if open_too else "refers to nothing before it"
            self._give_up(place, f"the alias *{event.anchor} {problem}", "write the value itself")
        self._grow(target.size, place)
        self._put(replace(target, place=place), None)

    def _close(self) -> None:
        done = self.stack.pop()
        self._put(done.node, done.anchor)

    def _put(self, node: Node, anchor: str | None) -> None:
        """Hangs a finished node where it belongs."""
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        parent.node.size += node.size
        if isinstance(parent.node, Sequence):
            parent.node.items.append(node)
        elif parent.key is None:
            self._begin_entry(parent, node)
        else:
            self._end_entry(parent, parent.node, node)

    def _begin_entry(self, parent: _Open, node: Node) -> None:
        if not isinstance(node, Scalar):
            parent.key = ("", node.place)
            return
        if not isinstance(node.value, str):
            self._key_error(node.place, node.text)
        elif node.value == "<<":
            self.refuse(node.place, "merge keys are not used here", "write the fields themselves", parent.path)
        elif isinstance(parent.node, Mapping) and node.value in parent.node.entries:
            first = parent.node.entries[node.value][0][0]
            path = (*parent.path, node.value)
            self.refuse(node.place, "the field is there twice", f"keep one; the first is in line {first}", path)
        parent.key = (node.text, node.place)

    def _end_entry(self, parent: _Open, mapping: Mapping, node: Node) -> None:
        key, place = parent.key or ("", node.place)
        parent.key = None
        empty = isinstance(node, Scalar) and node.value is None and node.text == ""
        if mapping.flow and empty:
            remedy = "give it one; if a comma before it belongs to a value, put that value in quotes"
            self.refuse(place, f"{shown(key)} has no value", remedy, (*parent.path, key))
        mapping.entries.setdefault(key, (place, node))

    def _awaits_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].node, Mapping) and self.stack[-1].key is None

    def _key_error(self, place: Place, text: str | None = None) -> None:
        path = self.stack[-1].path if self.stack else ()
        if text is None:
            self.refuse(place, "a field's name must be text", "write it like name: value", path)
        else:
            self.refuse(place, f"{shown(text)} is not text to YAML", f'write it in quotes: "{text[:40]}"', path)

    def _grow(self, size: int, place: Place) -> None:
        self.count += size
        if self.count > MAX_NODES:
            self._give_up(place, "the document grows too large", f"at most {MAX_NODES} values, aliases counted in full")

    def _give_up(self, place: Place, problem: str, remedy: str) -> NoReturn:
        self.refuse(place, problem, remedy, self._path())
        raise _Stop

    def _path(self) -> Path:
        if not self.stack:
            return ()
        parent = self.stack[-1]
        if isinstance(parent.node, Sequence):
            return (*parent.path, len(parent.node.items))
        return (*parent.path, parent.key[0]) if parent.key else parent.path


def read(file: str, data: bytes) -> Reading:
    """All documents of a file. Never raises."""
    if len(data) > MAX_BYTES:
        return _unreadable(file, (1, 1), "the file is larger than 1 MiB", "a tester takes a few lines")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place_in(data[: error.start].decode("utf-8", "replace"))
        return _unreadable(file, place, "the file is not UTF-8 text", "save it as UTF-8")
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        problem = f"the character U+{ord(forbidden[0]):04X} has no place here"
        return _unreadable(file, _place_in(text[: forbidden.start()]), problem, "take it out")
    return _read_text(file, text)


def _read_text(file: str, text: str) -> Reading:
    builder = _Builder(file)
    try:
        for event in _events(text):
            builder.take(event)
    except _Stop:
        pass
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        builder.refuse(place, f"this is not valid YAML: {_explained(error)}", _syntax_remedy(text, place))
    documents = tuple(each for each in builder.documents if not _blank(each.root))
    if not documents and not builder.errors:
        builder.refuse((1, 1), "the file holds nothing", "write a tester, or remove the file")
    return Reading(documents, tuple(builder.errors))


def _place(event: Event) -> Place:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _events(text: str) -> Iterator[Event]:
    yield from yaml.parse(text, Loader=_LOADER)


def _blank(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _explained(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or "it cannot be read")


def _syntax_remedy(text: str, place: Place) -> str:
    lines = text.splitlines()
    line = lines[place[0] - 1] if 0 < place[0] <= len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or line[place[1] - 1 : place[1]] == "\t":
        return "indent with spaces, not with tabs"
    return "look at this line and the one before: indentation, colons, quotes and brackets"


def _place_in(before: str) -> Place:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _unreadable(file: str, place: Place, problem: str, remedy: str) -> Reading:
    return Reading((), (SpecError(file, *place, "", problem, remedy),))
