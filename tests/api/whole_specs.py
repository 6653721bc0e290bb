"""A Tester and a Fleet in which every field of the language is set, and the places of all that stands in them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDs3DI2Wr4fnmOT9UPMo4WgLzwQHmWzjg0vg3n2qYH0f"
TESTER: dict[str, Any] = {
    "apiVersion": "hero.tester/v1",
    "kind": "Tester",
    "metadata": {"name": "alice"},
    "spec": {
        "identity": {
            "account": "Alice-B",
            "email": "alice@example.org",
            "fullName": "Alice B",
            "existing": False,
            "whenRemoved": "disable",
            "passwordReset": 0,
        },
        "allowlist": ["bob"],
        "keys": {
            "ssh": [KEY],
            "providers": {"openrouter": "default", "sambanova": {"secret": "alice/sambanova"}},
            "rotateEngineTokens": 0,
        },
        "components": {
            "set": "demo",
            "add": ["hero_memory"],
            "remove": ["hero_biz"],
            "settings": {"hero_books": {"BOOKS_LIBRARIES": "hero"}},
            "publicPaths": ["/hero_whiteboard/share/"],
        },
        "version": {"channel": "latest", "updates": "apply", "pin": {"hero_books": "v0.3.1"}},
        "machine": {
            "memory": "8GiB",
            "cpu": 4,
            "disk": "50GiB",
            "rootfs": "10GiB",
            "image": "Ubuntu 24.04",
            "node": "gent/0001",
            "rebuild": 0,
            "keepAfterRemoval": "24h",
        },
        "address": "auto",
        "welcomeEmail": {"send": True, "resend": 0},
        "expires": "2090-12-31",
        "paused": {"reason": "demo on Friday", "by": "mik", "until": "2090-12-05"},
    },
}
FLEET: dict[str, Any] = {
    "apiVersion": "hero.tester/v1",
    "kind": "Fleet",
    "metadata": {"name": "sandbox"},
    "spec": {
        "admins": [{"account": "mik", "sshKeys": [KEY]}],
        "installer": {"privateKey": "env:INSTALLER_KEY", "user": "root"},
        "forge": {
            "url": "https://forge.example.org",
            "token": "env:FORGE_TOKEN",
            "owner": "controller",
            "componentsOwner": "lhumina_code",
            "feedbackRepository": "geomind/feedback",
        },
        "compute": [
            {
                "name": "gent",
                "url": "http://127.0.0.1:1",
                "secret": "env:COMPUTE_SECRET",
                "gatewayDomain": "gent.example.org",
                "nodes": [{"sid": "0001", "gridNode": "2", "name": "the big one", "gone": False}],
                "gone": False,
            }
        ],
        "engines": [
            {
                "name": "embedder",
                "url": "http://[400::1]:9000",
                "urlSetting": "HERO_EMBEDDER_URL",
                "tokenSetting": "SHARED_EMBEDDER_TOKEN",
                "context": "cockpit",
                "registry": {
                    "host": "400::1",
                    "port": 22,
                    "hostKey": KEY,
                    "context": "embedder",
                    "service": "hero_embedder",
                },
                "retired": False,
                "gone": False,
            }
        ],
        "mail": {
            "from": "hero@example.org",
            "replyTo": "team@example.org",
            "send": True,
            "resendUrl": "https://api.resend.com",
            "smtp": {
                "host": "mail.example.org",
                "port": 587,
                "startTls": True,
                "user": "hero",
                "password": "env:SMTP_PASSWORD",
            },
            "template": {"subject": "Welcome, ${account}", "text": "Hello ${account}, see ${link}, ${name}."},
        },
        "notify": {
            "mail": ["team@example.org"],
            "hooks": [{"name": "chat", "url": "shared/chat", "secret": "shared/chat-secret"}],
            "about": ["ready"],
            "failingFor": "15m",
            "recoveredFor": "10m",
        },
        "providers": {
            "openrouter": {"setting": "OPENROUTER_API_KEY", "context": "cockpit", "default": "shared/openrouter"},
            "sambanova": {"setting": "SAMBANOVA_API_KEY"},
        },
        "machineAccess": {"labUrl": "https://forge.example.org/lab"},
        "network": {
            "myceliumProxy": "socks5://127.0.0.1:1080",
            "outsideProxy": "socks5://127.0.0.1:1081",
            "certificateAuthority": "file:ca.pem",
        },
        "componentSets": {"demo": ["hero_cockpit", "hero_books", "hero_biz", "hero_whiteboard"]},
        "defaults": {"allowlist": ["carol"]},
        "safety": {"maxRemovals": "20%", "allowRemovals": 1, "maxLost": 2, "innerProof": "enforce", "maxRebuilds": 2},
        "timing": {
            "resync": "10m",
            "poll": "2s",
            "lookAge": "30s",
            "listingGrace": "120s",
            "deployLimit": "300s",
            "gatewayLimit": "300s",
            "reachableLimit": "20m",
            "installLimit": "30m",
            "proofLimit": "2m",
            "backoffBase": "5s",
            "backoffCeiling": "10m",
            "outsideProofEvery": "30m",
            "releasesEvery": "15m",
            "capacityLag": "120s",
            "expiryWarning": "7d",
        },
        "limits": {
            **{
                name: {"inFlight": 4, "perSecond": 10}
                for name in ("forge", "compute", "machine", "outside", "engine", "mail")
            },
            "installs": 8,
        },
    },
}
ALSO: tuple[Path, ...] = (("spec", "mail", "resendKey"),)
"""Of the Fleet: it cannot be beside what is there."""


def places(document: Any, here: Path = ()) -> Iterator[Path]:
    """Every value that is no list and no mapping."""
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inside:
        if isinstance(value, dict | list):
            yield from places(value, (*here, key))
        else:
            yield (*here, key)


def with_value(document: dict[str, Any], place: Path, value: Any) -> dict[str, Any]:
    """A copy with another value in one place."""
    made = copy.deepcopy(document)
    inside: Any = made
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    return made


def with_key(document: dict[str, Any], place: Path, key: str) -> dict[str, Any]:
    """A copy in which a mapping's key is another."""
    made = copy.deepcopy(document)
    inside: Any = made
    for each in place[:-1]:
        inside = inside[each]
    inside[key] = inside.pop(place[-1])
    return made


def mappings(document: Any, here: Path = ()) -> Iterator[Path]:
    """Every key of a mapping, wherever it is."""
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inside:
        if isinstance(document, dict):
            yield (*here, key)
        if isinstance(value, dict | list):
            yield from mappings(value, (*here, key))
