"""What a pull request would be once merged, and how its plan reads; that it is looked at and told is `tests/e2e`'s."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from controller.passes.preview import Preview, StepPreview
from controller.sources.mirror import Mirror, Repository
from controller.telling.at_forge import AtForge
from controller.telling.plan_words import MARK, PullPlan, as_comment, fenced, in_short
from controller.telling.pulls import MOST_KEPT, SOON, PullRequests, merged
from reconcilers.actions import Action, Disruption, Effect, FieldChange
from tests.controller.fakes import until

PLAN = PullPlan("a" * 40, "main")
RESTART = Action(
    "write_settings", "settings", changes=(FieldChange("books/LIBRARIES", "hero", "```\n@sara</details>"),),
    disruption=Disruption.RESTART, consequences=("hero_books restarts",),
)  # fmt: skip


@pytest.mark.parametrize(
    ("before", "ours", "theirs", "wanted"),
    [
        ({"a": b"1"}, {"a": b"1"}, {"a": b"2"}, {"a": b"2"}),  # they changed it
        ({"a": b"1"}, {"a": b"2"}, {"a": b"1"}, {"a": b"2"}),  # we did meanwhile
        ({"a": b"1"}, {"a": b"1"}, {}, {}),  # they took it out
        ({"a": b"1"}, {}, {"a": b"1"}, {}),  # we did
        ({}, {"b": b"1"}, {"c": b"1"}, {"b": b"1", "c": b"1"}),
        ({"a": b"1"}, {"a": b"2"}, {"a": b"3"}, {"a": b"3"}),  # both: Forge will say so itself
        ({}, {"a": b"1"}, {"a": b"2"}, {"a": b"2"}),  # without a common past
    ],
)
def test_a_file_that_they_have_not_touched_is_as_ours(
    before: dict[str, bytes], ours: dict[str, bytes], theirs: dict[str, bytes], wanted: dict[str, bytes]
) -> None:
    assert merged(before, ours, theirs) == wanted


def test_the_status_says_how_many_and_the_worst() -> None:
    plan = replace(
        PLAN,
        coming=("dora",),
        changing=("alice", "bob", "carol", "dave"),
        plans=(
            Preview("dora", False, (StepPreview("machine", (Action("create", "vm", Effect.CREATE),)),)),
            Preview("alice", False, (StepPreview("settings", (RESTART,)),)),
        ),
    )
    assert in_short(plan) == "1 comes (dora), 4 change (alice, bob, carol and 1 more); disruption: restart"
    assert in_short(PLAN) == "changes nothing"
    assert in_short(replace(PLAN, errors=("a.yaml:1:1 x", "b.yaml:1:1 y"))) == "a.yaml:1:1 x (and 1 more)"
    held = replace(PLAN, held=("a", "b"))
    assert "TooManyRemovals" in in_short(held)
    assert not held.good
    assert "allowRemovals: 2" in as_comment(held)


def test_what_stands_in_a_spec_cannot_leave_its_block() -> None:
    assert fenced("a ```` b").splitlines() == ["`````text", "a ```` b", "`````"]
    plan = replace(PLAN, changing=("alice",), plans=(Preview("alice", False, (StepPreview("settings", (RESTART,)),)),))
    text = as_comment(plan)
    assert text.startswith(MARK)
    fence = next(line for line in text.splitlines() if line.endswith("text")).removesuffix("text")
    inside = text.split(f"{fence}text\n")[1].split(f"\n{fence}\n")[0]
    assert "@sara</details>" in inside
    assert "@sara" not in text.replace(inside, "")


def test_a_plan_that_is_too_long_is_cut() -> None:
    long = replace(RESTART, consequences=tuple(f"consequence {number}" for number in range(2000)))
    many = tuple(Preview(f"t{number}", False, (StepPreview("settings", (long,)),)) for number in range(30))
    assert len(as_comment(replace(PLAN, changing=("alice",), plans=many))) < 64_000


class Failing(PullRequests):
    """Looks that go wrong."""

    looks = 0

    async def look(self) -> bool:
        self.looks += 1
        return False

    def has_looked(self, times: int) -> bool:
        return self.looks >= times


async def test_what_went_wrong_is_tried_once_more_before_somebody_rings_again(tmp_path: Path) -> None:
    slept = list[timedelta]()

    async def sleep(span: timedelta) -> None:
        slept.append(span)

    engine: Any = SimpleNamespace(clock=SimpleNamespace(sleep=sleep))
    pulls = Failing(AtForge(lambda: None, ""), Mirror(Repository("https://forge.test/o/r"), tmp_path), engine)
    task = asyncio.ensure_future(pulls.run())
    for ring in (1, 2):
        pulls.ring()
        await until(partial(pulls.has_looked, 2 * ring))
    task.cancel()
    assert (pulls.looks, slept) == (4, [SOON, SOON])


class Size(Mirror):
    """A mirror of which only the size counts."""

    held = 0

    def size(self) -> int:
        return self.held

    def discard(self) -> None:
        self.held = 0

    async def fetch(self) -> str:
        self.held = self.held or 5
        return "a" * 40


async def test_what_others_brought_is_not_kept_for_ever(tmp_path: Path) -> None:
    mirror = Size(Repository("https://forge.test/o/r"), tmp_path)
    pulls = PullRequests(AtForge(lambda: None, ""), mirror, SimpleNamespace())  # type: ignore[arg-type]
    await pulls._base()
    mirror.held += MOST_KEPT
    await pulls._base()
    assert mirror.held == 5 + MOST_KEPT
    mirror.held += 1
    await pulls._base()
    assert mirror.held == 5
