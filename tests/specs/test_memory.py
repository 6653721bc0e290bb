"""What was read before is not parsed or judged again, and nothing but speed hangs on it."""

import os
import random
import time
from collections.abc import Callable
from datetime import date, timedelta
from itertools import product
from pathlib import Path

import pytest

from specs import folder as folder_module
from specs import memory as memory_module
from specs.catalogue import catalogue
from specs.desired import desire, digest
from specs.documents import parse_file
from specs.errors import Finding
from specs.fleet import Fleet
from specs.folder import FRESH_NS, FolderReader
from specs.loading import load_documents
from specs.memory import Memory

COUNTED = ("parse_file", "check_own", "desire_sound")


def text_of(name: str, more: str = "") -> bytes:
    return (
        f"apiVersion: hero.tester/v1\nkind: Tester\nmetadata: {{name: {name}}}\n"
        f"spec:\n  identity: {{email: {name}@example.org}}\n{more}"
    ).encode()


@pytest.fixture
def thought(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The dear things that were done."""
    done: list[str] = []

    def counted(what: str) -> Callable[..., object]:
        really = getattr(memory_module, what)

        def do(*about: object) -> object:
            done.append(what)
            return really(*about)

        return do

    for what in COUNTED:
        monkeypatch.setattr(memory_module, what, counted(what))
    return done


def test_only_what_differs_is_parsed_and_judged(
    example_files: dict[str, bytes], today: date, thought: list[str]
) -> None:
    memory = Memory()
    load_documents(example_files, today, memory=memory)
    assert (thought.count("parse_file"), thought.count("desire_sound")) == (4, 3)
    thought.clear()
    load_documents(dict(example_files), today + timedelta(days=1), frozenset({"alice"}), memory=memory)
    assert thought == []
    edited = {**example_files, "alice.yaml": example_files["alice.yaml"] + b"# once more\n"}
    load_documents(edited, today, memory=memory)
    assert thought == ["parse_file", "check_own"]  # what she chooses is as it was
    chosen = edited["alice.yaml"].replace(b"memory: 8GiB", b"memory: 16GiB")
    thought.clear()
    load_documents({**edited, "alice.yaml": chosen}, today, memory=memory)
    assert sorted(thought) == sorted(COUNTED)


def test_another_fleet_judges_everybody_anew_and_the_last_two_are_remembered(
    example_files: dict[str, bytes], today: date, thought: list[str], make_fleet: Callable[..., Fleet]
) -> None:
    """As while a Fleet is refused: each reading is judged under both."""
    memory, last = Memory(), make_fleet(timing={"poll": "7s"})
    refused = Finding(("spec", "compute"), "somebody uses what it leaves out", "put it back")
    load_documents(example_files, today, memory=memory).refusing((refused,), last)
    without = {name: data for name, data in example_files.items() if name != "fleet.yaml"}
    thought.clear()
    for _ in range(3):
        load_documents(without, today, last_fleet=last, memory=memory)
        load_documents(example_files, today, memory=memory)
    assert thought == ["parse_file"] * 3  # the Fleet's file, forgotten when it was away
    load_documents(without, today, last_fleet=make_fleet(timing={"poll": "8s"}), memory=memory)
    assert thought.count("check_own") == 3


def test_who_chooses_what_another_does_gets_what_it_would_get_alone(
    example_files: dict[str, bytes], today: date, fleet: Fleet, thought: list[str]
) -> None:
    """Nothing of who one is may go over to the next, and nothing of what one chooses be taken from him."""
    own = ["", "  expires: 2026-12-31\n", "  paused: {reason: a holiday, by: ann}\n", "  address: mine{}\n"]
    chosen = [
        "",
        "  allowlist: [dora]\n",
        "  machine: {memory: 16GiB}\n",
        "  machine: {memory: 16GiB, cpu: 2}\n",
        "  components: {remove: [hero_whiteboard]}\n",
        "  components: {add: [], remove: [hero_whiteboard]}\n",
        "  version: {updates: notify}\n",
        "  keys: {ssh: required}\n",
        "  welcomeEmail: false\n",
        "  welcomeEmail: {send: false}\n",
        "  components: {add: [hero_nobody]}\n",
    ]
    files = {"fleet.yaml": example_files["fleet.yaml"]}
    for number, (mine, choice) in enumerate(product(own, chosen)):
        files[f"t{number}.yaml"] = text_of(f"tester-{number}", mine.replace("{}", str(number)) + choice)
    loaded = load_documents(files, today)
    models = {name: parse_file(name, data).testers[0].model for name, data in files.items() if name != "fleet.yaml"}
    assert {each.name: each.desired for each in loaded.testers.values()} == {
        model.name: desire(model, fleet, catalogue())
        for model in models.values()
        if "hero_nobody" not in model.spec.components.add
    }
    assert all(each.digest == digest(each.desired) for each in loaded.testers.values())
    assert thought.count("desire_sound") == len(chosen) - 1
    wrong = [(each.file, each.line) for each in loaded.errors]
    assert wrong == [(name, data.count(b"\n")) for name, data in sorted(files.items()) if b"hero_nobody" in data]


def test_whatever_was_before_the_answer_is_that_of_a_fresh_look(
    example_files: dict[str, bytes], today: date, make_fleet: Callable[..., Fleet]
) -> None:
    chance, memory, files = random.Random(1), Memory(), dict(example_files)
    last = make_fleet(timing={"poll": "7s"})
    choices: list[tuple[str, bytes | None]] = [
        ("dora.yaml", text_of("dora")),
        ("dora.yaml", text_of("dora", "  nonsense: 1\n")),
        ("dora.yaml", text_of("alice")),
        ("dora.yaml", b"metadata:\n  name: alice\n ["),
        ("zoe.yaml", text_of("dora", "  expires: 2020-01-01\n")),
        ("zoe.yaml", text_of("zoe") + b"---\n" + text_of("zora", "  components: {add: [hero_nobody]}\n")),
        ("alice.yaml", None),
        ("alice.yaml", example_files["alice.yaml"]),
        ("fleet.yaml", example_files["fleet.yaml"] + b"#\n"),
        ("fleet.yaml", example_files["fleet.yaml"].replace(b"8GiB", b"16GiB")),
        ("fleet.yaml", b"kind: Fleet\n"),
        ("fleet.yaml", example_files["fleet.yaml"]),
    ]
    for _ in range(30):
        name, data = chance.choice(choices)
        files = {**files, name: data} if data is not None else {each: files[each] for each in files if each != name}
        about = (today, frozenset(chance.sample(("alice", "bob", "dora"), 2)), chance.choice((None, last)))
        assert load_documents(files, *about, memory=memory) == load_documents(files, *about)


def test_values_that_many_have_alike_are_kept_once(example_files: dict[str, bytes], today: date) -> None:
    files = {"fleet.yaml": example_files["fleet.yaml"], "eve.yaml": text_of("eve"), "zoe.yaml": text_of("zoe")}
    eve, zoe = load_documents(files, today).testers.values()
    assert eve.desired.components is zoe.desired.components


def test_parts_of_files_that_say_the_same_are_kept_once_and_only_those() -> None:
    files = {f"{name}.yaml": text_of(name) for name in ("eve", "zoe")}
    files["set.yaml"] = text_of("set", "  components: {set: demo}\n")
    memory = Memory()
    read = memory.parsed(files, {file: file for file in files})
    eve, said, zoe = (content.testers[0].model.spec for content in read.values())
    assert eve.keys is zoe.keys is said.keys
    assert eve.components is zoe.components is not said.components
    assert eve.components.set == said.components.set == "demo"
    assert said.components.model_fields_set == {"set"}, "what a file says itself stands above the Fleet's defaults"
    assert eve.components.model_fields_set == set()
    for name, content in read.items():
        (alone,) = parse_file(name, files[name]).testers
        assert content.testers[0].model == alone.model
        assert content.testers[0].model.spec.model_fields_set == alone.model.spec.model_fields_set


# ------------------------------------------------------------------------------------------------ a folder again


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files that were opened."""
    names: list[str] = []
    really = os.open

    def noted(path: str, *arguments: int) -> int:
        names.append(Path(path).name)
        return really(path, *arguments)

    monkeypatch.setattr(os, "open", noted)
    return names


@pytest.fixture
def reader(tmp_path: Path) -> FolderReader:
    for name in ("alice", "bob"):
        (tmp_path / f"{name}.yaml").write_bytes(text_of(name))
    return FolderReader(tmp_path)


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long after everything in the folder was written."""
    really = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: really() + 2 * FRESH_NS)


def test_a_file_that_has_not_changed_is_not_opened_again(
    reader: FolderReader, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch)
    first = reader.read()
    opened.clear()
    assert reader.read() == first
    assert opened == []
    (reader.root / "bob.yaml").write_bytes(text_of("eve"))
    assert reader.read().files["bob.yaml"] == text_of("eve")
    assert opened == ["bob.yaml"]
    (reader.root / "eve.new").write_bytes(text_of("zoe"))
    (reader.root / "eve.new").rename(reader.root / "bob.yaml")
    assert reader.read().files["bob.yaml"] == text_of("zoe")


def test_two_changes_under_one_stamp_are_told_apart(reader: FolderReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems stamp by a coarse clock: of what was changed just now the stamp proves nothing."""

    monkeypatch.setattr(folder_module, "_stamp", lambda about: (0, 0, 0, 0, 0))
    reader.read()
    (reader.root / "bob.yaml").write_bytes(text_of("eve"))
    assert reader.read().files["bob.yaml"] == text_of("eve")
