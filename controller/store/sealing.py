"""Sealing: authenticated encryption of the secrets in the store, and the keys for it.

A value is sealed with AES-256-GCM under the first key of the ring. The name of the secret is authenticated with it, so a
box that is moved to another name, or changed in one bit, does not open. A row names its key, so several keys can be in use
while they are being changed.
"""

from __future__ import annotations

import hashlib
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from controller.store import keyfile
from controller.store.errors import SealingError
from reconcilers.secret import Secret

VARIABLE: Final = "TESTER_SEALING_KEY"
"""The environment variable that holds the keys, comma-separated, the one to seal with first. It wins over the file."""

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_FORMAT: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class SealingKey:
    """One key. `id` is a fingerprint, which may be shown."""

    id: str
    _cipher: AESGCM = field(repr=False, compare=False)
    _text: Secret = field(repr=False, compare=False)

    @classmethod
    def of(cls, text: str, place: str = VARIABLE) -> SealingKey:
        """Read a key as `generate` writes it. Raises SealingError, without the text, when it is none."""
        try:
            raw = urlsafe_b64decode(text.encode("ascii"))
        except (UnicodeEncodeError, Base64Error):
            raw = b""
        if len(raw) != KEY_BYTES:
            raise SealingError(
                f"A sealing key is {KEY_BYTES} random bytes in URL-safe base64 (44 characters); what is in {place} is not one. "
                "Put back the key that this store was made with, from your backup."
            )
        fingerprint = hashlib.sha256(b"sealing key id\x00" + raw).hexdigest()[:16]
        return cls(fingerprint, AESGCM(raw), Secret(text))

    @classmethod
    def generate(cls) -> SealingKey:
        return cls.of(urlsafe_b64encode(os.urandom(KEY_BYTES)).decode())

    def derived(self, use: str) -> bytes:
        """A key for another use, from which nothing follows for this one."""
        raw = urlsafe_b64decode(self._text.reveal())
        return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=b"sealing key for " + use.encode()).derive(raw)

    def text(self) -> str:
        """The key itself, to be kept. Not to be shown."""
        return self._text.text()

    def seal(self, name: str, value: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, value, self._bound(name))

    def open(self, name: str, box: bytes) -> bytes:
        """Raises SealingError when the box was not sealed with this key under this name."""
        nonce, sealed = box[1 : 1 + _NONCE_BYTES], box[1 + _NONCE_BYTES :]
        try:
            if box[:1] != _FORMAT or len(nonce) < _NONCE_BYTES:
                raise InvalidTag
            return self._cipher.decrypt(nonce, sealed, self._bound(name))
        except InvalidTag:
            raise SealingError(
                f"The sealed secret {name!r} does not open: its row was changed, or moved from another name. "
                f"Set it again (`testerctl secret set {name}`), or restore the store from a backup."
            ) from None

    def _bound(self, name: str) -> bytes:
        return _FORMAT + self.id.encode() + b"\x00" + name.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys in use; the first one seals, all of them open. `path` is their file, None for keys of the environment."""

    keys: tuple[SealingKey, ...]
    path: Path | None = None
    stamp: keyfile.Stamp | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, texts: tuple[str, ...], path: Path | None = None, stamp: keyfile.Stamp | None = None) -> Keyring:
        """Raises SealingError when there is no key, or one is unfit."""
        place = str(path or VARIABLE)
        keys = dict.fromkeys(SealingKey.of(each, place) for each in texts)
        if not keys:
            raise SealingError(
                f"There is no sealing key in {place}. Put back the one that the store was made with, from your backup."
            )
        return cls(tuple(keys), path, stamp)

    @classmethod
    def generate(cls) -> Keyring:
        """A ring of one fresh key that is kept nowhere: for tests and throw-away stores."""
        return cls((SealingKey.generate(),))

    @property
    def primary(self) -> SealingKey:
        return self.keys[0]

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(key.id for key in self.keys)

    def seal(self, name: str, value: Secret) -> tuple[str, bytes]:
        """The key's id and the box."""
        return self.primary.id, self.primary.seal(name, value.reveal())

    def open(self, name: str, key_id: str, box: bytes) -> Secret:
        """Raises SealingError when the key is not there, or the box does not belong to this name."""
        for key in self.keys:
            if key.id == key_id:
                return Secret(key.open(name, box))
        raise SealingError(
            f"The sealed secret {name!r} needs the sealing key {key_id}, which is not among the keys given "
            f"({', '.join(sorted(self.ids))}). Add it behind the others in {self.path or VARIABLE}."
        )

    def rotated(self) -> Keyring:
        """A ring with a fresh key first; its file is rewritten before this returns. `Store.reseal` comes next.

        Raises SealingError for keys from the environment, which only their owner can change.
        """
        return self._kept((SealingKey.generate(), *self.keys))

    def primary_only(self) -> Keyring:
        """A ring without the old keys; its file is rewritten. Only after `Store.reseal`: see `Store.drop_old_keys`."""
        return self if len(self.keys) == 1 else self._kept((self.primary,))

    def current(self) -> Keyring:
        """This ring, or what its file says now if another process has rewritten it."""
        if self.path is None or keyfile.stamp_of(self.path) == self.stamp:
            return self
        return _from_file(self.path)

    def _kept(self, keys: tuple[SealingKey, ...]) -> Keyring:
        if self.path is None:
            raise SealingError(
                f"The sealing keys come from {VARIABLE}, which this program cannot change. Put a new key first there "
                "(the old ones behind it, separated by commas), start again, and reseal."
            )
        stamp = keyfile.rewrite(self.path, tuple(key.text() for key in keys))
        return replace(self, keys=keys, stamp=stamp)


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where a store's keys come from: the environment, else a file, which is made together with an empty store."""

    env: Mapping[str, str] = field(repr=False)
    path: Path

    def open(self, store_is_empty: bool) -> Keyring:
        return open_keyring(self.env, self.path, store_is_empty)


def open_keyring(env: Mapping[str, str], path: Path, store_is_empty: bool) -> Keyring:
    """The keys from the environment, else from the file; for an empty store a missing file is made, with mode 0600.

    Raises SealingError for a filled store without keys, for unfit keys, and for a file that others may read.
    """
    given = tuple(part.strip() for part in env.get(VARIABLE, "").split(",") if part.strip())
    if given:
        return Keyring.of(given)
    if not os.path.lexists(path):
        if not store_is_empty:
            raise SealingError(
                f"The store is in use, but its sealing key is missing: {VARIABLE} is not set and {path} is not there. "
                "Put the key back, from your backup or from another controller of the same store; a new key would not open "
                "what is sealed."
            )
        keyfile.create(path, SealingKey.generate().text())
    return _from_file(path)


def _from_file(path: Path) -> Keyring:
    texts, stamp = keyfile.read(path)
    return Keyring.of(texts, path, stamp)
