"""A value that must not be seen: it shows in no repr, str, format, log or JSON (law 10)."""

from __future__ import annotations

import hmac
import secrets
import string

HIDDEN = "(secret)"


class Secret:
    """Bytes that only `reveal` and `text` give away. Compared in constant time."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes | str) -> None:
        self._value = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves, exactly as they came."""
        return self._value

    def text(self) -> str:
        """The bytes as UTF-8 text. Raises UnicodeDecodeError, without the value, when they are not text."""
        try:
            return self._value.decode()
        except UnicodeDecodeError:
            raise ValueError("the secret is not UTF-8 text") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return HIDDEN

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits, "-_.!*+=")


def new_password(length: int = 24) -> Secret:
    """A one-time password with lower, upper, digit and special characters, as Forge's strictest rule asks (P)."""
    alphabet = "".join(_CLASSES)
    while True:
        candidate = "".join(secrets.choice(alphabet) for _ in range(length))
        if all(any(c in chosen for c in candidate) for chosen in _CLASSES):
            return Secret(candidate)
