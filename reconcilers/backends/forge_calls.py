"""The Forge's calls as values: segments of their paths, and what an answer says beside its body. Pure."""

from __future__ import annotations

from urllib.parse import quote

import httpx


def part(text: str) -> str:
    """One segment of a path. Dots alone would climb."""
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")


def total(answer: httpx.Response) -> int | None:
    text = answer.headers.get("X-Total-Count", "")
    return int(text) if text.isascii() and text.isdigit() else None


def asked(answer: httpx.Response) -> str:
    return f"{answer.request.method} {answer.request.url.path}"


def scope_of(answer: httpx.Response) -> str:
    """Which right the call needs (P)."""
    path = answer.request.url.path
    if "/admin/" in path:
        return "the scope write:admin, and its owner the rights of a site admin"
    if "/applications/" in path:
        return "the scope write:user"
    if "/issues/" in path:
        return "the scope write:issue"
    if "/repos/" in path and answer.request.method != "GET":
        return "the scope write:repository, and its owner the right to manage the repository"
    if "/repos/" in path:
        return "the scope read:repository"
    return "the scope read:user"
