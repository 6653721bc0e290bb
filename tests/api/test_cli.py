"""`testerctl` as a person uses it: what it prints, how it complains, and its exit codes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
import subprocess
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path

import pytest

from api import cli
from controller.places import Places, opened_store
from controller.records import Condition, Phase, PutCondition, PutTester, SetStatus, Status
from controller.store import Store
from reconcilers.clock import SystemClock
from tests.api.conftest import CANARY, LINK, Terminal, fill
from tests.controller.fakes import a_tester, record_of

EXAMPLES = Path(__file__).parents[2] / "examples" / "fleet"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with filled books."""

    async def make() -> None:
        async with opened_store(Places(tmp_path, tmp_path / "state"), SystemClock()) as store:
            await fill(store)

    asyncio.run(make())
    return tmp_path / "state"


def test_books_are_copied_by_a_command_but_not_onto_themselves(testerctl: Terminal, state: Path) -> None:
    assert testerctl("copy", Places(state, state.parent / "elsewhere").url, "--state", state) == 0
    assert "rows are copied" in testerctl.err
    assert testerctl("copy", Places(state, state).url, "--state", state) == 1
    assert "in that very database" in " ".join(testerctl.err.split())


def in_store(state: Path, ask: str, *arguments: object) -> object:
    """What the books of a state folder answer."""

    async def look() -> object:
        async with opened_store(Places(state, state), SystemClock()) as store:
            return await getattr(store, ask)(*arguments)

    return asyncio.run(look())


# ------------------------------------------------------------------------------------------------ complaints


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("get",), "There are no books in .testerctl"),
        (("describe", "alice"), "There are no books in .testerctl"),
        (("run",), "fleet is not a folder"),
        (("run", "--fleet", str(EXAMPLES), "--listen", "0.0.0.0:8480"), "nobody could prove who they are"),
        (("run", "--fleet", str(EXAMPLES), "--listen", "127.0.0.1:0", "--sign-in-client", "x"), "belong together"),
        (("token", "make", "Not A Name"), "small letters, digits and dashes"),
        (("token", "revoke", "x"), "There are no books in .testerctl"),
        (("plan",), "There is no usable Fleet in fleet"),
        (("plan", "alcie", "--fleet", str(EXAMPLES)), "Did you mean alice?"),
        (("nonsense",), "nonsense"),
        (("plan", "--nonsense"), "nonsense"),
        (("events", "--limit", "0"), "--limit"),
        (("demo", "--speed", "0"), "--speed"),
        (("secret", "set", CANARY), "That is not a name"),
        (("secret", "set", "alice/one_time_password"), "kept by the controller itself"),
        (("events", "-f", "-o", "json"), "--follow shows text only"),
        (("logs", "alice", "-f", "-o", "json"), "--follow shows text only"),
        (("logs", "alice"), "There are no books in .testerctl"),
        (("wait", "alice"), "There are no books in .testerctl"),
        (("wait", "alice", "--timeout", "soon"), "is not a duration"),
        (("reveal", "alice", "--yes"), "There are no books in .testerctl"),
        (("reveal", "alice"), "--yes"),
    ],
)
def test_complaints_are_one_paragraph_and_exit_code_1(
    testerctl: Terminal, arguments: tuple[str, ...], words: str
) -> None:
    """Never 2, which `plan` gives to changes; never a traceback; nothing on standard output."""
    assert testerctl(*arguments) == 1
    assert words in testerctl.err
    assert testerctl.out == ""
    assert testerctl.err.count("\n") == 1
    assert "Traceback" not in testerctl.err
    assert CANARY not in testerctl.err


def test_looking_makes_no_books(testerctl: Terminal, tmp_path: Path) -> None:
    for arguments in (("get",), ("events",), ("describe", "alice"), ("secret", "list"), ("keys", "rotate")):
        assert testerctl(*arguments) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_of_ours_is_a_sentence_and_a_traceback_only_on_demand(
    testerctl: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(arguments: list[str]) -> None:
        raise ZeroDivisionError("details")

    monkeypatch.setattr(cli, "app_for", broken)
    assert testerctl("get") == 1
    assert "a mistake in testerctl itself (ZeroDivisionError)" in testerctl.err
    with pytest.raises(ZeroDivisionError):
        testerctl("--debug", "get")


def test_ctrl_c_says_so_in_a_line(testerctl: Terminal, monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    async def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "briefs", interrupted)
    assert testerctl("get", "--state", state) == 130
    assert testerctl.err == "stopped\n"


def test_every_command_helps(testerctl: Terminal) -> None:
    for command in ([], ["--help"], *([name, "--help"] for name in (*cli.COMMANDS, *cli.GROUPS))):
        testerctl(*command)
        assert "Usage: testerctl" in testerctl.out + testerctl.err, command


def test_the_list_of_commands_cuts_nothing_off(testerctl: Terminal) -> None:
    testerctl("--help")
    assert "..." not in testerctl.out.partition("Commands:")[2]


def test_the_list_says_what_the_commands_say_themselves() -> None:
    whole = {name: import_module(f"api.commands.{name}") for name in (*cli.COMMANDS, *cli.GROUPS)}
    said = {name: first_words(module.command.__doc__) for name, module in whole.items() if name in cli.COMMANDS}
    said |= {name: module.group.info.help for name, module in whole.items() if name in cli.GROUPS}
    assert said == cli.COMMANDS | cli.GROUPS
    there = {path.stem for path in Path(cli.__file__).parent.glob("commands/*.py")} - {"__init__"}
    assert set(said) == there


def first_words(text: str) -> str:
    """The first sentence, which is what a list shows."""
    return " ".join(text.split()).partition(". ")[0].rstrip(".") + "."


SLOW = (
    "alembic",
    "apscheduler",
    "asyncssh",
    "fastapi",
    "psycopg",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
    "uvicorn",
)
"""What takes long to import, and belongs to the controller that runs, to its tables' making or to a server."""


@pytest.mark.on_a_file
@pytest.mark.parametrize(
    ("arguments", "spared"),
    [
        (["--help"], (*SLOW, "cryptography", "httpx", "pydantic", "sqlalchemy")),
        (["validate", str(EXAMPLES)], (*SLOW, "cryptography", "sqlalchemy")),
        (["get", "--state", "state"], SLOW),
        (["describe", "alice", "--state", "state"], SLOW),
        (["events", "--state", "state"], SLOW),
    ],
    ids=lambda given: given[0] if isinstance(given, list) else "",
)
def test_a_command_imports_what_it_needs_only(arguments: list[str], spared: tuple[str, ...], state: Path) -> None:
    """In a process of its own: here everything is imported."""
    program = (
        "import sys; from api.cli import run_with; code = run_with(sys.argv[1:]); print(*sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=state.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert "api.cli" in modules
    assert sorted(modules & set(spared)) == []


# ------------------------------------------------------------------------------------------------ validate, schema


def test_sound_files_are_sound(testerctl: Terminal) -> None:
    assert testerctl("validate", EXAMPLES) == 0
    assert testerctl.out == "3 sound testers: alice, bob, carol\n"


def test_what_is_wrong_with_the_folder_itself_is_told_of_the_folder(testerctl: Terminal, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (empty, tmp_path / "nowhere"):
        assert testerctl("validate", folder) == 1
        assert testerctl.err.startswith(f"{folder}: "), testerctl.err


def test_broken_files_are_told_with_their_places(testerctl: Terminal, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("fleet.yaml", "carol.yaml"):
        (folder / name).write_bytes((EXAMPLES / name).read_bytes())
    (folder / "zoe.yaml").write_text(
        (EXAMPLES / "carol.yaml").read_text().replace("carol}", "zoe}").replace("email", "emial")
    )
    assert testerctl("validate", folder) == 1
    assert "1 sound tester: carol\n" in testerctl.out
    assert f"{folder}/zoe.yaml:6:" in testerctl.err
    assert testerctl("validate", folder, "-o", "json") == 1
    told = json.loads(testerctl.out)
    assert told["testers"] == ["carol"]
    assert {error["file"] for error in told["errors"]} == {"zoe.yaml"}


@pytest.mark.parametrize("kind", ["tester", "fleet"])
def test_the_schema_is_printed_as_json(testerctl: Terminal, kind: str) -> None:
    assert testerctl("schema", kind) == 0
    assert json.loads(testerctl.out)["$schema"].startswith("https://json-schema.org/")


# ------------------------------------------------------------------------------------------------ get, describe, events


def test_get_fits_80_columns_and_shows_foreign_text_harmlessly(testerctl: Terminal, state: Path) -> None:
    assert testerctl("get", "--state", state) == 0
    assert LINK in "".join(testerctl.out.split())
    assert "Stalled 30%" in testerctl.out
    assert "\x1b" not in testerctl.out
    assert all(len(line) <= 80 for line in testerctl.out.splitlines())
    first, second = testerctl.err.splitlines()
    assert first.startswith("No controller works on these books")
    assert second == "bob.yaml:3:1 bad", "what is wrong with the files is said as well"


def test_get_and_describe_say_who_is_waited_for_and_until_when(testerctl: Terminal, state: Path) -> None:
    at = SystemClock().now()
    until = at + timedelta(minutes=5, seconds=30)
    machine = Condition("bob", "Machine", Status.FALSE, "Deploying", "comes up", 1, at, until=until, blames="the grid")
    failing = Condition(
        "bob", "Account", Status.FALSE, "Unreachable", "no answer", 1, at, at, "Forge", failures=2, retry_at=at
    )
    ready = Condition("bob", "Ready", Status.FALSE, "Deploying", "Machine: comes up", 1, at)
    in_store(state, "write", PutCondition(machine), PutCondition(failing), PutCondition(ready))
    assert testerctl("get", "bob", "--state", state) == 0
    assert "(the grid, limit in 5 min" in " ".join(testerctl.out.split())
    assert testerctl("describe", "bob", "--state", state) == 0
    words = " ".join(testerctl.out.split())
    assert "Waits for the grid, limit in 5 min" in words
    assert "→ Forge, next try due after 2 failures" in words
    assert testerctl("get", "bob", "--state", state, "-o", "json") == 0
    (told,) = json.loads(testerctl.out)
    assert told["blames"] == "the grid"
    assert told["until"]


def test_get_and_describe_say_who_paused_it_until_when_and_why(testerctl: Terminal, state: Path) -> None:
    pause = {"reason": "demo on Friday", "by": "mik", "until": "2090-12-05"}
    status = SetStatus("bob", Phase.PAUSED, 100, "", 1, None, SystemClock().now())
    in_store(state, "write", PutTester(record_of(a_tester("bob", paused=pause))), status)
    assert testerctl("get", "bob", "--state", state) == 0
    assert "paused by mik until 2090-12-05: demo on Friday" in " ".join(testerctl.out.split())
    assert testerctl("describe", "bob", "--state", state) == 0
    assert "Paused by mik until 2090-12-05: demo on Friday" in " ".join(testerctl.out.split())


def test_get_shows_only_the_named(testerctl: Terminal, state: Path) -> None:
    assert testerctl("get", "bob", "--state", state, "-o", "json") == 0
    assert [one["name"] for one in json.loads(testerctl.out)] == ["bob"]
    assert testerctl("get", "nobody", "--state", state) == 1
    assert "There is no tester nobody. Known: alice, bob." in testerctl.err


def test_describe_tells_everything_but_secrets(testerctl: Terminal, state: Path) -> None:
    assert testerctl("describe", "alice", "--state", state) == 0
    for words in ("Conditions", "alice_x7k2p9_1_1", "400::7", "MachineCreated", "existing", "done", "unknown here"):
        assert words in testerctl.out
    assert all(len(line) <= 80 for line in testerctl.out.split("\nEvents")[0].splitlines())
    assert testerctl("describe", "alice", "--state", state, "-o", "json") == 0
    assert json.loads(testerctl.out)["tester"]["link"] == LINK
    assert CANARY not in testerctl.out


def test_events_come_oldest_first(testerctl: Terminal, state: Path) -> None:
    assert testerctl("events", "--state", state) == 0
    lines = testerctl.out.splitlines()
    assert [line.split()[2:4] for line in lines] == [
        ["alice", "MachineCreated"],
        ["bob", "NoCapacity"],
        ["fleet", "SpecBroken"],
    ]
    assert "\x1b" not in testerctl.out
    assert testerctl("events", "alice", "--state", state, "-o", "json") == 0
    assert [one["tester"] for one in json.loads(testerctl.out)] == ["alice"]


# ------------------------------------------------------------------------------------------------ secrets and keys


def typing(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("value", [b"sk-1", b"-----BEGIN KEY-----\nabc\n-----END KEY-----\n", b"\x00\xff\n\n"])
def test_a_secret_is_kept_byte_for_byte_and_never_shown(
    testerctl: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: bytes
) -> None:
    typing(monkeypatch, value)
    state = tmp_path / "fresh"
    assert testerctl("secret", "set", "shared/openrouter", "--state", state) == 0
    kept = in_store(state, "sealed", "shared/openrouter")
    assert kept is not None
    assert kept.reveal() == value  # type: ignore[attr-defined]
    assert testerctl("secret", "list", "--state", state) == 0
    assert testerctl.out == "shared/openrouter\n"


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"x" * (64 * 1024 + 1), "larger than 64 KiB")])
def test_an_unfit_value_changes_nothing(
    testerctl: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, words: str
) -> None:
    typing(monkeypatch, content)
    assert testerctl("secret", "set", "shared/openrouter", "--state", tmp_path / "fresh") == 1
    assert words in testerctl.err
    assert not (tmp_path / "fresh").exists()


def test_keys_rotate_and_every_secret_still_opens(testerctl: Terminal, state: Path) -> None:
    before = (state / "sealing.key").read_bytes()
    assert testerctl("keys", "rotate", "--state", state) == 0
    after = (state / "sealing.key").read_bytes()
    assert after.count(b"\n") == 1
    assert after != before
    assert stat.S_IMODE((state / "sealing.key").stat().st_mode) == 0o600
    kept = in_store(state, "sealed", "shared/openrouter")
    assert kept is not None
    assert kept.text() == CANARY  # type: ignore[attr-defined]
