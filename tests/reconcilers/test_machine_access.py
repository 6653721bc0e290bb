"""SSH into the machine: what the authorised keys are, and what follows."""

from __future__ import annotations

import pytest

from reconcilers.actions import Wait
from reconcilers.backends import Backends
from reconcilers.backends.machine import MachineLook
from reconcilers.contract import TesterView
from reconcilers.errors import Blocked, OutsideError, Transient
from reconcilers.facts import Facts, MachineAccessFacts
from reconcilers.installer_key import installer_public_key
from reconcilers.looks import TesterLooks
from reconcilers.machine_access import TRIED_EVERY, MachineAccessReconciler, SeenAccess
from reconcilers.secret import Secret
from tests.reconcilers.data import ADMIN_KEY, OTHER_KEY, a_fleet, a_look, a_tester, actions, brief, some_facts

STEP = MachineAccessReconciler(None)  # type: ignore[arg-type] - planning asks no backend
SET = ["set_keys authorised keys"]


@pytest.fixture
def facts(installer_key: tuple[Secret, str]) -> Facts:
    return some_facts(secrets={"env:INSTALLER_KEY": installer_key[0]})


KEYS = {
    "exactly": (ADMIN_KEY + "\n{ours}", []),
    "in another order, with spaces and comments": ("# ours\n{ours}\n\n  " + ADMIN_KEY.replace(" ", "  ") + " ", []),
    "with another comment": (ADMIN_KEY.rsplit(" ", 1)[0] + " renamed\n{ours}", []),
    "one too many": (ADMIN_KEY + "\n{ours}\n" + OTHER_KEY, SET),
    "one too few": ("{ours}", SET),
    "none of ours": (ADMIN_KEY, SET),
    "one with a command before it": ("{ours}\n" + 'command="id" ' + ADMIN_KEY, SET),
    "nothing": ("", SET),
}


@pytest.mark.parametrize("name", KEYS)
def test_the_keys_are_exactly_those_of_the_spec_and_the_installers(
    name: str, facts: Facts, installer_key: tuple[Secret, str]
) -> None:
    text, expected = KEYS[name]
    lines = tuple(text.format(ours=installer_key[1]).split("\n"))
    assert brief(STEP.plan(a_tester(), SeenAccess(a_look(authorized_keys=lines)), facts)) == expected


def test_a_plan_says_which_key_comes_and_which_goes(facts: Facts, installer_key: tuple[Secret, str]) -> None:
    look = a_look(authorized_keys=(OTHER_KEY, installer_key[1]))
    (action,) = actions(STEP.plan(a_tester(), SeenAccess(look), facts))
    gone, new = action.changes
    assert gone.before is not None
    assert gone.before.endswith(" other")
    assert gone.after is None
    assert new.after is not None
    assert new.after.endswith(" mik")


def test_an_unreachable_machine_is_waited_for_with_a_limit_and_a_name(facts: Facts) -> None:
    (wait,) = STEP.plan(a_tester(), SeenAccess(None), facts)
    assert isinstance(wait, Wait)
    assert (wait.reason, wait.limit) == ("WaitingForNetwork", a_fleet().spec.timing.reachable_limit)
    assert "grid" in wait.blames
    assert STEP.learn(SeenAccess(None), facts) is None


def test_the_host_key_is_pinned_at_the_first_contact_and_stays(facts: Facts) -> None:
    unpinned = some_facts(without=("machine_access",))
    look = SeenAccess(a_look(host_key="ssh-ed25519 NEW"))
    assert STEP.learn(look, unpinned) == MachineAccessFacts(host_key="ssh-ed25519 NEW")
    assert STEP.learn(look, facts) == MachineAccessFacts(host_key="ssh-ed25519 HOST")


def test_a_preview_knows_that_the_machine_is_made_with_its_keys(facts: Facts) -> None:
    assert STEP.plan(a_tester(), None, facts) == ()


LEFT = {
    "her own": ((ADMIN_KEY, OTHER_KEY), SET),
    "none of hers": ((ADMIN_KEY,), []),
    "an admin's with a command before it": ((f'command="id" {ADMIN_KEY}',), SET),
}


@pytest.mark.parametrize("name", LEFT)
def test_a_removed_testers_keys_go_and_those_of_the_admins_stay(
    name: str, facts: Facts, installer_key: tuple[Secret, str]
) -> None:
    lines, expected = LEFT[name]
    plan = actions(STEP.plan(None, SeenAccess(a_look(authorized_keys=(*lines, installer_key[1]))), facts))
    assert brief(plan) == expected
    assert [action.args for action in plan] == [(ADMIN_KEY, installer_key[1]) for _ in expected]


async def test_on_removal_a_machine_out_of_reach_is_tried_again_and_one_that_is_gone_needs_nothing(
    facts: Facts,
) -> None:
    (wait,) = STEP.plan(None, SeenAccess(None), facts)
    assert isinstance(wait, Wait)
    assert (wait.reason, wait.poll) == ("KeysMayBeLeft", TRIED_EVERY)
    gone = some_facts(without=("machine",), leaving=True)
    looks: TesterLooks = ForgeAndLooks()  # type: ignore[assignment]
    assert await STEP.observe(TesterView(a_tester(), gone), looks) is None
    assert STEP.plan(None, None, gone) == ()


@pytest.mark.parametrize(
    "value", ["nonsense", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"]
)
def test_a_broken_installer_key_is_named_and_not_shown(value: str) -> None:
    with pytest.raises(Blocked) as caught:
        installer_public_key(some_facts(secrets={"env:INSTALLER_KEY": Secret(value)}))
    assert caught.value.reason == "InstallerKeyUnusable"
    assert "env:INSTALLER_KEY" in str(caught.value)
    assert "AAAA" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_missing_installer_key_is_named() -> None:
    with pytest.raises(Blocked) as caught:
        installer_public_key(some_facts(secrets={}))
    assert caught.value.reason == "SecretMissing"


# ---------------------------------------------------------------- the keys that an account brings

REQUIRED = a_tester(keys={"ssh": "required"})
BARE = OTHER_KEY.rsplit(" ", 1)[0]
OWN = f"{BARE} Alice-B"
INTRUDER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHRoaXJkdGhpcmR0aGlyZHRoaXJkdGhpcmR0aGlyZHRo eve"
OF_THE_ACCOUNT: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None, list[str]]] = {
    "there": ((ADMIN_KEY, OTHER_KEY), (OWN,), []),
    "not there yet": ((ADMIN_KEY,), (OWN,), SET),
    "taken off Forge": ((ADMIN_KEY, OTHER_KEY), (), SET),
    "somebody else's besides": ((ADMIN_KEY, OTHER_KEY, INTRUDER), (OWN,), SET),
    "Forge does not tell: what is there stays": ((ADMIN_KEY, OTHER_KEY), None, []),
    "Forge does not tell: ours are put back": ((OTHER_KEY,), None, SET),
    "Forge does not tell: no key with a command": ((ADMIN_KEY, f'command="id" {OTHER_KEY}'), None, SET),
}


@pytest.mark.parametrize("name", OF_THE_ACCOUNT)
def test_the_keys_of_the_account_are_kept_on_the_machine(
    name: str, facts: Facts, installer_key: tuple[Secret, str]
) -> None:
    lines, own, expected = OF_THE_ACCOUNT[name]
    seen = SeenAccess(a_look(authorized_keys=(*lines, installer_key[1])), own)
    plan = actions(STEP.plan(REQUIRED, seen, facts))
    assert brief(plan) == expected
    for action in plan:
        assert {ADMIN_KEY, installer_key[1]} <= set(action.args)
        assert INTRUDER not in action.args
        assert (BARE in " ".join(action.args)) is (own != () and "command" not in name)


class ForgeAndLooks:
    def __init__(self, *keys: str, fails: OutsideError | None = None) -> None:
        self.held, self.fails, self.query = keys, fails, None

    async def machine(self, address: object) -> MachineLook:
        return a_look()

    def unshared(self) -> None: ...

    async def keys(self, login: str) -> tuple[str, ...]:
        assert login == "Alice-B"
        if self.fails:
            raise self.fails
        return self.held


ASKED: dict[str, tuple[ForgeAndLooks, bool, tuple[str, ...] | None, bool | None]] = {
    "not asked for": (ForgeAndLooks(OTHER_KEY), False, (), None),
    "one": (ForgeAndLooks(OTHER_KEY), True, (OWN,), True),
    "none any more": (ForgeAndLooks(), True, (), False),
    "none that may be used": (ForgeAndLooks("ssh-dss AAAA", "nonsense", ""), True, (), False),
    "the same twice": (ForgeAndLooks(OTHER_KEY, f"  {BARE}   x, y "), True, (OWN,), True),
    "Forge is down": (ForgeAndLooks(fails=Transient("502", system="Forge")), True, None, None),
}


@pytest.mark.parametrize("name", ASKED)
async def test_forge_is_asked_only_where_the_spec_says_so(name: str, facts: Facts) -> None:
    outside, required, expected, status = ASKED[name]
    desired = REQUIRED if required else a_tester()
    step = MachineAccessReconciler(Backends(outside, {}, None, None))  # type: ignore[arg-type]
    looks: TesterLooks = outside  # type: ignore[assignment]
    seen = await step.observe(TesterView(desired, facts), looks)
    assert seen is not None
    assert seen.own_keys == expected
    findings = step.findings(desired, seen, facts)
    assert [each.status for each in findings] == ([status] if required else [])
    if status is False:
        assert "https://forge.example.org/user/settings/keys" in findings[0].message
