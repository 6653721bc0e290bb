"""Whatever befalls a tester alone, it ends well: it comes up, it leaves, and while that cannot be it is said why and whose
turn it is."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.lessons.conftest import WITH_ENGINES
from tests.worlds import mishaps_wire
from tests.worlds.loop import in_virtual_time
from tests.worlds.mishaps import KINDS, Mishap, draw, fate, waiting
from tests.worlds.occasions import Occasion
from tests.worlds.rig import Rig, world

LONGEST = timedelta(minutes=25)
"""Of what is drawn here: a tester is Ready after six or seven minutes when all goes well."""
BOUND = timedelta(minutes=45)
"""From the end of a mishap until all is well: a machine that was ordered just before and never finds its network is given up
after 20 minutes, and a new one takes 7; the longest wait after failures is 10; releases are asked for anew within 15."""
UNTIL_NOTHING_IS_LEFT = timedelta(hours=1, minutes=30)
"""The same, and the hour that a node may take its time."""
SEED = 1


def of(w: Rig, tester: str) -> dict[str, int]:
    """How many of each thing the world has for a tester under our secret, and accounts."""
    daemons, forge = w.world.state.daemons.values(), w.world.state.forge
    return {
        "vms": sum(vm.name.startswith(f"{tester}_") for one in daemons for vm in one.vms.values()),
        "gateways": sum(
            row.name.startswith(tester) and row.secret != "somebody-else" for _, row in w.world.grid.gateways()
        ),
        "apps": sum(f" {tester} " in app.name for app in forge.apps),
        "accounts": int(tester in forge.accounts),
    }


ON_THE_WIRE = frozenset(kind for kind in mishaps_wire.KINDS if not kind.startswith(("listing_", "server_")))
MADE = tuple(call for call in mishaps_wire.WRITES if not call[1].startswith(("*", "delete")))
GOING = (("compute", "delete_vm"), ("compute", "delete_webgateway"), ("forge", "DELETE *"))
"""The calls that make something for who comes, and that take it away from who goes."""

QUICK = frozenset(
    {
        "timeout_after_effect deploy_vm",
        "timeout_after_effect delete_vm",
        "error_reported_though_created deploy_webgateway",
        "error_reported_though_created delete_webgateway",
        "listing_truncated",
        "vm_vanishes",
        "token_revoked",
        "clock_jumps",
    }
)
"""The cases that every `make test` tries; `make long` tries all of them."""


def each(cases: Iterable[str]) -> list[Any]:
    return [pytest.param(case, marks=() if case in QUICK else pytest.mark.long) for case in cases]


def cases(kinds: Iterable[str], calls: Sequence[tuple[str, str]]) -> list[Any]:
    """Each kind; what can befall any call, at each of these."""
    found = [[f"{kind} {method}" for _, method in calls] if kind in ON_THE_WIRE else [kind] for kind in kinds]
    return each(case for several in found for case in several)


def drawn(case: str, calls: Sequence[tuple[str, str]], occasion: Occasion) -> Mishap:
    """A mishap of alice's, drawn by its name, from shortly before it finds what it waits for."""
    rng, (kind, _, method) = random.Random(f"{case} {SEED}"), case.partition(" ")
    one = draw(rng, kind, LONGEST, ["alice"])
    named = next(({"system": system, "method": method} for system, name in calls if name == method), {})
    return waiting(
        rng, replace(one, options={**one.options, **named, **OPTIONS.get(kind, {})}), occasion, occasion.at + LONGEST
    )


ALL_OF_IT = {"system": "compute", "method": "list_vms"}
OPTIONS: dict[str, dict[str, Any]] = {
    "listing_omits": ALL_OF_IT,
    "listing_truncated": {**ALL_OF_IT, "keep": 0},
    "listing_lags": {"seconds": 60},
}
"""So that it takes something away from a listing of one, and of what bears a name that tells whose it is."""
ONE_EACH = {"vms": 1, "gateways": 1, "apps": 1, "accounts": 1}
NOTHING_BUT_THE_ACCOUNT = {"vms": 0, "gateways": 0, "apps": 0}
NOBODY_COMES_UP = ("teardown_lags", "teardown_takes_an_hour")
"""To do with taking away alone."""


@pytest.mark.parametrize("case", cases((kind for kind in KINDS if kind not in NOBODY_COMES_UP), MADE))
@in_virtual_time
async def test_who_comes_up_meanwhile_is_ready_soon_after_and_has_one_of_each(tmp_path: Path, case: str) -> None:
    mishap = drawn(case, MADE, Occasion(timedelta(0), "alice"))
    async with world(tmp_path, ["alice"], fleet=WITH_ENGINES, seed=SEED) as w:
        async with fate(w, [mishap]) as it:
            await w.run_for(mishap.ended)
        assert it.bit() == (mishap.kind,), mishap.line()
        await w.ready("alice", within=BOUND)
        left_over = {"gateways": 2} if mishap.kind == "name_taken_by_our_leftover" else {}
        await w.until(
            lambda: of(w, "alice") in ({**ONE_EACH, **left_over}, ONE_EACH),
            f"one of each, after {mishap.line()}",
            BOUND,
        )


TO_DO_WITH_LEAVING = (
    *("timeout_after_effect", "timeout_before", "error_reported_though_created", "http_502", "slow"),
    *("cut_mid_answer", "half_json", "html_200", "throttled", "throttled_without_a_word"),
    *("listing_omits", "listing_truncated", "teardown_lags", "teardown_takes_an_hour"),
    *(
        "daemon_client_dead",
        "daemon_restarted",
        "node_dead",
        "vm_vanishes",
        "vm_cut_off",
        "host_key_changed",
        "ssh_cut",
    ),
    *("start_lies", "forge_read_only", "token_revoked", "user_deleted", "app_duplicated"),
    *("engine_store_unreachable", "engines_unreachable", "clock_jumps", "store_locked", "store_full"),
)
"""The others were tried once: what has to do with installing and starting befalls nobody who leaves."""


@pytest.mark.parametrize("case", cases(TO_DO_WITH_LEAVING, GOING))
@in_virtual_time
async def test_who_leaves_meanwhile_is_gone_soon_after_and_nothing_is_left(tmp_path: Path, case: str) -> None:
    async with world(tmp_path, ["alice"], fleet=WITH_ENGINES, seed=SEED) as w:
        await w.ready("alice")
        removed = w.elapsed + timedelta(minutes=2)
        one = drawn(case, GOING, Occasion(removed, "alice", goes=True))
        mishap = replace(one, at=min(one.at, removed - timedelta(seconds=1)))
        async with fate(w, [mishap]) as it:
            await w.run_for(removed - w.elapsed)
            w.remove("alice")
            await w.run_for(mishap.ended - w.elapsed)
        assert it.bit() == (mishap.kind,), mishap.line()
        await w.gone("alice", within=UNTIL_NOTHING_IS_LEFT)
        left = {what: count for what, count in of(w, "alice").items() if what != "accounts"}
        assert left == NOTHING_BUT_THE_ACCOUNT, mishap.line()


SAID = {
    "host_key_changed": "HostKeyChanged",
    "account_of_a_stranger": "AccountExists",
    "user_renamed": "AccountRenamed",
    "pools_fragmented": "NoCapacity",
    "token_revoked": "TokenRefused",
    "install_fails_always": "InstallFailed",
    "forge_down": "Unreachable",
    "vm_disk_full": "CommandFailed",
}
"""Kind → the reason that is told while it lasts."""


@pytest.mark.parametrize("kind", each(SAID))
@in_virtual_time
async def test_while_it_lasts_it_is_said_why(tmp_path: Path, kind: str) -> None:
    begins = timedelta(minutes=8 if kind in ("host_key_changed", "user_renamed") else 0)
    async with world(tmp_path, ["alice"], fleet=WITH_ENGINES, seed=SEED) as w:
        async with fate(
            w, [Mishap(begins, timedelta(hours=4), kind, "alice" if KINDS[kind].victim == "tester" else "")]
        ):

            async def said() -> bool:
                return SAID[kind] in {condition.reason for condition in (await w.conditions("alice")).values()}

            await w.until(said, SAID[kind], timedelta(hours=1))
        await w.ready("alice", within=BOUND)
