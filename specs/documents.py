"""One file's documents as models: what each is, where it stands, and every error that can be seen without its neighbours."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Generic, TypeVar

from pydantic import ValidationError

from specs.complaints import complaints, secrets_in_clear
from specs.errors import Finding, SpecError, dotted
from specs.fleet import Fleet
from specs.secrecy import shown
from specs.suggest import suggestion
from specs.tester import API_VERSION, Tester
from specs.yaml_reader import Document, read
from specs.yaml_tree import Mapping, Node, Scalar, node_at, place_of, value_of

M = TypeVar("M", Tester, Fleet)

_KINDS: Final[dict[str, type[Tester] | type[Fleet]]] = {"Tester": Tester, "Fleet": Fleet}
_METADATA_LINE = re.compile(r"metadata:\s*(?:#.*|\{.*)?")
_NAME = re.compile(r"""(?:^\s+|[{,]\s*)name:\s*["']?([a-z][a-z0-9-]{0,39})(?![A-Za-z0-9_-])""")
_FLEET_LINE = re.compile(r"^kind:\s*[\"']?Fleet\b", re.MULTILINE)


@dataclass(frozen=True, slots=True, eq=False)
class Found(Generic[M]):
    """A document that is sound by itself. Two are the same only if they are one and the same reading."""

    file: str
    name: str
    line: int
    """Where it begins."""
    model: M
    number: int
    """Which one of its file's documents it is, from 0."""
    data: bytes = field(repr=False)
    """The file's content: places are read from it anew when they are asked for, because they take much memory."""

    def error(self, finding: Finding) -> SpecError:
        """A finding about this document, with its place."""
        root = _roots(self.file, self.data)[self.number]
        line, column = place_of(root, finding.path, finding.at_key)
        return SpecError(self.file, line, column, dotted(finding.path), finding.problem, finding.remedy)


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file's sound documents and its errors."""

    testers: tuple[Found[Tester], ...]
    fleets: tuple[Found[Fleet], ...]
    errors: tuple[SpecError, ...]
    broken_names: frozenset[str]
    """Names that the unsound parts are known to hold."""
    broken_fleet: bool
    """A Fleet is among the unsound parts."""


def parse_file(file: str, data: bytes) -> FileContent:
    """Reads and validates one file. Never raises for bad input."""
    reading = read(file, data)
    testers: list[Found[Tester]] = []
    fleets: list[Found[Fleet]] = []
    errors = list(reading.errors)
    unsound: list[Document] = []
    for number, document in enumerate(reading.documents):
        model, wrong = _validated(file, document)
        errors += wrong
        if isinstance(model, Tester):
            testers.append(Found(file, model.name, document.line, model, number, data))
        elif isinstance(model, Fleet):
            fleets.append(Found(file, model.name, document.line, model, number, data))
        else:
            unsound.append(document)
    testers_like = [document for document in unsound if _word(document.root, "kind") != "Fleet"]
    names = {name for document in testers_like if (name := _word(document.root, "metadata", "name"))}
    broken_fleet = len(testers_like) < len(unsound)
    if reading.errors:
        text = data[: 1024 * 1024].decode("utf-8", "replace")
        names |= _names_in(text) - {each.model.name for each in testers}
        broken_fleet = broken_fleet or (not fleets and _FLEET_LINE.search(text) is not None)
    return FileContent(tuple(testers), tuple(fleets), tuple(errors), frozenset(names), broken_fleet)


@lru_cache(maxsize=2)  # errors come file by file
def _roots(file: str, data: bytes) -> tuple[Node, ...]:
    return tuple(document.root for document in read(file, data).documents)


def _validated(file: str, document: Document) -> tuple[Tester | Fleet | None, list[SpecError]]:
    root = document.root
    if not isinstance(root, Mapping):
        remedy = f"begin with apiVersion: {API_VERSION} and kind: Tester"
        return None, [SpecError(file, *root.place, "", "here belong the fields of a tester or a Fleet", remedy)]
    errors = list(secrets_in_clear(file, root))
    kind = _word(root, "kind")
    model = _KINDS.get(kind or "")
    if model is None:
        return None, [*errors, _unknown_kind(file, root, kind)]
    if not document.sound:
        return None, errors
    try:
        made = model.model_validate(value_of(root), by_alias=True, by_name=False)
    except ValidationError as error:
        known = {(each.line, each.column) for each in errors}
        more = complaints(file, root, model, error)
        return None, [*errors, *(each for each in more if (each.line, each.column) not in known)]
    return (None, errors) if errors else (made, [])


def _unknown_kind(file: str, root: Node, kind: str | None) -> SpecError:
    if kind is None:
        return SpecError(file, *place_of(root, ("kind",)), "kind", "kind is missing", "add it: Tester or Fleet")
    problem = f"there is no kind {shown(kind)}"
    return SpecError(file, *place_of(root, ("kind",)), "kind", problem, suggestion(kind, _KINDS))


def _word(root: Node, *path: str) -> str | None:
    node = node_at(root, path)
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None


def _names_in(text: str) -> set[str]:
    """Names in a file that cannot be read to its end. Better one too many: these names only keep testers where they are."""
    names: set[str] = set()
    inside = False
    for line in text.splitlines():
        if line[:1] not in ("", " ", "\t", "#"):
            inside = _METADATA_LINE.match(line) is not None
        match = _NAME.search(line) if inside else None
        if match:
            names.add(match[1])
    return names
