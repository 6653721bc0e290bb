"""The shells that stay on a machine: told one script after the other, each its own, and never one that writes twice."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from reconcilers.backends.limits import Call
from reconcilers.backends.machine import MachineQuery
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_shell import Ran
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
    monkeypatch.setattr("reconcilers.backends.machine_ssh.WARM", 0.0)
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
    monkeypatch.setattr("reconcilers.backends.machine_ssh.WARM", 0.0)
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


async def test_a_look_whose_answer_never_began_is_begun_once_more(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network went away while the connection was idle, and nobody said so."""
    await over_ssh.look(at(server), MachineQuery())
    monkeypatch.setattr("reconcilers.backends.machine_ssh.SUSPECT", -1.0)
    monkeypatch.setattr("reconcilers.backends.machine_ssh.SHORT_LIMIT", 0.2)
    server.links[0]._transport.pause_reading()  # type: ignore[union-attr]
    assert (await over_ssh.look(at(server), MachineQuery())).supervisor_up
    assert (server.logins, len(server.running)) == (2, 2)


async def test_an_answer_without_an_end_is_cut_off(
    server: Server, over_ssh: ShellMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconcilers.backends.machine_channels.OUTPUT_LIMIT", 1 << 16)
    with pytest.raises(Transient) as caught:
        await said(over_ssh, server, "yes | head -c 300000\n")
    assert caught.value.reason == "ConnectionLost"
    assert (await said(over_ssh, server, "echo fine\n")).out == b"fine\n"
    assert server.logins == 1
