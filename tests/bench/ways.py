"""What somebody needs who makes a tester by hand: the world's addresses, its clock, its HTTP, and a shell on its machines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import httpx

from api.demo.world import Addresses

LOOK_EVERY = 5.0  # simulated seconds between two tries to log in
TRIES = 400


class Link(Protocol):
    """A shell on one machine, as root."""

    home: str

    async def run(self, words: Sequence[str]) -> str:
        """What a command prints. Raises what stands for its failure."""
        ...

    async def fetch(self, path: str, url: str) -> None:
        """A program from elsewhere, at a path below home."""
        ...


class Way(Protocol):
    """How a world is reached."""

    @property
    def addresses(self) -> Addresses: ...

    @property
    def speed(self) -> float: ...

    def now(self) -> float:
        """The world's clock, in its own seconds."""
        ...

    def client(self, *, public: bool = False) -> httpx.AsyncClient:
        """`public`: for the tester's address, as strangers reach it."""
        ...

    def login(self, host: str) -> AbstractAsyncContextManager[Link]:
        """Tried until somebody answers, `TRIES` times at the most."""
        ...
