"""What the controller must not forget: one transactional store on SQLite or PostgreSQL, with sealed secrets.

Reads return the records of `controller.records`; every write is one `Store.write` with any number of changes.
"""

from controller.store.alone import alone
from controller.store.errors import SealingError, SpecChanged, StoreError
from controller.store.sealing import Keyring, KeySource, open_keyring
from controller.store.store import Hook, Store

__all__ = [
    "Hook",
    "KeySource",
    "Keyring",
    "SealingError",
    "SpecChanged",
    "Store",
    "StoreError",
    "alone",
    "open_keyring",
]
