"""The machines over a real SSH server: kept connections, host keys, cut connections, jobs that outlive them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import asyncssh
import pytest

from reconcilers.backends.limits import Gate
from reconcilers.backends.machine import JobState, MachineAddress, MachineQuery
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_question import _template
from reconcilers.backends.machine_shell import Ran
from reconcilers.backends.machine_ssh import SshShell, openssh_form
from reconcilers.clock import SystemClock
from reconcilers.errors import Blocked, OutcomeUnknown, Transient, Unreachable
from reconcilers.secret import Secret

Until = Callable[..., Awaitable[None]]
KEY = asyncssh.generate_private_key("ssh-ed25519")


@dataclass
class Server:
    """An SSH server that runs commands in a machine's home directory."""

    home: Any
    keys: list[asyncssh.SSHKey] = field(default_factory=lambda: [asyncssh.generate_private_key("ssh-ed25519")])
    allowed: set[str] = field(default_factory=lambda: {openssh_form(KEY)})
    logins: int = 0
    running: list[asyncio.subprocess.Process] = field(default_factory=list)
    links: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    ciphers: tuple[str, ...] = ()
    _listener: asyncssh.SSHAcceptor | None = None
    port: int = 0

    async def start(self) -> None:
        server = self

        class Door(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                server.links.append(conn)

            def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                return username == "root" and openssh_form(key) in server.allowed

            def public_key_auth_supported(self) -> bool:
                return True

            def auth_completed(self) -> None:
                server.logins += 1

        self._listener = await asyncssh.listen(
            "127.0.0.1",
            self.port,
            server_factory=Door,
            server_host_keys=self.keys,
            process_factory=self._serve,
            encoding=None,
            encryption_algs=self.ciphers,
        )
        self.port = self._listener.get_port()

    async def _serve(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        child = await asyncio.create_subprocess_exec(
            f"{self.home.tools}/sh",
            *("-c", process.command or ""),
            env=self.home.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self.running.append(child)
        feeding = asyncio.create_task(_pumped(process.stdin, child.stdin))
        await asyncio.gather(_pumped(child.stdout, process.stdout), _pumped(child.stderr, process.stderr))
        for number in (1, 2):  # as a server does: who still writes is ended
            pipe = child._transport.get_pipe_transport(number)  # type: ignore[attr-defined]
            pipe.close()
        status = await child.wait()
        feeding.cancel()
        with contextlib.suppress(OSError):  # the caller may be gone
            process.exit(status)

    def cut(self) -> None:
        """Break every connection, as a network does."""
        for link in self.links:
            link.abort()
        self.links.clear()

    async def stop(self) -> None:
        self.cut()
        if self._listener is not None:
            self._listener.close()
            await self._listener.wait_closed()
        for child in self.running:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    os.killpg(child.pid, signal.SIGKILL)
                await child.wait()


async def _pumped(source: Any, sink: Any) -> None:
    """As it comes, until there is no more, or nobody takes it any more."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while piece := await source.read(1 << 16):
            sink.write(piece)
            await sink.drain()
    with contextlib.suppress(OSError):
        sink.write_eof()


@pytest.fixture
async def server(furnished: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr("reconcilers.backends.machine_question._template", _template.__wrapped__)
    monkeypatch.setattr("reconcilers.backends.machine_look.COMMAND_TIME", 1)  # what hangs here hangs on purpose
    here = Server(furnished)
    await here.start()
    yield here
    await here.stop()


@pytest.fixture
async def over_ssh() -> AsyncIterator[ShellMachines]:
    key = Secret(KEY.export_private_key())
    machines = ShellMachines(SshShell(key, Gate("machines", SystemClock(), in_flight=8, per_second=100)))
    yield machines
    await machines.aclose()


def at(server: Server, host_key: str | None = None) -> MachineAddress:
    return MachineAddress("compute1/0001", "127.0.0.1", port=server.port, host_key=host_key)


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


async def test_a_connection_that_broke_while_idle_is_replaced(server: Server, over_ssh: ShellMachines) -> None:
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


def shell_of(machines: ShellMachines) -> SshShell:
    assert isinstance(machines.shell, SshShell)
    return machines.shell


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


# ---------------------------------------------------------------------------------------------------- the shell that stays


async def said(machines: ShellMachines, server: Server, script: str, *, writing: bool = False) -> Ran:
    return await shell_of(machines).run(at(server), script.encode(), name="look", writing=writing)


async def test_what_only_reads_is_told_to_one_shell_that_stays_and_a_write_has_its_own(
    server: Server, over_ssh: ShellMachines
) -> None:
    for word in ("one", "two", "three"):
        assert (await said(over_ssh, server, f"echo {word}\n")).out == f"{word}\n".encode()
    assert len(server.running) == 1
    await said(over_ssh, server, "echo four\n", writing=True)
    assert len(server.running) == 2
    assert (await over_ssh.look(at(server), MachineQuery())).supervisor_up
    assert len(server.running) == 2


ENDS: dict[str, tuple[str, int, bytes, bytes | None]] = {
    "with its last line": ("echo a; echo b >&2\n", 0, b"a\n", None),
    "without a last newline": ("printf x\n", 0, b"x", None),
    "early and well": ("echo a; exit 0\n" + "echo left\n" * 3000, 0, b"a\n", b""),
    "early and badly": ("echo a; echo b >&2; exit 3\n" + "echo left\n" * 3000, 3, b"a\n", b"b\n"),
    "not understood": ("echo a\nno such ( thing\n", 2, b"a\n", None),
    "killed": ("echo a; kill -9 $$\necho left\n", 137, b"a\n", None),
    "with what looks like an end": ("printf '\\n@0123456789abcdef 0\\n'\n", 0, b"\n@0123456789abcdef 0\n", b""),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_script_is_told_apart_from_the_next_however_it_ends(
    server: Server, over_ssh: ShellMachines, end: str
) -> None:
    script, *expected, err = ENDS[end]
    for _ in range(2):
        async with asyncio.timeout(20):
            ran = await said(over_ssh, server, script)
            assert [ran.rc, ran.out] == expected
            assert err is None or ran.err == err
            assert (await said(over_ssh, server, "echo fine\n")).out == b"fine\n"
    assert server.logins == 1


async def test_nothing_of_a_script_is_left_for_the_next(server: Server, over_ssh: ShellMachines) -> None:
    before = await said(over_ssh, server, "umask; pwd; env | sort; set +o\n")
    await said(over_ssh, server, "umask 027; cd /; A=1; export A; set -e; N=x\n")
    assert (await said(over_ssh, server, "umask; pwd; env | sort; set +o\n")).out == before.out
    assert len(server.running) == 1


async def test_a_shell_that_has_gone_meanwhile_is_replaced(
    server: Server, over_ssh: ShellMachines, until: Until
) -> None:
    await over_ssh.look(at(server), MachineQuery())
    (shell,) = server.running
    os.killpg(shell.pid, signal.SIGKILL)
    await shell.wait()
    assert (await over_ssh.look(at(server), MachineQuery())).supervisor_up
    assert (server.logins, len(server.running)) == (1, 2)


async def test_a_look_whose_answer_never_began_is_begun_once_more(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network went away while the connection was idle, and nobody said so."""
    await over_ssh.look(at(server), MachineQuery())
    monkeypatch.setattr("reconcilers.backends.machine_ssh.SUSPECT", -1.0)
    monkeypatch.setattr("reconcilers.backends.machine_ssh.SHORT_LIMIT", 0.2)
    server.links[0]._transport.pause_reading()  # type: ignore[union-attr]
    assert (await over_ssh.look(at(server), MachineQuery())).supervisor_up
    assert (server.logins, len(server.running)) == (2, 2)


async def test_an_answer_without_an_end_is_cut_off(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconcilers.backends.machine_channels.OUTPUT_LIMIT", 1 << 16)
    with pytest.raises(Transient) as caught:
        await said(over_ssh, server, "yes | head -c 300000\n")
    assert caught.value.reason == "ConnectionLost"
    assert (await said(over_ssh, server, "echo fine\n")).out == b"fine\n"
    assert server.logins == 1
