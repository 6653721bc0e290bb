"""Mishaps on the way to any system that is asked over HTTP, and with what it lists."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.worlds.mishap import Ending, Kind, Mishap, spoils, things_of

if TYPE_CHECKING:
    from tests.worlds.rig import Rig

WRITES = (
    ("compute", "deploy_vm"),
    ("compute", "deploy_webgateway"),
    ("compute", "delete_*"),
    ("forge", "POST /api/v1/admin/users"),
    ("forge", "POST /api/v1/user/applications/oauth2"),
    ("forge", "* /api/v1/*"),
    ("mail", "POST /emails"),
)
CALLS = (*WRITES, ("compute", "list_*"), ("compute", "*"), ("forge", "*"), ("forge", "GET *"), ("engine", "*"))
LISTINGS = (
    ("compute", "list_vms"),
    ("compute", "list_webgateways"),
    ("forge", "GET /admin/users"),
    ("forge", "GET /user/applications/oauth2"),
)


def _call(rng: random.Random, calls: tuple[tuple[str, str], ...] = CALLS) -> dict[str, Any]:
    system, method = rng.choice(calls)
    return {"system": system, "method": method, "times": rng.choice((1, 1, 2, 5, None))}


def _write(rng: random.Random) -> dict[str, Any]:
    return _call(rng, WRITES)


def _lost(rng: random.Random) -> dict[str, Any]:
    """No answer ever, or a late one."""
    return {**_write(rng), **rng.choice(({}, {"seconds": rng.randint(30, 300)}))}


def _listing(rng: random.Random) -> dict[str, Any]:
    system, method = rng.choice(LISTINGS)
    return {"system": system, "method": method}


def _on_the_wire(weight: int, what: str, kind: str, draw: Any = _call) -> Kind:
    return Kind(weight, "mild", what, spoils(kind, "*", "*"), (1.0, 12.0), draw)


def _of_a_listing(rig: Any, mishap: Mishap) -> str:
    """An OAuth app's name has the tester's somewhere."""
    return f"*{things_of(rig, mishap)}"


ECHOED = (
    ("forge", "* /api/v1/*", "echo"),
    ("forge", "P* *", "echo"),
    ("compute", "*", "echo"),
    ("compute", "deploy_*", "echo"),
    ("mail", "POST /emails", "echo"),
    ("engine", "*", "echo"),
    ("*", "*", "http_502"),
    ("*", "*", "html_200"),
    ("*", "*", "half_json"),
    ("machine", "hero_proc secret *", "command_fails"),
    ("machine", "hero_proc service *", "command_fails"),
    ("machine", "lab *", "command_fails"),
)
"""System, call, and how it fails in words that repeat what it was told."""


async def _echoes(rig: Rig, mishap: Mishap) -> Ending:
    """Whoever fails repeats what it was told, and something does."""
    system, method, kind = ECHOED[int(mishap.options.get("which", 0)) % len(ECHOED)]
    rest = {key: value for key, value in mishap.options.items() if key != "which"}
    faulty = replace(mishap, options={**rest, "system": system, "method": method})
    spell = await spoils(kind, system, method)(rig, faulty)
    rig.world.faults.echoes += 1

    def hushed() -> None:
        rig.world.faults.echoes -= 1

    return replace(spell, then=hushed)


def _an_echo(rng: random.Random) -> dict[str, Any]:
    return {
        "which": rng.randrange(len(ECHOED)),
        "times": rng.choice((1, 2, 5, None)),
        "status": rng.choice((400, 403, 422, 500, 503)),
        "code": rng.choice((-32602, -32000, -32603)),
    }


KINDS: Mapping[str, Kind] = {
    "server_echoes": Kind(
        6, "rough", "whoever fails repeats what it was told, and something does", _echoes, (1.0, 12.0), _an_echo
    ),
    "timeout_after_effect": _on_the_wire(4, "done, and no answer comes", "timeout_after_effect", _lost),
    "timeout_before": _on_the_wire(3, "not done, and no answer comes", "timeout_before", _lost),
    "error_reported_though_created": _on_the_wire(
        4, "done, and answered with an error", "error_reported_though_created", _write
    ),
    "http_502": _on_the_wire(4, "a relay's error", "http_502"),
    "throttled": _on_the_wire(
        3,
        "429 that says when to come again",
        "throttled",
        lambda rng: {**_call(rng), "retry_after": rng.choice((1, 20, 90))},
    ),
    "throttled_without_a_word": _on_the_wire(2, "429 that does not say when", "throttled"),
    "cut_mid_answer": _on_the_wire(4, "done, and the connection breaks in the answer", "cut_mid_answer"),
    "half_json": _on_the_wire(3, "half of the JSON", "half_json"),
    "html_200": _on_the_wire(3, "a page of HTML with status 200", "html_200"),
    "slow": _on_the_wire(4, "everything is late", "slow", lambda rng: {**_call(rng), "seconds": rng.randint(2, 300)}),
    "listing_lags": Kind(
        4,
        "mild",
        "a listing does not show what is new",
        spoils("listing_lags", "*", "*"),
        (2.0, 30.0),
        lambda rng: {**_listing(rng), "seconds": rng.randint(0, 60)},
    ),
    "listing_omits": Kind(
        3,
        "rough",
        "a listing leaves something out",
        spoils("listing_omits", "*", "*", _of_a_listing),
        (1.0, 10.0),
        _listing,
        "tester",
    ),
    "listing_truncated": Kind(
        3,
        "rough",
        "a listing ends early, as if it were whole",
        spoils("listing_truncated", "*", "*"),
        (1.0, 10.0),
        lambda rng: {**_listing(rng), "keep": rng.choice((0, 0, 1, 3))},
    ),
}
