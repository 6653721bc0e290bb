"""The file of sealing keys: one key per line, the one to seal with first, readable by its owner only.

It is written whole or not at all, so a crash at any moment leaves the old keys or the new ones.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from controller.store.errors import SealingError

MOST_BYTES: Final = 64 * 1024

Stamp = tuple[int, int, int]
"""Inode, size and modification time (ns): differs once the file was rewritten."""


def read(path: Path) -> tuple[tuple[str, ...], Stamp]:
    """The keys and the file's stamp. Raises SealingError when it cannot be read, or others may read it."""
    try:
        # Not blocking: somebody may have put a pipe there.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        status = os.fstat(descriptor)
        _check_private(path, status.st_mode)
        content = os.read(descriptor, MOST_BYTES)
    finally:
        os.close(descriptor)
    lines = content.decode("ascii", "replace").splitlines()
    return tuple(line.strip() for line in lines if line.strip()), _stamp(status)


def _check_private(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise SealingError(f"The sealing key {path} is not a plain file. Put back the key, from your backup.")
    if mode & 0o077:
        raise SealingError(
            f"The sealing key {path} can be read or changed by others (mode {stat.S_IMODE(mode):04o}). "
            f"Run `chmod 600 {path}`, and change the key if somebody may have seen it."
        )


def stamp_of(path: Path) -> Stamp:
    """Raises SealingError when the file is not there any more."""
    try:
        return _stamp(path.stat())
    except OSError as error:
        raise _unreadable(path, error) from error


def create(path: Path, key: str) -> None:
    """Make the file with one key. When another process makes it at the same moment, the first one stays."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = _draft(path, (key,))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # unlike a rename, it never replaces what is there
        finally:
            os.unlink(draft)
        _flush_folder(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def rewrite(path: Path, keys: tuple[str, ...]) -> Stamp:
    """Replace the keys. Returns the new stamp."""
    try:
        draft = _draft(path, keys)
        try:
            os.replace(draft, path)
        except OSError:
            os.unlink(draft)
            raise
        _flush_folder(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    return stamp_of(path)


def _draft(path: Path, keys: tuple[str, ...]) -> Path:
    """A finished file beside the real one, on the disk for good."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o600)
        file.writelines(f"{key}\n" for key in keys)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _unreadable(path: Path, error: OSError) -> SealingError:
    remedy = ""
    if isinstance(error, PermissionError):
        remedy = " Let it, and its folder, belong to the user that runs this program (`chown`)."
    return SealingError(f"The sealing key {path} cannot be read: {error.strerror}.{remedy}")


def _unwritable(path: Path, error: OSError) -> SealingError:
    return SealingError(f"The sealing key {path} cannot be written: {error.strerror}.")
