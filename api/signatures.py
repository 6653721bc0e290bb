"""Whether a delivery of a webhook is Forge's own: the HMAC-SHA256 of its body under the secret that both sides know.

Without a secret Forge sends the header all the same, empty (V): that proves nothing, and is refused.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from reconcilers.secret import Secret

HEADERS: Final = ("x-forgejo-signature", "x-gitea-signature", "x-hub-signature-256")
"""Bare lowercase hex in the first two, `sha256=…` in the last (CONTRACTS, V)."""

SHORTEST_SECRET: Final = 16
"""Bytes: whoever guesses the secret may have the source fetched at will."""


def is_signed(body: bytes, headers: Mapping[str, str], secret: Secret) -> bool:
    """Whether at least one signature is there, and all that are there are right. `headers` by name in small letters."""
    given = [(name, headers[name]) for name in HEADERS if name in headers]
    wanted = hmac.new(secret.reveal(), body, hashlib.sha256).hexdigest()
    right = [hmac.compare_digest(_bare(name, value).encode(), wanted.encode()) for name, value in given]
    return bool(right) and all(right)


def _bare(name: str, value: str) -> str:
    prefix = "sha256="
    if name != "x-hub-signature-256":
        return value
    return value[len(prefix) :] if value.startswith(prefix) else ""
