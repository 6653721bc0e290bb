"""Host keys drawn from the world's seed, so that a seed tells everything, and nobody waits for a generator."""

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from examples.simulator.realm import Realm


def new_host_key(realm: Realm, *what: object) -> str:
    """A private key in OpenSSH's form; another one at every call, the same for the same calls in a world of the same seed."""
    seed = hashlib.sha256(":".join(map(str, (realm.draw(), *what))).encode()).digest()
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
