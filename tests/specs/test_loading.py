"""A source as a whole: what is there, what is missing, what is there twice, and whom a broken file keeps alive."""

import hashlib
from datetime import date

import pytest

from specs.fleet import Fleet
from specs.loading import Loaded, load_documents

GOOD = """apiVersion: hero.tester/v1
kind: Tester
metadata:
  name: dora
spec:
  identity:
    email: dora@example.org
"""
Files = dict[str, bytes]


def tester(name: str, *lines: str) -> bytes:
    return (GOOD.replace("dora", name) + "".join(f"  {line}\n" for line in lines)).encode()


def account(name: str, account: str) -> bytes:
    return tester(name).replace(b"  identity:\n", f"  identity:\n    account: {account}\n".encode())


def names_in_broken(loaded: Loaded) -> frozenset[str]:
    """Every tester that something broken is known to hold: it stays at its last good spec."""
    return frozenset(name for names in loaded.broken.values() for name in names)


def test_the_example_is_whole(example: Loaded, example_files: Files) -> None:
    assert example.errors == ()
    assert example.whole
    assert example.readable
    assert example.broken == {}
    assert list(example.testers) == ["alice", "bob", "carol"]
    assert {name: each.file for name, each in example.testers.items()} == {
        "alice": "alice.yaml",
        "bob": "bob.yaml",
        "carol": "carol.yaml",
    }
    assert example.files == {name: hashlib.sha256(data).hexdigest() for name, data in example_files.items()}


def test_several_documents_in_one_file(example_files: Files, today: date) -> None:
    both = b"---\n" + tester("dora") + b"---\n" + tester("erin") + b"---\n"
    loaded = load_documents({**example_files, "more.yaml": both}, today)
    assert loaded.whole
    assert (loaded.testers["dora"].line, loaded.testers["erin"].line) == (1, 9)


@pytest.mark.parametrize("files", [{}, {"empty.yaml": b""}])
def test_nothing_is_never_whole(files: Files, today: date, fleet: Fleet) -> None:
    loaded = load_documents(files, today, last_fleet=fleet)
    assert loaded.testers == {}
    assert loaded.errors
    assert not loaded.whole


def test_no_yaml_file_at_all_is_not_readable(today: date) -> None:
    loaded = load_documents({}, today)
    assert not loaded.readable
    assert [each.problem for each in loaded.errors] == ["there is no YAML file"]


def test_without_a_fleet_nobody_is_loaded_and_nobody_forgotten(example_files: Files, today: date) -> None:
    files = {name: data for name, data in example_files.items() if name != "fleet.yaml"}
    loaded = load_documents(files, today)
    assert [str(each) for each in loaded.errors] == ["there is no Fleet; add one document of kind: Fleet"]
    assert loaded.fleet is None
    assert loaded.testers == {}
    assert names_in_broken(loaded) == {"alice", "bob", "carol"}


@pytest.mark.parametrize(
    "fleet_file", [b"kind: Fleet\nspec: [\n", b"apiVersion: hero.tester/v1\nkind: Fleet\n", b"\xff"]
)
def test_a_broken_fleet_leaves_the_last_good_one(
    fleet_file: bytes, example: Loaded, example_files: Files, today: date, fleet: Fleet
) -> None:
    loaded = load_documents({**example_files, "fleet.yaml": fleet_file}, today, last_fleet=fleet)
    assert loaded.fleet == fleet
    assert loaded.testers == example.testers
    assert not loaded.whole
    assert "fleet.yaml" in loaded.broken


def test_two_fleets_are_none(example: Loaded, example_files: Files, today: date, fleet: Fleet) -> None:
    other = example_files["fleet.yaml"].replace(b"maxRemovals: 1", b"maxRemovals: 99")
    files = {**example_files, "a_fleet.yaml": other}
    loaded = load_documents(files, today, last_fleet=fleet)
    assert [(each.file, each.path) for each in loaded.errors] == [("fleet.yaml", "kind")]
    assert "a_fleet.yaml" in loaded.errors[0].remedy
    assert loaded.fleet == fleet
    assert loaded.testers == example.testers
    assert load_documents(files, today).testers == {}


def test_two_testers_of_a_name_are_both_held_back(example: Loaded, example_files: Files, today: date) -> None:
    loaded = load_documents({**example_files, "a.yaml": tester("bob"), "z.yaml": tester("dora")}, today)
    assert [(each.file, each.path) for each in loaded.errors] == [("bob.yaml", "metadata.name")]
    assert set(loaded.testers) == {"alice", "carol", "dora"}
    assert names_in_broken(loaded) == {"bob"}
    assert loaded.testers["alice"] == example.testers["alice"]


def test_a_name_in_a_broken_file_and_in_a_sound_one_is_held_back(example_files: Files, today: date) -> None:
    loaded = load_documents({**example_files, "copy.yaml": tester("bob", "zzz: 1")}, today)
    assert [(each.file, each.path) for each in loaded.errors] == [
        ("bob.yaml", "metadata.name"),
        ("copy.yaml", "spec.zzz"),
    ]
    assert set(loaded.testers) == {"alice", "carol"}
    assert loaded.broken == {"bob.yaml": ("bob",), "copy.yaml": ("bob",)}


@pytest.mark.parametrize(
    ("known", "held"), [(set(), "zoe"), ({"dora"}, "zoe"), ({"zoe"}, "dora"), ({"dora", "zoe"}, "zoe")]
)
@pytest.mark.parametrize("what", ["account", "mail", "address"])
def test_who_was_there_first_keeps_account_mail_and_address(
    what: str, known: set[str], held: str, example_files: Files, today: date
) -> None:
    one, two = {
        "account": (account("dora", "Same"), account("zoe", "sAME")),
        "mail": (tester("dora"), tester("zoe").replace(b"zoe@example", b"Dora@EXAMPLE")),
        "address": (tester("dora", "address: same"), tester("zoe", "address: same")),
    }[what]
    loaded = load_documents({**example_files, "dora.yaml": one, "zoe.yaml": two}, today, frozenset(known))
    assert [each.file for each in loaded.errors] == [f"{held}.yaml"]
    assert set(loaded.testers) == {"alice", "bob", "carol", "dora", "zoe"} - {held}
    assert names_in_broken(loaded) == {held}


def test_a_testers_name_is_its_account_when_none_is_given(example_files: Files, today: date) -> None:
    loaded = load_documents({**example_files, "dora.yaml": account("dora", "Carol")}, today)
    assert [(each.file, each.path) for each in loaded.errors] == [("dora.yaml", "spec.identity.account")]


def test_dates_in_the_past_are_refused_for_new_testers_only(example_files: Files, today: date) -> None:
    files = {**example_files, "dora.yaml": tester("dora", "expires: 2026-11-19")}
    assert not load_documents(files, today).whole
    assert load_documents(files, date(2026, 11, 19)).whole
    known = load_documents(files, today, frozenset({"dora"}))
    assert known.whole
    assert known.testers["dora"].desired.expires == date(2026, 11, 19)


@pytest.mark.parametrize(
    "data",
    [
        tester("dora", "zzz: 1"),
        tester("dora", "zzz: ["),
        tester("dora") + b"\tx",
        b"apiVersion: hero.tester/v1\nkind: Tester\nmetadata: {name: dora}\nspec: {",
        b"apiVersion: hero.tester/v1\nkind: Tester\nmetadata: # who\n\n  # what\n  name: 'dora' # here\nspec: ]\n",
        tester("dora") + b"  address: \xff\n",
        tester("dora") + b"  address: x\x00\n",
        tester("dora", "expires: 2020-01-01"),
    ],
)
def test_names_in_a_broken_file_are_found_as_far_as_they_can_be(data: bytes, example_files: Files, today: date) -> None:
    loaded = load_documents({**example_files, "broken.yaml": data}, today)
    assert names_in_broken(loaded) == {"dora"}
    assert "dora" not in loaded.testers


def test_a_broken_document_does_not_take_its_neighbour_with_it(example_files: Files, today: date) -> None:
    both = tester("dora") + b"---\n" + tester("erin", "zzz: 1")
    loaded = load_documents({**example_files, "both.yaml": both}, today)
    assert "dora" in loaded.testers
    assert loaded.broken == {"both.yaml": ("erin",)}


def test_an_editors_half_written_file_removes_nobody(example_files: Files, today: date) -> None:
    """Cut at every byte: carol is there as she was, or the revision is not whole, and then nobody is taken for removed."""
    data = example_files["carol.yaml"]
    for end in range(len(data)):
        loaded = load_documents({**example_files, "carol.yaml": data[:end]}, today)
        if "carol" not in loaded.testers:
            assert not loaded.whole
            assert "carol.yaml" in loaded.broken
