"""The installer's public key, derived from the private one: it must be on every machine (lesson 5)."""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from reconcilers.errors import Blocked
from reconcilers.facts import Facts
from reconcilers.secret import Secret

COMMENT = "installer"


def installer_public_key(facts: Facts) -> str:
    """One line in OpenSSH's form. Raises Blocked SecretMissing, or InstallerKeyUnusable when it is no private key."""
    ref = facts.fleet.spec.installer.private_key
    try:
        return _public_line(facts.secret(ref))
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        # Not chained: what a parser says about a key may quote it.
        raise Blocked(
            f"the secret {ref!r} is not a private SSH key without a passphrase: put the installer's key there, "
            "with its last newline",
            system="secrets",
            reason="InstallerKeyUnusable",
        ) from None


@lru_cache(maxsize=4)
def _public_line(key: Secret) -> str:
    """Kept: everybody's is the same, and reading one takes a third of a millisecond."""
    raw = key.reveal()
    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in raw else load_pem_private_key
    public = load(raw, password=None).public_key()
    return f"{public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()} {COMMENT}"
