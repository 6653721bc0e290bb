"""The way to the overlay and to the public names: one SOCKS5 proxy on loopback that resolves the names itself.

A Mycelium address leads to that machine's SSH (22) or front door (9988), the admin machine's to its engines as well, a
gateway's name to the TLS listener (443).
"""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from examples.simulator.machine import Machine
from examples.simulator.ssh import Hosts
from examples.simulator.ways import GIVES_UP, SSH, Inner, listens, way_to
from examples.simulator.world import DOOR, World

CHUNK = 65536
GRANTED, UNREACHABLE, REFUSED, UNSUPPORTED = 0, 4, 5, 7

Join = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Listeners:
    """Ports on loopback behind the proxy. `inner` tells machines apart by the caller's port, see `Overlay.meant_by`."""

    inner: int
    outside: int
    forge: int


class Overlay:
    """The SOCKS5 server. No authentication, CONNECT only."""

    def __init__(self, world: World, hosts: Hosts, listeners: Listeners) -> None:
        self._world = world
        self._hosts = hosts
        self._listeners = listeners
        self._callers: dict[int, tuple[Machine, int]] = {}
        self._open: set[asyncio.StreamWriter] = set()

    def meant_by(self, caller: int) -> tuple[Machine, int] | None:
        """The machine and its port that a connection to the inner listener is meant for, by the port it comes from."""
        return self._callers.get(caller)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            host, port = await _greeted(reader, writer)
            await self._connect(host, port, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, _ProtocolError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    def close(self) -> None:
        for writer in list(self._open):
            writer.close()

    async def _connect(self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = await self._target(host, port)
        if isinstance(target, int):
            if target == UNREACHABLE:
                await self._world.clock.sleep(GIVES_UP)
            writer.write(_reply(target))
            await writer.drain()
            return
        local, machine = target
        far, mine = await self._dial(local, machine, port)
        try:
            writer.write(_reply(GRANTED))
            await writer.drain()
            await _joined((reader, writer), far, lambda: machine is None or self._lives(machine, port))
        finally:
            self._callers.pop(mine, None)

    async def _target(self, host: str, port: int) -> tuple[int, Machine | None] | int:
        """The port on loopback, with the machine for inner connections; or SOCKS5's answer."""
        if host in ("127.0.0.1", "localhost") and port == self._listeners.forge:
            return port, None
        way = way_to(self._world, host, port)
        if isinstance(way, Inner):
            return await self._hosts.port_of(way.machine) if port == SSH else self._listeners.inner, way.machine
        if way == "outside":
            return self._listeners.outside, None
        return REFUSED if way == "refused" else UNREACHABLE

    def _lives(self, machine: Machine, port: int) -> bool:
        """Whether a connection may go on: its machine is there, and the engine has not died at the other end."""
        return self._world.stands(machine) and (port in (SSH, DOOR) or listens(self._world, machine, port))

    async def _dial(self, local: int, machine: Machine | None, port: int) -> tuple[Join, int]:
        """Connects from a port that is known beforehand, so that the listener can tell for whom it answers."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        mine = int(sock.getsockname()[1])
        if machine is not None:
            self._callers[mine] = (machine, port)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", local))
        return await asyncio.open_connection(sock=sock), mine


class _ProtocolError(Exception):
    pass


async def _greeted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
    """The handshake up to the wanted host and port."""
    version, methods = await reader.readexactly(2)
    await reader.readexactly(methods)
    if version != 5:
        raise _ProtocolError
    writer.write(b"\x05\x00")
    _, command, _, kind = await reader.readexactly(4)
    if kind == 1:
        host = str(ipaddress.IPv4Address(await reader.readexactly(4)))
    elif kind == 4:
        host = str(ipaddress.IPv6Address(await reader.readexactly(16)))
    else:
        host = (
            (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii", "replace").strip("[]").lower()
        )
    (port,) = struct.unpack("!H", await reader.readexactly(2))
    if command != 1:
        writer.write(_reply(UNSUPPORTED))
        await writer.drain()
        raise _ProtocolError
    return host, port


def _reply(code: int) -> bytes:
    return bytes((5, code, 0, 1, 0, 0, 0, 0, 0, 0))


async def _joined(near: Join, far: Join, alive: Callable[[], bool]) -> None:
    """Copies both ways until both ends are closed or one breaks; a machine that is gone takes its connections along."""
    copies = {asyncio.create_task(_copy(near[0], far[1])), asyncio.create_task(_copy(far[0], near[1]))}
    running = set(copies)
    try:
        while running and alive():
            done, running = await asyncio.wait(running, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            broken = [error for copy in done if (error := copy.exception())]
            if broken:
                break
    finally:
        for copy in copies:
            copy.cancel()
        far[1].close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(CHUNK):
        sink.write(chunk)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()
