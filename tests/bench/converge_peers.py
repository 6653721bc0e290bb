"""The commands of `tests/bench/converge_work.py` by Ansible, by pyinfra, and by bare asyncssh in two ways."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

import asyncssh
import yaml

from reconcilers.backends.machine_ssh import CIPHERS, import_key
from reconcilers.secret import Secret
from tests.bench.converge_work import Work, check_done, cleared
from tests.bench.loopback import Loopback, address
from tests.bench.noop_peers import Ansible, Pyinfra, _cpu_of
from tests.bench.report import PEERS


def one_by_one(work: Work) -> list[str]:
    """An order in which needs come first."""
    return [work.text(name) for row in work.rows for name in row]


def row_by_row(work: Work) -> list[str]:
    """The commands of a row side by side, as somebody may write it who knows the graph."""
    return [" ".join(f"({work.text(name)}) &" for name in row) + " wait" for row in work.rows]


def by_ansible(server: Loopback, work: Work, number: int, commands: Sequence[str], root: Path) -> float:
    """Seconds of one run. Raises RuntimeError when not everything is done."""
    ansible = Ansible(server, root, number)
    tasks = [{"raw": each, "changed_when": True} for each in commands]
    (root / "converge.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    words = [str(PEERS / "bin/ansible-playbook"), "-i", "hosts", "converge.yml"]
    try:
        return _timed(words, root, {}, server, work, number)
    finally:
        ansible.close()


def by_pyinfra(server: Loopback, work: Work, number: int, commands: Sequence[str], root: Path) -> float:
    """Likewise."""
    Pyinfra(server, root, number)
    (root / "commands.json").write_text(json.dumps(commands))
    deploy = Path(__file__).with_name("peers") / "pyinfra_converge.py"
    words = [str(PEERS / "bin/pyinfra"), "-y", "--parallel", "50", "inventory.py", str(deploy)]
    return _timed(words, root, {"BENCH_COMMANDS": str(root / "commands.json")}, server, work, number)


def _timed(words: Sequence[str], root: Path, more: dict[str, str], server: Loopback, work: Work, number: int) -> float:
    cleared(server, number)
    began = time.perf_counter()
    _cpu_of(words, root, more)
    took = time.perf_counter() - began
    check_done(server, work, number)
    return took


async def along_the_graph(server: Loopback, work: Work, number: int) -> float:
    """Seconds, with a command begun as soon as those that it needs have ended."""

    async def one(each: int) -> None:
        async with await _connected(server, each) as link:
            ended = {name: asyncio.Event() for name in work.commands}

            async def command(name: str, needs: Sequence[str]) -> None:
                for need in needs:
                    await ended[need].wait()
                await link.run(work.text(name), check=True)
                ended[name].set()

            await asyncio.gather(*(command(name, needs) for name, needs in work.commands.items()))

    return await _of_all(server, work, number, [one(each) for each in range(number)])


async def one_after_the_other(server: Loopback, work: Work, number: int) -> float:
    """Seconds, with one command after the other on each machine, and all machines at once."""

    async def one(each: int) -> None:
        async with await _connected(server, each) as link:
            for text in one_by_one(work):
                await link.run(text, check=True)

    return await _of_all(server, work, number, [one(each) for each in range(number)])


async def _of_all(server: Loopback, work: Work, number: int, jobs: Sequence[object]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*jobs)  # type: ignore[arg-type]
    took = time.perf_counter() - began
    check_done(server, work, number)
    return took


async def _connected(server: Loopback, each: int) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        address(each), server.port, username=server.user, client_keys=[import_key(Secret(server.key.read_bytes()))],
        known_hosts=None, config=None, agent_path=None, x509_trusted_certs=None, gss_host=None,
        preferred_auth="publickey", encryption_algs=CIPHERS,
    )  # fmt: skip
