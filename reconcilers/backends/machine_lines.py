"""What we hold of one machine: a connection that is being opened or is open, and shells that stay on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import asyncssh

from reconcilers.backends.machine_channels import KeptShell

SCRIPTS_PER_MACHINE = 8  # servers allow ten channels on one connection by default, and a shell may stay beside these
WARM = 2.0  # seconds: a shell that was heard of as lately is given what writes, and is not too many beside others


@dataclass(frozen=True)
class Connection:
    """A kept connection."""

    link: asyncssh.SSHClientConnection
    host_key: str


Kept = tuple[Connection, KeptShell]


@dataclass
class Line:
    """To one place: host, port and user. It has places for scripts, and knows how many use or want one."""

    leads_to: tuple[str, int, str]
    opening: asyncio.Task[Connection] | None = None
    users: int = 0
    used_at: float = 0.0  # when a connection was asked for or a script ended last, by the loop's clock
    kept: list[Kept] = field(default_factory=list)  # shells that nobody uses just now; the one used last comes last
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SCRIPTS_PER_MACHINE))

    @property
    def idle(self) -> float:
        """Seconds since a script ended on it, or it was connected anew."""
        return asyncio.get_running_loop().time() - self.used_at if self.used_at else 0.0

    @property
    def is_alive(self) -> bool:
        """Whether there is a connection to keep, or may be one soon."""
        if self.opening is None or not self.opening.done():
            return self.opening is not None
        made = self._made()
        return made is not None and not made.link.is_closed()

    def at_hand(self, host_key: str | None) -> Connection | None:
        """The kept connection, where nothing has to be waited for."""
        made = self._made()
        if made is None or made.link.is_closed():
            return None
        return made if host_key is None or host_key == made.host_key else None

    def idle_shell(self, connection: Connection, *, only_warm: bool) -> Kept | None:
        """The one that was used last. Others are ended once they are cold: work comes in bursts, and looks ask one at a time."""
        now = asyncio.get_running_loop().time()
        usable = [each for each in self.kept if each[0] is connection and each[1].is_open]
        warm = [each for each in usable if now - each[1].heard_at < WARM]
        self.kept = warm or usable[-1:]
        for each in usable:
            if each not in self.kept:
                each[1].close()
        return self.kept.pop() if warm or (usable and not only_warm) else None

    def give_up(self, connection: Connection) -> None:
        """End a connection. Whoever asks next gets another: one that is being ended does not tell at once that it is closed."""
        connection.link.abort()
        if self._made() is connection:
            self.opening, self.kept = None, []

    def close(self) -> None:
        """End the connection, or its being opened."""
        made = self._made()
        if made is not None:
            made.link.abort()
        elif self.opening is not None:
            self.opening.cancel()
        self.opening, self.kept = None, []

    def _made(self) -> Connection | None:
        """The connection, once it is opened."""
        opening = self.opening
        if opening is None or not opening.done() or opening.cancelled() or opening.exception() is not None:
            return None
        return opening.result()
