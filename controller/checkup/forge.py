"""The check-up of Forge: may we do there what we shall have to do, also where answers go back to git?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from controller.checkup.findings import Ailing, Question, Round, Untold, demand
from reconcilers.backends.forge import ForgeClient
from reconcilers.backends.forge_telling import repository_of
from reconcilers.backends.reaching import (
    ACCOUNTS,
    APPS,
    forge_time,
    try_comments,
    try_order,
    try_repository,
    try_statuses,
)
from reconcilers.clock import Clock
from specs.fleet import Fleet

TOLERATED_SKEW = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Telling:
    """Answers go back to this repository, by its git address; plans as comments too, or not."""

    url: str
    comments: bool = False


def of_forge(fleet: Fleet, forge: ForgeClient, clock: Clock, telling: Telling | None, *, known: bool) -> Round:
    """`telling`: where answers go, if anywhere; `known`: whether the token is there."""

    async def answers() -> str:
        await forge_time(forge)
        return str(fleet.spec.forge.url)

    async def owner() -> str:
        demand(known, "the token's secret is not there")
        account = await forge.whoami()
        if not account.is_admin:
            raise Ailing(
                f"the token belongs to {account.login}, who is no site admin",
                "make that account a site admin, or put a site admin's token where spec.forge.token points",
            )
        return f"{account.login}, a site admin"

    async def accounts() -> str:
        demand(known, "the token's secret is not there")
        return f"{len(await forge.accounts())} accounts"

    async def apps() -> str:
        demand(known, "the token's secret is not there")
        return f"{len(await forge.oauth_apps())} apps of the token's owner"

    async def time() -> str:
        return await _skew(forge, clock)

    async def makes_accounts() -> str:
        demand(known, "the token's secret is not there")
        await try_order(forge, ACCOUNTS)
        return "an order without a name was called incomplete"

    async def makes_apps() -> str:
        demand(known, "the token's secret is not there")
        await try_order(forge, APPS)
        return "an order without a name was called incomplete"

    mend = "see that spec.forge.url is right, and that the server answers from here"
    return Round(
        "Forge",
        Question("answers", answers, mend),
        (
            Question("token's owner", owner),
            Question("accounts can be listed", accounts),
            Question("OAuth apps can be listed", apps),
            Question("accounts can be made", makes_accounts),
            Question("OAuth apps can be made", makes_apps),
            *_feedback(fleet.spec.forge.feedback_repository, forge, known=known),
            *(_telling(forge, telling, known=known) if telling is not None else ()),
            Question("same time as here", time),
        ),
    )


def _feedback(repository: str | None, forge: ForgeClient, *, known: bool) -> tuple[Question, ...]:
    if not repository:
        return ()

    async def access() -> str:
        demand(known, "the token's secret is not there")
        await try_repository(forge, *repository.split("/", 1))
        return repository

    mend = "correct spec.forge.feedbackRepository, or that right"
    return (Question("access to the feedback repository", access, mend),)


async def _skew(forge: ForgeClient, clock: Clock) -> str:
    """Half the way there and back is taken off; HTTP tells whole seconds."""
    before = clock.now()
    told = await forge_time(forge)
    after = clock.now()
    if told is None:
        raise Untold("it does not tell its time")
    skew = told - (before + (after - before) / 2)
    if abs(skew) > TOLERATED_SKEW:
        side = "ahead of" if skew > timedelta(0) else "behind"
        raise Ailing(
            f"its clock is {abs(skew).total_seconds():.0f} s {side} ours",
            "set the wrong one of the two (NTP): tokens and certificates are refused when clocks differ",
        )
    return "clocks agree"


def _telling(forge: ForgeClient, telling: Telling, *, known: bool) -> tuple[Question, ...]:
    there = repository_of(forge.url, telling.url)

    async def statuses() -> str:
        if there is None:
            raise Untold(f"{telling.url} is not at {forge.url}: nothing is told there")
        demand(known, "the token's secret is not there")
        await try_statuses(forge, *there)
        return "/".join(there)

    async def comments() -> str:
        demand(known and there is not None, "there is nobody to ask")
        await try_comments(forge, *there or ("", ""))
        return "one about no pull request was refused"

    mend = "give that right to the owner of spec.forge.token, in the repository of the specs"
    of_statuses = Question("commit statuses can be told", statuses, mend)
    of_comments = Question("plans can be told as comments", comments, mend)
    return (of_statuses, of_comments) if telling.comments else (of_statuses,)
