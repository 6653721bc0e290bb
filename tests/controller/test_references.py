"""Secrets that specs refer to: byte for byte, where they are, and never a reason to hang."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from controller.engine import fleet_references
from controller.records import Seal, Void
from controller.references import LARGEST, References
from controller.store import Store
from reconcilers.secret import Secret
from specs.fleet import Fleet
from tests.controller.fakes import FLEET, START


@pytest.fixture
def references(store: Store, tmp_path: Path) -> References:
    return References(store, tmp_path, {"TOKEN": "t0ken", "EMPTY": ""})


async def test_each_kind_is_found_byte_for_byte(references: References, store: Store, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\x00key\xff\r\n")
    await store.write(Seal("alice/sambanova", Secret("s3cret\n"), START))
    found = await references.resolve(["env:TOKEN", "file:key", "alice/sambanova", "env:TOKEN"])
    assert found == {
        "env:TOKEN": Secret("t0ken"),
        "file:key": Secret(b"\x00key\xff\r\n"),
        "alice/sambanova": Secret("s3cret\n"),
    }


async def test_what_nobody_holds_is_left_out(references: References, store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"x" * (LARGEST + 1))
    await store.write(Seal("alice/void", Secret("old"), START), Void("alice/void"))
    refs = ["env:NONE", "env:EMPTY", "file:none", "file:empty", "file:large", "file:.", "alice/none", "alice/void"]
    assert await references.resolve(refs) == {}


async def test_a_pipe_is_not_waited_for(references: References, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reading = asyncio.ensure_future(asyncio.to_thread(asyncio.run, references.resolve(["file:pipe"])))
    done, _ = await asyncio.wait([reading], timeout=30)
    if not done:  # let the thread go, so that the failure is told and the run ends
        (tmp_path / "pipe").write_bytes(b"late")
    assert done
    assert await reading == {}


async def test_a_changed_file_is_read_anew(references: References, tmp_path: Path) -> None:
    for value in ("one", "two"):
        (tmp_path / "key").write_text(value)
        assert (await references.resolve(["file:key"]))["file:key"] == Secret(value)


async def test_no_value_is_shown(references: References) -> None:
    assert "t0ken" not in repr(await references.resolve(["env:TOKEN"]))


@pytest.mark.parametrize(
    ("mail", "ref"),
    [
        ({"from": "a@example.org", "resendKey": "env:RESEND_KEY"}, "env:RESEND_KEY"),
        (
            {"from": "a@example.org", "smtp": {"host": "m", "user": "u", "password": "env:SMTP_PASSWORD"}},
            "env:SMTP_PASSWORD",
        ),
        (None, None),
    ],
)
def test_the_worlds_credentials_are_all_that_its_clients_need(mail: dict[str, object] | None, ref: str | None) -> None:
    """Without mail's among them no letter could ever go out."""
    document = FLEET.model_dump(mode="json", by_alias=True)
    document["spec"]["mail"] = mail
    refs = fleet_references(Fleet.model_validate(document))
    assert {"env:FORGE_TOKEN", "env:INSTALLER_KEY", "env:COMPUTE_SECRET"} <= set(refs)
    assert set(refs) - {"env:FORGE_TOKEN", "env:INSTALLER_KEY", "env:COMPUTE_SECRET"} == ({ref} if ref else set())
