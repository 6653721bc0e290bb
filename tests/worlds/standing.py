"""Who may still wait for a person when all is over, and for what: only for what the story did to just that tester.

Everything else that blames an admin or a spec by then is a controller that makes excuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.passes.outcomes import AN_ADMIN, THE_SPEC
from controller.passes.status import STALLED
from controller.records import Condition, Status
from tests.worlds.edits import Edit
from tests.worlds.mishaps import Mishap
from tests.worlds.rig import Rig
from tests.worlds.story import Event

PEOPLE = {AN_ADMIN, THE_SPEC}  # whoever writes it
ADOPTED = "adopts an account"


@dataclass(frozen=True)
class Explanation:
    """What must have happened to a tester, all of it, so that it may stand still for one of these reasons."""

    happened: frozenset[str]
    reasons: frozenset[str]


def _explanation(happened: Iterable[str], reasons: Iterable[str]) -> Explanation:
    return Explanation(frozenset(happened), frozenset(reasons))


EXPLANATIONS: Sequence[Explanation] = (
    # At the first contact it showed the false one; the right one is another one then.
    _explanation(["host_key_changed"], ["HostKeyChanged"]),
    # While a stranger has the name, its account cannot be called so again.
    _explanation(["user_renamed", "account_of_a_stranger"], ["AccountRenamed", "EmailTaken"]),
    _explanation([ADOPTED], ["AccountMissing"]),
)


async def stands(rig: Rig, name: str, events: Iterable[Event]) -> str:
    """Why somebody stands still until a person acts, and who that is; nothing when that is not so, or nothing explains it."""
    conditions = await rig.conditions(name)
    stalled = conditions.get(STALLED)
    if stalled is None or stalled.status is not Status.TRUE:
        return ""
    blamed = sorted({each.blames for each in conditions.values() if _explains(each, stalled)})
    if not set(blamed) & PEOPLE or stalled.reason not in explained(name, events):
        return ""
    return f"{stalled.reason} ({', '.join(blamed)})"


def explained(name: str, events: Iterable[Event]) -> frozenset[str]:
    """The reasons for which this tester may stand still after these events."""
    happened = {kind for event in events if (kind := _befell(name, event))}
    return frozenset(reason for each in EXPLANATIONS if each.happened <= happened for reason in each.reasons)


def _befell(name: str, event: Event) -> str:
    match event:
        case Mishap(kind=kind, target=target) if target == name:
            return kind
        case Edit(tester=tester, spec={"identity": {"existing": True}}) if tester == name:
            return ADOPTED
    return ""


def _explains(condition: Condition, stalled: Condition) -> bool:
    return bool(condition.blames) and condition.reason == stalled.reason and condition.type != STALLED
