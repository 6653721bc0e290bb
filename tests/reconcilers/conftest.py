"""A world for the tests that need a real one: the simulator on loopback, far faster than life."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from examples.simulator.server import serving
from examples.simulator.world import World
from reconcilers.secret import Secret
from tests.reconcilers.driver import Life, new_life

SPEED = 1200.0

Lives = Callable[..., Life]


@pytest.fixture
async def lives(tmp_path: Path) -> AsyncIterator[Lives]:
    """`lives(spec, **fleet)` begins a tester's life in the world of this test."""
    async with AsyncExitStack() as stack:
        world = World(seed=1, speed=SPEED, state_dir=tmp_path)
        addresses = await stack.enter_async_context(serving(world, tmp_path))

        def begin(spec: dict[str, Any] | None = None, **fleet_spec: Any) -> Life:
            life = new_life(world, addresses, spec, **fleet_spec)
            stack.push_async_callback(life.backends.aclose)
            return life

        yield begin


@pytest.fixture(scope="session")
def installer_key() -> tuple[Secret, str]:
    """The installer's private key as a secret, and the line that must be on every machine."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return Secret(private), f"{public} installer"
