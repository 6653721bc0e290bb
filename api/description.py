"""What the description of the API tells beside its answers: how to prove who asks, how errors look, and the headers that all
reads share. For who writes a client, or has one generated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from api.conditional import POSITION
from api.problems import PROBLEM

OPEN: Final = frozenset({"/healthz", "/hooks/forge"})
"""Who asks here need not be known."""

TAGS: Final = (
    {"name": "testers", "description": "Testers: a list with filters, one of them whole, its events, plan and logs."},
    {"name": "fleet", "description": "All testers in numbers, and what needs a person."},
    {"name": "events", "description": "What happened, newest first."},
    {"name": "nodes", "description": "Where machines stand, and what is free."},
    {"name": "components", "description": "Who runs which version of what."},
    {"name": "revisions", "description": "What was read of the source, and what became of it."},
    {"name": "stream", "description": "What changes, as it changes."},
    {"name": "health", "description": "For whoever supervises the controller."},
    {"name": "webhook", "description": "The one thing that is taken in."},
)

SCHEMES: Final = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Of programs: made by `testerctl token make NAME`. Never in the address.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-testers-session",
        "description": "Of people: what the sign-in with Forge (`/sign-in`) leaves in their browser.",
    },
}
"""None of them is asked for on loopback while nobody signs in."""

WORDS: Final = (
    "How the testers stand; nothing can be changed. Moments are ISO 8601 in UTC, what is not known is null, and errors are "
    "problems (RFC 9457). Fields may be added to answers: ignore those that you do not know."
)

REFUSED: Final = {
    "description": "Anything else: 400 (the address, a token in it), 401 (nobody known), 421 (another host), 500, 503.",
    "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
MARK: Final = {"schema": {"type": "string"}, "description": "To be sent back as `If-None-Match`."}
PLACE: Final = {
    "schema": {"type": "string"},
    "description": "The stream has after this what changes after this answer.",
}
KNOWN: Final = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of an answer that is at hand: 304 while nothing has changed.",
    "schema": {"type": "string", "maxLength": 1000},
}
DELIVERY: Final = (
    (
        "X-Forgejo-Signature",
        "HMAC-SHA256 of the body, lowercase hex; `X-Gitea-Signature`, `X-Hub-Signature-256` will do.",
    ),
    ("X-Forgejo-Delivery", "The delivery's id: each counts once. `X-Gitea-Delivery` will do."),
    ("X-Forgejo-Event", "`push` or `pull_request…`; of others nothing is done. `X-Gitea-Event` will do."),
)


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """The same with all of that."""
    schema["info"]["description"] = WORDS
    schema["tags"] = list(TAGS)
    schema["security"] = [{name: []} for name in SCHEMES] + [{}]
    schema["components"]["securitySchemes"] = SCHEMES
    for path, one in _operations(schema):
        if path in OPEN:
            one["security"] = []
        _tell_errors(one)
        if "304" in one["responses"]:
            one["responses"]["200"]["headers"] = {"ETag": MARK, POSITION: PLACE}
            one.setdefault("parameters", []).append(KNOWN)
    _tell_delivery(schema["paths"]["/hooks/forge"]["post"])
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)
    return schema


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for one in methods.values():
            yield path, one


def _tell_errors(one: dict[str, Any]) -> None:
    """Every refusal is a problem, whatever is generated; but those of health, which tell the same as when all is well."""
    for code, answer in one["responses"].items():
        told = answer.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
        if code >= "400" and not told.endswith(("/Alive", "/Ready")):
            answer["content"] = REFUSED["content"]
        if code == "422":
            answer["description"] = "A parameter is wrong, or there is none of this name; `detail` says which."
    one["responses"]["default"] = REFUSED


def _tell_delivery(one: dict[str, Any]) -> None:
    one["requestBody"] = {
        "required": True,
        "description": "Forge's delivery, at most 1 MiB.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
    one["parameters"] = [
        {"name": name, "in": "header", "required": True, "description": words, "schema": {"type": "string"}}
        for name, words in DELIVERY
    ]
