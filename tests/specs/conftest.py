"""The example fleet, as bytes and loaded, and the two values that most tests begin with."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from specs.fleet import Fleet
from specs.loading import Loaded, load_documents
from specs.tester import Tester

EXAMPLES = Path(__file__).parents[2] / "examples" / "fleet"


@pytest.fixture(scope="session")
def today() -> date:
    return date(2026, 11, 20)


@pytest.fixture(scope="session")
def example_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(EXAMPLES.glob("*.yaml"))}


@pytest.fixture(scope="session")
def example(example_files: dict[str, bytes], today: date) -> Loaded:
    return load_documents(example_files, today)


@pytest.fixture(scope="session")
def fleet(example: Loaded) -> Fleet:
    assert example.fleet is not None
    return example.fleet


@pytest.fixture(scope="session")
def make_tester() -> Callable[..., Tester]:
    """A tester named dora, with the given parts of its spec in YAML's own spelling."""

    def make(identity: dict[str, Any] | None = None, name: str = "dora", **spec: Any) -> Tester:
        return Tester.model_validate(
            {
                "apiVersion": "hero.tester/v1",
                "kind": "Tester",
                "metadata": {"name": name},
                "spec": {"identity": {"email": "dora@example.org", **(identity or {})}, **spec},
            }
        )

    return make


@pytest.fixture(scope="session")
def make_fleet(fleet: Fleet) -> Callable[..., Fleet]:
    """The example Fleet with some parts of its spec replaced, in YAML's own spelling."""

    def make(**spec: Any) -> Fleet:
        raw = fleet.model_dump(mode="json", by_alias=True, exclude_unset=True)
        raw["spec"].update(spec)
        return Fleet.model_validate(raw)

    return make
