"""When a mishap finds something to befall: who comes and who goes, and how long after that each thing is done.

Nearly everything is made in somebody's first five minutes, and most goes within a minute: what is drawn evenly over hours
befalls a world that has nothing to do.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from tests.worlds.edits import Edit
from tests.worlds.mishap import Mishap

SECOND = timedelta(seconds=1)
OFTEN = 0.75
"""The share of all mishaps that are moved to where they find something."""
LEAD = timedelta(minutes=1)
"""So long before, at the most: what spoils but one call must not be used up by an earlier one."""


@dataclass(frozen=True)
class Occasion:
    """From then on somebody's things are made, or (`goes`) taken away."""

    at: timedelta
    tester: str
    goes: bool = False


@dataclass(frozen=True)
class Due:
    """Seconds after an occasion between which something is done, when all goes well."""

    least: float
    most: float
    goes: bool = False


ACCOUNT, MACHINE, GATEWAY, APP = Due(0, 0), Due(1, 1), Due(61, 62), Due(75, 76)
UP, PACKAGES, INSTALLS, STARTS = Due(60, 275), Due(76, 140), Due(200, 206), Due(207, 245)
PROOF, LETTER = Due(245, 270), Due(274, 275)
ANYTHING = Due(0, 275)
LEAVING = Due(0, 10, goes=True)

OF_CALLS: Mapping[str, Due] = {
    "POST /api/v1/admin/users": ACCOUNT,
    "GET /admin/users": ACCOUNT,
    "deploy_vm": MACHINE,
    "list_vms": MACHINE,
    "deploy_webgateway": GATEWAY,
    "list_webgateways": GATEWAY,
    "POST /api/v1/user/applications/oauth2": APP,
    "GET /user/applications/oauth2": APP,
    "apt-get *": PACKAGES,
    "curl *": PACKAGES,
    "lab build *": INSTALLS,
    "lab service *": STARTS,
    "hero_proc service *": STARTS,
    "hero_proc secret *": STARTS,
    "POST /emails": LETTER,
    "delete_*": LEAVING,
}
"""By the call that a mishap's options name."""
OF_KINDS: Mapping[str, Due] = {
    "account_of_a_stranger": ACCOUNT,
    **dict.fromkeys(
        ("deploy_rolls_back", "vm_never_reachable", "pools_fragmented", "node_offline", "node_dead"), MACHINE
    ),
    **dict.fromkeys(("capacity_stale", "capacity_overstated", "daemon_client_dead", "daemon_restarted"), MACHINE),
    **dict.fromkeys(("gateway_failed_but_exists", "slow_chain"), GATEWAY),
    **dict.fromkeys(("name_taken_by_a_stranger", "name_taken_by_our_leftover"), GATEWAY),
    **dict.fromkeys(("app_deleted", "app_duplicated"), APP),
    **dict.fromkeys(("vm_crash_loops", "vm_vanishes", "vm_cut_off", "host_key_changed", "host_key_of_a_rebuild"), UP),
    **dict.fromkeys(("ssh_cut", "command_hangs", "vm_disk_full"), PACKAGES),
    **dict.fromkeys(("install_fails_once", "install_fails_always"), INSTALLS),
    **dict.fromkeys(("start_lies", "start_races", "slow_start", "secret_reads_empty"), INSTALLS),
    **dict.fromkeys(("said_to_run_and_dead", "said_to_be_dead_and_runs"), STARTS),
    "outside_unroutable": PROOF,
    "mail_answer_lost": LETTER,
    **dict.fromkeys(("teardown_lags", "teardown_takes_an_hour"), LEAVING),
}
"""By kind, where its options name no such call."""


def occasions_of(testers: Sequence[str], edits: Iterable[Edit]) -> tuple[Occasion, ...]:
    """Of those who are there from the beginning, and of what is edited later."""
    found = [Occasion(timedelta(0), name) for name in testers]
    for edit in edits:
        rebuilt = "rebuild" in edit.spec.get("machine", {})
        if edit.kind == "remove" or rebuilt:
            found.append(Occasion(edit.at, edit.tester, goes=True))
        if edit.kind in ("add", "put_back") or rebuilt:
            found.append(Occasion(edit.at, edit.tester))
    return tuple(found)


def due_of(mishap: Mishap) -> Due:
    """What it waits for."""
    return OF_CALLS.get(mishap.options.get("method", "")) or OF_KINDS.get(mishap.kind, ANYTHING)


def chosen(rng: random.Random, mishap: Mishap, occasions: Iterable[Occasion]) -> Occasion | None:
    """Where it may find that; None: nowhere. The beginning, with all who are there, counts as much as who comes alone."""
    fitting: dict[timedelta, list[Occasion]] = {}
    for each in occasions:
        if each.goes == due_of(mishap).goes:
            fitting.setdefault(each.at, []).append(each)
    return rng.choice(fitting[rng.choice(list(fitting))]) if fitting else None


def moved(rng: random.Random, mishap: Mishap, occasion: Occasion, before: timedelta) -> Mishap:
    """To shortly before what it waits for is done at that occasion; over before that."""
    due, lasts = due_of(mishap), mishap.ended - mishap.at
    done = occasion.at + rng.uniform(due.least, due.most) * SECOND
    at = done - rng.random() * min(LEAD, lasts / 2)
    at = max(timedelta(0), min(at - at % SECOND, before - lasts))
    return replace(mishap, at=at, until=at + lasts)
