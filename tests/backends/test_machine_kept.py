"""Connections to machines while the Fleet changes: real SSH, and two sets of clients of one controller."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import asyncssh
import pytest

from reconcilers.backends import Backends
from reconcilers.backends.limits import Call
from reconcilers.backends.machine import MachineQuery
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_shell import Ran
from reconcilers.backends.machine_ssh import openssh_form
from reconcilers.backends.opening import Options, open_backends
from reconcilers.clock import SystemClock
from reconcilers.errors import Blocked, Unreachable
from reconcilers.secret import Secret
from tests.backends.ssh_server import KEY, Server, Until, at, server
from tests.backends.test_opening import SECRETS, fleet

__all__ = ["server"]

HELD = {**SECRETS, "file:key": Secret(KEY.export_private_key())}
LONG = b'touch "$HOME/begun"; until [ ! -e "$HOME/hang" ]; do sleep 0.05; done\n'


class InFlight:
    """Counts the calls that gates have let through."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def before(self, call: Call) -> None:
        self.now += 1
        self.most = max(self.most, self.now)

    async def after(self, call: Call, failure: BaseException | None) -> None:
        self.now -= 1


@pytest.fixture
def options() -> Options:
    """One controller's."""
    return Options(hooks=[InFlight()])


def opened(options: Options, held: dict[str, Secret] = HELD, *, machine: int = 8, **spec: Any) -> Backends:
    network = spec.pop("network", {})
    limits = {"machine": {"inFlight": machine, "perSecond": 100}}
    return open_backends(fleet(more={"limits": limits, **spec}, **network), held, SystemClock(), options)


async def begun(backends: Backends, server: Server, until: Until) -> asyncio.Task[Ran]:
    """A script that runs as long as the server's home says so."""
    assert isinstance(backends.machines, ShellMachines)
    server.home.touch("hang")
    task = asyncio.create_task(backends.machines.shell.run(at(server), LONG, name="long", writing=True))

    async def runs() -> bool:
        return (server.home.path / "begun").exists()

    await until(runs)
    return task


async def closed(server: Server) -> None:
    """Until the first connection is."""
    async with asyncio.timeout(20):
        await server.links[0].wait_closed()


async def test_another_fleet_takes_over_the_connections_and_the_last_one_closes_them(
    server: Server, options: Options
) -> None:
    old = opened(options)
    await old.machines.look(at(server), MachineQuery())
    new = opened(options, timing={"lookAge": "20s"})
    await new.machines.look(at(server), MachineQuery())
    await old.aclose()
    await old.aclose()
    await new.machines.look(at(server), MachineQuery())
    assert server.logins == 1
    await new.aclose()
    await closed(server)
    last = opened(options)
    await last.machines.look(at(server), MachineQuery())
    assert server.logins == 2
    await last.aclose()


async def test_who_works_under_the_old_fleet_comes_to_an_end_beside_the_new_one(
    server: Server, options: Options, until: Until
) -> None:
    old, new = opened(options), opened(options)
    long = await begun(old, server, until)
    await new.machines.look(at(server), MachineQuery())
    await new.aclose()
    assert not long.done()
    (server.home.path / "hang").unlink()
    assert (await long).rc == 0
    assert server.logins == 1
    await old.aclose()
    await closed(server)


@pytest.mark.parametrize("other", ["key", "user", "proxy"])
async def test_who_logs_in_otherwise_has_connections_of_its_own(server: Server, options: Options, other: str) -> None:
    old = opened(options)
    await old.machines.look(at(server), MachineQuery())
    key = asyncssh.generate_private_key("ssh-ed25519")
    server.allowed.add(openssh_form(key))
    network = {"myceliumProxy": "socks5://127.0.0.1:9"} if other == "proxy" else {}
    held = {**HELD, "file:key": Secret(key.export_private_key())} if other == "key" else HELD
    installer = {"privateKey": "file:key", "user": "other" if other == "user" else "root"}
    new = opened(options, held, installer=installer, network=network)
    await old.aclose()
    await closed(server)
    if other == "proxy":
        with pytest.raises(Unreachable):
            await new.machines.look(at(server), MachineQuery())
    else:
        await new.machines.look(at(server), MachineQuery())
        assert server.logins == 2
    await new.aclose()


async def test_the_limits_of_the_new_fleet_hold_also_for_who_works_under_the_old_one(
    server: Server, options: Options
) -> None:
    (calls,) = options.hooks
    assert isinstance(calls, InFlight)
    old, new = opened(options, machine=8), opened(options, machine=1)
    await asyncio.gather(*(each.machines.look(at(server), MachineQuery()) for each in (old, new) for _ in range(4)))
    assert (calls.most, calls.now) == (1, 0)
    await old.aclose()
    await new.aclose()


async def test_under_the_same_limits_what_is_under_way_counts(server: Server, options: Options, until: Until) -> None:
    (calls,) = options.hooks
    assert isinstance(calls, InFlight)
    old = opened(options, machine=1)
    long = await begun(old, server, until)
    new = opened(options, machine=1)
    looking = asyncio.create_task(new.machines.look(at(server), MachineQuery()))
    (server.home.path / "hang").unlink()
    await asyncio.gather(long, looking)
    assert calls.most == 1
    await old.aclose()
    await new.aclose()


async def test_a_fleet_that_cannot_be_used_holds_no_connection(server: Server, options: Options) -> None:
    old = opened(options)
    await old.machines.look(at(server), MachineQuery())
    for missing in SECRETS:
        with pytest.raises(Blocked):
            opened(options, {name: value for name, value in HELD.items() if name != missing}, machine=1)
    await old.aclose()
    await closed(server)


async def test_a_machine_that_moves_under_a_script_leaves_it_to_its_end(
    server: Server, options: Options, furnished: Any, until: Until
) -> None:
    """As when an engine's list moves to another machine by an edit of the Fleet."""
    other = Server(furnished)
    await other.start()
    backends = opened(options)
    long = await begun(backends, server, until)
    await backends.machines.look(replace(at(server), port=other.port), MachineQuery())
    assert not long.done()
    (server.home.path / "hang").unlink()
    assert (await long).rc == 0
    await closed(server)
    await backends.aclose()
    await other.stop()
