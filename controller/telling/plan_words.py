"""What a pull request would do, in words: one line for its commit status, and a comment in Markdown. Pure.

Whatever stands in a spec stands in fenced blocks here, with a fence that it cannot close.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from controller.passes.preview import WORST_LAST, Preview, StepPreview
from reconcilers.actions import Action, Disruption, Effect

MARK: Final = "<!-- tester-controller: plan -->"
NAMED: Final = 3
MOST_ERRORS: Final = 20
LONGEST_PLAN: Final = 6_000
"""Characters of one tester's plan."""
LONGEST: Final = 50_000
"""Characters of all plans: Forge takes comments of about 64 KiB."""

SIGNS: Final = {Effect.CREATE: "+", Effect.DELETE: "-", Effect.CHANGE: "~"}


@dataclass(frozen=True, slots=True)
class PullPlan:
    """What a revision would do that is not in force. `merged`: with what the branch says by now; `unplanned`: who changes as
    well, and was not looked at; `fleet`: whether the Fleet changes."""

    sha: str
    branch: str
    errors: tuple[str, ...] = ()
    coming: tuple[str, ...] = ()
    changing: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    fleet: bool = False
    plans: tuple[Preview, ...] = ()
    unplanned: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return not self.errors and not self.held

    @property
    def changes(self) -> bool:
        return bool(self.coming or self.changing or self.leaving or self.fleet)

    @property
    def disruption(self) -> Disruption:
        """The worst for anybody who is there already."""
        known = [each.disruption for each in self.plans if each.tester not in self.coming]
        return max(known, key=WORST_LAST.index, default=Disruption.NONE)


def in_short(plan: PullPlan) -> str:
    """For the status of its commit."""
    if plan.errors:
        more = f" (and {len(plan.errors) - 1} more)" if len(plan.errors) > 1 else ""
        return f"{plan.errors[0]}{more}"
    if plan.held:
        return f"{len(plan.held)} removals would be held back (TooManyRemovals): {_some(plan.held)}"
    if not plan.changes:
        return "changes nothing"
    disruption = f"; disruption: {plan.disruption}" if plan.disruption is not Disruption.NONE else ""
    return f"{_counts(plan)}{disruption}"


def as_comment(plan: PullPlan) -> str:
    """The whole of it, in Markdown."""
    parts = [MARK, "### What this would do", _head(plan)]
    if plan.errors:
        shown = [*plan.errors[:MOST_ERRORS], *_more(len(plan.errors) - MOST_ERRORS)]
        parts += ["It cannot be taken in as it is:", fenced("\n".join(shown))]
    if plan.held:
        parts += [
            "More testers would leave than `safety.maxRemovals` allows at once. If it is meant, set "
            f"`spec.safety.allowRemovals: {len(plan.held)}` in the Fleet of this very change:",
            fenced(", ".join(plan.held)),
        ]
    if plan.fleet:
        parts.append("The Fleet changes too. Plans are made with the Fleet that is in force.")
    parts += list(_plans(plan))
    if plan.unplanned:
        parts += ["Not looked at, because they are many:", fenced(", ".join(plan.unplanned))]
    parts.append(
        "_Made by looking, and nothing was changed. Whatever happens before this is merged may change the plan._"
    )
    return "\n\n".join(parts) + "\n"


def _head(plan: PullPlan) -> str:
    what = _counts(plan) if plan.changes else "Nothing changes"
    worst = f"; the worst that anybody notices: **{plan.disruption}**" if plan.plans else ""
    return f"**{what}**{worst}. Commit `{plan.sha[:12]}`, as merged into `{_plain(plan.branch)}`."


def _counts(plan: PullPlan) -> str:
    groups = (("comes", "come", plan.coming), ("changes", "change", plan.changing), ("leaves", "leave", plan.leaving))
    told = [f"{len(who)} {one if len(who) == 1 else many} ({_some(who)})" for one, many, who in groups if who]
    return ", ".join(told) or "the Fleet changes"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _plans(plan: PullPlan) -> Iterator[str]:
    left = LONGEST
    for each in plan.plans:
        lines = "\n".join(_lines(each)) or "nothing to do"
        if len(lines) > LONGEST_PLAN:
            lines = f"{lines[:LONGEST_PLAN]}\n…"
        left -= len(lines)
        if left < 0:
            yield "The other plans are too long to be shown: `testerctl plan` shows them."
            return
        yield f"<details><summary>{_title(plan, each)}</summary>\n\n{fenced(lines)}\n\n</details>"


def _title(plan: PullPlan, preview: Preview) -> str:
    name = _plain(preview.tester)
    if preview.tester in plan.coming:
        return f"<b>{name}</b> comes"
    if preview.leaving:
        return f"<b>{name}</b> leaves"
    effects = Counter(action.effect for step in preview.steps for action in step.actions)
    return f"<b>{name}</b> changes: {sum(effects.values())} to do, disruption {preview.disruption}"


def _lines(preview: Preview) -> Iterator[str]:
    for step in preview.steps:
        found = list(_step(step))
        if found:
            yield step.step
            yield from found


def _step(step: StepPreview) -> Iterator[str]:
    for action in step.actions:
        yield from _action(action)
    yield from (f"  … waits: {_line(wait.message)}" for wait in step.waits)
    yield from (f"  ! {each.type} is not so: {_line(each.message)}" for each in step.findings)
    if step.known_after and not step.actions:
        yield f"  known after {', '.join(step.known_after)}"
    if step.error:
        yield f"  ! {_line(step.error)}"


def _action(action: Action) -> Iterator[str]:
    worst = "" if action.disruption is Disruption.NONE else f"  ({action.disruption})"
    yield f"  {SIGNS[action.effect]} {_line(action.verb.replace('_', ' '))} {_line(action.target)}{worst}"
    for change in action.changes:
        before, after = (_line(value) if value is not None else "nothing" for value in (change.before, change.after))
        yield f"      {_line(change.path)}: {before} → {after}"
    for words in (*filter(None, [action.why]), *action.consequences):
        yield f"      ! {_line(words)}"


def fenced(words: str) -> str:
    """A block of code that nothing in it can end."""
    longest = max((len(run) for run in re.findall("`+", words)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{words}\n{fence}"


def _more(count: int) -> list[str]:
    return [f"… and {count} more"] if count > 0 else []


def _line(words: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in words)


def _plain(words: str) -> str:
    """A word that means nothing to Markdown or HTML."""
    return re.sub(r"[^\w./-]", "_", words)
