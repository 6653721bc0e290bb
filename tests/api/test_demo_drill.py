"""The drill: a controller that is really killed where it was told to, faults that befall, and words for both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from api.complaint import Complaint
from api.demo import crash
from api.demo.checks import undoubled
from api.demo.crash import STEPS, Crash, Death, Life, crash_of, doomed_options
from api.demo.faults import PROFILES, Narrator, befallen, drawn, told
from api.demo.world import Addresses, World, alive
from examples.simulator.clock import WorldClock
from examples.simulator.faults import Faults
from examples.simulator.records import Fault
from reconcilers.backends.limits import Call, Gate
from reconcilers.clock import Clock, SystemClock
from reconcilers.steps import all_steps
from tests.api.conftest import Terminal

DEATH = Death("bob", "machine", "create machine bob_1", "deploy_vm", "after")
NOW = 1_000_000.0
SPEED = 60.0


# -- what is asked for


@pytest.mark.parametrize(
    ("words", "means"),
    [
        ("machine", Crash("machine", "before")),
        ("sign_in_app:before", Crash("sign_in_app", "before")),
        ("welcome:after", Crash("welcome", "after")),
    ],
)
def test_where_to_crash(words: str, means: Crash) -> None:
    assert crash_of(words) == means


@pytest.mark.parametrize("words", ["machines", "", ":after", "machine:", "machine:later"])
def test_where_nobody_can_crash_is_a_complaint_with_what_there_is(words: str) -> None:
    with pytest.raises(Complaint) as complaint:
        crash_of(words)
    expected = ("machine:before", "machine:after") if words.startswith("machine:") else STEPS
    assert all(word in str(complaint.value) for word in expected)


def test_every_step_can_be_crashed_at() -> None:
    assert tuple(step.name for step in all_steps(cast(Any, None))) == STEPS


def test_a_wrong_step_or_profile_begins_nothing(tmp_path: Path, testerctl: Terminal) -> None:
    for option, word, known in (("--crash-at", "machines", "sign_in_app"), ("--faults", "wild", "none, mild, rough")):
        assert testerctl("demo", "--state", tmp_path / "demo", option, word, "--listen", "127.0.0.1:0") == 1
        assert known in " ".join(f"{testerctl.out} {testerctl.err}".split())
        assert not (tmp_path / "demo").exists()


# -- the death


class Killed(Exception):
    """Stands for the end of the process."""


class Mortal(Life):
    """Does not take the tests along."""

    def die(self, death: Death) -> NoReturn:
        self.death = death
        raise Killed


def mortal(words: str) -> Mortal:
    return Mortal(cast(Any, None), crash_of(words))


class Doing:
    """A step whose apply makes these calls; each is answered so, or fails."""

    def __init__(self, gate: Gate, *calls: tuple[str, bool, str]) -> None:
        self.gate, self.calls = gate, calls
        self.sent: list[str] = []

    async def apply(self, action: Any, tester: Any, ports: Any) -> None:
        for name, writing, status in self.calls:
            async with self.gate.passing(Call("compute", name, writing)) as passage:
                self.sent.append(name)
                passage.status = status


async def life_of(life: Mortal, step: str, *calls: tuple[str, bool, str]) -> list[str]:
    """The calls that left before the end."""
    counted: list[tuple[str, str]] = []
    options = doomed_options(life, lambda call, status, took: counted.append((call.name, status)))
    doing = Doing(Gate("compute", SystemClock(), hooks=options.hooks, counted=options.counted), *calls)

    class Action:
        verb, target = "create", "machine bob_1"

    class Tester:
        name = "bob"

    with contextlib.suppress(Killed):
        await crash._noted(step, doing.apply)(Action, Tester, None)
    assert [name for name, _ in counted] == doing.sent, "the meters are told all the same"
    return doing.sent


CALLS = (("list_vms", False, "200"), ("deploy_vm", True, "200"), ("stop_vm", True, "200"))


async def test_it_dies_before_the_first_writing_call_goes_out() -> None:
    life = mortal("machine:before")
    assert await life_of(life, "machine", *CALLS) == ["list_vms"]
    assert life.death == replace(DEATH, moment="before")


async def test_it_dies_when_the_world_has_done_it() -> None:
    life = mortal("machine:after")
    assert await life_of(life, "machine", *CALLS) == ["list_vms", "deploy_vm"]
    assert life.death == DEATH


async def test_what_the_world_refused_is_not_what_it_dies_after() -> None:
    life = mortal("machine:after")
    sent = await life_of(life, "machine", ("deploy_vm", True, "502"), *CALLS)
    assert sent == ["deploy_vm", "list_vms", "deploy_vm"]


async def test_other_steps_go_on() -> None:
    life = mortal("gateway:before")
    assert await life_of(life, "machine", *CALLS) == ["list_vms", "deploy_vm", "stop_vm"]
    assert "gateway had nothing to write" in life.reminder
    assert await life_of(life, "gateway", *CALLS) == ["list_vms"]
    assert life.death is not None
    assert life.death.step == "gateway"


async def test_nobody_works_on_when_the_parent_was_killed() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stop = asyncio.Event()
        Life(theirs, None).ends_with_parent(stop)
        assert not stop.is_set()
        ours.close()
        async with asyncio.timeout(30):
            await stop.wait()


def test_the_death_in_words() -> None:
    assert str(DEATH) == (
        "The controller was killed right after deploy_vm had been done, before a word of the answer was written down "
        "(bob, machine: create machine bob_1)."
    )
    assert "right before deploy_vm went out (bob" in str(replace(DEATH, moment="before"))
    second = Life(cast(Any, None), None, DEATH)
    assert second.reminder == (
        "The controller was killed right after deploy_vm had been done, and started again on the same books."
    )


# -- faults


def test_the_same_seed_draws_the_same_faults() -> None:
    assert drawn("mild", 1, NOW, SPEED) == drawn("mild", 1, NOW, SPEED)
    assert drawn("mild", 1, NOW, SPEED) != drawn("mild", 2, NOW, SPEED)
    assert drawn("none", 1, NOW, SPEED) == ()


@pytest.mark.parametrize("name", PROFILES)
def test_the_world_knows_every_fault_and_all_of_them_end(name: str) -> None:
    faults = Faults([], WorldClock())
    for seed in range(20):
        for row in drawn(name, seed, NOW, SPEED):
            kept = faults.add(Fault(**row))
            assert kept.until is not None
            assert kept.until > (kept.at or NOW)
            assert " " in told(kept.model_dump(), SPEED)


def test_spells_tell_how_long_and_blows_what_they_did() -> None:
    spell = fault(kind="http_502", method="*", times=None, at=NOW, until=NOW + 4 * SPEED)
    assert told(spell, SPEED) == "the daemon answers 502, for 4 s"
    assert told(fault(times=1), SPEED) == "deploy_vm was done, and the connection broke in the answer"


def fault(**of: Any) -> dict[str, Any]:
    row = Fault(**{"system": "compute", "method": "deploy_vm", "kind": "cut_mid_answer", "until": NOW + 600, **of})
    return row.model_dump()


class Told:
    """Stands for the world and for the clock: what faults there are, and how late it is."""

    addresses = type("Addresses", (), {"speed": SPEED})

    def __init__(self, *rows: dict[str, Any]) -> None:
        self.rows = list(rows)
        self.late = timedelta(0)

    async def faults(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self.rows]

    def now(self) -> Any:
        return BEGAN + self.late


BEGAN = SystemClock().now()


def narrator(there: Told, *told: int) -> Narrator:
    return Narrator(cast(World, there), cast(Clock, there), (NOW, BEGAN), set(told))


async def test_each_fault_is_told_once_when_it_befalls() -> None:
    spell = fault(kind="http_502", method="*", times=None, at=NOW + 5 * SPEED, until=NOW + 9 * SPEED)
    there = Told(spell, fault(times=1))
    tells = narrator(there)
    assert await tells.news() == ()
    there.rows[1]["times"] = 0
    assert await tells.news() == ("deploy_vm was done, and the connection broke in the answer",)
    there.late = timedelta(seconds=6)
    assert await tells.news() == ("the daemon answers 502, for 4 s",)
    pending = [tells.pending]
    there.late = timedelta(seconds=10)
    assert await tells.news() == ()
    assert [*pending, tells.pending] == [True, False]
    assert await befallen(cast(World, there), tells.now) == "2 of 2 faults have befallen"


async def test_the_second_life_tells_what_the_first_had_no_time_to() -> None:
    spell = fault(kind="down", method="*", times=None, at=NOW - SPEED, until=NOW + SPEED)
    there = Told(spell, fault(times=0), fault(times=1))
    assert await befallen(cast(World, there), NOW) == "2 of 3 faults have befallen"
    assert await narrator(there, 0).news() == ("deploy_vm was done, and the connection broke in the answer",)


# -- what came of it


class Books:
    """Stands for the world: one tester's worth of everything."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {
            "accounts": ["Bob"],
            "vms": 1,
            "gateways": 1,
            "apps": [{}],
            "mailbox": [{"to": ["bob@example.org"], "key": "1"}],
            "violations": [],
        }
        self.twice: list[str] = []

    async def books(self) -> dict[str, Any]:
        return self.held

    async def log(self) -> list[dict[str, Any]]:
        call = {"method": "POST", "what": "/rpc deploy_vm", "writing": True}
        return [call, call, {**call, "what": "/rpc list_vms", "writing": False}]

    async def doubles(self) -> list[str]:
        return self.twice


def bob() -> Any:
    account = type("Account", (), {"name": "bob", "email": "bob@example.org"})
    desired = type("Desired", (), {"account": account, "welcome": type("Welcome", (), {"send": True})})
    return type("Summary", (), {"record": type("Record", (), {"name": "bob", "desired": desired})})


async def test_the_books_after_a_drill() -> None:
    there = Books()
    found = await undoubled(cast(World, there), (bob(),))
    assert all(one.ok for one in found)
    assert "machines: asked for 2 times, there are 1 for 1 testers" in [one.what for one in found]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"vms": 2}, "machines: "),
        ({"gateways": 0}, "gateways: "),
        ({"mailbox": [{"to": ["bob@example.org"], "key": "1"}] * 2}, "welcome mail"),
        ({"violations": [{"kind": "OpenDoor"}]}, "no door"),
    ],
)
async def test_what_is_wrong_bears_no_tick(wrong: dict[str, Any], says: str) -> None:
    there = Books()
    there.held |= wrong
    (bad,) = [one.what for one in await undoubled(cast(World, there), (bob(),)) if not one.ok]
    assert bad.startswith(says)


async def test_what_is_there_twice_is_named() -> None:
    there = Books()
    there.twice = ["vm bob_1 exists 2 times"]
    (bad,) = [one.what for one in await undoubled(cast(World, there), (bob(),)) if not one.ok]
    assert "vm bob_1 exists 2 times" in bad


# -- the whole


async def demo(state: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of `testerctl demo`."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "testerctl"),
        *("demo", "--state", str(state), *arguments, "--listen", "127.0.0.1:0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.fixture
async def state(tmp_path: Path) -> AsyncIterator[Path]:
    """The folder of a demo from which somebody took all testers but one; a world that still runs on it is ended."""
    state = tmp_path / "demo"
    state.mkdir()
    (state / "written.json").write_text(json.dumps({"bob.yaml": "", "carol.yaml": ""}))
    yield state
    addresses = await alive(state / "world")
    if addresses is not None:
        await World(addresses, found=True).stop()


@pytest.mark.long
async def test_killed_after_the_machine_was_made_there_is_one_machine(state: Path) -> None:
    code, output = await demo(state, "--exit", "--timeout", "150", "--speed", "120", "--crash-at", "machine:after")
    assert code == 0, output
    killed, again, rest = (output.index(words) for words in ("✝ The controller was killed", "was alive", "✓"))
    assert killed < again < rest
    assert "killed right after deploy_vm had been done" in output
    assert "It starts again on the same books." in output
    for line in (
        "machines: asked for 1 time, there are 1 for 1 testers",
        "nothing is there twice",
        "welcome mail: sent to 1 (alice), nobody twice",
        "no door was ever seen open",
        "alice: 4 paths ask strangers to sign in",
    ):
        assert output.count(f"✓ {line}") == 1, line
    assert "✗" not in output
    assert Addresses.read(state / "world" / "addresses.json") is not None
    assert await alive(state / "world") is None, "the world ends with the last life"
