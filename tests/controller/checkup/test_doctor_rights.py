"""What our credentials let us do is known before the first action (lesson 3), and asking for it changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.checkup.doctor import LIMIT, Finding, Telling, Verdict, examine
from examples.simulator.seeding import SCOPES, add_token
from reconcilers.secret import Secret
from specs.fleet import Fleet
from tests.reconcilers.data import merged
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

FEEDBACK = {"forge": {"feedbackRepository": "geomind/feedback"}}
MADE, MADE_APPS, ACCESS = "accounts can be made", "OAuth apps can be made", "access to the feedback repository"
STATUSES, COMMENTS = "commit statuses can be told", "plans can be told as comments"
CANARY = "canary-3b71-never-to-be-seen"


async def findings(
    w: Rig,
    over: Mapping[str, Any],
    secrets: Mapping[str, str],
    standing_at: Mapping[str, int],
    telling: Telling | None = None,
) -> tuple[Finding, ...]:
    """With this laid over the Fleet's spec, and over its secrets by what they are for."""
    document = merged(w._document("fleet"), {"spec": dict(over)})
    fleet = Fleet.model_validate(document)
    held = await w.controller.engine.references.resolve(fleet.spec.secrets())
    assert fleet.spec.mail is not None
    places = {"forge": fleet.spec.forge.token, "mail": fleet.spec.mail.resend_key}
    held |= {str(places[what]): Secret(value) for what, value in secrets.items()}
    return await examine(fleet, held, w.clock, w.options(), LIMIT, standing_at, telling)


async def ailments(
    w: Rig,
    over: Mapping[str, Any] = FEEDBACK,
    secrets: Mapping[str, str] | None = None,
    standing_at: Mapping[str, int] | None = None,
    telling: Telling | None = None,
) -> dict[str, Finding]:
    """What is wrong. Nothing is made or changed by finding it out, and no secret is told."""
    forge, mails = w.world.state.forge.model_dump(), len(w.world.mailbox)
    found = await findings(w, over, secrets or {}, standing_at or {}, telling)
    assert w.world.state.forge.model_dump() == forge
    assert len(w.world.mailbox) == mails
    assert CANARY not in repr(found)
    return {one.what: one for one in found if one.verdict is Verdict.WRONG}


async def opened(w: Rig) -> None:
    await w.until(lambda: w.controller.engine.world is not None, "the Fleet is taken in")


@pytest.mark.parametrize(
    ("scopes", "told"),
    [
        (SCOPES, {}),
        (
            ["read:admin", "read:user", "read:repository"],
            {MADE: "the scope write:admin", MADE_APPS: "the scope write:user", ACCESS: "the scope write:repository"},
        ),
        (["write:admin", "read:user", "write:repository"], {MADE_APPS: "the scope write:user"}),
        (["write:admin", "write:user", "read:repository"], {ACCESS: "the scope write:repository"}),
    ],
)
def test_a_token_that_may_only_read_is_found_before_a_create_fails(
    tmp_path: Path, scopes: list[str], told: dict[str, str]
) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with world(tmp_path, []) as w:
            await opened(w)
            token = add_token(w.world.forge, "controller", scopes)
            found = await ailments(w, secrets={"forge": token})
            assert found.keys() == told.keys()
            assert [what for what, words in told.items() if words not in found[what].detail] == []

    scenario()


@in_virtual_time
async def test_a_feedback_repository_is_asked_for_only_where_one_is_named(tmp_path: Path) -> None:
    async with world(tmp_path, []) as w:
        await opened(w)
        nowhere = {"forge": {"feedbackRepository": "geomind/nowhere"}}
        found = await ailments(w, nowhere)
        assert found.keys() == {ACCESS}
        assert "geomind/nowhere is not there" in found[ACCESS].detail
        assert ACCESS not in {one.what for one in await findings(w, {}, {}, {})}
        assert ACCESS in {one.what for one in await findings(w, FEEDBACK, {}, {})}


@pytest.mark.parametrize(
    ("scopes", "name", "told"),
    [
        (SCOPES, "fleet", {}),
        (["write:admin", "write:user", "write:repository", "read:issue"], "fleet", {COMMENTS: "the scope write:issue"}),
        (["write:admin", "write:user", "write:issue"], "fleet", {STATUSES: "the scope write:repository"}),
        (SCOPES, "nowhere", {STATUSES: "geomind/nowhere is not there", COMMENTS: "geomind/nowhere is not there"}),
    ],
)
def test_whether_answers_can_go_back_to_git_is_known_before_the_first(
    tmp_path: Path, scopes: list[str], name: str, told: dict[str, str]
) -> None:
    @in_virtual_time
    async def scenario() -> None:
        async with world(tmp_path, []) as w:
            await opened(w)
            token = add_token(w.world.forge, "controller", scopes)
            url = f"{w.world.realm.forge_url}/geomind/{name}.git"
            found = await ailments(w, {}, {"forge": token}, telling=Telling(url, comments=True))
            assert found.keys() == told.keys()
            assert [what for what, words in told.items() if words not in found[what].detail] == []
            asked = {one.what: one for one in await findings(w, {}, {}, {}, Telling("https://git.test/o/r"))}
            assert asked[STATUSES].verdict is Verdict.UNKNOWN
            assert "nothing is told there" in asked[STATUSES].detail
            assert COMMENTS not in asked

    scenario()


@in_virtual_time
async def test_a_daemons_secret_under_which_nothing_of_ours_is_seen(tmp_path: Path) -> None:
    async with world(tmp_path, []) as w:
        await opened(w)
        assert await ailments(w, standing_at={"compute1": 0}) == {}
        found = await ailments(w, standing_at={"compute1": 3, "gone": 1})
        assert found.keys() == {"machines can be listed"}
        assert "our books have 3 there" in found["machines can be listed"].detail
        assert "spec.compute.compute1.secret" in found["machines can be listed"].mend


@in_virtual_time
async def test_a_mail_key_that_is_none_and_one_that_may_only_send(tmp_path: Path) -> None:
    async with world(tmp_path, []) as w:
        await opened(w)
        found = await ailments(w, secrets={"mail": CANARY})
        assert found.keys() == {"way out"}
        assert "the key is refused" in found["way out"].detail
        assert "spec.mail.resendKey" in found["way out"].mend
        w.world.post.state.only_sends = True
        assert await ailments(w) == {}
