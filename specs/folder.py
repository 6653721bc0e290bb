"""Reads the YAML files of a folder into memory, and trusts nothing in it: links, odd files, odd names, sheer size."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from specs.errors import SpecError
from specs.yaml_reader import MAX_BYTES

MAX_FILES: Final = 100_000
MAX_TOTAL: Final = 64 * 1024 * 1024
FRESH_NS: Final = 5_000_000_000
"""What was changed so short ago is read anew the next time: file systems stamp by a coarse clock, so that two changes may bear
one stamp. It is the machine's own clock that stamps, whatever clock the controller goes by."""

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size, and when a file and what is known about it were changed last."""

_ENDINGS: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Folder:
    """What was read. `readable` is false when the folder as a whole tells us nothing."""

    files: Mapping[str, bytes]
    """Path below the folder, with `/` between its parts → content (cut just above the size limit)."""
    errors: tuple[SpecError, ...]
    """What could not be read."""
    readable: bool


class CalledAway(Exception):
    """A reading gave way to something that is more urgent."""


def never() -> bool:
    """Nothing is more urgent than a reading."""
    return False


class FolderReader:
    """One folder, read again and again: what has the same stamps as when it was read is not opened again.

    Used by one thread at a time.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._read: dict[str, _Read] = {}
        self._has_links = False

    def read(self, called_away: Callable[[], bool] = never) -> Folder:
        """All .yaml and .yml files in the folder and below, without hidden ones. Raises CalledAway, and remembers nothing of
        what it has read, once that is so when a file's turn comes."""
        root, before, found = self.root, self._read, _Reading()
        try:
            if not root.is_dir():
                return _unreadable(root, "there is no such folder", "give the folder that holds the fleet's YAML files")
            base = root.resolve(strict=True)
            for name, entry in _candidates(root, base, found):
                if called_away():
                    raise CalledAway
                if len(found.files) >= MAX_FILES or found.total > MAX_TOTAL:
                    most = f"{MAX_FILES} files or {MAX_TOTAL // 1024**2} MiB"
                    problem = f"the folder holds more than {most}; the rest is not read"
                    found.errors.append(_error(name, problem, "give a smaller folder"))
                    break
                content = _content(name, entry, base, before.get(name), found.errors)
                if content is not None:
                    found.take(name, content)
        except OSError as error:
            return _unreadable(root, f"the folder cannot be read: {error.strerror or error}", "see to its permissions")
        self._read, self._has_links = found.files, found.has_links
        return found.as_folder(root)

    def named(self, paths: Iterable[str]) -> frozenset[str] | None:
        """Those of some paths that the last reading knew as its files, under the names that it gave them; what can be no spec
        is left out. None: more than what files hold may be different."""
        root, found = f"{os.path.abspath(self.root)}/", set[str]()
        for path in paths:
            name = path.removeprefix(root)
            if name in self._read:
                found.add(name)
            elif self._has_links or name == path or name.lower().endswith(_ENDINGS) or not self._is_plain(name):
                return None
        return frozenset(found)

    def contents(self, names: Iterable[str]) -> dict[str, bytes] | None:
        """What files of the last reading hold now. None: one of them is no such file any more."""
        found: dict[str, bytes] = {}
        for name in names:
            path, errors = self.root / name, list[SpecError]()
            try:
                content = _opened(name, str(path), errors) if stat.S_ISREG(path.lstat().st_mode) else None
            except OSError:
                return None
            if content is None:
                return None
            found[name] = content.data
        return found

    def _is_plain(self, name: str) -> bool:
        """Whether an ordinary file stands there, or nothing any more: an editor's copy that came and went. No folder of ours."""
        try:
            return stat.S_ISREG((self.root / name).lstat().st_mode)
        except FileNotFoundError:
            return not any(each.startswith(f"{name}/") for each in self._read)
        except OSError:
            return False


def read_folder(root: Path) -> Folder:
    """The folder as it is now, every file of it read. Never raises."""
    return FolderReader(root).read()


@dataclass(frozen=True, slots=True)
class _Read:
    """A file's content. `stamp`: what told when it was changed last, None when a later change might bear the same."""

    stamp: Stamp | None
    data: bytes


@dataclass(slots=True)
class _Reading:
    """What one reading has found so far."""

    files: dict[str, _Read] = field(default_factory=dict)
    errors: list[SpecError] = field(default_factory=list)
    total: int = 0
    has_links: bool = False  # then a file may change without its name being told

    def take(self, name: str, content: _Read) -> None:
        self.files[name] = content
        self.total += len(content.data)

    def as_folder(self, root: Path) -> Folder:
        if not self.files and not self.errors:
            return _unreadable(
                root, "the folder holds no YAML file", "an empty folder removes nobody; add a Fleet and testers"
            )
        files = {name: each.data for name, each in self.files.items()}
        readable = not any(not each.file or each.file == "." for each in self.errors)
        return Folder(files, tuple(self.errors), readable)


def is_spec(path: str) -> bool:
    """Whether a path below the folder, with `/` between its parts, may be a spec: neither hidden nor of another kind."""
    return not any(part.startswith(".") for part in path.split("/")) and path.lower().endswith(_ENDINGS)


def odd_name(path: str) -> bool:
    """Whether a path cannot be shown to people as it is."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return True
    return not path.isprintable()


def _candidates(root: Path, base: Path, reading: _Reading) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Name and entry of every file that may be a spec: by folder, in order."""
    left, errors = [(root, "")], reading.errors
    while left:
        folder, above = left.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            problem = f"a folder cannot be read: {error.strerror or error}"
            errors.append(_error(above.rstrip("/") or ".", problem, "see to its permissions"))
            continue
        below = []
        for entry in found:
            name = above + entry.name
            reading.has_links = reading.has_links or entry.is_symlink()
            if _is_folder(entry):
                if entry.is_symlink() and not entry.name.startswith(".") and not _inside(Path(entry.path), base):
                    errors.append(_error(name, "this link leaves the folder", "put the files themselves here"))
                if not entry.is_symlink() and not entry.name.startswith("."):
                    below.append((Path(entry.path), f"{name}/"))
            elif is_spec(entry.name):
                yield name, entry
        left += reversed(below)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, for one
        return False


def _content(
    name: str, entry: os.DirEntry[str], base: Path, before: _Read | None, errors: list[SpecError]
) -> _Read | None:
    if odd_name(name):
        errors.append(_error(ascii(name)[1:-1], "the file's name holds odd characters", "rename the file"))
        return None
    if entry.is_symlink() and not _inside(Path(entry.path), base):
        errors.append(_error(name, "this link leaves the folder", "put the file itself here"))
        return None
    try:
        if before is not None and before.stamp is not None and before.stamp == _stamp(entry.stat()):
            return before
        return _opened(name, entry.path, errors)
    except OSError as error:
        errors.append(_error(name, f"the file cannot be read: {error.strerror or error}", "see to its permissions"))
        return None


def _opened(name: str, path: str, errors: list[SpecError]) -> _Read | None:
    # Not to hang on a pipe: O_NONBLOCK opens it, and the kind is looked at before the first read.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        now, about = time.time_ns(), os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            errors.append(_error(name, "this is not an ordinary file", "take it out"))
            return None
        changed = max(about.st_mtime_ns, about.st_ctime_ns)
        return _Read(_stamp(about) if changed + FRESH_NS < now else None, file.read(MAX_BYTES + 1))


def _stamp(about: os.stat_result) -> Stamp:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _inside(path: Path, base: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(base)
    except (OSError, RuntimeError):
        return False


def _error(file: str, problem: str, remedy: str) -> SpecError:
    return SpecError(file, 0, 0, "", problem, remedy)


def _unreadable(root: Path, problem: str, remedy: str) -> Folder:
    return Folder({}, (_error(root.name or str(root), problem, remedy),), readable=False)
