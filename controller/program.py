"""What program this is: its version, and a digest that differs with every other file of it, of its libraries and of Python."""

from __future__ import annotations

import sys
from functools import cache
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import controller
import reconcilers
import specs

_THOUGHT: Final = (specs, reconcilers, controller)
"""What decides about testers; the windows do not."""

_INSTALLED: Final = ".dist-info"


@cache
def program_version() -> str:
    """As it was installed, `0.1.0`; `unknown` when it was not."""
    try:
        return version("tester-controller")
    except PackageNotFoundError:
        return "unknown"


@cache
def program_digest() -> bytes:
    """As its files were when it was first asked for: at the start. b"" when they cannot be read."""
    mark = blake2b(sys.version.encode(), digest_size=32)
    try:
        for package in _THOUGHT:
            own = Path(str(package.__file__))
            own.stat()  # what is not found is not there for `rglob`, and no error
            for file in sorted(own.parent.rglob("*")):
                if file.is_file() and "__pycache__" not in file.parts:
                    content = blake2b(file.read_bytes(), digest_size=32).hexdigest()
                    mark.update(f"\n{package.__name__}/{file.relative_to(own.parent)} {content}".encode())
        mark.update(repr(sorted(_libraries())).encode())
    except OSError:
        return b""
    return mark.digest()


def _libraries() -> set[str]:
    """Name and version, as their folders are called."""
    roots = [Path(entry) for entry in sys.path if Path(entry).is_dir()]
    return {each.name for root in roots for each in root.iterdir() if each.name.endswith(_INSTALLED)}
