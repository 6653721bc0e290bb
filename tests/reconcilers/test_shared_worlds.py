"""Unpleasant worlds of what all testers share: engines, mail, releases. Against the simulator in
virtual time; what goes by SMTP, over real sockets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from examples.simulator.engines import token_digest
from examples.simulator.faults import Fault
from examples.simulator.invariants import accepting, lost_tenants, stale_tenants
from reconcilers import engine_rules, repairs
from reconcilers.actions import Action
from reconcilers.door import proof_digest
from reconcilers.engine_tokens import tenant_of
from reconcilers.errors import Blocked, OutcomeUnknown, Throttled, Transient
from reconcilers.facts import (
    AccountFacts,
    ComponentsFacts,
    EngineAccessFacts,
    GatewayFacts,
    MachineFacts,
    SignInAppFacts,
    SignInGateFacts,
    WelcomeFacts,
)
from reconcilers.letters import EARLIER_PASSWORD
from reconcilers.secret import Secret
from specs.desired import DesiredTester
from tests.reconcilers.conftest import Lives
from tests.reconcilers.data import CLIENT_ID, FQDN, brief
from tests.reconcilers.driver import Life, both_engines, by_resend, by_smtp

ON_THE_MACHINE = ("account", "engine_access", "machine", "machine_access", "supervisor", "front_door", "settings")


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairs, "FIRST_PATIENCE", timedelta(0))
    monkeypatch.setattr(engine_rules, "RESTART_PATIENCE", timedelta(0))


def tenant(life: Life) -> str:
    return tenant_of(life.view("engine_access").facts)


def engines(life: Life) -> EngineAccessFacts:
    known = life.facts["engine_access"]
    assert isinstance(known, EngineAccessFacts)
    return known


def token(life: Life, engine: str) -> str:
    return life.secrets[f"alice/engine_{engine}"].text()


async def act(life: Life, step: str) -> list[str]:
    """One plan, carried out. What was done, in words."""
    steps = await life.plan(step)
    for each in steps:
        if isinstance(each, Action):
            await life.perform(step, each)
    return brief(steps)


async def _until_refused(life: Life) -> None:
    for _ in range(400):
        await act(life, "engine_access")


# ------------------------------------------------------------------ engines


async def test_lesson_38_registered_proven_and_revoked_at_every_engine(lives: Lives) -> None:
    life = lives(engines=both_engines)
    await life.settle("engine_access")
    assert set(engines(life).proven) == {"embedder", "voice"}
    for name in ("embedder", "voice"):
        accepted = life.world.engines.named(name).accepted
        assert accepted[tenant(life)] == token_digest(token(life, name))
        assert "workshop" in accepted
    assert token(life, "embedder") != token(life, "voice")
    assert (await life.findings("engine_access"))["EngineAccessProven"].status is True
    life.leaving = True
    await life.settle("engine_access")
    assert accepting(life.world, tenant(life)) == stale_tenants(life.world) == lost_tenants(life.world) == []
    assert engines(life).engines == ()
    assert not [name for name in life.secrets if "engine_" in name]


async def test_one_engine_down_holds_up_only_itself(lives: Lives) -> None:
    life = lives(engines=both_engines)
    life.world.drift.kill_service("admin", "hero_voice")
    await act(life, "engine_access")
    life.world.drift.kill_service("admin", "hero_voice")
    for _ in range(400):
        await act(life, "engine_access")
        if "embedder" in engines(life).proven:
            break
    assert set(engines(life).proven) == {"embedder"}
    finding = (await life.findings("engine_access"))["EngineAccessProven"]
    assert finding.status is not True
    assert "voice" in finding.message
    life.world.drift.restart_engine("voice")
    await life.settle("engine_access")
    assert set(engines(life).proven) == {"embedder", "voice"}


async def test_a_list_that_cannot_be_read_is_left_alone_and_the_other_engine_served(lives: Lives) -> None:
    life = lives(engines=both_engines)
    life.world.drift.set_secret("admin", "voice", "TENANT_TOKENS", "not json")
    assert await act(life, "engine_access") == [f"register tenant {tenant(life)} at engine embedder"]
    with pytest.raises(Blocked, match="voice") as caught:
        await _until_refused(life)
    assert caught.value.reason == "TenantsUnreadable"
    assert life.world.drift.secret("admin", "voice", "TENANT_TOKENS") == "not json"
    assert set(engines(life).proven) == {"embedder"}


async def test_an_engine_that_starts_without_its_list_is_restarted(lives: Lives) -> None:
    life = lives(engines=both_engines)
    life.world.faults.add(Fault(system="engine", method="start", kind="registry_unreachable", target="voice", times=1))
    await life.settle("engine_access")
    assert "engine_access restart" in life.did
    assert set(engines(life).proven) == {"embedder", "voice"}


async def test_an_engine_that_stands_open_is_nobodys_to_prove(lives: Lives) -> None:
    life = lives(engines=both_engines)
    life.world.faults.add(Fault(system="engine", method="ping", kind="ignores_tenant", target="voice", times=None))
    with pytest.raises(Blocked, match="neighbour's name 200"):
        await _until_refused(life)
    finding = (await life.findings("engine_access"))["EngineAccessProven"]
    assert (finding.status, finding.reason) == (False, "EngineOpen")


async def test_lesson_38_a_revocation_that_an_engine_ignores_is_noticed(lives: Lives) -> None:
    life = lives(engines=both_engines)
    await life.settle("engine_access")
    life.world.faults.add(Fault(system="engine", method="start", kind="ignores_revocation", target="voice", times=1))
    life.leaving = True
    await life.settle("engine_access")
    assert "engine_access restart" in life.did
    assert accepting(life.world, tenant(life)) == []


async def test_an_engine_out_of_reach_keeps_the_removal_visible(lives: Lives) -> None:
    life = lives(engines=both_engines)
    await life.settle("engine_access")
    life.world.drift.set_reachable("admin", False)
    await life.backends.machines.forget("of engine voice")
    await life.backends.machines.forget("of engine embedder")
    life.leaving = True
    with pytest.raises(Transient, match="embedder"):
        await life.plan("engine_access")
    life.world.drift.set_reachable("admin", True)
    await life.settle("engine_access")
    assert accepting(life.world, tenant(life)) == []
    life.world.drift.set_reachable("admin", False)
    await life.backends.machines.forget("of engine voice")
    await life.backends.machines.forget("of engine embedder")
    assert await life.plan("engine_access") == (), "once seen to be gone, it stays gone"


async def test_rotated_tokens_reach_the_machine_and_the_old_ones_are_worthless(lives: Lives) -> None:
    life = lives(engines=both_engines)
    await life.converge(*ON_THE_MACHINE)
    place = (life.vm, "cockpit", "SHARED_EMBEDDER_TOKEN")
    old = token(life, "embedder")
    assert life.world.drift.secret(*place) == old
    life.desired = life.desired.model_copy(update={"engine_rotation": 1})
    await life.converge("engine_access", "settings")
    assert life.world.drift.secret(*place) == token(life, "embedder") != old
    accepted = life.world.engines.named("embedder").accepted.values()
    assert token_digest(old) not in accepted
    assert engines(life).rotation == 1
    assert life.world.state.violations == []


# ------------------------------------------------------------------ mail

PASSWORD = "One-time-password-24-ch!"


def ready(life: Life, fqdn: str = FQDN) -> None:
    """All that the letter speaks of is there and well."""
    life.secrets["alice/one_time_password"] = Secret(PASSWORD)
    known = (
        AccountFacts(account="Alice-B", made_by_us=True),
        MachineFacts(daemon="gent", vm_id="1", vm_name="a", address="400::1"),
        GatewayFacts(daemon="gent", gateway_id="1", gateway_name="a", fqdn=fqdn),
        SignInAppFacts(client_id=CLIENT_ID, redirect_uri=f"https://{fqdn}/oauth/callback"),
        ComponentsFacts(healthy=True),
    )
    life.facts |= {each.step: each for each in known}
    digest = proof_digest(life.desired, life.view("welcome").facts)
    life.facts["sign_in_gate"] = SignInGateFacts(proven=digest, listening=True)


def letters(life: Life) -> list[Any]:
    return life.world.mailbox


def state(life: Life) -> WelcomeFacts:
    known = life.facts["welcome"]
    assert isinstance(known, WelcomeFacts)
    return known


@pytest.mark.parametrize("way", [by_resend, by_smtp])
async def test_lesson_39_one_letter_with_everything_in_it_and_the_password_is_erased(
    wired_lives: Lives, way: Any
) -> None:
    life = wired_lives(mail=way)
    ready(life)
    await life.settle("welcome")
    (letter,) = letters(life)
    for text in (letter.text, letter.html):
        assert PASSWORD in text
        assert "Alice-B" in text
        assert f"https://{FQDN}/hero_cockpit/web/" in text
    assert letter.to == ["alice@example.org"]
    assert not [name for name in life.secrets if name in ("alice/one_time_password", "alice/welcome_letter")]
    assert (await life.findings("welcome"))["WelcomeSent"].status is True
    await life.settle("welcome")
    assert len(letters(life)) == 1


async def test_without_a_way_out_it_is_logged_and_the_password_kept(
    lives: Lives, caplog: pytest.LogCaptureFixture
) -> None:
    life = lives()
    ready(life)
    await life.settle("welcome")
    assert letters(life) == []
    assert state(life).state == "logged"
    assert life.secrets["alice/one_time_password"] == Secret(PASSWORD)
    assert "alice/welcome_letter" not in life.secrets
    assert "not sent" in caplog.text
    assert PASSWORD not in caplog.text
    assert (await life.findings("welcome"))["WelcomeSent"].status is False


async def test_a_letter_whose_answer_was_lost_is_asked_for_with_its_key(lives: Lives) -> None:
    life = lives(mail=by_resend)
    ready(life)
    life.world.faults.add(Fault(system="mail", method="POST /emails", kind="answer_lost", times=1))
    with pytest.raises(OutcomeUnknown):
        await act(life, "welcome")
    assert state(life).state == "sending"
    life.desired = _renamed(life.desired)  # what a letter would say now does not matter: the same one goes again
    assert await act(life, "welcome") == ["send_again welcome letter to alice@example.org"]
    assert len(letters(life)) == 1
    assert state(life).state == "sent"
    assert state(life).letter_id == letters(life)[0].id
    assert "alice/one_time_password" not in life.secrets
    assert life.world.state.violations == []


def _renamed(desired: DesiredTester) -> DesiredTester:
    return desired.model_copy(update={"account": desired.account.model_copy(update={"full_name": "Alice Example"})})


async def test_by_smtp_nobody_can_tell_and_a_person_decides(wired_lives: Lives) -> None:
    life = wired_lives(mail=by_smtp)
    ready(life)
    life.world.faults.add(Fault(system="mail", method="smtp DATA", kind="answer_lost", times=1))
    with pytest.raises(OutcomeUnknown):
        await act(life, "welcome")
    with pytest.raises(Blocked, match="raise"):
        await act(life, "welcome")
    assert life.secrets["alice/one_time_password"] == Secret(PASSWORD)
    life.desired = life.desired.model_copy(update={"welcome": life.desired.welcome.model_copy(update={"resend": 1})})
    await life.settle("welcome")
    assert len(letters(life)) == 2
    assert letters(life)[0].key != letters(life)[1].key
    assert "alice/one_time_password" not in life.secrets


async def test_a_letter_that_is_asked_to_wait_is_sent_later_and_once(lives: Lives) -> None:
    life = lives(mail=by_resend)
    ready(life)
    busy = Fault(system="mail", method="POST /emails", kind="rate_limited", times=1, options={"retry_after": 1})
    life.world.faults.add(busy)
    with pytest.raises(Throttled):
        await act(life, "welcome")
    assert state(life).state == ""
    await life.settle("welcome")
    assert len(letters(life)) == 1


async def test_a_new_address_is_told_once_and_without_a_password(lives: Lives) -> None:
    life = lives(mail=by_resend)
    ready(life)
    await life.settle("welcome")
    ready(life, "bnew.gent.example.org")
    del life.secrets["alice/one_time_password"]
    await life.settle("welcome")
    assert [each.subject for each in letters(life)] == [
        "Your Hero OS machine is ready",
        "Your Hero OS machine has a new address",
    ]
    assert "https://bnew.gent.example.org/hero_cockpit/web/" in letters(life)[1].text
    assert EARLIER_PASSWORD in letters(life)[1].text


# ------------------------------------------------------------------ releases, and what only a working app answers


async def test_a_published_version_is_installed_or_only_told_of(lives: Lives) -> None:
    life = lives({"version": {"updates": "notify"}}, timing={"releasesEvery": "1m"})
    await life.converge(*ON_THE_MACHINE, "components")
    life.world.drift.publish("hero_db", "v9.9.9")
    await life.pace.clock.sleep(timedelta(minutes=1))
    told = (await life.findings("components"))["UpdateAvailable"]
    assert told.status is True
    assert "hero_db v0.3.1 → v9.9.9" in told.message
    assert await life.plan("components") == ()
    life.desired = life.desired.model_copy(update={"updates": "apply"})
    await life.settle("components")
    machine = life.world.books()["machines"][life.vm]
    assert machine["running_versions"]["hero_db"] == "v9.9.9"
    assert life.did.count("components update") == 1
    assert (await life.findings("components"))["UpdateAvailable"].status is False


async def test_forge_is_asked_once_for_all_and_its_silence_holds_up_nobody(lives: Lives) -> None:
    life = lives()
    looks = life.looks()
    first = await looks.releases(life.fleet, "latest")
    assert first["hero_db"].name == "v0.3.1"
    asked = len(life.world.log)
    assert await looks.releases(life.fleet, "latest") == first
    assert len(life.world.log) == asked
    life.world.faults.add(Fault(system="forge", method="GET /api/v1/repos/*", kind="http_502", times=None))
    other = lives()  # with a cache of its own
    assert await other.looks().releases(other.fleet, "latest") == {}


async def test_an_app_that_only_lives_is_restarted(lives: Lives) -> None:
    life = lives()
    await life.converge(*ON_THE_MACHINE, "components")
    life.world.drift.break_service(life.vm, "hero_cockpit")
    message = (await life.findings("components"))["ComponentsHealthy"].message
    assert "hero_cockpit lives, but /hero_cockpit/web/ answers with 500" in message
    assert await act(life, "components") == ["restart service hero_cockpit"]
