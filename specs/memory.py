"""What was thought before is not thought again: the same bytes are parsed once, and judged once under one Fleet.

Nothing but speed hangs on it. It keeps what the newest reading holds, and forgets the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from specs.catalogue import catalogue
from specs.checks import check_choices, check_own
from specs.desired import DesiredTester, desire_alike, desire_sound, digest
from specs.documents import FileContent, Found, parse_file
from specs.errors import Finding, SpecError
from specs.fleet import Fleet
from specs.tester import Tester, TesterDefaults, TesterSpec

FLEETS: Final = 2
"""While a revision's own Fleet is refused, each reading is judged under that one and under the last good one."""

_ALIKE: Final = ("admins", "ssh_keys", "components", "settings", "engines", "machine", "welcome")
"""What many testers have alike: one value for all takes a tenth of the memory."""

_WRITTEN_ALIKE: Final = ("keys", "components", "version", "machine")
"""Likewise, of the file as it is written."""

_MOST_ALIKE: Final = 1000

_CHOICES: Final = set(TesterDefaults.model_fields)


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
class _Choice:
    """What testers choose, under a Fleet: what is wrong with it, or the desired state of the first who chose so."""

    findings: tuple[Finding, ...]
    first: DesiredTester | None


@dataclass(frozen=True, slots=True)
class _Under:
    """Judgements under one Fleet. Most testers choose what many others do: that is thought about once."""

    fleet: Fleet
    judged: Mapping[Found[Tester], Judgement] = field(default_factory=dict)
    alike: dict[Any, Any] = field(default_factory=dict)
    choices: dict[str, _Choice] = field(default_factory=dict)

    def judgement(self, found: Found[Tester]) -> Judgement:
        choice = self._choice(found.model)
        findings = (*check_own(found.model, self.fleet), *choice.findings)
        if findings or choice.first is None:
            return Judgement(tuple(found.error(finding) for finding in findings))
        desired = desire_alike(found.model, self.fleet, choice.first)
        return Judgement((), LoadedTester(found.name, desired, found.file, found.line, digest(desired)))

    def _choice(self, tester: Tester) -> _Choice:
        written = tester.spec.model_dump_json(include=_CHOICES, exclude_unset=True)
        known = self.choices.get(written)
        if known is None:
            known = self.choices[written] = self._thought_about(tester)
        return known

    def _thought_about(self, tester: Tester) -> _Choice:
        findings = check_choices(tester.spec, self.fleet, catalogue())
        if findings:
            return _Choice(findings, None)
        desired = desire_sound(tester, self.fleet, catalogue())
        values = {name: getattr(desired, name) for name in _ALIKE}
        shared = {name: self.alike.setdefault(value, value) for name, value in values.items()}
        return _Choice((), desired.model_copy(update=shared))

    def after(self, judged: Mapping[Found[Tester], Judgement]) -> _Under:
        """For the next reading. What was thought long ago, and may serve nobody any more, is forgotten at times."""
        alike = self.alike if len(self.alike) <= 2 * len(_ALIKE) * len(judged) else {}
        choices = self.choices if len(self.choices) <= 2 * len(judged) else {}
        return _Under(self.fleet, judged, alike, choices)


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
        before = self._of(fleet)
        judged = {each: before.judged.get(each) or before.judgement(each) for each in found}
        others = [each for each in self._under if each is not before]
        self._under = [*others, before.after(judged)][-FLEETS:]
        return judged

    def judged_beside(self, found: Found[Tester], fleet: Fleet) -> Judgement:
        """One more under this Fleet; nothing is forgotten for it."""
        return self._of(fleet).judgement(found)

    def _of(self, fleet: Fleet) -> _Under:
        return next((each for each in self._under if each.fleet == fleet), _Under(fleet))
