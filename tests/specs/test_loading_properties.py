"""Whatever is thrown at it, loading answers with errors, never with an exception, and the neighbours do not notice."""

import json
from datetime import date
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specs.loading import Loaded, load_documents
from specs.yaml_reader import read
from specs.yaml_tree import scalars, value_of

VOCABULARY = """
apiVersion hero.tester/v1 kind Tester Fleet metadata name dora spec identity email dora@example.org account keys ssh
providers groq default own secret components set demo add remove hero_books settings publicPaths version pin machine
memory 8GiB cpu node auto address expires 2030-01-01 paused welcomeEmail true no null 1 1.10 0001 ~ << env:X /a/b/
"""
WORDS = VOCABULARY.split()
PUNCTUATION = [
    " ",
    "\n",
    "\n  ",
    "\n    ",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "'",
    '"',
    "#",
    "&a ",
    "*a",
    "|\n",
    "---\n",
    "!x ",
]
yamlish = st.lists(st.sampled_from(WORDS + PUNCTUATION), max_size=60).map("".join)
leaves = st.one_of(st.none(), st.booleans(), st.integers(-5, 10**20), st.sampled_from(WORDS), st.text(max_size=8))
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=5)
    ),
)
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def load(example_files: dict[str, bytes], example: Loaded, today: date) -> Any:
    """Loads a file among sound ones, and looks at what must hold whatever is in it."""

    def check(data: bytes) -> Loaded:
        loaded = load_documents({**example_files, "zz.yaml": data}, today)
        assert loaded.whole or loaded.errors
        assert all(0 <= each.line <= data.count(b"\n") + data.count(b"\r") + 2000 for each in loaded.errors)
        assert all(str(each).isprintable() for each in loaded.errors if each.file == "zz.yaml")
        for name, each in example.testers.items():
            if name in loaded.testers:
                assert loaded.testers[name] == each
            else:
                assert not loaded.whole
        return loaded

    return check


@relaxed
@given(data=st.binary(max_size=300))
def test_any_bytes(data: bytes, load: Any) -> None:
    load(data)


@relaxed
@given(text=yamlish)
def test_anything_like_yaml(text: str, load: Any) -> None:
    load(text.encode())


@relaxed
@given(spec=trees, kind=st.sampled_from(["Tester", "Fleet", "Testr"]))
def test_any_tree_under_spec(spec: Any, kind: str, load: Any) -> None:
    load(
        json.dumps({"apiVersion": "hero.tester/v1", "kind": kind, "metadata": {"name": "dora"}, "spec": spec}).encode()
    )


@relaxed
@given(
    field=st.sampled_from(
        ["identity", "allowlist", "keys", "components", "version", "machine", "address", "expires", "paused"]
    ),
    value=trees,
)
def test_any_value_in_a_field(field: str, value: Any, load: Any) -> None:
    spec = {"identity": {"email": "dora@example.org"}, field: value}
    load(
        json.dumps(
            {"apiVersion": "hero.tester/v1", "kind": "Tester", "metadata": {"name": "dora"}, "spec": spec}
        ).encode()
    )


@relaxed
@given(
    position=st.integers(0, 2000),
    piece=st.sampled_from([b"", b"\n", b"\t", b"x", b": ", b"[", b"}", b"\x00", b"\xff", b"&a ", b"- "]),
)
def test_a_slip_of_the_keyboard(position: int, piece: bytes, load: Any, example_files: dict[str, bytes]) -> None:
    data = example_files["alice.yaml"].replace(b"alice", b"dora").replace(b"Alice-B", b"Dora-D")
    position %= len(data)
    load(data[:position] + piece + data[position + 1 :])


@relaxed
@given(
    value=st.dictionaries(
        st.text(min_size=1, max_size=6), st.text(max_size=12) | st.lists(st.text(max_size=6)), max_size=6
    )
)
def test_quoted_text_is_read_as_it_is_and_where_it_is(value: dict[str, Any]) -> None:
    reading = read("x.yaml", yaml.safe_dump(value, default_style='"', allow_unicode=False).encode())
    forbidden = any(each.problem.startswith("the character") for each in reading.errors)
    if value and not forbidden and not reading.errors:
        (document,) = reading.documents
        assert value_of(document.root) == value
        assert all(line >= 1 and column >= 1 for _, (line, column), _ in scalars(document.root))
    else:
        assert not value or forbidden or "<<" in value
