"""The questions that one answer serves the whole fleet for, by their names: whoever has only the name, from before a start, can
put it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from reconcilers.backends import Backends

ACCOUNTS = "forge/accounts"
OAUTH_APPS = "forge/oauth_apps"
OWNER = "forge/owner"

Ask = Callable[[], Awaitable[Any]]


def collaborators(repository: str) -> str:
    """`owner/name`."""
    return f"forge/collaborators/{repository}"


def tenants(engine: str) -> str:
    return f"engine/{engine}/tenants"


def vms(daemon: str) -> str:
    return f"{daemon}/vms"


def gateways(daemon: str) -> str:
    return f"{daemon}/gateways"


def nodes(daemon: str) -> str:
    return f"{daemon}/nodes"


def rows_asked(question: str, backends: Backends) -> Ask | None:
    """How a question is put that is answered with rows; None: it is none of those. Raises Blocked DaemonUnknown."""
    match question.split("/"):
        case ["forge", "accounts"]:
            return backends.forge.accounts
        case ["forge", "oauth_apps"]:
            return backends.forge.oauth_apps
        case ["forge", "collaborators", owner, name]:
            return partial(backends.forge.collaborators, owner, name)
        case [daemon, "vms"]:
            return backends.daemon(daemon).list_vms
        case [daemon, "gateways"]:
            return backends.daemon(daemon).list_gateways
        case [daemon, "nodes"]:
            return backends.daemon(daemon).list_nodes
    return None


def whole_asked(question: str, backends: Backends) -> Ask | None:
    """Likewise, of what is answered as one. Raises Blocked EngineUnknown."""
    match question.split("/"):
        case ["forge", "owner"]:
            return backends.forge.whoami
        case ["engine", engine, "tenants"]:
            return backends.engine(engine).look
    return None
