"""Worlds for the tests that need one: the simulator in virtual time and without sockets, or on loopback, far faster than life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from examples.simulator.server import serving
from examples.simulator.world import World
from reconcilers.secret import Secret
from tests.reconcilers.driver import Life, Pace, new_life
from tests.worlds.addresses import addresses_of
from tests.worlds.ground import Yard
from tests.worlds.loop import VirtualClock, VirtualLoop, VirtualWorldClock
from tests.worlds.options import options_of
from tests.worlds.wire import WorldTransport

SPEED = 1200.0
VIRTUAL = Pace(VirtualClock(), poll=10.0, limit=2 * 3600.0)

Lives = Callable[..., Life]


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests with `lives` run in virtual time; all others in ours."""
    if "lives" in getattr(item, "fixturenames", ()):
        return {"virtual": VirtualLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture
async def lives(tmp_path: Path) -> AsyncIterator[Lives]:
    """`lives(spec, **fleet)` begins a tester's life in the world of this test, in virtual time: a second of the Fleet's is
    one of the world's."""
    async with AsyncExitStack() as stack:
        world = World(seed=1, clock=VirtualWorldClock())
        addresses, options = addresses_of(world, tmp_path), options_of(Yard(world), WorldTransport(world))

        def begin(spec: dict[str, Any] | None = None, **fleet_spec: Any) -> Life:
            life = new_life(world, addresses, spec, pace=VIRTUAL, options=options, **fleet_spec)
            stack.push_async_callback(life.backends.aclose)
            return life

        yield begin


@pytest.fixture
async def wired_lives(tmp_path: Path) -> AsyncIterator[Lives]:
    """As `lives`, over real HTTP, SSH and SMTP, in real time: `SPEED` seconds of the world in one of ours."""
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
