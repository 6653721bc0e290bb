"""A folder of YAML files as a fleet: every sound tester with its desired state, and every error of every file in one go.

A broken file never hides the others, and never makes its testers look removed: `Loaded.broken` names what it holds as far
as that is known, and `Loaded.whole` says whether a name's absence may be believed at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import MappingProxyType

from specs.catalogue import catalogue
from specs.checks import check_dates
from specs.documents import FileContent, Found
from specs.errors import Finding, SpecError
from specs.fleet import Fleet, Safety
from specs.fleet_checks import check_fleet
from specs.folder import Folder, read_folder
from specs.memory import LoadedTester, Memory
from specs.tester import Tester

Wrong = tuple[Found[Tester], SpecError]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, before it is judged."""

    contents: Mapping[str, FileContent]
    """By file."""
    hashes: Mapping[str, str]
    """File → SHA-256 of its content."""
    unread: tuple[SpecError, ...]
    """Errors of files that could not be read."""
    now: date
    """Today."""
    known: frozenset[str]
    """Testers that exist already."""
    memory: Memory
    """Of what was thought about the same files before."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a revision of the fleet says."""

    testers: Mapping[str, LoadedTester]
    """The sound testers by name."""
    fleet: Fleet | None
    """The Fleet with which the desired states were made: this revision's, else the last good one."""
    errors: tuple[SpecError, ...]
    """Everything that is wrong, by file and line."""
    files: Mapping[str, str]
    """File → SHA-256 of its content, 64 hex digits."""
    broken: Mapping[str, tuple[str, ...]]
    """File with something broken → names of testers in it that are not among `testers`, as far as they can be known."""
    readable: bool
    """False: the source as a whole tells nothing."""
    refused: Fleet | None = None
    """This revision's own Fleet, sound in itself, where it may not take the last good one's place yet."""
    refusals: tuple[SpecError, ...] = ()
    """Why it may not: those among the errors that make nothing in the files doubtful."""
    reading: Reading | None = field(default=None, repr=False, compare=False)

    @property
    def whole(self) -> bool:
        """Only now does a name's absence mean that somebody took it out."""
        return self.readable and set(self.errors) <= set(self.refusals)

    @property
    def safety(self) -> Safety | None:
        """The brakes in force. The override belongs to this very revision, whether or not its Fleet is taken."""
        if self.fleet is None:
            return None
        own = self.refused or self.fleet
        return self.fleet.spec.safety.model_copy(update={"allow_removals": own.spec.safety.allow_removals})

    def refusing(self, findings: Iterable[Finding], last_fleet: Fleet) -> Loaded:
        """The same revision, judged by the last good Fleet: what its own one leaves out is still needed."""
        if self.reading is None:
            raise ValueError("nothing was read")
        return _judge(self.reading, last_fleet, tuple(findings))


def load_folder(path: Path, now: date, known: frozenset[str] = frozenset(), last_fleet: Fleet | None = None) -> Loaded:
    """Loads all YAML files in the folder and below. Never raises for what it finds there.

    `now` is today; `known` are testers that exist already, for whom a date may lie in the past; `last_fleet` is used when
    this revision's Fleet is missing, broken or there twice. Files are named relative to the folder.
    """
    return load_folder_content(read_folder(path), now, known, last_fleet)


def load_folder_content(
    folder: Folder,
    now: date,
    known: frozenset[str] = frozenset(),
    last_fleet: Fleet | None = None,
    memory: Memory | None = None,
) -> Loaded:
    """The same for a folder that was read already, from wherever. `memory`: of the readings before it."""
    if not folder.readable:
        return Loaded({}, last_fleet, folder.errors, hashes_of(folder.files), {}, readable=False)
    return load_documents(folder.files, now, known, last_fleet, folder.errors, memory)


def load_documents(
    files: Mapping[str, bytes],
    now: date,
    known: frozenset[str] = frozenset(),
    last_fleet: Fleet | None = None,
    unread: Iterable[SpecError] = (),
    memory: Memory | None = None,
) -> Loaded:
    """The same for files whose content is at hand. `unread` are errors of files that could not be read."""
    hashes, memory = hashes_of(files), memory if memory is not None else Memory()
    contents = memory.parsed(files, hashes)
    return _judge(Reading(contents, hashes, tuple(unread), now, known, memory), last_fleet)


def hashes_of(files: Mapping[str, bytes]) -> Mapping[str, str]:
    """File → SHA-256 of its content, 64 hex digits, in the order of their names."""
    return MappingProxyType({file: hashlib.sha256(data).hexdigest() for file, data in sorted(files.items())})


def _judge(reading: Reading, last_fleet: Fleet | None, refusals: tuple[Finding, ...] = ()) -> Loaded:
    """Every rule, for documents that are parsed. `refusals` keep the revision's own Fleet out."""
    contents = reading.contents
    errors = [*reading.unread, *(error for content in contents.values() for error in content.errors)]
    own_fleet, wrong = _fleet(contents.values())
    refused = [each.error(finding) for content in contents.values() for each in content.fleets for finding in refusals]
    errors += [*wrong, *refused, *_nothing_there(contents, bool(errors))]
    fleet = last_fleet if refused else own_fleet or last_fleet
    found = [each for content in contents.values() for each in content.testers]
    alone = {} if fleet is None else reading.memory.judged(found, fleet)
    faults = [(each, error) for each, judgement in alone.items() for error in judgement.errors]
    faults += [*_together(found, reading.now, reading.known), *_doubtful(found, contents)]
    errors += [error for _, error in faults]
    bad = {each.name for each, _ in faults}  # of two with one name neither is taken: nobody can tell which is meant
    testers = [each.sound for each in alone.values() if each.sound is not None and each.sound.name not in bad]
    return Loaded(
        testers=MappingProxyType({each.name: each for each in testers}),
        fleet=fleet,
        errors=tuple(sorted(set(errors))),
        files=reading.hashes,
        broken=_broken(errors, contents, {each.name for each in testers}),
        readable=bool(reading.hashes),
        refused=own_fleet if refused else None,
        refusals=tuple(refused),
        reading=reading,
    )


def _fleet(contents: Iterable[FileContent]) -> tuple[Fleet | None, list[SpecError]]:
    """The one sound Fleet of this revision. None when there is none, or more than one: nobody can tell which is meant."""
    found = [each for content in contents for each in content.fleets]
    errors = [each.error(finding) for each in found for finding in check_fleet(each.model, catalogue())]
    for each in found[1:]:
        remedy = f"keep one; the first is in {found[0].file}, line {found[0].line}"
        errors.append(each.error(Finding(("kind",), "there is a second Fleet", remedy)))
    return (found[0].model if found and not errors else None), errors


def _nothing_there(contents: Mapping[str, FileContent], excused: bool) -> Iterator[SpecError]:
    """What is missing from the source as a whole."""
    if not contents and not excused:
        yield SpecError(
            ".", 0, 0, "", "there is no YAML file", "an empty source removes nobody; add a Fleet and testers"
        )
    elif not any(content.fleets or content.broken_fleet for content in contents.values()):
        yield SpecError(".", 0, 0, "", "there is no Fleet", "add one document of kind: Fleet")


def _together(found: list[Found[Tester]], now: date, known: frozenset[str]) -> Iterator[Wrong]:
    """Every rule that a tester breaks together with others, or today."""
    firsts: dict[str, Found[Tester]] = {}
    for each in found:
        first = firsts.setdefault(each.name, each)
        if first is not each:
            remedy = f"names are unique; the first is in {first.file}, line {first.line}"
            problem = f"there is a second tester {each.name}"
            yield each, each.error(Finding(("metadata", "name"), problem, remedy))
    yield from _shared(firsts.values(), known)
    for each in found:
        findings = () if each.name in known else check_dates(each.model, now)
        yield from ((each, each.error(finding)) for finding in findings)


def _doubtful(found: list[Found[Tester]], contents: Mapping[str, FileContent]) -> Iterator[Wrong]:
    """Sound testers whose name also stands in something broken: which of the two is meant shows when that is mended."""
    broken = [(file, content.broken_names) for file, content in contents.items() if content.broken_names]
    for each in found:
        name = each.name
        for file, names in broken:
            if name in names:
                problem = f"there is another {name} in {file}, which is broken"
                remedy = f"mend or remove what is wrong in {file}"
                yield each, each.error(Finding(("metadata", "name"), problem, remedy))


def _shared(found: Iterable[Found[Tester]], known: frozenset[str]) -> Iterator[Wrong]:
    """Two testers with one account, one mail address (Forge takes it once) or one web address.

    Who was there before stands; the newcomer is in the wrong.
    """
    taken: dict[tuple[str, str], Found[Tester]] = {}
    for each in sorted(found, key=lambda one: (one.name not in known, one.file, one.line)):
        for claim, path in claims_of(each.model).items():
            first = taken.setdefault(claim, each)
            if first is not each:
                remedy = f"each tester needs another one; {first.name} is in {first.file}"
                problem = f"this {claim[0]} belongs to tester {first.name} already"
                yield each, each.error(Finding(path, problem, remedy))


def claims_of(tester: Tester) -> dict[tuple[str, str], tuple[str, ...]]:
    """What nobody else may have (of which kind, and which one), with the field that says so."""
    account = ("spec", "identity", "account") if tester.spec.identity.account else ("metadata", "name")
    claims: dict[tuple[str, str], tuple[str, ...]] = {("account", tester.account.casefold()): account}
    if tester.spec.identity.email:
        claims["e-mail address", tester.spec.identity.email.casefold()] = ("spec", "identity", "email")
    if tester.spec.address != "auto":
        claims["address", tester.spec.address] = ("spec", "address")
    return claims


def _broken(
    errors: Iterable[SpecError], contents: Mapping[str, FileContent], sound: set[str]
) -> Mapping[str, tuple[str, ...]]:
    names: dict[str, set[str]] = {error.file: set() for error in errors if error.file != "."}
    for file, content in contents.items():
        held = {each.name for each in content.testers} | content.broken_names
        if held - sound:
            names.setdefault(file, set()).update(held - sound)
    return MappingProxyType({file: tuple(sorted(names[file])) for file in sorted(names)})
