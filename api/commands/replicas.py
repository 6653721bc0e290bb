"""`testerctl replicas`: who works on the testers, where several controllers share a database."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any

from api.books import places
from api.options import FLEET, STATE, OutputForm, StateFolder
from api.terminal import Output, err, out, print_json, table, text
from api.words import ago, span
from controller.replicas.shares import LEADER, SOURCE
from controller.store.roll import Member, Roll, roll_of

DUTIES = {SOURCE: "reads the source", LEADER: "leads"}


def command(state: StateFolder = STATE, output: OutputForm = Output.TEXT) -> None:
    """Show who works on which testers."""
    found = asyncio.run(roll_of(places(FLEET, state).url))
    if output is Output.JSON:
        print_json([_as_json(one, found.now) for one in found.members] if found is not None else [])
        return
    if found is None:
        err().print(text("The books are in a file, which is one controller's alone: there are no replicas."))
        return
    _show(found)


def _show(found: Roll) -> None:
    shown = table("REPLICA", "TESTERS", "SHARDS", "SINCE", "HEARD OF", "PASSES", "UP", "VERSION", "ALSO")
    for one in found.members:
        since = max((each.since for each in one.holdings), default=None)
        shown.add_row(
            text(one.place, "" if one.alive else "dim"),
            text(str(one.testers) if one.alive else "–"),
            text(_ranges(one.shards) or "–"),
            text(ago(since, found.now) if since is not None else "–"),
            text(ago(one.heard_at, found.now) if one.alive else f"gone, {ago(one.heard_at, found.now)}"),
            text(str(one.passes)),
            text(span(found.now - one.began_at)),
            text(one.version),
            text(", ".join(words for key, words in DUTIES.items() if one.holds(key))),
        )
    out().print(shown)
    if found.free:
        words = f"{found.free} of {found.testers} testers are nobody's at this moment"
        err().print(text(f"{words}; if that stays so, start a replica.", "yellow"))


def _as_json(one: Member, now: datetime) -> dict[str, Any]:
    return {
        "name": one.name,
        "place": one.place,
        "version": one.version,
        "alive": one.alive,
        "beganAt": one.began_at.isoformat(),
        "heardAt": one.heard_at.isoformat(),
        "heardSecondsAgo": round((now - one.heard_at).total_seconds(), 3),
        "testers": one.testers,
        "passes": one.passes,
        "slots": one.slots,
        "readsSource": one.holds(SOURCE),
        "leads": one.holds(LEADER),
        "shards": [
            {"shard": each.key, "epoch": each.epoch, "since": each.since.isoformat()}
            for each in one.holdings
            if each.key in one.shards
        ],
    }


def _ranges(shards: tuple[int, ...]) -> str:
    """`0-11, 40`."""
    runs: list[list[int]] = []
    for shard in shards:
        if runs and shard == runs[-1][-1] + 1:
            runs[-1][1:] = [shard]
        else:
            runs.append([shard])
    told = ", ".join("-".join(map(str, run)) for run in runs)
    return f"{len(shards)}: {told}" if shards else ""
