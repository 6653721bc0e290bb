"""How a script is run over an open connection: by a shell that stays on the machine.

A channel of its own takes three round trips and ten packets each way: the channel, the command, the script, what is printed,
the exit code and all their ends. For a look that is most of what it costs, and as much for the machine. So scripts are given,
one after the other, to a loop in a shell that has stayed since the first of them: a packet there and the answer back. Each is
run as it always is, by a `sh` and under a time limit of its own; nothing of it is left for the next one but what is on the
machine.

Whatever is not as it should be ends that shell: a script that fails or is given up, an answer too long, a word that does not
come, something printed that nobody asked for. The next script then gets a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

import asyncssh

from reconcilers.backends.machine_shell import ANSWER_LIMIT, SCRIPT_LIMIT

OUTPUT_LIMIT = 8 * 1024 * 1024
ERRORS_KEPT = 64 * 1024
COMPLAINT_LIMIT = 2.0  # seconds that a script's errors may come after its end
LOOP = (
    "exec sh -c 'while IFS= read -r word; do case $word in @*)"
    f' timeout -k 5 {SCRIPT_LIMIT} sh; rc=$?; printf "\\n%s %s\\n" "$word" "$rc"; [ "$rc" = 0 ] || exit "$rc" ;; esac; done\''
)
"""Reads a word, has the script that follows run, and says the word again with how that ended. Only the loop knows the word: what
a script prints cannot pass for its end. Lines that a script which ended early has left unread are passed over; after one that
failed nothing is read any more, since it may have broken off in the middle of a value."""
_LAST_LENGTH = 23  # of what it says then, at most


class Cut(Exception):
    """The script did not come to an end that we saw."""


class Unheard(Cut):
    """Nor did it say a word."""


class Unbegun(Unheard):
    """Nor was anything said to it."""


class KeptShell(asyncssh.SSHClientSession[bytes]):
    """Runs one script at a time, until it is closed."""

    def __init__(self) -> None:
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._out = bytearray()
        self._err = bytearray()
        self._word = b""
        self._ended: asyncio.Future[int] | None = None
        self._given_up: asyncio.TimerHandle | None = None
        self._is_left_to = False  # something goes on printing after the end of the script that began it
        self.is_open = False
        self.heard_at = 0.0  # by the loop's clock

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan
        self.is_open = True
        self.heard_at = asyncio.get_running_loop().time()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """What comes while nothing is asked was left behind by what a script began: the shell is closed, since that would stand
        in the next one's answer as well."""
        if datatype is not None:
            if self._ended is not None and len(self._err) < ERRORS_KEPT:
                self._err += data
        elif self._ended is None:
            self.close()
        elif self._ended.done():
            self._is_left_to = True
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        unseen = max(0, len(self._out) - _LAST_LENGTH)
        self._out += data
        start = self._out.find(b"\n" + self._word + b" ", unseen)
        end = self._out.find(b"\n", start + 1) if start >= 0 else -1
        if end >= 0 and self._ended is not None:
            self._ended.set_result(int(self._out[start:end].split()[1]))
            self._is_left_to = end + 1 < len(self._out)
            del self._out[start:]
        elif len(self._out) > OUTPUT_LIMIT:
            self._fail(Cut(f"it printed more than {OUTPUT_LIMIT >> 20} MiB"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        what = "the connection was lost" if exc is None else " ".join(str(exc).split())[:200]
        self._fail(Cut(what) if self._out else Unheard(what))

    async def run(self, script: bytes) -> tuple[int, bytes, bytes]:
        """Run a script that ends by itself; its exit code and what it printed (of one that ended well, as errors, only what had
        come by then). Raises Cut. The shell is of use for another one only if it is still open afterwards."""
        if self._channel is None or not self.is_open:
            raise Unbegun("the shell is closed")
        self._out.clear()
        self._err.clear()
        self._word = b"@" + secrets.token_hex(8).encode()
        self._ended = asyncio.get_running_loop().create_future()
        rc = -1
        try:
            try:
                self._channel.write(self._word + b"\n" + script + b"exit\n")
            except OSError as error:
                raise Unbegun("the shell was closed") from error
            rc = await self._ended
            self.heard_at = asyncio.get_running_loop().time()
            out = bytes(self._out)
            if rc != 0:  # what it complained of comes by another way, and may come later
                self._channel.write_eof()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(COMPLAINT_LIMIT):
                        await self._channel.wait_closed()
            return rc, out, bytes(self._err)
        finally:
            self._ended = None
            self._out.clear()
            if self._given_up is not None:
                self._given_up.cancel()
                self._given_up = None
            if rc != 0 or self._is_left_to:
                self.close()

    def give_up_after(self, seconds: float) -> None:
        """Wait no longer for the end of the script that runs now."""
        error = Cut(f"it took longer than {ANSWER_LIMIT:.0f} s")
        self._given_up = asyncio.get_running_loop().call_later(seconds, self._fail, error)

    def close(self) -> None:
        """End the shell, and what runs in it as far as the machine sees to that."""
        if self._channel is not None and self.is_open:
            self.is_open = False
            self._channel.close()

    def _fail(self, error: Cut) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)


async def kept_on(link: asyncssh.SSHClientConnection) -> KeptShell:
    """A shell that stays. Raises what opening a channel raises."""
    shell = KeptShell()
    await link.create_session(lambda: shell, LOOP, encoding=None)
    return shell
