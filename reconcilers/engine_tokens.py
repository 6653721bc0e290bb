"""A tester's tokens for the shared engines: under which name each is sealed, and who the tester is there."""

from __future__ import annotations

import secrets

from reconcilers.facts import EngineAccessFacts, Facts
from reconcilers.secret import Secret
from specs.names import tenant_name


def sealed_token(engine: str) -> str:
    """The short name under which the token for an engine is sealed."""
    return f"engine_{engine}"


def new_token() -> Secret:
    """A token that nobody guesses: 256 bits. Never 64 hex digits, which an engine would take for a hash (A)."""
    return Secret(secrets.token_urlsafe(32))


def tenant_of(facts: Facts) -> str:
    """The tester's name at every engine."""
    return tenant_name(facts.tester, facts.uid)


def engine_facts(facts: Facts) -> EngineAccessFacts:
    """What is known of the tester at the engines; nothing at first."""
    return facts.get(EngineAccessFacts) or EngineAccessFacts(tenant=tenant_of(facts))
