"""Mishaps at Forge, with mail, and at the shared engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from examples.simulator.records import Account, App
from tests.worlds.mishap import Ending, Kind, Mishap, Missed, found, spoils

if TYPE_CHECKING:
    from tests.worlds.rig import Rig


async def _revoked(rig: Rig, mishap: Mishap) -> Ending:
    """Until somebody makes the same one valid again."""
    forge = rig.world.state.forge
    lost = {value: token for value, token in forge.tokens.items() if token.account == "controller"}
    rig.world.drift.drop_tokens("controller")
    return lambda: forge.tokens.update(lost)


def _account(rig: Rig, tester: str) -> Account | None:
    return rig.world.forge.account(tester)


async def _renamed(rig: Rig, mishap: Mishap) -> Ending:
    account = await found(rig, mishap, lambda: _account(rig, mishap.target))
    before = account.name
    rig.world.drift.rename_account(before, f"{before}-married")

    def back() -> None:
        if _account(rig, f"{before}-married") is account and _account(rig, before) is None:
            rig.world.drift.rename_account(f"{before}-married", before)

    return back


async def _deleted(rig: Rig, mishap: Mishap) -> None:
    await found(rig, mishap, lambda: _account(rig, mishap.target))
    rig.world.drift.delete_account(mishap.target)


async def _stranger(rig: Rig, mishap: Mishap) -> Ending:
    """Somebody has an account of that name before we make ours; an admin has it removed in the end."""
    if _account(rig, mishap.target) is not None:
        raise Missed
    rig.world.drift.add_account(mishap.target, f"{mishap.target}@elsewhere.org")
    made = _account(rig, mishap.target)

    def away() -> None:
        if _account(rig, mishap.target) is made:
            rig.world.drift.delete_account(mishap.target)

    return away


def _app(rig: Rig, tester: str) -> App | None:
    return next((app for app in rig.world.state.forge.apps if f" {tester} " in app.name), None)


async def _app_deleted(rig: Rig, mishap: Mishap) -> None:
    rig.world.drift.delete_app((await found(rig, mishap, lambda: _app(rig, mishap.target))).name)


async def _app_duplicated(rig: Rig, mishap: Mishap) -> None:
    rig.world.drift.duplicate_app((await found(rig, mishap, lambda: _app(rig, mishap.target))).name)


def _store_of(rig: Rig, mishap: Mishap) -> str:
    context = rig.world.engines.named(mishap.target).context if mishap.target else "*"
    return f"{rig.world.admin.name}/{context}"


async def _engines_away(rig: Rig, mishap: Mishap) -> Ending:
    rig.world.drift.set_reachable(rig.world.admin.name, False)
    return lambda: rig.world.drift.set_reachable(rig.world.admin.name, True)


KINDS: Mapping[str, Kind] = {
    "forge_down": Kind(2, "mild", "nobody listens at Forge", spoils("down", "forge", "*"), (1.0, 30.0)),
    "forge_read_only": Kind(
        2,
        "mild",
        "Forge takes no writes",
        spoils("read_only", "forge", "*"),
        (1.0, 30.0),
        lambda rng: {"status": rng.choice((503, 500, 403, 423))},
    ),
    "token_revoked": Kind(1, "rough", "our token at Forge is void", _revoked, (1.0, 30.0)),
    "user_renamed": Kind(1, "rough", "a tester's account is renamed", _renamed, (5.0, 60.0), victim="tester"),
    "user_deleted": Kind(1, "rough", "a tester's account is deleted by hand", _deleted, (5.0, 60.0), victim="tester"),
    "account_of_a_stranger": Kind(
        1, "rough", "somebody else has the account's name", _stranger, (5.0, 60.0), victim="tester"
    ),
    "app_deleted": Kind(
        2, "mild", "a tester's OAuth app is deleted by hand", _app_deleted, (5.0, 60.0), victim="tester"
    ),
    "app_duplicated": Kind(
        2, "mild", "a tester's OAuth app is there twice, by hand", _app_duplicated, (5.0, 60.0), victim="tester"
    ),
    "mail_answer_lost": Kind(
        3,
        "mild",
        "a mail is taken, and the answer is lost",
        spoils("answer_lost", "mail", "POST /emails"),
        (5.0, 60.0),
        lambda rng: {"times": rng.choice((1, 2))},
    ),
    "engine_store_unreachable": Kind(
        2,
        "mild",
        "an engine's secret store does not answer",
        spoils("secret_store_unreachable", "machine", "secret *", _store_of),
        (1.0, 30.0),
        victim="engine",
    ),
    "engines_unreachable": Kind(1, "mild", "the engines' machine is away", _engines_away, (1.0, 30.0)),
}
