"""What only a check-up asks: is there a SOCKS proxy at an address, and what time does Forge think it is? Reads, never writes."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from reconcilers.backends.forge import ForgeClient
from reconcilers.errors import Transient, Unreachable

SOCKS_PORT = 1080
GREETING = b"\x05\x02\x00\x02"  # SOCKS 5; we could do without a login, or with name and password
REFUSED = 0xFF


async def greet_proxy(address: str) -> None:
    """Says good day to a SOCKS5 proxy, and nothing more. Raises Unreachable, Transient NoProxy when something else answers."""
    parts = urlsplit(address)
    place = f"{parts.hostname}:{parts.port or SOCKS_PORT}"
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or SOCKS_PORT)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise Unreachable(f"no connection to {place} ({why})", system="proxy") from error
    try:
        writer.write(GREETING)
        await writer.drain()
        version, method = await reader.readexactly(2)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise Transient(f"what listens at {place} is no SOCKS5 proxy", system="proxy", reason="NoProxy") from error
    finally:
        writer.close()
    if version != GREETING[0] or method == REFUSED:
        raise Transient(f"what listens at {place} is no SOCKS5 proxy for us", system="proxy", reason="NoProxy")


async def forge_time(forge: ForgeClient) -> datetime | None:
    """What Forge's clock showed when it answered, to the second (HTTP's Date); None when it does not tell.

    Raises Unreachable, Transient, Throttled.
    """
    answer = await forge.wire.send("GET", "/api/v1/version", writing=False, name="version")
    try:
        told = parsedate_to_datetime(answer.headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)
