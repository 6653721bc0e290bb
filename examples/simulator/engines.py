"""The shared engines on the admin machine: who may use them is what they read when their service started last.

Over HTTP: `GET /health` is open; everything else wants `Authorization: Bearer <token>` and `X-Hero-Context: <tenant>`.
The registry's format, the probe's path and its answer are assumptions (A).
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from examples.simulator.faults import Faults
from examples.simulator.http import Answer, Request, json_answer
from examples.simulator.records import Engine

if TYPE_CHECKING:
    from examples.simulator.machine import Machine

REGISTRY = "TENANT_TOKENS"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Engines:
    """All engines. They live on one machine, and are as dead as it is."""

    def __init__(self, rows: list[Engine], faults: Faults, admin: "Callable[[], Machine]") -> None:
        self.rows = rows
        self._faults = faults
        self._admin = admin

    def named(self, name: str) -> Engine:
        """By the engine's name or its service's. Raises KeyError."""
        for row in self.rows:
            if name in (row.name, row.service):
                return row
        raise KeyError(f"no engine {name!r}")

    def at(self, port: int) -> Engine | None:
        """The engine behind a port of the admin machine."""
        return next((row for row in self.rows if row.port == port), None)

    def listens(self, engine: Engine) -> bool:
        return self._admin().healthy(engine.service)

    def registered(self, engine: Engine) -> dict[str, str] | None:
        """Tenant → digest as the secret store has it now; None when it cannot be understood."""
        raw = self._admin().state.secrets.get(engine.context, {}).get(REGISTRY, b"{}")
        try:
            held = json.loads(raw or b"{}")
        except ValueError:
            return None
        if not isinstance(held, dict):
            return None
        return {str(tenant): _as_digest(value) for tenant, value in held.items() if isinstance(value, str)}

    def started(self, service: str) -> None:
        """A service of the admin machine has started: an engine reads its registry.

        What it cannot read or understand leaves it without a single tenant. With the fault `ignores_revocation` it goes on
        accepting whom it accepted before, until it is started once more (lesson 38).
        """
        engine = next((row for row in self.rows if row.service == service), None)
        if engine is None:
            return
        before = engine.accepted
        lost = self._faults.take("engine", "start", ("registry_unreachable",), engine.name)
        engine.accepted = {} if lost else self.registered(engine) or {}
        if self._faults.take("engine", "start", ("ignores_revocation",), engine.name):
            engine.accepted = {**before, **engine.accepted}

    def answer(self, engine: Engine, request: Request) -> Answer | None:
        """None: nobody listens on that port."""
        if not self.listens(engine):
            return None
        if request.path == "/health":
            return json_answer({"status": "ok", "service": engine.service})
        tenant = request.headers.get("x-hero-context", "")
        status = self._judged(engine, request.headers.get("authorization", ""), tenant)
        if status != 200:
            return json_answer({"error": "unauthorized" if status == 401 else "forbidden"}, status)
        if (request.method, request.path) == ("GET", "/v1/ping"):
            return json_answer({"tenant": tenant})
        return json_answer({"error": "not found"}, 404)

    def _judged(self, engine: Engine, authorization: str, tenant: str) -> int:
        """401: no token, or one that nobody has; 403: a token of somebody else."""
        if self._faults.active("engine", "ping", ("stands_open",), engine.name):
            return 200
        kind, _, token = authorization.partition(" ")
        known = token_digest(token.strip())
        if kind.lower() != "bearer" or not token.strip() or known not in engine.accepted.values():
            return 401
        blind = self._faults.active("engine", "ping", ("ignores_tenant",), engine.name)
        return 200 if blind or engine.accepted.get(tenant) == known else 403


def _as_digest(value: str) -> str:
    """64 hexadecimal digits are a digest, anything else is the token itself."""
    return value.lower() if _DIGEST.fullmatch(value.lower()) else token_digest(value)
