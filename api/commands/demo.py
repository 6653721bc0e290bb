"""`testerctl demo`: three testers come to life in a make-believe world."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from api.demo.crash import crash_of, lives
from api.demo.faults import profile_of
from api.demo.show import Wishes, show
from api.server import LISTEN


def command(
    state: Annotated[
        Path, typer.Option("--state", file_okay=False, help="Folder of the demo: world, books, specs.")
    ] = Path(".demo"),
    speed: Annotated[
        float, typer.Option(min=1, max=1000, help="How much faster than real time a new world runs.")
    ] = 60,
    ends: Annotated[
        bool, typer.Option("--exit", help="End when all are ready: exit code 0, else 1 with the reasons.")
    ] = False,
    timeout: Annotated[int, typer.Option(min=1, help="With --exit: seconds to wait.")] = 300,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the world running at the end.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw the last demo away and begin anew.")] = False,
    crash_at: Annotated[
        str,
        typer.Option(
            "--crash-at",
            metavar="STEP[:before|:after]",
            help="Kill the controller at the first writing call of a step, before it goes out or after it was done.",
        ),
    ] = "",
    faults: Annotated[
        str, typer.Option("--faults", metavar="PROFILE", help="What befalls the world: none, mild, rough.")
    ] = "none",
    seed: Annotated[int, typer.Option(help="What the faults are drawn by.")] = 1,
    listen: Annotated[
        str, typer.Option("--listen", help="Where the read API and the page answer; loopback only.")
    ] = LISTEN,
) -> None:
    """Show three testers come to life.

    Simulator, controller and read API together. Ctrl-C stops; the next start goes on.
    """
    profile_of(faults)
    wishes = Wishes(
        state, speed, ends, keep, fresh, timedelta(seconds=timeout), "" if faults == "none" else faults, seed
    )
    if crash_at:
        life = lives(crash_of(crash_at))
        wishes = replace(wishes, life=life, fresh=fresh and life.death is None)
    asyncio.run(show(wishes, listen))
