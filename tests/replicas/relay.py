"""A TCP relay in front of a Unix socket, which can be cut: then nothing passes, and nobody is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Relay:
    """`open`: while it is not set, what is sent is swallowed up, in both directions."""

    to: str
    port: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    _pipes: set[asyncio.Task[None]] = field(default_factory=set)

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        carrying = asyncio.ensure_future(self._carry(reader, writer))
        self._pipes.add(carrying)
        await asyncio.wait({carrying})
        self._pipes.discard(carrying)
        writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.open.wait()
        try:
            there, back = await asyncio.open_unix_connection(self.to)
        except OSError:
            return  # nobody listens: the connection ends
        pipes = [asyncio.ensure_future(self._pipe(reader, back)), asyncio.ensure_future(self._pipe(there, writer))]
        try:
            await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            await self.open.wait()  # that one side has ended is not heard of at the other either
        finally:
            for pipe in pipes:
                pipe.cancel()
            back.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(1 << 16):
                if not self.open.is_set():
                    await asyncio.Event().wait()  # what was cut stays cut
                writer.write(piece)
                await writer.drain()


@asynccontextmanager
async def relay(to: str) -> AsyncIterator[Relay]:
    made = Relay(to)
    made.open.set()
    server = await asyncio.start_server(made.carry, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.open.set()
        server.close()
        pipes = list(made._pipes)
        for pipe in pipes:
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
