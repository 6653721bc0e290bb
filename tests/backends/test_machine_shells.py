"""The shells that stay on a machine: told one script after the other, each its own, and never one that writes twice."""

from __future__ import annotations

import asyncio
import os
import signal
from itertools import product
from typing import Any

import asyncssh
import pytest

from reconcilers.backends.limits import Call
from reconcilers.backends.machine import MachineQuery
from reconcilers.backends.machine_channels import KeptShell
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_shell import Ran
from reconcilers.backends.machine_ssh import KEEPALIVE, SUSPECT
from reconcilers.errors import OutcomeUnknown, Transient
from tests.backends.ssh_server import Server, Until, at, over_ssh, server, shell_of

__all__ = ["over_ssh", "server"]


WHILE_IT_HANGS = 'until [ ! -e "$HOME/hang" ]; do sleep 0.05; done\n'


async def said(machines: ShellMachines, server: Server, script: str, *, writing: bool = False) -> Ran:
    return await shell_of(machines).run(at(server), script.encode(), name="look", writing=writing)


async def test_scripts_are_told_to_one_shell_that_stays(server: Server, over_ssh: ShellMachines) -> None:
    for word in ("one", "two", "three"):
        ran = await said(over_ssh, server, f"echo {word}\n", writing=word == "two")
        assert ran.out == f"{word}\n".encode()
    assert (await over_ssh.look(at(server), MachineQuery())).supervisor_up
    assert len(server.running) == 1


async def test_what_writes_is_told_only_to_a_shell_that_was_heard_of_lately(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is opened for it shows that the machine is there; of an older one nobody could tell whether it has heard."""
    await said(over_ssh, server, "echo one\n")
    monkeypatch.setattr("reconcilers.backends.machine_lines.WARM", 0.0)
    await said(over_ssh, server, "echo two\n", writing=True)
    assert len(server.running) == 2
    await said(over_ssh, server, "echo three\n")
    assert len(server.running) == 2


async def test_a_burst_leaves_one_shell_behind(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    server.home.touch("hang")
    burst = asyncio.gather(*(said(over_ssh, server, WHILE_IT_HANGS, writing=True) for _ in range(4)))

    async def all_run() -> bool:
        return len(server.running) == 4

    await until(all_run)
    (server.home.path / "hang").unlink()
    await burst
    await asyncio.gather(*(said(over_ssh, server, "echo more\n", writing=True) for _ in range(4)))
    assert len(server.running) == 4
    monkeypatch.setattr("reconcilers.backends.machine_lines.WARM", 0.0)
    await said(over_ssh, server, "echo looked\n")

    async def one_is_left() -> bool:
        return sum(each.returncode is None for each in server.running) == 1

    await until(one_is_left)


async def test_a_write_into_a_shell_that_dies_under_it_is_not_told_to_another(
    server: Server, over_ssh: ShellMachines, until: Until
) -> None:
    await said(over_ssh, server, "echo one\n")
    server.home.touch("hang")
    task = asyncio.create_task(said(over_ssh, server, f'echo x >>"$HOME/wrote"; {WHILE_IT_HANGS}', writing=True))

    async def wrote() -> bool:
        return (server.home.path / "wrote").exists()

    await until(wrote)
    (shell,) = server.running
    os.killpg(shell.pid, signal.SIGKILL)
    (server.home.path / "hang").unlink()
    with pytest.raises(OutcomeUnknown):
        await task
    assert server.home.read("wrote") == "x\n"


async def test_a_write_for_which_nothing_was_said_yet_is_told_to_another_shell(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    await said(over_ssh, server, "echo one\n")
    (line,) = shell_of(over_ssh)._lines.values()
    ((_, shell),) = line.kept

    async def closed_meanwhile(call: Call) -> None:
        monkeypatch.undo()
        shell.close()

    monkeypatch.setattr(shell_of(over_ssh)._gate, "leaving", closed_meanwhile)
    assert (await said(over_ssh, server, "echo two\n", writing=True)).out == b"two\n"


async def test_after_a_script_that_failed_nothing_of_it_is_taken_for_another(
    server: Server, over_ssh: ShellMachines
) -> None:
    script = "exit 3\n" + "#\n" * 40_000 + '@word\necho >"$HOME/ran"\nexit\n'
    assert (await said(over_ssh, server, script, writing=True)).rc == 3
    assert (await said(over_ssh, server, "echo fine\n")).out == b"fine\n"
    assert not (server.home.path / "ran").exists()


ENDS: dict[str, tuple[str, int, bytes, bytes | None]] = {
    "with its last line": ("echo a; echo b >&2\n", 0, b"a\n", None),
    "without a last newline": ("printf x\n", 0, b"x", None),
    "early and well": ("echo a; exit 0\n" + "echo left\n" * 3000, 0, b"a\n", b""),
    "early and badly": ("echo a; echo b >&2; exit 3\n" + "echo left\n" * 3000, 3, b"a\n", b"b\n"),
    "not understood": ("echo a\nno such ( thing\n", 2, b"a\n", None),
    "killed": ("echo a; kill -9 $$\necho left\n", 137, b"a\n", None),
    "with what looks like an end": ("printf '\\n@0123456789abcdef 0\\n'\n", 0, b"\n@0123456789abcdef 0\n", b""),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_script_is_told_apart_from_the_next_however_it_ends(
    server: Server, over_ssh: ShellMachines, end: str
) -> None:
    script, *expected, err = ENDS[end]
    for _ in range(2):
        async with asyncio.timeout(20):
            ran = await said(over_ssh, server, script)
            assert [ran.rc, ran.out] == expected
            assert err is None or ran.err == err
            assert (await said(over_ssh, server, "echo fine\n")).out == b"fine\n"
    assert server.logins == 1


async def test_nothing_of_a_script_is_left_for_the_next(server: Server, over_ssh: ShellMachines) -> None:
    before = await said(over_ssh, server, "umask; pwd; env | sort; set +o\n")
    await said(over_ssh, server, "umask 027; cd /; A=1; export A; set -e; N=x\n")
    assert (await said(over_ssh, server, "umask; pwd; env | sort; set +o\n")).out == before.out
    assert len(server.running) == 1


async def test_a_shell_that_has_gone_meanwhile_is_replaced(
    server: Server, over_ssh: ShellMachines, until: Until
) -> None:
    await over_ssh.look(at(server), MachineQuery())
    (shell,) = server.running
    os.killpg(shell.pid, signal.SIGKILL)
    await shell.wait()
    assert (await over_ssh.look(at(server), MachineQuery())).supervisor_up
    assert (server.logins, len(server.running)) == (1, 2)


def died_while_idle(server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network went away, and nobody said so. What is suspected of it has not long to show itself alive."""
    monkeypatch.setattr("reconcilers.backends.machine_ssh.SHORT_LIMIT", 0.1)
    (line,) = shell_of(over_ssh)._lines.values()
    line.used_at -= 2 * SUSPECT
    server.links[0]._transport.pause_reading()  # type: ignore[union-attr]


async def test_a_look_whose_answer_never_began_is_begun_once_more(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    await over_ssh.look(at(server), MachineQuery())
    monkeypatch.setattr("reconcilers.backends.machine_ssh.SOON", 0.0)
    died_while_idle(server, over_ssh, monkeypatch)
    given: list[tuple[float, ...]] = []
    set_keepalive = asyncssh.SSHClientConnection.set_keepalive

    def noted(link: asyncssh.SSHClientConnection, *limits: Any) -> None:
        given.append(limits)
        set_keepalive(link, *limits)

    monkeypatch.setattr(asyncssh.SSHClientConnection, "set_keepalive", noted)
    assert (await over_ssh.look(at(server), MachineQuery())).supervisor_up
    assert (server.logins, len(server.running)) == (2, 2)
    assert [limits for limits in given if limits != (0,)] == [(0.05, 1), (KEEPALIVE, 3)], "the new one has its time"


async def test_an_answer_without_an_end_is_cut_off(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconcilers.backends.machine_channels.OUTPUT_LIMIT", 1 << 16)
    with pytest.raises(Transient) as caught:
        await said(over_ssh, server, "yes | head -c 300000\n")
    assert caught.value.reason == "ConnectionLost"
    assert (await said(over_ssh, server, "echo fine\n")).out == b"fine\n"
    assert server.logins == 1


async def test_what_goes_on_printing_is_heard_by_no_later_script(
    server: Server, over_ssh: ShellMachines, until: Until
) -> None:
    server.home.touch("hang")
    await said(over_ssh, server, f"({WHILE_IT_HANGS.strip()}; echo late) & exit 0\n")
    (line,) = shell_of(over_ssh)._lines.values()
    ((_, shell),) = line.kept
    (server.home.path / "hang").unlink()

    async def is_closed() -> bool:
        return not shell.is_open

    await until(is_closed)
    assert (await said(over_ssh, server, "echo fine\n")).out == b"fine\n"
    assert (server.logins, len(server.running)) == (1, 2)


class Channel:
    """An SSH channel into which we look from the other side."""

    def __init__(self) -> None:
        self.told = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.told += data

    def close(self) -> None:
        self.is_closed = True


OUT = [b"", b"a", b"a\n", b"\n@0123456789abcdef 0", b"\xff\0\n\n@"]
LEFT = [b"", b"late", b"late\n", b"\n@0123456789abcdef 0\n"]


async def test_an_end_is_seen_however_it_comes_and_whatever_follows() -> None:
    """What a script began may print at once after its end, in the same packet."""
    for out, left, pieces in product(OUT, LEFT, (1, 2, 7, 100)):
        channel, shell = Channel(), KeptShell()
        shell.connection_made(channel)  # type: ignore[arg-type]
        running = asyncio.create_task(shell.run(b"true\n"))
        await asyncio.sleep(0)
        comes = out + b"\n" + channel.told.partition(b"\n")[0] + b" 0\n" + left
        size = -(-len(comes) // pieces)
        for start in range(0, len(comes), size):
            shell.data_received(comes[start : start + size], None)
        async with asyncio.timeout(5):
            assert await running == (0, out, b"")
        assert (shell.is_open, channel.is_closed) == (not left, bool(left))


async def test_a_write_that_never_left_is_no_unknown_one(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut_meanwhile(call: Call) -> None:
        (line,) = shell_of(over_ssh)._lines.values()
        line.close()
        await server.links[-1].wait_closed()

    monkeypatch.setattr(shell_of(over_ssh)._gate, "leaving", cut_meanwhile)
    with pytest.raises(Transient) as caught:
        await said(over_ssh, server, 'touch "$HOME/wrote"\n', writing=True)
    assert caught.value.reason == "ConnectionLost"


async def test_of_a_machine_that_is_forgotten_meanwhile_no_connection_is_left(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    await said(over_ssh, server, "echo one\n")

    async def forgotten_meanwhile(call: Call) -> None:
        monkeypatch.undo()
        await over_ssh.forget("compute1/0001")

    monkeypatch.setattr(shell_of(over_ssh)._gate, "leaving", forgotten_meanwhile)
    assert (await said(over_ssh, server, "echo two\n")).out == b"two\n"
    async with asyncio.timeout(20):
        await server.links[1].wait_closed()
    assert server.logins == 2


@pytest.mark.parametrize("writing", [True, False])
async def test_a_script_that_takes_too_long_is_given_up(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch, writing: bool
) -> None:
    await said(over_ssh, server, "echo one\n")
    server.home.touch("hang")
    monkeypatch.setattr("reconcilers.backends.machine_ssh.SOON", 0.05)
    monkeypatch.setattr("reconcilers.backends.machine_ssh.ANSWER_LIMIT", 0.1)
    with pytest.raises(OutcomeUnknown if writing else Transient, match="longer than"):
        await said(over_ssh, server, WHILE_IT_HANGS, writing=writing)
    monkeypatch.undo()
    (server.home.path / "hang").unlink()
    assert (await said(over_ssh, server, "echo two\n")).out == b"two\n"
    assert server.logins == 1


async def test_a_machine_that_opens_no_more_shells_does_not_lose_those_that_it_has(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    server.home.touch("hang")
    first = asyncio.create_task(said(over_ssh, server, f"echo one; {WHILE_IT_HANGS}", writing=True))

    async def it_runs() -> bool:
        return len(server.running) == 1

    await until(it_runs)

    def refused(_link: object, _packet: object) -> None:
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "no more")

    monkeypatch.setattr(asyncssh.SSHServerConnection, "_process_session_open", refused)
    with pytest.raises(Transient, match="no more channels"):
        await said(over_ssh, server, "echo two\n", writing=True)
    (server.home.path / "hang").unlink()
    assert (await first).out == b"one\n"
    assert server.logins == 1


async def test_a_connection_that_died_unnoticed_is_replaced_also_for_what_writes(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No shell of it was kept, so that nothing has left when it shows."""
    assert (await said(over_ssh, server, "exit 3\n")).rc == 3
    died_while_idle(server, over_ssh, monkeypatch)
    assert (await said(over_ssh, server, "echo two\n", writing=True)).out == b"two\n"
    assert server.logins == 2
