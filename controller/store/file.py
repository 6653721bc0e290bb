"""The file of a store on SQLite, before SQLite is let near it.

What is wrong with it is told here, and the file is left as it is: SQLite would make new tables in one that something has emptied
and throw its log away, or make files beside one that may only be read, which nobody could write to later.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import Final

from controller.store.errors import StoreError

LOG: Final = "-wal"
BESIDE: Final = ("", LOG, "-shm")
"""What follows the file's name in the names of SQLite's own files."""


def check_writable(path: Path) -> None:
    """Raises StoreError when something is there that cannot be a store's file, or that this user cannot write to."""
    if path.is_symlink() and not path.exists():
        raise StoreError(f"The store {path} is a link to {path.readlink()}, which is not there. Is its disk mounted?")
    if not path.parent.is_dir():
        return
    if not os.access(path.parent, os.R_OK | os.W_OK | os.X_OK):
        raise StoreError(f"The store {path} cannot be used: {unwritable(path.parent)}")
    for each in (Path(f"{path}{end}") for end in BESIDE):
        if each.exists() and not each.is_file():
            raise StoreError(f"The store {path} cannot be used: {each} is not a plain file. Move it away.")
        if each.exists() and not os.access(each, os.R_OK | os.W_OK):
            raise StoreError(f"The store {path} cannot be used: {unwritable(each)}")


def check_not_emptied(path: Path) -> None:
    """Raises StoreError when the file has nothing in it, or is gone while its log is there. Nobody else may be making it."""
    log = Path(f"{path}{LOG}")
    if path.exists() and not path.stat().st_size:
        what = "is empty (0 bytes): this program leaves no such file, so what was in it is lost"
    elif not path.exists() and log.exists() and log.stat().st_size:
        what = f"is gone, but its log {log.name} is there"
    else:
        return
    raise StoreError(
        f"The store {path} {what}. Put it back, or restore a backup of it (then move {log.name} away, which does not belong "
        f"to the backup). Only if nothing is to be kept, delete {path.name} and {log.name}: everybody is new then, and made anew."
    )


def make_private(path: Path) -> None:
    """For its owner only. Raises StoreError when only somebody else can make it so."""
    if path.stat().st_mode & 0o077:
        try:
            path.chmod(0o600)
        except PermissionError as error:
            raise StoreError(
                f"The store {path} can be read by others, and only its owner can end that: {_own(path)}"
            ) from error


def unwritable(path: Path) -> str:
    """Why this user cannot write to what is there, and what mends it."""
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return f"{path} is on a file system that is mounted read-only, as one is whose disk has errors. Mount it for writing."
    return f"this user may not write to {path}: {_own(path)}"


def _own(path: Path) -> str:
    found = path.stat()
    return (
        f"it belongs to {_user(found.st_uid)} (mode {stat.S_IMODE(found.st_mode):04o}), and this program runs as "
        f"{_user(os.geteuid())}. Run it as the user to whom its files belong, or give them to this one (`chown`, `chmod u+rwX`)."
    )


def _user(uid: int) -> str:
    """A user's name, or else the number."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
