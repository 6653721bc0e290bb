"""More than a hundred broken inputs: each a clear error at the right place, and the rest of the folder as if nothing were wrong.

The table is in broken/*.yaml: `spec` is added to a good tester, `replace` replaces a piece of it, `whole` is a file of its own,
`fleet` replaces a piece of the example Fleet.
"""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

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
TABLE = sorted((Path(__file__).parent / "broken").glob("*.yaml"))
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['what']}")
    for path in TABLE
    for case in yaml.safe_load(path.read_text("utf-8"))
]
MIB = 1024 * 1024
BOMB = (
    "a: &a ["
    + "x," * 10
    + "]\n"
    + "".join(f"{new}: &{new} [{f'*{old},' * 10}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True))
)

RAW = {
    "larger than 1 MiB": (b"# " + b"x" * MIB, (1, 1), "larger than 1 MiB"),
    "not UTF-8": (GOOD.encode() + b"  address: caf\xe9\n", (8, 15), "not UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), (1, 1), "not UTF-8"),
    "a zero byte": (GOOD.encode() + b"  address: a\x00b\n", (8, 13), "U+0000"),
    "an escape sequence of a terminal": (GOOD.encode() + b"  address: \x1b[31m\n", (8, 12), "U+001B"),
    "a program": (b"\x7fELF\x02\x01\x01\x00" + bytes(range(256)), (2, 118), "not UTF-8"),
    "an alias bomb": (BOMB.encode(), (5, 8), "grows too large"),
    "fifty thousand brackets": (b"[" * 50_000, (1, 51), "nested too deeply"),
    "fifty thousand dashes": (b"- " * 50_000, (1, 101), "nested too deeply"),
    "fifty thousand braces": (b"{a: " * 50_000, (1, 201), "nested too deeply"),
    "a list without end": (GOOD.encode() + b"  allowlist:\n" + b"    - bob\n" * 30_000, (19992, 7), "grows too large"),
    "a setting of 33 KiB": (
        GOOD.encode() + b"  components: {settings: {hero_books: {BOOKS_X: %s}}}\n" % (b"x" * 33_792),
        (8, 49),
        "too long",
    ),
}


def test_there_are_a_hundred() -> None:
    assert len(CASES) + len(RAW) >= 100


@pytest.mark.parametrize("case", CASES)
def test_broken(
    case: dict[str, Any], example: Loaded, example_files: dict[str, bytes], fleet: Fleet, today: date
) -> None:
    file = "fleet.yaml" if "fleet" in case else "broken.yaml"
    loaded = load_documents({**example_files, file: _content(case, example_files)}, today, last_fleet=fleet)

    wanted = [(file, error["at"], error["path"]) for error in case["errors"]]
    assert [(each.file, f"{each.line}:{each.column}", each.path) for each in loaded.errors] == wanted
    for error, expected in zip(loaded.errors, case["errors"], strict=True):
        assert expected["says"] in error.problem
        assert error.remedy
        assert "must match" not in error.remedy, "patterns are for programs"
        assert "\n" not in str(error)
        assert len(str(error)) < 400
    _rest_unaffected(loaded, example)
    assert not loaded.whole
    assert file in loaded.broken


@pytest.mark.parametrize("what", RAW)
def test_broken_bytes(what: str, example: Loaded, example_files: dict[str, bytes], today: date) -> None:
    data, place, says = RAW[what]
    loaded = load_documents({**example_files, "broken.yaml": data}, today)
    (error,) = loaded.errors
    assert (error.file, error.line, error.column) == ("broken.yaml", *place)
    assert says in error.problem
    assert error.remedy
    _rest_unaffected(loaded, example)


def test_all_errors_of_all_files_come_at_once(example: Loaded, example_files: dict[str, bytes], today: date) -> None:
    first = GOOD + "  zzz: 1\n  machine: {memory: 8GB, cpu: 0}\n"
    second = GOOD.replace("dora", "erin") + "---\n" + GOOD.replace("dora", "Frank")
    loaded = load_documents({**example_files, "one.yaml": first.encode(), "two.yaml": second.encode()}, today)
    assert [(each.file, each.line, each.path) for each in loaded.errors] == [
        ("one.yaml", 8, "spec.zzz"),
        ("one.yaml", 9, "spec.machine.memory"),
        ("one.yaml", 9, "spec.machine.cpu"),
        ("two.yaml", 12, "metadata.name"),
    ]
    assert set(loaded.testers) == {"alice", "bob", "carol", "erin"}


def test_an_error_is_one_readable_line(example_files: dict[str, bytes], today: date) -> None:
    broken = GOOD + "  machine: {memory: 8 GB}\n"
    (error,) = load_documents({**example_files, "dora.yaml": broken.encode()}, today).errors
    assert str(error) == "dora.yaml:8:21 spec.machine.memory: '8 GB' is not a size; write it like 8GiB"


@pytest.mark.parametrize(
    "secret",
    [
        "sk-or-v1-0123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef01234567",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
@pytest.mark.parametrize(
    "line",
    [
        "address: '{}'",
        "allowlist: ['{}']",
        "machine: {{memory: '{}', image: '{}', node: '{}'}}",
        "keys: {{ssh: ['{}'], providers: {{groq: {{secret: '{}'}}, openrouter: '{}'}}}}",
        "components: {{set: '{}', settings: {{hero_books: {{BOOKS_X: '{}'}}}}}}",
        "version: {{updates: '{}', pin: {{'{}': v1}}}}",
        "'{}': 1",
        "expires: '{}'",
    ],
)
def test_a_secret_in_clear_is_refused_and_never_repeated(
    line: str, secret: str, example_files: dict[str, bytes], today: date
) -> None:
    text = GOOD + "  " + line.replace("{}", secret).replace("{{", "{").replace("}}", "}") + "\n"
    loaded = load_documents({**example_files, "dora.yaml": text.encode()}, today)
    assert any("in clear" in each.problem for each in loaded.errors)
    assert "dora" not in loaded.testers
    for error in loaded.errors:
        assert secret not in repr(error)
        assert secret[:20] not in str(error)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Ab3xQ9rTz0Lk2MnP5vYw", "what is written here is not a word for this; known are: default, own, none"),
        ("sk-or-v1-aaaaaaaa", "what is written here is not a word for this; known are: default, own, none"),
        ("defualt", "'defualt' is not a word for this; did you mean default?"),
    ],
)
def test_where_a_key_is_chosen_what_may_be_the_key_is_never_repeated(
    written: str, said: str, example_files: dict[str, bytes], today: date
) -> None:
    text = GOOD + f"  keys: {{providers: {{openrouter: {written}}}}}\n"
    (error,) = load_documents({**example_files, "dora.yaml": text.encode()}, today).errors
    assert str(error).endswith(f"spec.keys.providers.openrouter: {said}")


def _content(case: dict[str, Any], example_files: dict[str, bytes]) -> bytes:
    if "whole" in case:
        return str(case["whole"]).encode()
    if "spec" in case:
        return (GOOD + "".join(f"  {line}\n" for line in str(case["spec"]).splitlines())).encode()
    base = example_files["fleet.yaml"].decode() if "fleet" in case else GOOD
    old, new = case["fleet"] if "fleet" in case else case["replace"]
    assert old in base
    return base.replace(old, new, 1).encode()


def _rest_unaffected(loaded: Loaded, example: Loaded) -> None:
    for name, tester in example.testers.items():
        assert loaded.testers[name] == tester
