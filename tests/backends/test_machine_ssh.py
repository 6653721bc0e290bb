"""The machines over a real SSH server: kept connections, host keys, cut connections, jobs that outlive them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncssh
import pytest

from reconcilers.backends.limits import Gate
from reconcilers.backends.machine import JobState, MachineAddress, MachineLook, MachineQuery
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_ssh import SshShell, openssh_form
from reconcilers.clock import SystemClock
from reconcilers.errors import Blocked, OutcomeUnknown, Transient, Unreachable
from reconcilers.secret import Secret
from tests.backends.ssh_server import KEY, Server, Until, at, over_ssh, server, shell_of

__all__ = ["over_ssh", "server"]


async def test_one_connection_is_opened_once_and_kept(server: Server, over_ssh: ShellMachines) -> None:
    values = {("core", "A"): Secret("$(touch x)'\";|&\n\n"), ("core", "RAW"): Secret(b"\xff\n")}
    await asyncio.gather(*(over_ssh.look(at(server), MachineQuery()) for _ in range(6)))
    await over_ssh.write_settings(at(server), values, {}, owned=True)
    look = await over_ssh.look(at(server), MachineQuery(secrets=tuple(values)))
    assert look.secrets == values
    assert look.host_key == openssh_form(server.keys[0])
    assert server.logins == 1
    await over_ssh.forget("compute1/0001")
    await over_ssh.look(at(server, look.host_key), MachineQuery())
    assert server.logins == 2


@pytest.mark.parametrize("only", [(), ("chacha20-poly1305@openssh.com",), ("aes256-ctr",)])
async def test_the_cheap_cipher_is_asked_for_first_and_any_usual_one_will_do(
    only: tuple[str, ...], furnished: Any, over_ssh: ShellMachines
) -> None:
    server = Server(furnished, ciphers=only)
    await server.start()
    try:
        await over_ssh.look(at(server), MachineQuery())
        used = server.links[0].get_extra_info("recv_cipher")
        assert used == (only[0] if only else "aes256-gcm@openssh.com")
    finally:
        await server.stop()


async def test_a_connection_that_broke_while_idle_is_replaced(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconcilers.backends.machine_lines.WARM", 0.0)  # it has been idle for long
    await over_ssh.look(at(server), MachineQuery())
    server.cut()
    await over_ssh.stop_service(at(server), "hero_books")
    assert server.logins == 2


async def test_another_host_key_is_refused_also_on_a_kept_connection(server: Server, over_ssh: ShellMachines) -> None:
    other = openssh_form(asyncssh.generate_private_key("ssh-ed25519"))
    scripts = len(server.running)
    for _ in range(2):
        with pytest.raises(Blocked) as caught:
            await over_ssh.look(at(server, other), MachineQuery())
        assert caught.value.reason == "HostKeyChanged"
        assert other in caught.value.message
        await over_ssh.forget("compute1/0001")
    assert len(server.running) == scripts
    await over_ssh.look(at(server), MachineQuery())
    with pytest.raises(Blocked):
        await over_ssh.look(at(server, other), MachineQuery())


async def test_a_pinned_key_is_asked_for_among_several(furnished: Any, over_ssh: ShellMachines) -> None:
    keys = [asyncssh.generate_private_key(kind) for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa")]
    server = Server(furnished, keys=keys)
    await server.start()
    for key in keys:
        pinned = openssh_form(key)
        assert (await over_ssh.look(at(server, pinned), MachineQuery())).host_key == pinned
        await over_ssh.forget("compute1/0001")
    await server.stop()


async def test_a_refused_login_and_a_closed_port_are_told_apart(server: Server, over_ssh: ShellMachines) -> None:
    server.allowed.clear()
    with pytest.raises(Transient) as caught:
        await over_ssh.look(at(server), MachineQuery())
    assert caught.value.reason == "LoginRefused"
    server.allowed.add(openssh_form(KEY))
    assert (await over_ssh.look(at(server), MachineQuery())).supervisor_up
    await server.stop()
    for _ in range(2):
        with pytest.raises(Unreachable):
            await over_ssh.stop_service(at(server), "hero_books")


async def test_a_server_that_never_speaks_is_unreachable(
    over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconcilers.backends.machine_ssh.CONNECT_LIMIT", 0.2)
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    with pytest.raises(Unreachable):
        await over_ssh.look(MachineAddress("a/1", "127.0.0.1", port=port), MachineQuery())
    silent.close()


class Mute:
    """A server that lets everybody come and says nothing, or closes the door at once. `most`: who were there at the same time."""

    def __init__(self) -> None:
        self.closes = False
        self.came = self.most = 0
        self.there: list[asyncio.StreamWriter] = []
        self.address = MachineAddress("", "127.0.0.1")
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        self._listener = await asyncio.start_server(self._met, "127.0.0.1", 0)
        self.address = replace(self.address, port=self._listener.sockets[0].getsockname()[1])

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        self.there.append(writer)
        self.most = max(self.most, len(self.there))
        if self.closes:
            self.let_go()

    def let_go(self) -> None:
        self.there.pop(0).close()

    def ask(self, machines: ShellMachines, key: str) -> asyncio.Task[MachineLook]:
        return asyncio.create_task(machines.look(replace(self.address, key=key), MachineQuery()))

    def stop(self) -> None:
        while self.there:
            self.let_go()
        if self._listener is not None:
            self._listener.close()


@pytest.fixture
async def mute(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mute]:
    """Only two connections are opened at once, and nobody gives up waiting for this one."""
    monkeypatch.setattr("reconcilers.backends.machine_ssh.CONNECTS_AT_ONCE", 2)
    monkeypatch.setattr("reconcilers.backends.machine_ssh.CONNECT_LIMIT", 600.0)
    here = Mute()
    await here.start()
    yield here
    here.stop()


async def test_so_many_connections_are_opened_at_once(mute: Mute, until: Until) -> None:
    machines = ShellMachines(SshShell(Secret(KEY.export_private_key()), Gate("machines", SystemClock())))
    asked = [mute.ask(machines, f"a/{number}") for number in range(5)]
    for number in range(5):

        async def has_come(least: int = min(number + 2, 5)) -> bool:
            return mute.came >= least

        await until(has_come)
        mute.let_go()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in found] == [Unreachable] * 5
    assert mute.most == 2
    await machines.aclose()


async def test_dead_machines_hold_up_no_living_one(server: Server, mute: Mute, until: Until) -> None:
    machines = ShellMachines(SshShell(Secret(KEY.export_private_key()), Gate("machines", SystemClock())))
    mute.closes = True
    found = await asyncio.gather(*(mute.ask(machines, f"a/{number}") for number in range(4)), return_exceptions=True)
    assert [type(each) for each in found] == [Unreachable] * 4
    mute.closes = False
    dead = [mute.ask(machines, f"a/{number}") for number in range(4)]

    async def wait() -> bool:
        return len(mute.there) == 2

    await until(wait)
    async with asyncio.timeout(20):
        assert (await machines.look(at(server), MachineQuery())).supervisor_up
    assert not any(each.done() for each in dead)
    assert mute.came == 6, "nor are more of them waited for at once"
    mute.closes = True
    mute.stop()
    await asyncio.gather(*dead, return_exceptions=True)
    await machines.aclose()


async def test_a_machine_that_answers_again_waits_for_no_dead_one(
    server: Server, mute: Mute, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = SshShell(Secret(KEY.export_private_key()), Gate("machines", SystemClock()))
    machines = ShellMachines(shell)
    mute.closes = True
    (failed,) = await asyncio.gather(mute.ask(machines, "compute1/0001"), return_exceptions=True)
    assert isinstance(failed, Unreachable)
    assert set(shell._silent) == {"compute1/0001"}
    await machines.look(at(server), MachineQuery())
    assert not shell._silent
    for number in (2, 3):
        await asyncio.gather(mute.ask(machines, f"a/{number}"), return_exceptions=True)
    await machines.forget("a/2")
    assert set(shell._silent) == {"a/3"}, "nothing is kept of a machine that is no more"
    monkeypatch.setattr("reconcilers.backends.machine_ssh.SWEEP_EVERY", 0.0)
    monkeypatch.setattr("reconcilers.backends.machine_ssh.IDLE_LIMIT", 0.0)
    await machines.look(at(server), MachineQuery())
    assert not shell._silent, "nor of one that nobody has asked for in a long time"
    await machines.aclose()


@pytest.mark.parametrize("writing", [True, False])
async def test_a_connection_cut_under_a_script_leaves_the_outcome_unknown(
    server: Server, over_ssh: ShellMachines, until: Until, writing: bool
) -> None:
    server.home.touch("hang")
    key = ("core", "A")
    call = (
        over_ssh.write_settings(at(server), {key: Secret("s3cret")}, {}, owned=False)
        if writing
        else over_ssh.look(at(server), MachineQuery(secrets=(key,)))
    )
    task = asyncio.create_task(call)

    async def asked() -> bool:
        return "secret get" in server.home.read("asked")

    await until(asked)
    server.cut()
    with pytest.raises(OutcomeUnknown if writing else Transient) as lost:
        await task
    assert lost.value.reason == "ConnectionLost"
    assert "s3cret" not in str(lost.value)


async def test_a_caller_that_gives_up_ends_its_channel_and_nobody_elses(
    server: Server, over_ssh: ShellMachines, until: Until
) -> None:
    await over_ssh.look(at(server), MachineQuery())
    server.home.touch("hang")
    task = asyncio.create_task(over_ssh.look(at(server), MachineQuery(secrets=(("core", "A"),))))

    async def asked() -> bool:
        return "secret" in server.home.read("asked")

    await until(asked)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (server.home.path / "hang").unlink()
    assert (await over_ssh.look(at(server), MachineQuery())).supervisor_up
    assert server.logins == 1


async def test_giving_up_while_connecting_does_not_end_the_connection_of_others(
    server: Server, over_ssh: ShellMachines
) -> None:
    first = asyncio.create_task(over_ssh.look(at(server), MachineQuery()))
    second = asyncio.create_task(over_ssh.look(at(server), MachineQuery()))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).supervisor_up
    assert server.logins == 1


@pytest.mark.parametrize(
    ("gives_up", "expected"), [(False, Unreachable), (True, asyncio.CancelledError)], ids=["closed", "both at once"]
)
async def test_who_gives_up_while_the_connection_is_closed_has_given_up(
    monkeypatch: pytest.MonkeyPatch, gives_up: bool, expected: type[BaseException]
) -> None:
    """What was cancelled is not told that nobody is there, which would be tried again."""
    opening = asyncio.Event()

    async def connect(*_: object) -> None:
        opening.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SshShell, "_connect", connect)
    shell = SshShell(Secret(KEY.export_private_key()), Gate("machines", SystemClock()))
    asked = asyncio.create_task(shell.run(MachineAddress("compute1/0001", "::1"), b"true", name="look", writing=False))
    await opening.wait()
    await shell.forget("compute1/0001")
    if gives_up:
        asked.cancel()
    with pytest.raises(expected):
        await asked


async def test_a_job_goes_on_without_the_connection(server: Server, over_ssh: ShellMachines, until: Until) -> None:
    server.home.touch("hold.hero_books")
    await over_ssh.start_install(at(server), "hero_books", "v0.3.1", ("hero_books",))
    await over_ssh.forget("compute1/0001")
    server.cut()
    (server.home.path / "hold.hero_books").unlink()

    async def done() -> bool:
        job = (await over_ssh.look(at(server), MachineQuery())).jobs["component-hero_books"]
        return job.state is JobState.SUCCEEDED and job.result == "v0.3.1"

    await until(done)


async def test_of_machines_that_are_no_more_nothing_is_kept(server: Server) -> None:
    shell = SshShell(Secret(KEY.export_private_key()), Gate("machines", SystemClock()))
    machines = ShellMachines(shell)
    await machines.look(at(server), MachineQuery())
    port, server.port = server.port, 1
    for number in range(5):  # as when something still asks for a machine that was just deleted
        with pytest.raises(Unreachable):
            await machines.look(replace(at(server), key=f"compute1/{number:04}x"), MachineQuery())
    server.port = port
    assert set(shell._lines) == {"compute1/0001"}
    await machines.look(at(server), MachineQuery())
    assert server.logins == 1, "a connection that is good is kept"
    await machines.aclose()


async def test_a_machine_that_moved_is_connected_to_anew(
    server: Server, over_ssh: ShellMachines, furnished: Any
) -> None:
    await over_ssh.look(at(server), MachineQuery())
    other = Server(furnished)
    await other.start()
    look = await over_ssh.look(replace(at(server), port=other.port), MachineQuery())
    assert look.host_key == openssh_form(other.keys[0])
    await other.stop()


async def test_a_key_that_is_none_says_so_without_showing_it() -> None:
    with pytest.raises(Blocked) as caught:
        SshShell(Secret("-----BEGIN PRIVATE nonsense"), Gate("machines", SystemClock()))
    assert caught.value.reason == "KeyUnreadable"
    assert "nonsense" not in str(caught.value) + repr(caught.value.__cause__)


async def test_of_too_many_connections_the_one_idle_for_longest_is_closed(server: Server) -> None:
    key = Secret(KEY.export_private_key())
    machines = ShellMachines(SshShell(key, Gate("machines", SystemClock()), most=2))
    places = [replace(at(server), key=f"compute1/000{number}") for number in range(3)]
    for place in (*places[:2], places[0], places[2]):
        await machines.look(place, MachineQuery())
    assert server.logins == 3
    await machines.look(places[0], MachineQuery())
    assert server.logins == 3, "the one that was used last but one is kept"
    await machines.look(places[1], MachineQuery())
    assert server.logins == 4
    await machines.aclose()


async def test_a_connection_that_nobody_uses_for_long_is_closed(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(at(server), key="compute1/0002")
    await over_ssh.look(at(server), MachineQuery())
    monkeypatch.setattr("reconcilers.backends.machine_ssh.SWEEP_EVERY", 0.0)
    await over_ssh.look(other, MachineQuery())
    assert len(shell_of(over_ssh)._lines) == 2
    monkeypatch.setattr("reconcilers.backends.machine_ssh.IDLE_LIMIT", 0.0)
    await over_ssh.look(other, MachineQuery())
    assert list(shell_of(over_ssh)._lines) == [other.key]


async def test_an_idle_connection_gives_no_signs_of_life(server: Server, over_ssh: ShellMachines) -> None:
    """Ten thousand of them would cost more than the looks: of one that died unnoticed the next look tells."""
    await over_ssh.look(at(server), MachineQuery())
    (line,) = shell_of(over_ssh)._lines.values()
    assert line.opening is not None
    assert line.opening.result().link._keepalive_timer is None


async def test_signs_of_life_are_given_until_the_last_script_has_ended(
    server: Server, over_ssh: ShellMachines, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconcilers.backends.machine_ssh.SOON", 0.0)
    server.home.touch("hang")
    long = asyncio.create_task(over_ssh.look(at(server), MachineQuery(secrets=(("core", "A"),))))

    async def asked() -> bool:
        return "secret get" in server.home.read("asked")

    await until(asked)
    await over_ssh.look(at(server), MachineQuery())
    (line,) = shell_of(over_ssh)._lines.values()
    assert line.opening is not None
    link = line.opening.result().link
    assert link._keepalive_timer is not None
    (server.home.path / "hang").unlink()
    await long
    assert link._keepalive_timer is None
    assert line.kept
    assert all(shell._given_up is None for _, shell in line.kept), "nobody gives up the next script for this one's sake"
