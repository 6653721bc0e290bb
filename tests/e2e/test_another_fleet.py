"""The Fleet is edited while all is well: over real SSH nobody logs in again for it."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest
import yaml

from reconcilers.backends.machine import MachineAddress
from reconcilers.backends.machine_ssh import SshShell
from tests.e2e.rig import FEW, Fleet, fleet_of, save
from tests.reconcilers.data import merged


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """To whom connections were opened."""
    made: list[str] = []
    login = SshShell._login

    async def noted(shell: SshShell, address: MachineAddress, client: object) -> asyncssh.SSHClientConnection:
        made.append(address.key)
        return await login(shell, address, client)  # type: ignore[arg-type]

    monkeypatch.setattr(SshShell, "_login", noted)
    return made


async def edited(fleet: Fleet, **spec: object) -> None:
    """The Fleet with this laid over it; until it is in force and everybody has been looked at."""
    path, before = fleet.places.folder / "fleet.yaml", fleet.controller.engine.world
    save(path, merged(yaml.safe_load(path.read_text()), {"spec": spec}))

    async def in_force() -> bool:
        return fleet.controller.engine.world is not before

    await fleet.until(in_force, "another Fleet")
    await fleet.round()


async def test_an_edit_of_the_fleet_opens_no_connection_anew(tmp_path: Path, logins: list[str]) -> None:
    async with fleet_of(tmp_path, {"alice": {}}, **FEW) as fleet:
        await fleet.ready("alice")
        await fleet.round()
        before = len(logins)
        assert before
        await edited(fleet, timing={"lookAge": "150ms"}, limits={"machine": {"inFlight": 16, "perSecond": 300}})
        assert len(logins) == before
        await edited(fleet, network={"myceliumProxy": fleet.addresses.socks.replace("127.0.0.1", "localhost")})
        assert len(logins) == before + 1
        await fleet.ready("alice")
