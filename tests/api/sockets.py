"""What the server says to bytes that no client would send."""

from __future__ import annotations

import asyncio


async def said(port: int, *pieces: bytes) -> bytes:
    """All that it says to them until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        async with asyncio.timeout(30):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            while some := await reader.read(100_000):
                answer += some
    except ConnectionError:
        pass  # it hung up in the middle: what came is the answer
    finally:
        writer.close()
    return answer
