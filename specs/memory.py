"""What was thought before is not thought again: the same bytes are parsed once, and judged once under one Fleet.

Nothing but speed hangs on it. It keeps what the newest reading holds, and forgets the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from specs.catalogue import catalogue
from specs.checks import check_tester
from specs.desired import DesiredTester, desire_sound, digest
from specs.documents import FileContent, Found, parse_file
from specs.errors import SpecError
from specs.fleet import Fleet
from specs.tester import Tester, TesterSpec

FLEETS: Final = 2
"""While a revision's own Fleet is refused, each reading is judged under that one and under the last good one."""

_ALIKE: Final = ("admins", "ssh_keys", "components", "settings", "engines", "machine", "welcome")
"""What many testers have alike: one value for all takes a tenth of the memory."""

_WRITTEN_ALIKE: Final = ("keys", "components", "version", "machine")
"""Likewise, of the file as it is written."""

_MOST_ALIKE: Final = 1000


@dataclass(frozen=True, slots=True)
class LoadedTester:
    """A tester that keeps every rule."""

    name: str
    desired: DesiredTester
    file: str
    line: int
    digest: str
    """specs.desired.digest of `desired`."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A tester under a Fleet, without regard to others: what is wrong with it, or what it should have."""

    errors: tuple[SpecError, ...] = ()
    sound: LoadedTester | None = None


@dataclass(frozen=True, slots=True)
class _Under:
    """Judgements under one Fleet."""

    fleet: Fleet
    judged: Mapping[Found[Tester], Judgement]
    alike: dict[Any, Any]


@dataclass
class Memory:
    """Used by one thread at a time."""

    _parsed: Mapping[str, tuple[str, FileContent]] = field(default_factory=dict)  # file → hash and what it holds
    _under: list[_Under] = field(default_factory=list)  # the newest last
    _alike: dict[tuple[str, str], Any] = field(default_factory=dict)

    def parsed(self, files: Mapping[str, bytes], hashes: Mapping[str, str]) -> dict[str, FileContent]:
        """Every file's documents, in the order of their names. `hashes`: of their contents."""
        self._parsed = {file: (hashes[file], self._content(file, files[file], hashes[file])) for file in sorted(files)}
        return {file: content for file, (_, content) in self._parsed.items()}

    def _content(self, file: str, data: bytes, sha: str) -> FileContent:
        known = self._parsed.get(file)
        if known is not None and known[0] == sha:
            return known[1]
        content = parse_file(file, data)
        for found in content.testers:
            self._share(found.model.spec)
        return content

    def _share(self, spec: TesterSpec) -> None:
        """In place, before anybody sees it: parts that say the same, and leave the same unsaid, become one."""
        if len(self._alike) > _MOST_ALIKE:
            self._alike.clear()
        for name in _WRITTEN_ALIKE:
            part = getattr(spec, name)
            spec.__dict__[name] = self._alike.setdefault((name, part.model_dump_json(exclude_unset=True)), part)

    def judged(self, found: Iterable[Found[Tester]], fleet: Fleet) -> dict[Found[Tester], Judgement]:
        """Each of them under this Fleet, in their order."""
        before = next((each for each in self._under if each.fleet == fleet), _Under(fleet, {}, {}))
        judged = {each: before.judged.get(each) or _judgement(each, fleet, before.alike) for each in found}
        alike = before.alike if len(before.alike) <= 2 * len(_ALIKE) * len(judged) else {}
        others = [each for each in self._under if each is not before]
        self._under = [*others, _Under(fleet, judged, alike)][-FLEETS:]
        return judged

    def judged_beside(self, found: Found[Tester], fleet: Fleet) -> Judgement:
        """One more under this Fleet; nothing is forgotten for it."""
        alike = next((each.alike for each in self._under if each.fleet == fleet), {})
        return _judgement(found, fleet, alike)


def _judgement(found: Found[Tester], fleet: Fleet, alike: dict[Any, Any]) -> Judgement:
    findings = check_tester(found.model, fleet, catalogue())
    if findings:
        return Judgement(tuple(found.error(finding) for finding in findings))
    desired = desire_sound(found.model, fleet, catalogue())
    values = {name: getattr(desired, name) for name in _ALIKE}
    shared = desired.model_copy(update={name: alike.setdefault(value, value) for name, value in values.items()})
    return Judgement((), LoadedTester(found.name, shared, found.file, found.line, digest(shared)))
