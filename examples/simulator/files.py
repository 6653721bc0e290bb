"""A machine's files: a real directory of its own, or, for worlds without a disk, a dictionary."""

import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """Paths are relative to $HOME, or absolute below it (or below the machine's temporary directory)."""

    @property
    def home(self) -> str: ...
    def read(self, path: str) -> bytes | None: ...
    def write(self, path: str, content: bytes, mode: int = 0o600) -> None: ...
    def remove(self, path: str) -> None: ...
    def destroy(self) -> None: ...


class OutsideError(PermissionError):
    """A path that leaves the machine."""


class DiskFiles:
    """Below `<machine>/home`. Nothing outside of `<machine>` can be read or written."""

    def __init__(self, machine: Path) -> None:
        self._machine = machine
        self._home = machine / "home"
        self._home.mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> str:
        return str(self._home)

    def make_folders(self, *names: str) -> None:
        """Folders below the machine's directory."""
        for name in names:
            (self._machine / name).mkdir(parents=True, exist_ok=True)

    def _at(self, path: str) -> Path:
        where = Path(os.path.normpath(self._home / path))
        if not where.is_relative_to(self._machine):
            raise OutsideError(path)
        return where

    def read(self, path: str) -> bytes | None:
        try:
            return self._at(path).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def write(self, path: str, content: bytes, mode: int = 0o600) -> None:
        """In place, as `>` does in a shell; the mode counts for a new file. Raises OSError when the folder is missing."""
        with os.fdopen(os.open(self._at(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(content)

    def remove(self, path: str) -> None:
        self._at(path).unlink(missing_ok=True)

    def destroy(self) -> None:
        shutil.rmtree(self._machine, ignore_errors=True)


ROOT = "/root"


class MemoryFiles:
    """The same without a disk."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}

    @property
    def home(self) -> str:
        return ROOT

    def read(self, path: str) -> bytes | None:
        return self._rows.get(_in_memory(path))

    def write(self, path: str, content: bytes, mode: int = 0o600) -> None:
        self._rows[path if path.startswith("../sim/") else _in_memory(path)] = content

    def remove(self, path: str) -> None:
        self._rows.pop(_in_memory(path), None)

    def destroy(self) -> None:
        self._rows.clear()


@lru_cache(4096)
def _in_memory(path: str) -> str:
    """Machines ask for the same few names again and again."""
    where = os.path.normpath(os.path.join(ROOT, path))
    if not where.startswith(f"{ROOT}/"):
        raise OutsideError(path)
    return where
