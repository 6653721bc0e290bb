"""The docs name what there is: every command, option, field and address; and what they name exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel

import specs.fleet
import specs.tester
from api.cli import COMMANDS, GROUPS, app_for
from api.routes import components, events, fleet, health, metrics, nodes, revisions, stream, testers
from reconcilers.backends.compute_answers import ComputeDialect
from reconcilers.backends.engines import EngineDialect
from reconcilers.backends.machine_dialect import MachineDialect
from specs.ownership import GATE_SETTINGS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
WALK_LIMIT = 90  # lines: two screens
FUNCTION = re.compile(r"`([\w/]+\.py)(?::(\w+))?`")


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


@cache
def names_in(path: Path) -> frozenset[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds))


def field_names(model: type[BaseModel]) -> Iterator[str]:
    """Every field of a model and of the models in it, as YAML spells it."""
    for name, info in model.model_fields.items():
        yield info.alias or name
        for kind in models_in(info.annotation):
            yield from field_names(kind)


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from models_in(part)


@pytest.mark.parametrize("model", [specs.tester.TesterSpec, specs.fleet.FleetSpec])
def test_every_field_of_the_language_is_described(model: type[BaseModel]) -> None:
    text = text_of("docs/specs.md")
    named = set(re.findall(r"\w+", text))
    assert set(field_names(model)) - named == set()


def test_every_command_and_option_is_described() -> None:
    text = text_of("docs/cli.md")
    for name in COMMANDS:
        assert f"\n## {name}" in text, name
    for name in GROUPS:
        assert f"\n## {name} " in text, name
    options = {
        option
        for name in (*COMMANDS, *GROUPS)
        for one in _commands_of(name)
        for parameter in one.params
        for option in parameter.opts
        if option.startswith("-") and option != "--help"
    }
    assert len(options) > 10
    assert {option for option in options if f"`{option}`" not in text} == set()


def _commands_of(name: str) -> list[Any]:
    """The command of that name, or those of the group."""
    command: Any = typer.main.get_command(app_for([name])).commands[name]  # type: ignore[attr-defined]
    return list(command.commands.values()) if name in GROUPS else [command]


def test_every_address_of_the_api_is_described() -> None:
    text = text_of("docs/api.md")
    modules = (components, events, fleet, health, metrics, nodes, revisions, stream, testers)
    paths = {route.path for module in modules for route in module.router.routes}  # type: ignore[attr-defined]
    assert len(paths) > 14
    assert {path for path in paths if f"`GET {path}`" not in text} == set()


def test_every_assumption_is_listed() -> None:
    text = text_of("docs/assumptions.md")
    words = [field.name for dialect in (ComputeDialect, EngineDialect, MachineDialect) for field in fields(dialect)]
    settings = [key for _, key in GATE_SETTINGS]
    assert [word for word in (*words, *settings) if f"`{word}`" not in text] == []


def test_the_walk_is_short_and_true() -> None:
    text = text_of("docs/walk.md")
    assert text.count("\n") < WALK_LIMIT
    named = FUNCTION.findall(text)
    assert len(named) > 30
    for file, function in named:
        assert (ROOT / file).is_file(), file
        assert not function or function in names_in(ROOT / file), f"{file}:{function}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_names_is_there(path: Path) -> None:
    text = path.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)(#[^)]*)?\)", text)
    assert [link for link, _ in links if not (path.parent / link).exists()] == []
    named = [file for file, _ in FUNCTION.findall(text) if "/" in file]
    assert [file for file in named if not (ROOT / file).is_file()] == []


def test_decisions_say_what_why_and_what_else() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    decisions = sorted(folder.glob("[0-9]*.md"))
    assert len(decisions) >= 10
    assert [one.name[:4] for one in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for one in decisions:
        text = one.read_text()
        assert f"({one.name})" in index
        assert all(f"**{word}.**" in text for word in ("What", "Why", "Considered")), one.name


def test_the_readme_begins_with_the_two_commands() -> None:
    beginning = text_of("README.md").split("## ")[0]
    assert "make demo" in beginning
    assert "make test" in beginning
