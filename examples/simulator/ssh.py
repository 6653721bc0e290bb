"""SSH for every machine: a server of its own on loopback with the machine's host key, the real authorized_keys and
a real shell.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import asyncssh

from examples.simulator.bell import Bell
from examples.simulator.machine import Machine
from examples.simulator.processes import kill_all
from examples.simulator.world import World

CHUNK = 65536
TOGETHER = 0.02
"""Real seconds in which what a command prints is gathered: a packet for each of its lines costs more than the lines do."""
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""Every client has them, and they cost a third of what asyncssh's ChaCha20 does."""
AUTHORISED = ".ssh/authorized_keys"


class _Login(asyncssh.SSHServer):
    """Root only, by a public key that the machine's own file lists at this moment."""

    def __init__(self, machine: Machine, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._machine = machine
        self._connections = connections
        self._mine: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._mine = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._mine is not None:
            self._connections.discard(self._mine)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return False

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == "root" and key.public_data in _authorised(self._machine)


def _authorised(machine: Machine) -> set[bytes]:
    """The keys of authorized_keys; lines that are none are passed over, as sshd does."""
    found = set()
    for line in (machine.files.read(AUTHORISED) or b"").splitlines():
        with contextlib.suppress(asyncssh.KeyImportError, ValueError):
            if line.strip() and not line.startswith(b"#"):
                found.add(asyncssh.import_public_key(line).public_data)
    return found


class Host:
    """One machine's SSH server, its bell and its processes."""

    def __init__(self, machine: Machine, place: Path, tools: Path) -> None:
        self._machine = machine
        self._place = place
        self._environment = {
            "HOME": str(place / "home"),
            "PATH": f"{place}/home/hero/bin:{place}/sim/bin:{tools}",
            "TMPDIR": str(place / "home" / ".tmp"),
            "LC_ALL": "C",
        }
        self._shell = str(tools / "sh")
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._bell: Bell | None = None

    async def open(self) -> int:
        """Starts listening; returns the port on loopback."""
        if self._bell is None:
            self._bell = Bell(self._machine, self._place / "sim")
        key = asyncssh.import_private_key(self._machine.state.host_key)
        self._acceptor = await asyncssh.create_server(
            lambda: _Login(self._machine, self._connections),
            "127.0.0.1",
            0,
            server_host_keys=[key],
            process_factory=self._serve,
            encoding=None,
            encryption_algs=CIPHERS,
            allow_pty=False,
            line_editor=False,
            keepalive_interval=0,
        )
        return self._acceptor.get_port()

    def cut(self) -> None:
        """Breaks every connection; processes go on."""
        for connection in list(self._connections):
            connection.abort()

    def stop(self) -> None:
        """Ends its SSH server; processes go on. `open` starts it again, with the host key of then."""
        self.cut()
        if self._acceptor is not None:
            self._acceptor.close()
            self._acceptor = None

    def close(self) -> None:
        """Ends everything of this machine, at once."""
        self.stop()
        if self._bell is not None:
            self._bell.close()
        kill_all(self._environment["HOME"])

    async def _serve(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        """One exec request: the command in the machine's shell, streams joined, then its exit status."""
        command = os.fsencode(process.command or "")
        output, error = await _Pipe.open(), await _Pipe.open()
        child = await asyncio.create_subprocess_exec(
            self._shell,
            "-c",
            command,
            stdin=asyncio.subprocess.PIPE,
            stdout=output.inlet,
            stderr=error.inlet,
            env=self._environment,
            cwd=self._environment["HOME"],
            start_new_session=True,
        )
        feeding = asyncio.create_task(_feed(process.stdin, child))
        with contextlib.suppress(ConnectionError, asyncssh.Error):
            await asyncio.gather(output.pump(process.stdout), error.pump(process.stderr))
        output.close()
        error.close()
        status = await child.wait()
        feeding.cancel()
        with contextlib.suppress(ConnectionError, asyncssh.Error):
            _finish(process, status)


def _finish(process: "asyncssh.SSHServerProcess[bytes]", status: int) -> None:
    if status >= 0:
        process.exit(status)
    else:
        process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))


class _Pipe:
    """What a command writes. Closed when the connection is lost: the next write then ends the command, as under a real sshd."""

    def __init__(self, inlet: int, reader: "_Reader", transport: asyncio.BaseTransport) -> None:
        self.inlet = inlet
        self._reader = reader
        self._transport = transport

    @classmethod
    async def open(cls) -> "_Pipe":
        outlet, inlet = os.pipe()
        reader = _Reader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(outlet, "rb", 0)
        )
        return cls(inlet, reader, transport)

    async def pump(self, sink: Any) -> None:
        """Until the last holder of the other end is gone, background jobs included."""
        os.close(self.inlet)
        while chunk := await self._reader.read(CHUNK):
            sink.write(chunk)
            await sink.drain()
            if not self._reader.ended.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._reader.ended.wait(), TOGETHER)

    def close(self) -> None:
        self._transport.close()


class _Reader(asyncio.StreamReader):
    """Tells when nothing more will come."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended.set()


async def _feed(source: Any, child: asyncio.subprocess.Process) -> None:
    """Standard input, and the signals that the client sends along with it."""
    sink = child.stdin
    while sink is not None:
        try:
            chunk = await source.read(CHUNK)
        except asyncssh.SignalReceived as received:
            os.killpg(child.pid, signal.Signals[f"SIG{received.signal}"])
            continue
        except (ConnectionError, asyncssh.Error, asyncssh.BreakReceived, asyncssh.TerminalSizeChanged):
            break
        if not chunk:
            break
        with contextlib.suppress(ConnectionError):
            sink.write(chunk)
            await sink.drain()
    if sink is not None:
        sink.close()


class Hosts:
    """The SSH servers of all machines, started when somebody first knocks."""

    def __init__(self, world: World, tools: Path) -> None:
        self._world = world
        self._tools = tools
        self._ports: dict[str, asyncio.Task[int]] = {}
        self._hosts: dict[str, Host] = {}
        for machine in world.every_machine():
            if place := world.machine_dir(machine.state):
                kill_all(str(place / "home"))
        world.on_buried.append(self._bury)
        world.on_cut.append(self._cut)
        world.on_rekeyed.append(self._rekey)

    async def port_of(self, machine: Machine) -> int:
        key = machine.state.key
        if key not in self._ports:
            place = self._world.machine_dir(machine.state)
            if place is None:
                raise RuntimeError("a world without a folder has no SSH")
            self._hosts[key] = Host(machine, place, self._tools)
            self._ports[key] = asyncio.create_task(self._hosts[key].open())
        return await asyncio.shield(self._ports[key])

    def _bury(self, machine: Machine) -> None:
        self._ports.pop(machine.state.key, None)
        if host := self._hosts.pop(machine.state.key, None):
            host.close()

    def _cut(self, machine: Machine) -> None:
        if host := self._hosts.get(machine.state.key):
            host.cut()

    def _rekey(self, machine: Machine) -> None:
        if host := self._hosts.get(machine.state.key):
            host.stop()
            self._ports[machine.state.key] = asyncio.create_task(host.open())

    def close(self) -> None:
        self._world.on_buried.remove(self._bury)
        self._world.on_cut.remove(self._cut)
        self._world.on_rekeyed.remove(self._rekey)
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()
        self._ports.clear()
