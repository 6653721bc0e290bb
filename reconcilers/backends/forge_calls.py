"""The Forge's calls as values: segments of their paths, bodies, and what an answer says beside its own. Pure."""

from __future__ import annotations

from typing import Any
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


def app_body(name: str, redirect_uri: str) -> dict[str, Any]:
    # Left out, confidential_client would become false, also in a PATCH (V).
    return {"name": name, "redirect_uris": [redirect_uri], "confidential_client": True}


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
