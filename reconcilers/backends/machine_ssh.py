"""The machines over SSH: one kept connection per machine, opened by whoever needs it first.

Nothing of the user who runs the controller is used: no configuration file, no agent, no known_hosts, no keys but ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from dataclasses import dataclass

import asyncssh
from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError
from python_socks.async_.asyncio import Proxy

from reconcilers.backends.limits import Call, Gate
from reconcilers.backends.machine import MachineAddress
from reconcilers.backends.machine_channels import Cut, Unbegun, Unheard, kept_on
from reconcilers.backends.machine_lines import Connection, Kept, Line
from reconcilers.backends.machine_shell import ANSWER_LIMIT, Ran
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError, Transient, Unreachable
from reconcilers.secret import Secret

CONNECT_LIMIT = 20.0  # seconds, the login included
CHANNEL_LIMIT = 15.0  # seconds until a kept connection must have opened a channel
CONNECTS_AT_ONCE = 128  # the others wait: after an outage thousands come back one after the other
SOON = 2.0  # seconds: most scripts have ended by then, and nothing was done for the case that they do not
KEEPALIVE = 20  # seconds between signs of life while a script runs; three missed ones end the connection
SUSPECT = 60.0  # seconds without a script: a connection that idle may have died unnoticed, and is given
SHORT_LIMIT = 5.0  # seconds to show itself alive, since meanwhile a place of the others is held
IDLE_LIMIT = 1800.0  # seconds without a script until a connection is closed
SWEEP_EVERY = 60.0  # seconds
MOST_FILES = 65_536
CIPHERS = "^aes256-gcm@openssh.com,aes128-gcm@openssh.com"
"""Asked for first, the usual ones after them: a look over ChaCha20, asyncssh's first choice, costs us twice as much, since its
every packet is put together from three ciphers in Python."""


@dataclass
class _Client(asyncssh.SSHClient):
    """Takes the first host key that it sees, and afterwards only that one."""

    pinned: str | None
    seen: str = ""

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        self.seen = openssh_form(key)
        return self.pinned is None or self.pinned == self.seen


class SshShell:
    """Runs scripts on machines. Implements `machine_shell.Shell`; `proxy` is a SOCKS5 address or None."""

    def __init__(self, key: Secret, gate: Gate, proxy: str | None = None, most: int | None = None) -> None:
        """`most`: connections that are kept; None: as many as the system lets us open. Raises Blocked KeyUnreadable."""
        self._key = import_key(key)
        self._gate = gate
        self._proxy = proxy
        self._lines: dict[str, Line] = {}  # those that were used last come last
        self._most = most_connections() if most is None else most
        self._swept_at = 0.0
        self._connects = asyncio.Semaphore(CONNECTS_AT_ONCE)
        self._silent: dict[str, float] = {}  # machines that did not answer when last connected to, and when that was
        self._connects_to_silent = asyncio.Semaphore(CONNECTS_AT_ONCE)  # each may take the whole limit

    def go_by(self, gate: Gate) -> None:
        """Of other limits than so far, for every call that has not come to its gate yet. The old gate stays for the same limits:
        what is under way counts."""
        if (gate.in_flight, gate.per_second) != (self._gate.in_flight, self._gate.per_second):
            self._gate = gate

    async def run(self, address: MachineAddress, script: bytes, *, name: str, writing: bool) -> Ran:
        """Run a script and wait for its end. Raises what `Shell` says."""
        line = self._line_to(address)
        line.users += 1
        self._sweep()
        try:
            return await self._run(address, line, script, name=name, writing=writing)
        finally:
            line.users -= 1
            line.used_at = asyncio.get_running_loop().time()
            if line.users == 0 and self._lines.get(address.key) is not line:
                line.close()  # it was forgotten meanwhile: nobody else knows of what was opened since
            elif line.users == 0 and not line.is_alive:
                del self._lines[address.key]  # nobody may ever ask for that machine again

    def _line_to(self, address: MachineAddress) -> Line:
        """That of a machine. One that leads elsewhere is another's: whoever still uses it comes to an end there."""
        line = self._lines.pop(address.key, None)
        if line is None or line.leads_to != _place(address):
            if line is not None and line.users == 0:
                line.close()
            line = Line(_place(address))
        self._lines[address.key] = line
        return line

    async def _run(self, address: MachineAddress, line: Line, script: bytes, *, name: str, writing: bool) -> Ran:
        async with line.places:
            # Connecting may take long and is limited apart: a dead machine must hold no place of the others (law 6).
            if line.at_hand(address.host_key) is None:
                await self._connected(address, line)
            call = Call(_system(address), name, writing)
            async with self._gate.passing(call):
                return await self._told(address, line, call, script)

    async def _told(self, address: MachineAddress, line: Line, call: Call, script: bytes) -> Ran:
        """By a shell that was kept. One that turns out to be dead is replaced, once: what only reads may be begun twice, and what
        writes when nothing of it has left. Else that is given only to a shell which is warm or new: it has just been heard of."""
        connection = line.at_hand(address.host_key) or await self._connected(address, line)
        kept = line.idle_shell(connection, only_warm=call.writing)
        if kept is not None:
            try:
                return await self._asked(address, line, kept, call, script)
            except Unheard as error:
                if call.writing and not isinstance(error, Unbegun):
                    raise _lost(address, call, error) from error
        kept = await self._opened(address, line)
        try:
            return await self._asked(address, line, kept, call, script)
        except Unheard as error:
            raise _lost(address, call, error) from error

    async def _asked(self, address: MachineAddress, line: Line, kept: Kept, call: Call, script: bytes) -> Ran:
        connection, shell = kept
        is_suspect = line.idle > SUSPECT
        try:
            await self._gate.leaving(call)
            unanswered = asyncio.get_running_loop().call_later(SOON, _unanswered, kept, is_suspect)
            try:
                return Ran(*await shell.run(script), connection.host_key)
            finally:
                unanswered.cancel()
        except Unheard:
            raise
        except (OSError, asyncssh.Error, Cut) as error:
            raise _lost(address, call, error) from error
        finally:
            if line.users == 1:
                connection.link.set_keepalive(0)
            if shell.is_open:
                line.kept.append(kept)

    def _sweep(self) -> None:
        """Close connections that are idle for too long, and those idle for the longest while there are too many."""
        now = asyncio.get_running_loop().time()
        if len(self._lines) <= self._most and 0 <= now - self._swept_at < SWEEP_EVERY:
            return
        self._swept_at = now
        self._silent = {key: at for key, at in self._silent.items() if now - at < IDLE_LIMIT}
        too_many = len(self._lines) - self._most
        for key, line in list(self._lines.items()):
            if line.users:
                continue
            if too_many <= 0 and now - line.used_at < IDLE_LIMIT:
                return  # those that follow were used later
            too_many -= 1
            del self._lines[key]
            line.close()

    async def forget(self, key: str) -> None:
        """Close the kept connection of a machine."""
        self._silent.pop(key, None)
        line = self._lines.pop(key, None)
        if line is not None:
            line.close()

    async def aclose(self) -> None:
        """Close every connection."""
        lines, self._lines = list(self._lines.values()), {}
        for line in lines:
            line.close()

    async def _opened(self, address: MachineAddress, line: Line) -> Kept:
        """A shell that waits for its script. A kept connection that turns out to be dead is replaced, once: so far
        nothing of ours was run."""
        connection = await self._connected(address, line)
        try:
            async with asyncio.timeout(SHORT_LIMIT if line.idle > SUSPECT else CHANNEL_LIMIT):
                return connection, await kept_on(connection.link)
        except (TimeoutError, OSError, asyncssh.Error) as error:
            if isinstance(error, asyncssh.ChannelOpenError) and not connection.link.is_closed():
                raise Transient(f"it opens no more channels ({error.reason})", system=_system(address)) from error
            line.give_up(connection)
        connection = await self._connected(address, line)
        try:
            async with asyncio.timeout(CHANNEL_LIMIT):
                return connection, await kept_on(connection.link)
        except (TimeoutError, OSError, asyncssh.Error) as error:
            line.give_up(connection)
            raise Unreachable("it lets us in, but opens no shell", system=_system(address)) from error

    async def _connected(self, address: MachineAddress, line: Line) -> Connection:
        """The kept connection, or a new one; whoever comes meanwhile waits for the same."""
        if not line.is_alive:
            line.close()
        if line.opening is None:
            line.used_at = asyncio.get_running_loop().time()  # a new one is not suspected of what the old one was
            line.opening = asyncio.create_task(self._connect(address))
            # Looked at here, so that a failure for which nobody waits any more does not warn.
            line.opening.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        opening = line.opening
        await asyncio.wait([opening])  # who is cancelled himself leaves here, and ends it for nobody else
        if opening.cancelled():
            raise Unreachable("the connection was closed while it was being opened", system=_system(address))
        connection = opening.result()
        if address.host_key is not None and connection.host_key != address.host_key:
            raise _host_key_changed(address, connection.host_key)
        return connection

    async def _connect(self, address: MachineAddress) -> Connection:
        """In its turn. Who did not answer the last time is waited for by its like alone: hundreds of dead machines hold up none
        that lives (law 6)."""
        async with self._connects_to_silent if address.key in self._silent else self._connects:
            self._silent.pop(address.key, None)
            try:
                return await self._let_in(address)
            except Unreachable:
                self._silent[address.key] = asyncio.get_running_loop().time()
                raise

    async def _let_in(self, address: MachineAddress) -> Connection:
        client = _Client(address.host_key)
        system = _system(address)
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                link = await self._login(address, client)
        except asyncssh.HostKeyNotVerifiable as error:
            raise _host_key_changed(address, client.seen) from error
        except asyncssh.PermissionDenied as error:
            raise Transient(
                f"the login as {address.user} is refused: is the installer's key among its authorised keys?",
                system=system,
                reason="LoginRefused",
            ) from error
        except (TimeoutError, ProxyTimeoutError) as error:
            raise Unreachable(f"no SSH connection to {address.host} in time", system=system) from error
        except (OSError, ProxyError, ProxyConnectionError, asyncssh.Error) as error:
            raise Unreachable(f"no SSH connection to {address.host} ({_brief(error)})", system=system) from error
        return Connection(link, client.seen)

    async def _login(self, address: MachineAddress, client: _Client) -> asyncssh.SSHClientConnection:
        sock = None
        if self._proxy is not None:
            sock = await Proxy.from_url(self._proxy, rdns=True).connect(dest_host=address.host, dest_port=address.port)
        try:
            return await asyncssh.connect(
                address.host,
                address.port,
                sock=sock,
                username=address.user,
                client_factory=lambda: client,
                client_keys=[self._key],
                known_hosts=lambda host, addr, port: ([], [], []),
                server_host_key_algs=_algorithms(address.host_key),
                encryption_algs=CIPHERS,
                preferred_auth="publickey",
                config=None,
                agent_path=None,
                x509_trusted_certs=None,
                gss_host=None,
                keepalive_interval=0,  # while a script runs only: of an idle one the next look tells
                keepalive_count_max=3,
            )
        except BaseException:
            if sock is not None:
                sock.close()
            raise


def most_connections() -> int:
    """Three quarters of the files that this process may have open; as many as the system gives us are asked for first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return (MOST_FILES if soft == resource.RLIM_INFINITY else soft) * 3 // 4


def import_key(key: Secret) -> asyncssh.SSHKey:
    """The installer's private key. Raises Blocked KeyUnreadable."""
    try:
        return asyncssh.import_private_key(key.reveal())
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
        raise Blocked(
            "the installer's key is not a private key without a passphrase: put one where spec.installer.privateKey points",
            system="machines",
            reason="KeyUnreadable",
        ) from None


def openssh_form(key: asyncssh.SSHKey) -> str:
    """A public key as "type base64", without a comment."""
    return " ".join(key.export_public_key("openssh").decode().split()[:2])


def _unanswered(kept: Kept, is_suspect: bool) -> None:
    """A script takes longer than most: from now on the other side shows that it is alive, soon if it has not been heard for
    long, and somebody waits for the end of the script only for so long."""
    connection, shell = kept
    connection.link.set_keepalive(*(((SHORT_LIMIT - SOON) / 2, 1) if is_suspect else (KEEPALIVE, 3)))
    shell.give_up_after(ANSWER_LIMIT - SOON)


def _lost(address: MachineAddress, call: Call, error: Exception) -> OutsideError:
    is_unknown = call.writing and not isinstance(error, Unbegun)
    kind: type[OutsideError] = OutcomeUnknown if is_unknown else Transient
    return kind(
        f"{call.name} did not come to an end that we saw ({_brief(error)})",
        system=_system(address),
        reason="ConnectionLost",
    )


def _host_key_changed(address: MachineAddress, seen: str) -> Blocked:
    return Blocked(
        f"it shows another host key ({seen or 'unreadable'}) than at first contact ({address.host_key}): an admin finds out "
        "why, and has the machine built anew (spec.machine.rebuild) if nobody of us changed it",
        system=_system(address),
        reason="HostKeyChanged",
    )


def _algorithms(pinned: str | None) -> str:
    """The pinned key's kind is asked for first: a server with several keys must not look like a changed one."""
    kind = (pinned or "").partition(" ")[0]
    known = {"ssh-rsa": "^rsa-sha2-256,rsa-sha2-512", "ssh-ed25519": "^ssh-ed25519", "ssh-ed448": "^ssh-ed448"}
    return f"^{kind}" if kind.startswith("ecdsa-sha2-nistp") else known.get(kind, "default")


def _place(address: MachineAddress) -> tuple[str, int, str]:
    return address.host, address.port, address.user


def _system(address: MachineAddress) -> str:
    return f"machine {address.key}"


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
