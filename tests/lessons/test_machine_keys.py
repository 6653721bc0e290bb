"""Lessons 5 and 6: who gets into a machine, and a private key that must arrive whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from examples.simulator.world import AUTHORISED
from tests.e2e.drifts import STRANGER
from tests.lessons.conftest import LEAN, fault, told
from tests.reconcilers.data import ADMIN_KEY, OTHER_KEY
from tests.worlds.loop import in_virtual_time
from tests.worlds.rig import Rig, world

WITH_KEYS: Mapping[str, Any] = {
    **LEAN,
    "admins": [{"account": "mik", "sshKeys": [ADMIN_KEY]}, {"account": "sara"}],
}
PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIPcanarycanarycanarycanarycanary\n-----END PRIVATE KEY-----\n"
PLACE = ("cockpit", "DEPLOY_KEY")


def bare(lines: Iterable[str]) -> list[str]:
    """Without comments."""
    return sorted(" ".join(line.split()[:2]) for line in lines)


async def access(w: Rig, name: str) -> tuple[str, str]:
    """Status and reason of the condition."""
    found = (await w.conditions(name)).get("MachineAccess")
    return (str(found.status), found.reason) if found else ("", "")


async def entered(w: Rig, *names: str) -> None:
    """Until we have been on these machines, and their keys are right."""

    async def holds() -> bool:
        return all([(await access(w, name))[0] == "True" for name in names])

    await w.until(holds, "a way in")


# ------------------------------------------------------------------ 5: who gets in


@in_virtual_time
async def test_lesson_05_a_machine_is_born_with_the_right_keys_and_no_other(tmp_path: Path) -> None:
    """A machine lets in nobody else than those it was made for: afterwards there is no way to add a key."""
    testers = {"alice": {}, "carol": {"keys": {"ssh": [OTHER_KEY]}}}
    async with world(tmp_path, testers, fleet=WITH_KEYS) as w:
        (installer,) = bare(line for line in w.world.drift.authorized_keys("admin") if line.endswith(" installer"))
        await entered(w, "alice", "carol")
        wanted = {"alice": {ADMIN_KEY}, "carol": {ADMIN_KEY, OTHER_KEY}}
        for name, keys in wanted.items():
            (vm,) = [vm for vm in w.world.state.daemons["compute1"].vms.values() if vm.name == w.vm(name)]
            assert bare(vm.ssh_keys) == sorted([*bare(keys), installer])
            assert bare(w.world.drift.authorized_keys(w.vm(name))) == sorted([*bare(keys), installer])
        assert not [line for line in await told(w) if line.startswith("AuthorizedKeysSet")]


@in_virtual_time
async def test_lesson_05_keys_that_come_or_go_behind_our_back_are_put_right(tmp_path: Path) -> None:
    async with world(tmp_path, ["alice"], fleet=WITH_KEYS) as w:
        await entered(w, "alice")
        files, before = w.world.machine_named(w.vm("alice")).files, w.world.drift.authorized_keys(w.vm("alice"))
        without_admin = [line for line in before if bare([line]) != bare([ADMIN_KEY])]
        assert len(without_admin) < len(before)
        for lines, which in (([*before, STRANGER], STRANGER), (without_admin, ADMIN_KEY)):
            files.write(AUTHORISED, "".join(f"{line}\n" for line in lines).encode())

            def mended() -> bool:
                return bare(w.world.drift.authorized_keys(w.vm("alice"))) == bare(before)

            await w.until(mended, "the keys as they were", within=timedelta(minutes=25))
            said = [line for line in await told(w, "alice") if line.startswith("AuthorizedKeysSet")][-1]
            assert "drift" in said
            assert which.split()[1][-12:] in said


# ------------------------------------------------------------------ 6: byte for byte


def with_pem(root: Path) -> dict[str, Any]:
    """A Fleet that hands a private key to every machine."""
    root.mkdir(parents=True, exist_ok=True)
    file = root / "deploy.pem"
    file.write_text(PEM)
    return {**LEAN, "providers": {"deploy": {"setting": PLACE[1], "default": f"file:{file}"}}}


HANDED = {"alice": {"keys": {"providers": {"deploy": "default"}}}}


@in_virtual_time
async def test_lesson_06_a_private_key_keeps_its_last_newline(tmp_path: Path) -> None:
    """On its way there, and when somebody trims it afterwards."""
    async with world(tmp_path, HANDED, fleet=with_pem(tmp_path)) as w:
        await w.ready("alice")
        assert w.world.drift.secret(w.vm("alice"), *PLACE) == PEM
        w.world.drift.set_secret(w.vm("alice"), *PLACE, PEM.rstrip("\n"))
        await w.until(
            lambda: w.world.drift.secret(w.vm("alice"), *PLACE) == PEM, "the newline", within=timedelta(minutes=25)
        )


@in_virtual_time
async def test_lesson_06_a_value_that_is_stored_as_something_else_is_said_and_nobody_is_ready(tmp_path: Path) -> None:
    trims = fault("machine", "secret set", "secret_trimmed", "DEPLOY_KEY", times=None)
    async with world(tmp_path, HANDED, faults=[trims], fleet=with_pem(tmp_path)) as w:

        async def differs() -> bool:
            found = (await w.conditions("alice")).get("Settings")
            return found is not None and found.reason == "ReadBackMismatch"

        await w.until(differs, "the finding", within=timedelta(minutes=15))
        await w.run_for(timedelta(minutes=5))
        conditions = await w.conditions("alice")
        assert "/".join(PLACE) in conditions["Settings"].message
        assert conditions["Ready"].status == "False"
        assert "canarycanary" not in await w.trace()
        w.world.drift.clear_faults()
        await w.ready("alice")
        assert w.world.drift.secret(w.vm("alice"), *PLACE) == PEM
