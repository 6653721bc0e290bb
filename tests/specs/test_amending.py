"""A few edited files held against the revision before: what comes out is what a judgement of all files says, or nothing."""

import random
from collections.abc import Mapping
from datetime import date, timedelta

import pytest

from specs.amending import amended
from specs.errors import Finding
from specs.loading import Loaded, load_documents
from specs.memory import Memory

NAMES = ("alice", "bob", "carol")
ORDINARY = (
    "",
    "  allowlist: [zoe]\n",
    "  machine: {memory: 16GiB}\n",
    "# a remark\n",
    "  keys: {providers: {openrouter: own}}\n",
)
OTHERS = (
    "  machine: {memory: plenty}\n",  # broken
    "  address: theirs\n",  # a claim
    "  expires: 2020-01-01\n",  # a date that has passed
    "---\n",
    "  components: {set: nobodys}\n",
)


def text_of(name: str, more: str = "", email: str = "") -> bytes:
    return (
        f"apiVersion: hero.tester/v1\nkind: Tester\nmetadata: {{name: {name}}}\n"
        f"spec:\n  identity: {{email: {email or name}@example.org}}\n{more}"
    ).encode()


@pytest.fixture
def files(example_files: dict[str, bytes]) -> dict[str, bytes]:
    return {"fleet.yaml": example_files["fleet.yaml"], **{f"{name}.yaml": text_of(name) for name in NAMES}}


def whole(files: Mapping[str, bytes], today: date) -> Loaded:
    return load_documents(files, today, frozenset(NAMES), memory=Memory())


def test_an_edit_says_what_a_judgement_of_everything_says(files: dict[str, bytes], today: date) -> None:
    before = whole(files, today)
    assert before.whole
    for file, data in (("alice.yaml", text_of("alice", ORDINARY[1])), ("bob.yaml", b"# new\n" + files["bob.yaml"])):
        found = amended(before, {file: data}, today)
        assert found is not None
        files[file] = data
        before, names = found
        assert before == whole(files, today)
        assert names == {file.removesuffix(".yaml")}
    assert list(before.testers) == list(whole(files, today).testers)


def test_whatever_is_edited_it_is_told_rightly_or_not_at_all(files: dict[str, bytes], today: date) -> None:
    chance, told = random.Random(3), 0
    before = whole(files, today)
    for _ in range(60):
        edited = {}
        for name in chance.sample(NAMES, chance.choice((1, 1, 2))):
            more = "".join(chance.sample(ORDINARY, 2)) if chance.random() < 0.7 else chance.choice(OTHERS)
            edited[f"{name}.yaml"] = text_of(chance.choice((name, name, name, "dora")), more)
        files |= edited
        found = amended(before, edited, today)
        told += found is not None
        before = found[0] if found is not None else whole(files, today)
        assert before == whole(files, today)
    assert 10 < told < 50


@pytest.mark.parametrize(
    "edit",
    [
        {"alice.yaml": text_of("dora")},
        {"alice.yaml": text_of("alice") + b"---\n" + text_of("dora")},
        {"alice.yaml": text_of("alice", email="bob")},
        {"alice.yaml": text_of("alice", email="anew")},  # it may free somebody who wanted the old one
        {"alice.yaml": b""},
        {"alice.yaml": text_of("alice", "  machine: {memory: plenty}\n")},
        {"dora.yaml": text_of("dora")},
        {"fleet.yaml": b"# nothing else\n"},
    ],
)
def test_what_may_concern_others_is_not_told(files: dict[str, bytes], today: date, edit: dict[str, bytes]) -> None:
    edit = {file: data + files[file] if file == "fleet.yaml" else data for file, data in edit.items()}
    assert amended(whole(files, today), edit, today) is None


def test_nor_is_anything_on_another_day_or_while_the_fleet_is_refused(files: dict[str, bytes], today: date) -> None:
    before, edit = whole(files, today), {"alice.yaml": text_of("alice", ORDINARY[1])}
    assert amended(before, edit, today) is not None
    assert amended(before, edit, today + timedelta(days=1)) is None
    assert before.fleet is not None
    refused = Finding(("spec", "compute"), "somebody uses what it leaves out", "put it back")
    assert amended(before.refusing((refused,), before.fleet), edit, today) is None
    late = {"alice.yaml": text_of("alice", "  expires: 2020-01-01\n")}
    assert amended(before, late, today) is not None
    assert amended(load_documents(files, today), late, today) is None  # for a new tester it is an error
    broken = whole({**files, "bob.yaml": b"kind: ["}, today)
    assert amended(broken, edit, today) is not None  # what is wrong elsewhere stays as it is
    assert amended(broken, {"bob.yaml": text_of("bob")}, today) is None


def test_the_same_again_is_no_edit(files: dict[str, bytes], today: date) -> None:
    before = whole(files, today)
    found = amended(before, {"alice.yaml": files["alice.yaml"]}, today)
    assert found is not None
    assert found[0] is before
    assert not found[1]
