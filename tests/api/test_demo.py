"""The demo as people start it: three testers from nothing to ready, killed in the middle, and no second of anything."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.complaint import Complaint
from api.demo import world as world_of_demo
from api.demo.world import Addresses, World, alive, opened

ADDRESSES = {
    "speed": 60,
    "forge_url": "",
    "forge_token": "",
    "compute": [],
    "socks": "",
    "ca_file": "",
    "installer_key_file": "",
    "control_url": "http://127.0.0.1:9",
    "lab_url": "",
    "admin_machine": {"host": "", "host_key": ""},
    "engines": [],
    "resend_url": "",
    "resend_key": "",
}
"""As a world tells them, but for its process."""
LIMIT = 150  # real seconds: generous, since only a failure waits so long


async def demo(state: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `testerctl demo`."""
    process = await begun(state, *arguments)
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def begun(state: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "testerctl"),
        *("demo", "--state", str(state), *arguments, "--listen", "127.0.0.1:0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[Path]:
    """The demo's folder; a world that still runs on it at the end is ended."""
    yield tmp_path / "demo"
    addresses = await alive(tmp_path / "demo" / "world")
    if addresses is not None:
        await World(addresses, found=True).stop()


async def test_three_testers_come_to_life_also_when_it_is_killed_half_way(state: Path) -> None:
    killed = await begun(state, "--speed", "120")
    assert killed.stdout is not None
    async with asyncio.timeout(LIMIT):
        while not re.search(rb" (?:[5-9]\d|100)%", line := await killed.stdout.readline()):
            assert line, "it ended by itself"
    killed.kill()
    await killed.communicate()
    assert await alive(state / "world"), "the world goes on without the controller"

    code, told = await demo(state, "--exit", "--timeout", str(LIMIT))
    assert code == 0, told
    assert "was alive already" in told
    for words in (
        "3 accounts for 3",
        "3 machines for 3",
        "3 gateways for 3",
        "3 sign-in apps for 3",
        "welcome mail: sent to 2 (alice, carol), nobody twice",
        "no door was ever seen open",
    ):
        assert f"✓ {words}" in told
    assert "the door lets in Alice-B, bob, mik, sara" in told
    assert "✗" not in told

    assert await alive(state / "world") is None, "without --keep the world ends with the demo"


async def test_who_is_not_ready_in_time_is_told_with_reasons(state: Path) -> None:
    code, told = await demo(state, "--exit", "--keep", "--timeout", "5", "--speed", "1")
    assert code == 1
    assert "Not everybody was ready within 5 s" in told
    assert "alice: " in told
    assert "Traceback" not in told
    assert await alive(state / "world"), "with --keep the world stays"


async def test_a_world_that_does_not_start_is_a_complaint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Complaint, match=r"does not start; .*world\.log says why"):
        await opened(tmp_path / "world", 60, tmp_path / "world.log")


def stand_in(path: Path, work: str) -> str:
    """A program in the simulator's place, which does this and then stays."""
    path.write_text(f"#!/bin/sh\n{work}\nexec sleep 600\n")
    path.chmod(0o755)
    return str(path)


async def test_a_relative_folder_is_the_one_below_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator runs elsewhere; its arguments are `-m examples.simulator --state FOLDER …`."""
    told = json.dumps({**ADDRESSES, "pid": 0}).replace('"pid": 0', "\"pid\": '$$'")
    simulator = stand_in(tmp_path / "simulator", f"printf %s '{told}' >\"$4/addresses.json\"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", simulator)
    world = await opened(Path("demo/world"), 60, Path("world.log"))
    os.kill(world.addresses.pid, signal.SIGKILL)
    assert (tmp_path / "demo" / "world" / "addresses.json").exists()


async def test_a_world_that_never_says_where_it_is_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", stand_in(tmp_path / "simulator", "trap '' TERM"))
    monkeypatch.setattr(world_of_demo, "STARTS_WITHIN", 0.2)
    monkeypatch.setattr(world_of_demo, "ENDS_WITHIN", 0.2)
    begun: list[subprocess.Popen[bytes]] = []
    start = world_of_demo._start
    monkeypatch.setattr(world_of_demo, "_start", lambda *given: begun.append(start(*given)) or begun[-1])
    with pytest.raises(Complaint, match="does not start"):
        await opened(tmp_path / "world", 60, tmp_path / "world.log")
    (process,) = begun
    assert process.poll() is not None


async def test_a_process_that_does_not_answer_as_the_world_is_left_alone(tmp_path: Path) -> None:
    """The number of a dead world's process may belong to anybody today."""
    stranger = await asyncio.create_subprocess_exec("sleep", "600")
    (tmp_path / "addresses.json").write_text(json.dumps({**ADDRESSES, "pid": stranger.pid}))
    try:
        assert await alive(tmp_path) is None
        addresses = Addresses.read(tmp_path / "addresses.json")
        assert addresses is not None
        await World(addresses, found=True).stop()
        os.kill(stranger.pid, 0)
        assert stranger.returncode is None
    finally:
        stranger.send_signal(signal.SIGKILL)
        await stranger.wait()
