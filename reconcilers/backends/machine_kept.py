"""Connections to machines that outlive a Fleet: sets of clients that log in alike share one shell, and with it what is open."""

from __future__ import annotations

from dataclasses import dataclass, field

from reconcilers.backends.limits import Gate
from reconcilers.backends.machine import MachineAddress
from reconcilers.backends.machine_shell import Ran, Shell
from reconcilers.backends.machine_ssh import SshShell
from reconcilers.secret import Secret


@dataclass(frozen=True)
class Login:
    """How machines are logged in to."""

    key: Secret
    user: str
    proxy: str | None


@dataclass(eq=False)
class _Lent:
    """A shared shell, as one set of clients uses it. Closed by the last of them."""

    shell: SshShell
    login: Login
    among: dict[Login, list[_Lent]] = field(repr=False)

    async def run(self, address: MachineAddress, script: bytes, *, name: str, writing: bool) -> Ran:
        return await self.shell.run(address, script, name=name, writing=writing)

    async def forget(self, key: str) -> None:
        await self.shell.forget(key)

    async def aclose(self) -> None:
        users = self.among.get(self.login, [])
        if self in users:
            users.remove(self)
            if not users:
                del self.among[self.login]
                await self.shell.aclose()


class KeptShells:
    """One for each login."""

    def __init__(self) -> None:
        self._lent: dict[Login, list[_Lent]] = {}

    def lend(self, login: Login, gate: Gate) -> Shell:
        """The shell of a login, whose calls all go by this gate's limits from now on. Raises Blocked KeyUnreadable."""
        users = self._lent.get(login)
        if users:
            shell = users[0].shell
            shell.go_by(gate)
        else:
            shell = SshShell(login.key, gate, login.proxy)
            users = self._lent[login] = []
        lent = _Lent(shell, login, self._lent)
        users.append(lent)
        return lent
