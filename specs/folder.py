"""Reads the YAML files of a folder into memory, and trusts nothing in it: links, odd files, odd names, sheer size."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from specs.errors import SpecError
from specs.yaml_reader import MAX_BYTES

MAX_FILES: Final = 10_000
MAX_TOTAL: Final = 64 * 1024 * 1024
_ENDINGS: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Folder:
    """What was read. `readable` is false when the folder as a whole tells us nothing."""

    files: Mapping[str, bytes]
    """Path below the folder, with `/` between its parts → content (cut just above the size limit)."""
    errors: tuple[SpecError, ...]
    """What could not be read."""
    readable: bool


def read_folder(root: Path) -> Folder:
    """All .yaml and .yml files in the folder and below, without hidden ones. Never raises."""
    files: dict[str, bytes] = {}
    errors: list[SpecError] = []
    total = 0
    try:
        if not root.is_dir():
            return _unreadable(root, "there is no such folder", "give the folder that holds the fleet's YAML files")
        base = root.resolve(strict=True)
        for name, path in _candidates(root, base, errors):
            if len(files) >= MAX_FILES or total > MAX_TOTAL:
                problem = (
                    f"the folder holds more than {MAX_FILES} files or {MAX_TOTAL // 1024**2} MiB; the rest is not read"
                )
                errors.append(_error(name, problem, "give a smaller folder"))
                break
            content = _content(name, path, base, errors)
            if content is not None:
                files[name] = content
                total += len(content)
    except OSError as error:
        return _unreadable(root, f"the folder cannot be read: {error.strerror or error}", "see to its permissions")
    if not files and not errors:
        return _unreadable(
            root, "the folder holds no YAML file", "an empty folder removes nobody; add a Fleet and testers"
        )
    return Folder(files, tuple(errors), readable=not any(not each.file or each.file == "." for each in errors))


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


def _candidates(root: Path, base: Path, errors: list[SpecError]) -> Iterator[tuple[str, Path]]:
    """Name and path of every file that may be a spec, in order."""

    def failed(error: OSError) -> None:
        problem = f"a folder cannot be read: {error.strerror or error}"
        errors.append(_error(_relative(Path(error.filename or root), root), problem, "see to its permissions"))

    for folder, folders, names in os.walk(root, onerror=failed):
        for each in sorted(folders):
            path = Path(folder, each)
            if path.is_symlink() and not each.startswith(".") and not _inside(path, base):
                errors.append(
                    _error(_relative(path, root), "this link leaves the folder", "put the files themselves here")
                )
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for each in sorted(names):
            if is_spec(each):
                path = Path(folder, each)
                yield _relative(path, root), path


def _content(name: str, path: Path, base: Path, errors: list[SpecError]) -> bytes | None:
    if odd_name(name):
        errors.append(_error(ascii(name)[1:-1], "the file's name holds odd characters", "rename the file"))
        return None
    if path.is_symlink() and not _inside(path, base):
        errors.append(_error(name, "this link leaves the folder", "put the file itself here"))
        return None
    try:
        # Not to hang on a pipe: O_NONBLOCK opens it, and the kind is looked at before the first read.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                errors.append(_error(name, "this is not an ordinary file", "take it out"))
                return None
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        errors.append(_error(name, f"the file cannot be read: {error.strerror or error}", "see to its permissions"))
        return None


def _inside(path: Path, base: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(base)
    except (OSError, RuntimeError):
        return False


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _error(file: str, problem: str, remedy: str) -> SpecError:
    return SpecError(file, 0, 0, "", problem, remedy)


def _unreadable(root: Path, problem: str, remedy: str) -> Folder:
    return Folder({}, (_error(root.name or str(root), problem, remedy),), readable=False)
