"""Where somebody goes after the sign-in: a page of ours that they asked for, and nowhere else."""

from __future__ import annotations

import re
from typing import Final

HOME: Final = "/"
LONGEST: Final = 500

_OURS: Final = re.compile(r"/(?![/\\])[A-Za-z0-9\-._~/?&=%:,+@!*]*", re.ASCII)
"""A path of this very place: no scheme, no host, nothing that a browser would read as one, no line break."""


def ours(wanted: str) -> str:
    """The path if it is one of ours, the first page for anything else."""
    if len(wanted) > LONGEST or not _OURS.fullmatch(wanted) or wanted.startswith(("/sign-", "/signed-")):
        return HOME
    return wanted
