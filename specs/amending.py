"""A few files that were edited, held against the revision before: what follows, without thinking about everybody anew.

What comes out is what `specs.loading` would say of all files, or nothing. An edit counts here only if it stays with its own
testers: the files hold the same names as before, sound before and after, who claim what they claimed. Whatever touches others
(a Fleet, a name that comes or goes, an account, an error) is for a judgement of the whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from types import MappingProxyType
from typing import TypeVar

from specs.checks import check_dates
from specs.documents import FileContent, parse_file
from specs.fleet import Fleet
from specs.loading import Loaded, Reading, claims_of
from specs.memory import LoadedTester

T = TypeVar("T")


def amended(before: Loaded, files: Mapping[str, bytes], now: date) -> tuple[Loaded, frozenset[str]] | None:
    """The revision with these files' contents in place of their former ones, and whose files they are. `now` is today.

    Itself, and nobody, when they are as they were. None: it must be judged as a whole.
    """
    reading, fleet = before.reading, before.fleet
    if reading is None or reading.now != now or fleet is None or before.refused is not None:
        return None
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    edited = [file for file in files if reading.hashes.get(file) != hashes[file]]
    if not edited:
        return before, frozenset()
    contents = {file: parse_file(file, files[file]) for file in edited}
    testers: dict[str, LoadedTester] = {}
    for file in edited:
        old = reading.contents.get(file)
        sound = _sound(reading, fleet, old, contents[file]) if old is not None else None
        if sound is None or not sound.keys() <= before.testers.keys():
            return None
        testers |= sound
    loaded = replace(
        before,
        testers=_beside(before.testers, testers),
        files=_beside(before.files, {file: hashes[file] for file in edited}),
    )
    kept = replace(reading, contents={**reading.contents, **contents}, hashes=loaded.files)
    return replace(loaded, reading=kept), frozenset(testers)


def _beside(known: Mapping[str, T], edited: dict[str, T]) -> Mapping[str, T]:
    """Both, the edited ones counting. Written with `**`, a view of thousands is copied one by one."""
    return MappingProxyType(MappingProxyType(known) | edited)


def _sound(reading: Reading, fleet: Fleet, old: FileContent, new: FileContent) -> dict[str, LoadedTester] | None:
    """The testers of one file; None when the edit may concern others."""
    earlier = {each.name: each for each in old.testers}
    later = {each.name: each for each in new.testers}
    plain = all(not (each.errors or each.fleets or each.broken_names or each.broken_fleet) for each in (old, new))
    once = len(earlier) == len(old.testers) and len(later) == len(new.testers)
    if not plain or not once or earlier.keys() != later.keys():
        return None
    found = {}
    for name, each in later.items():
        judgement = reading.memory.judged_beside(each, fleet)
        alike = claims_of(each.model).keys() == claims_of(earlier[name].model).keys()
        is_late = name not in reading.known and check_dates(each.model, reading.now)
        if not alike or is_late or judgement.sound is None:
            return None
        found[name] = judgement.sound
    return found
