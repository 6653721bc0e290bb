"""A real SSH server for one machine without a network, and our clients over it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncssh
import pytest

from reconcilers.backends.limits import Gate
from reconcilers.backends.machine import MachineAddress
from reconcilers.backends.machine_alike import _template
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_ssh import SshShell, openssh_form
from reconcilers.clock import SystemClock
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
        hung = self.home.path / "hang"
        hung.unlink(missing_ok=True)  # a script under its time limit is in no process group that we could end
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
    """However busy this machine is: what hangs does so until the test lets it go, and a shell is warm until the test says no."""
    monkeypatch.setattr("reconcilers.backends.machine_alike._template", _template.__wrapped__)
    monkeypatch.setattr("reconcilers.backends.machine_look.COMMAND_TIME", 600)
    monkeypatch.setattr("reconcilers.backends.machine_lines.WARM", 600.0)
    monkeypatch.setattr("reconcilers.backends.machine_channels.COMPLAINT_LIMIT", 600.0)
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


def shell_of(machines: ShellMachines) -> SshShell:
    assert isinstance(machines.shell, SshShell)
    return machines.shell
