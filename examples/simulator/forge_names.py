"""Forge's rules for names, passwords and mail addresses (P)."""

import re

RESERVED = frozenset(
    [
        "admin",
        "api",
        "assets",
        "attachments",
        "avatar",
        "avatars",
        "captcha",
        "commits",
        "debug",
        "devtest",
        "error",
        "explore",
        "favicon.ico",
        "ghost",
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
        "gitea-actions",
        "forgejo-actions",
    ]
)
RESERVED_SUFFIXES = (".keys", ".gpg", ".rss", ".atom", ".png")
_NAME = re.compile(r"[0-9A-Za-z][-.\w]*", re.ASCII)
_TWO_MARKS = re.compile(r"[-._]{2}")
_MAIL = re.compile(r"[^@\s<>]+@[^@\s<>.]+(\.[^@\s<>.]+)*")


def name_problem(name: str) -> str | None:
    """What Forge would say against a new account's name, or None."""
    if not name:
        return "[Username]: Required"
    if len(name) > 40:
        return "[Username]: MaxSize"
    if not _NAME.fullmatch(name) or _TWO_MARKS.search(name) or name[-1] in "-._":
        return f"username contains invalid characters or formatting: {name}"
    if name.lower() in RESERVED:
        return f"name is reserved [name: {name}]"
    if name.lower().endswith(RESERVED_SUFFIXES):
        return f"name pattern is not allowed [pattern: *.{name.rsplit('.', 1)[1].lower()}]"
    return None


def mail_problem(mail: str) -> str | None:
    """What Forge would say against a mail address, or None."""
    if not mail:
        return "[Email]: Required"
    if len(mail) > 254:
        return "[Email]: MaxSize"
    return None if _MAIL.fullmatch(mail) else f"e-mail invalid [email: {mail}]"


def password_good(password: str) -> bool:
    return len(password) >= 8
