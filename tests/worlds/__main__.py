"""Lives many seeded worlds, as many at once as there are cores, and says what became of them.

    make worlds N=200 SEED=1 TESTERS=2 DAYS=0.125
    make worlds REPLAY=.worlds/17.story          the same story again, for instance after a change of it or of the code

A world that fails is made as short as it goes (`shrinking.py`). Its story and its trace are written below `.worlds`, and the
answer is 1.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from tests.worlds.living import Outcome, live
from tests.worlds.loop import spare_what_is_there
from tests.worlds.mishaps import Mishap
from tests.worlds.shrinking import MOST, shrunk
from tests.worlds.story import Event, Story, line_of

PLACE = Path(".worlds")
A_WORKERS = 100
"""Worlds that one process lives before another takes its place."""
WARMING = Story(0, 1, timedelta(hours=1))
"""Nothing befalls this one: it loads and compiles, once, what every process after it would load and compile for itself."""
TOLD = 12
"""Lines of a failure that are shown; the story's file has all of them."""


@dataclass(frozen=True)
class Told:
    """What one world comes to. `failure`: what to print of it. `drawn`, `bit`: kinds of mishaps."""

    name: str
    failure: str
    simulated: timedelta
    lives: int
    calls: int
    standing: tuple[str, ...]
    drawn: tuple[str, ...]
    bit: tuple[str, ...]
    cpu: float
    """Seconds; the worlds of a shortening among them."""


def lived(story: Story) -> Outcome:
    """One world, with its files in a place that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="world-") as root:
        return live(Path(root), story)


def tell(story: Story, *, place: Path, name: str = "", tries: int = MOST) -> Told:
    """Lives the story, and shortens it when it fails."""
    began = time.process_time()
    outcome, name = lived(story), name or str(story.seed)
    failure = _failed(outcome, place, name, tries) if outcome.failure is not None else ""
    return told_of(outcome, name, failure, began)


def told_of(outcome: Outcome, name: str, failure: str, began: float) -> Told:
    """What it comes to. `began`: the process's time then."""
    counts = outcome.simulated, outcome.lives, outcome.calls
    drawn = tuple(each.kind for each in outcome.story.events if isinstance(each, Mishap))
    return Told(name, failure, *counts, outcome.standing, drawn, outcome.bit, time.process_time() - began)


def _failed(outcome: Outcome, place: Path, name: str, tries: int) -> str:
    """What to print. Writes the shortened story and its trace."""
    assert outcome.failure is not None
    shortest = outcome

    def fails(events: Sequence[Event]) -> bool:
        nonlocal shortest
        shorter = lived(outcome.story.of(events))
        same = shorter.failure is not None and shorter.failure.kind == failure.kind
        shortest = shorter if same else shortest
        return same

    failure, events = outcome.failure, outcome.story.events
    left = shrunk(events, fails, tries) if tries else events
    place.mkdir(exist_ok=True)
    story, trace = place / f"{name}.story", place / f"{name}.trace"
    text = (shortest.failure or failure).text
    story.write_text(shortest.story.text() + "".join(f"# {line}\n" for line in text.splitlines()))
    trace.write_text(shortest.trace)
    lines = [f"{name} FAILED, {failure.kind}", *text.splitlines()[:TOLD]]
    lines += [f"{len(left)} of its {len(events)} events are enough:", *map(line_of, left)]
    lines += [f"trace: {trace}", f"again: make worlds REPLAY={story}"]
    return "\n    ".join(lines)


def all_told(stories: Sequence[Story], processes: int, place: Path, tries: int) -> Iterator[Told]:
    """What each comes to, in the order in which they end."""
    work = partial(tell, place=place, tries=tries)
    if processes < 2:
        yield from map(work, stories)
        return
    lived(WARMING)
    spare_what_is_there()
    with multiprocessing.Pool(processes, maxtasksperchild=A_WORKERS) as pool:
        yield from pool.imap_unordered(work, stories)


def summed(told: Sequence[Told]) -> str:
    """A few lines on all of them."""
    days = sum((each.simulated for each in told), timedelta(0)) / timedelta(days=1)
    lives, calls = sum(each.lives for each in told), sum(each.calls for each in told)
    failed = sorted(each.name for each in told if each.failure)
    standing = [(re.sub(r"^\S+: ", "", one), each.name) for each in told for one in each.standing]
    reasons = Counter(why for why, _ in standing)
    lines = [f"{len(told)} worlds, {days:.1f} days of theirs, {lives} lives of the controller, {calls} calls"]
    for why, many in reasons.most_common():
        lines.append(
            f"stood still at the end: {many} x {why}: {' '.join(name for one, name in standing if one == why)}"
        )
    drawn, bit = Counter(kind for each in told for kind in each.drawn), {kind for each in told for kind in each.bit}
    if never := ", ".join(f"{kind} (of {many})" for kind, many in sorted(drawn.items()) if kind not in bit):
        lines.append(f"never befell anybody: {never}")
    lines += [f"FAILED: {len(failed)} of {len(told)}: {' '.join(failed)}" if failed else "all well"]
    return "\n".join(lines)


def _words(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests.worlds", description="Seeded worlds in virtual time; see docs/worlds.md."
    )
    parser.add_argument("--worlds", type=int, default=200, help="how many (default 200)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the first one's (default 1); the others have the next ones"
    )
    parser.add_argument("--testers", type=int, default=2, help="at the beginning of each (default 2)")
    parser.add_argument("--days", type=float, default=0.125, help="of each, at most (default 0.125)")
    parser.add_argument("--profile", default="all", help="which mishaps (default all)")
    parser.add_argument("--density", type=float, default=4.0, help="mishaps for each tester in six hours (default 4)")
    parser.add_argument("--edits", type=float, default=1.0, help="for each tester in six hours (default 1)")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="at once (default: as many as cores)"
    )
    parser.add_argument("--tries", type=int, default=MOST, help=f"to make a failing one shorter (default {MOST})")
    parser.add_argument(
        "--place", type=Path, default=PLACE, help="where stories and traces are written (default .worlds)"
    )
    parser.add_argument("--replay", type=Path, help="a story's file: this one only, and as it is")
    return parser.parse_args(arguments)


def stories_of(words: argparse.Namespace) -> Iterable[Story]:
    """Those that were asked for."""
    size = words.testers, timedelta(days=words.days)
    drawing = {"profile": words.profile, "density": words.density, "edits": words.edits}
    return (Story.drawn(words.seed + each, *size, **drawing) for each in range(words.worlds))


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all is well."""
    words = _words(arguments)
    began = time.monotonic()
    told: list[Told] = []
    if words.replay is not None:
        told.append(replayed(words.replay, words.place))
    else:
        told += _printed(all_told(list(stories_of(words)), words.processes, words.place, words.tries))
    print(summed(told))
    cpu = sum(each.cpu for each in told)
    print(f"{time.monotonic() - began:.0f} s by the clock on {words.processes} processes, {cpu:.0f} s of CPU")
    return int(any(each.failure for each in told))


def replayed(file: Path, place: Path) -> Told:
    """A story that was kept, as it is. Its trace is written whatever becomes of it."""
    began = time.process_time()
    outcome = lived(Story.of_text(file.read_text()))
    place.mkdir(exist_ok=True)
    trace = place / f"{file.stem}.trace"
    trace.write_text(outcome.trace)
    failure = f"{outcome.failure.kind}\n{outcome.failure.text}" if outcome.failure is not None else ""
    print(f"{failure}trace: {trace}")
    return told_of(outcome, file.stem, failure, began)


def _printed(told: Iterator[Told]) -> Iterator[Told]:
    for number, each in enumerate(told, 1):
        if each.failure:
            print(each.failure, flush=True)
        elif number % 25 == 0:
            print(f"{number} worlds", flush=True)
        yield each


if __name__ == "__main__":
    logging.getLogger("controller").setLevel(logging.CRITICAL)
    sys.exit(main())
