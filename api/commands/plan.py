"""`testerctl plan`: what would change, field by field. Exit code 0: nothing, 2: changes, 1: it cannot be told."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from api.books import places
from api.commands.validate import tell_errors
from api.models import Plan
from api.options import FLEET, STATE, FleetFolder, OutputForm, SecretsFolder, StateFolder
from api.plan_view import is_quiet, quiet_in_words, show_plan, show_sum
from api.planning import FolderPlan, plan_folder
from api.terminal import Output, err, out, print_json, progress, text
from reconcilers.clock import SystemClock

NOTHING, FAILED, CHANGES = 0, 1, 2


def command(
    testers: Annotated[list[str] | None, typer.Argument(help="Only these.", show_default=False)] = None,
    fleet: FleetFolder = FLEET,
    state: StateFolder = STATE,
    secrets_folder: SecretsFolder = None,
    output: OutputForm = Output.TEXT,
) -> None:
    """Show what would change, and change nothing. Exit code 0: nothing to do, 2: changes, 1: an error."""
    with progress("looking at what is there"):
        made = asyncio.run(plan_folder(places(fleet, state, secrets_folder), tuple(testers or ()), SystemClock()))
    if output is Output.JSON:
        plans = [Plan.of(one.preview, new=bool(one.provisional)) for one in made.plans]
        print_json([plan.model_dump(mode="json") for plan in plans])
    else:
        _show(made, asked=bool(testers))
    tell_errors(made.errors, fleet)
    raise typer.Exit(exit_code(made))


def exit_code(made: FolderPlan) -> int:
    """An error anywhere goes before changes: what it hides may be the change that matters."""
    if made.errors or any(one.preview.errors for one in made.plans):
        return FAILED
    return CHANGES if any(one.preview.changes for one in made.plans) else NOTHING


def _show(made: FolderPlan, *, asked: bool) -> None:
    """`asked`: for testers by name, who are shown also when there is nothing to do."""
    console = out()
    quiet = () if asked else tuple(one for one in made.plans if is_quiet(one))
    for one in made.plans:
        if one not in quiet:
            show_plan(console, one)
            console.print()
    if quiet:
        console.print(text(quiet_in_words(quiet, len(made.plans)), "dim"))
    show_sum(console, made.plans)
    if made.held:
        words = (
            f"Not taken away, because safety.maxRemovals does not allow so many at once: {', '.join(made.held)}. "
            f"If it is meant, set spec.safety.allowRemovals: {len(made.held)} in the Fleet of this revision."
        )
        err().print(text(words, "yellow"), soft_wrap=True)
