"""How a plan looks on a terminal: field by field, with consequences and the disruption that a tester would notice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from api.terminal import text
from api.words import one_line
from controller.passes.preview import Preview, StepPreview
from reconcilers.actions import Action, Disruption, Effect, FieldChange, Wait

if TYPE_CHECKING:
    # To plan takes the whole controller; to show one, or to say a verb's words, takes none of it.
    from api.planning import Planned

SIGNS = {Effect.CREATE: ("+", "green"), Effect.DELETE: ("-", "red"), Effect.CHANGE: ("~", "yellow")}
WORDS = {Effect.CREATE: "to make", Effect.CHANGE: "to change", Effect.DELETE: "to take away"}
DISRUPTION_STYLE = {
    Disruption.NONE: "green",
    Disruption.RESTART: "yellow",
    Disruption.REBUILD: "red",
    Disruption.REMOVE: "bold red",
}
NEW = "(new)"
NAMED = 8  # testers at most, in one line


def without_provisional(words: str, uid: str) -> str:
    """Names that hold a uid which is not chosen yet show as `(new)`."""
    return re.sub(rf"[\w.-]*{re.escape(uid)}[\w.-]*", NEW, words) if uid else words


def show_plan(console: Console, planned: Planned) -> None:
    """One tester's plan."""
    console.print(_head(planned))
    for line in _body(planned.preview):
        made = text(without_provisional(line.plain, planned.provisional))
        made.stylize(str(line.style))
        console.print(made, soft_wrap=True)


def is_quiet(planned: Planned) -> bool:
    """Nothing would be done, and there is nothing to say."""
    preview = planned.preview
    return not (preview.leaving or planned.provisional or any(_body(preview)))


def quiet_in_words(quiet: Sequence[Planned], total: int) -> str:
    """`197 of 200 testers: nothing to do`; a few by name."""
    names = f" ({', '.join(one.preview.tester for one in quiet)})" if len(quiet) <= NAMED else ""
    return f"{len(quiet)} of {total} tester{'s' if total > 1 else ''}: nothing to do{names}"


def show_sum(console: Console, plans: tuple[Planned, ...]) -> None:
    """The last line: how much would be done to how many."""
    effects = Counter(action.effect for one in plans for step in one.preview.steps for action in step.actions)
    unseen = [one for one in plans if one.preview.errors]
    if not effects and unseen:
        words = (
            f"Nothing to do as far as can be seen; of {len(unseen)} of {len(plans)} something could not be looked at."
        )
        console.print(text(words, "yellow"))
        return
    if not effects:
        console.print(text("Nothing to do: everything that could be looked at is as the specs say.", "green"))
        return
    busy = sum(one.preview.changes for one in plans)
    parts = ", ".join(f"{effects[effect]} {WORDS[effect]}" for effect in WORDS if effects[effect])
    console.print(text(f"{parts}; {busy} of {len(plans)} testers are touched.", "bold"))
    if any(one.provisional for one in plans):
        words = f"{NEW} stands for names that hold an id which is chosen when the tester is taken in."
        console.print(text(words, "dim"))


def _head(planned: Planned) -> Text:
    preview = planned.preview
    made = text(preview.tester, "bold")
    if planned.provisional:
        made.append_text(text(" new", "green"))
    if preview.leaving:
        made.append_text(text(" leaves", "red"))
    if preview.changes and not planned.provisional:
        made.append_text(text(f"  disruption: {preview.disruption}", DISRUPTION_STYLE[preview.disruption]))
    elif not preview.changes and not preview.errors:
        made.append_text(text("  nothing to do", "dim"))
    return made


def _body(preview: Preview) -> Iterator[Text]:
    for step in preview.steps:
        content = list(_step(step))
        if content:
            yield text(f"  {step.step}", "bold")
            yield from content


def _step(step: StepPreview) -> Iterator[Text]:
    for action in step.actions:
        yield from _action(action)
    for wait in step.waits:
        yield _wait(wait)
    for finding in step.findings:
        yield text(f"    ! {finding.type} is not so: {one_line(finding.message)}", "yellow")
    if step.known_after and not step.actions:
        yield text(f"    known after {', '.join(step.known_after)}", "dim")
    if step.note:
        yield text(f"    {one_line(step.note)}", "dim")
    if step.error:
        yield text(f"    ! {one_line(step.error)}", "bold red")


def _wait(wait: Wait) -> Text:
    return text(f"    … waits: {one_line(wait.message)}", "dim")


def _action(action: Action) -> Iterator[Text]:
    sign, style = SIGNS[action.effect]
    disruption = "" if action.disruption is Disruption.NONE else f"  ({action.disruption})"
    yield text(f"    {sign} {verb_words(action.verb)} {one_line(action.target)}{disruption}", style)
    for change in action.changes:
        yield _field(change)
    for consequence in (*filter(None, [action.why]), *action.consequences):
        yield text(f"        ! {one_line(consequence)}", "yellow")


def verb_words(verb: str) -> str:
    """`restart_proxy` → `restart proxy`."""
    return one_line(verb.replace("_", " "))


def _field(change: FieldChange) -> Text:
    path = one_line(change.path)
    if change.before is None:
        return text(f"        + {path}: {_value(change.after)}", "green")
    if change.after is None:
        return text(f"        - {path}: {_value(change.before)}", "red")
    return text(f"        ~ {path}: {_value(change.before)} → {_value(change.after)}", "yellow")


def _value(value: str | None) -> str:
    return "nothing" if value is None else one_line(value)
