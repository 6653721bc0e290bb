"""Recognises secrets written in clear, so that they are refused wherever they stand and repeated in no message."""

import re
from typing import Final

_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----|PuTTY-User-Key-File-|AGE-SECRET-KEY-1")
_KNOWN_PREFIXES: Final = re.compile(
    r"(?<![A-Za-z0-9_-])("
    r"sk-[A-Za-z0-9_-]{16,}|gsk_[A-Za-z0-9]{16,}|re_[A-Za-z0-9]{6,}_[A-Za-z0-9]{8,}|xai-[A-Za-z0-9]{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,}"
    r"|AKIA[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,}|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\."
    r")"
)
_HEX_TOKEN = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")


def looks_private_key(text: str) -> bool:
    """The armour of a private key."""
    return _PRIVATE_KEY.search(text) is not None


def looks_provider_key(text: str) -> bool:
    """A key of a known provider, by its prefix, or a bare token as Forge (40 hex) and others make them."""
    return _KNOWN_PREFIXES.search(text) is not None or _HEX_TOKEN.fullmatch(text.strip()) is not None


def looks_secret(text: str) -> bool:
    """Either of the two."""
    return looks_private_key(text) or looks_provider_key(text)


def shown(text: str) -> str:
    """The text as a message may repeat it: quoted, escaped, cut short, and not at all when it looks like a secret."""
    if looks_secret(text):
        return "what is written here"
    return ascii(text) if len(text) <= 40 else f"{ascii(text[:37])[:-1]}…'"
