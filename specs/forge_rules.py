"""What Forge accepts as an account's name (P: Forgejo v15): a bad one is refused at the desk, not by a 422 half-way."""

import re
from typing import Final

from specs.errors import refusal
from specs.secrecy import shown

MAX_NAME: Final = 40
NAME_PATTERN: Final = r"^[0-9A-Za-z]([-._]?[0-9A-Za-z])*$"
RESERVED: Final = frozenset(
    [
        ".well-known",
        "admin",
        "api",
        "assets",
        "attachments",
        "avatar",
        "avatars",
        "captcha",
        "commits",
        "debug",
        "error",
        "explore",
        "favicon.ico",
        "forgejo-actions",
        "ghost",
        "gitea-actions",
        "issues",
        "login",
        "manifest.json",
        "metrics",
        "milestones",
        "new",
        "notifications",
        "org",
        "pulls",
        "raw",
        "repo",
        "repo-avatars",
        "robots.txt",
        "search",
        "serviceworker.js",
        "ssh_info",
        "swagger.v1.json",
        "user",
        "v2",
    ]
)
RESERVED_SUFFIXES: Final = (".keys", ".gpg", ".rss", ".atom", ".png")

_SPELLING: Final = "use letters, digits and single - . _ between them, like Alice-B"
_NAME = re.compile(NAME_PATTERN)


def forge_name(value: str) -> str:
    """The name as it is, when Forge would take it. Raises a refusal otherwise."""
    if len(value) > MAX_NAME:
        raise refusal(f"the name is {len(value)} characters long", f"Forge takes at most {MAX_NAME}")
    if not _NAME.fullmatch(value):
        raise refusal(f"{shown(value)} is not a name that Forge accepts", _SPELLING)
    if value.casefold() in RESERVED:
        raise refusal(f"{shown(value)} is a word that Forge keeps for itself", "choose another account name")
    suffix = next((each for each in RESERVED_SUFFIXES if value.casefold().endswith(each)), None)
    if suffix:
        raise refusal(f"{shown(value)} ends in {suffix}, which Forge keeps for itself", "choose another account name")
    return value
