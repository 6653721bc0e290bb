"""The demo's own fleet: sound, as fast as its world, and respectful of what a person changed in it."""

from __future__ import annotations

import stat
from datetime import date
from pathlib import Path

import pytest
import yaml

from api.demo.folder import fleet_text, timing, with_files, write_fleet
from api.demo.world import Addresses, Daemon, Engine
from specs.fleet import Timing
from specs.loading import load_folder
from specs.quantities import parse_duration

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMCYJWIBAZJ2xDR4Ap4o1MNV/+IHNBnWsyXMaApUwOeS"


@pytest.fixture
def addresses(tmp_path: Path) -> Addresses:
    return Addresses(
        pid=1,
        speed=60.0,
        forge_url="http://127.0.0.1:4001",
        forge_token="token-canary",
        daemons=(Daemon("gent", "http://127.0.0.1:4002", "secret-canary", "gent1.grid.test", (("0001", "2"),)),),
        socks="socks5://127.0.0.1:4003",
        ca_file=str(tmp_path / "ca.pem"),
        installer_key_file=str(tmp_path / "key"),
        control_url="http://127.0.0.1:4004",
        lab_url="http://127.0.0.1:4001/lab",
        admin_host="400:1::1",
        admin_host_key=HOST_KEY,
        engines=(Engine("embedder", "http://[400:1::1]:9100", "embedder", "hero_embedder"),),
        resend_url="http://127.0.0.1:4005",
        resend_key="resend-canary",
    )


def test_it_is_a_sound_fleet_of_three_without_secrets_in_it(tmp_path: Path, addresses: Addresses) -> None:
    folder = write_fleet(tmp_path, addresses)
    loaded = load_folder(folder, date(2026, 11, 20))
    assert loaded.errors == ()
    assert sorted(loaded.testers) == ["alice", "bob", "carol"]
    assert loaded.fleet is not None
    assert loaded.fleet.spec.forge.url == addresses.forge_url
    (engine,) = loaded.fleet.spec.engines
    assert (engine.url_setting, engine.token_setting) == ("HERO_EMBEDDER_URL", "SHARED_EMBEDDER_TOKEN")
    assert (engine.registry.host, engine.registry.host_key) == ("400:1::1", HOST_KEY)
    assert loaded.fleet.spec.mail is not None
    assert loaded.fleet.spec.mail.resend_url == addresses.resend_url
    written = "".join(path.read_text() for path in folder.iterdir())
    assert "canary" not in written
    assert "env:" not in "".join(line for line in written.splitlines() if not line.lstrip().startswith("#")), (
        "another terminal needs no environment"
    )
    for secret in (
        *loaded.fleet.spec.secrets(),
        *(one.secret for t in loaded.testers.values() for one in t.desired.settings),
    ):
        if secret is not None and "installer" not in secret and secret.target != addresses.installer_key_file:
            path = folder / secret.target
            assert path.read_text(), f"{secret} is there"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_person_changed_or_took_away_stays_so(tmp_path: Path, addresses: Addresses) -> None:
    folder = write_fleet(tmp_path, addresses)
    (folder / "alice.yaml").write_text("mine")
    (folder / "bob.yaml").unlink()
    (folder / "dave.yaml").write_text("new")
    (folder / "fleet.yaml").write_text("mine too")
    secrets = {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}
    write_fleet(tmp_path, addresses)
    assert {path.name for path in folder.iterdir()} == {"alice.yaml", "carol.yaml", "dave.yaml", "fleet.yaml"}
    assert (folder / "alice.yaml").read_text() == "mine"
    assert (folder / "fleet.yaml").read_text() == "mine too"
    assert secrets == {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}


def test_files_of_a_person_are_never_taken_over(tmp_path: Path, addresses: Addresses) -> None:
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / "alice.yaml").write_text("mine from the start")
    for _ in range(2):
        folder = write_fleet(tmp_path, addresses)
        assert (folder / "alice.yaml").read_text() == "mine from the start"


def test_a_fleet_that_nobody_touched_follows_the_world(tmp_path: Path, addresses: Addresses) -> None:
    folder = write_fleet(tmp_path, addresses)
    moved = Addresses(**{**_fields(addresses), "forge_url": "http://127.0.0.1:5001", "speed": 600.0})
    write_fleet(tmp_path, moved)
    document = yaml.safe_load((folder / "fleet.yaml").read_text())
    assert document["spec"]["forge"]["url"] == "http://127.0.0.1:5001"


def _fields(addresses: Addresses) -> dict[str, object]:
    return {name: getattr(addresses, name) for name in Addresses.__dataclass_fields__}


@pytest.mark.parametrize("speed", [1.0, 7.0, 60.0, 1000.0])
def test_times_are_as_much_shorter_as_the_world_is_faster(addresses: Addresses, speed: float) -> None:
    usual = Timing()
    for name, text in timing(speed).items():
        field = next(key for key, info in Timing.model_fields.items() if (info.alias or key) == name)
        assert parse_duration(text) <= getattr(usual, field) or speed > 1
        assert parse_duration(text).total_seconds() > 0
    assert timing(1.0)["resync"] == "10m"
    assert timing(60.0)["resync"] == "10s"
    assert "timing" in yaml.safe_load(fleet_text(addresses))["spec"]


def test_secrets_of_the_examples_become_files() -> None:
    text, names = with_files("{secret: env:DEMO_SAMBANOVA_KEY} # env:HOME stays")
    assert text == "{secret: file:../secrets/sambanova_key} # env:HOME stays"
    assert names == {"sambanova_key"}


def test_the_token_shows_in_no_repr(addresses: Addresses) -> None:
    assert "canary" not in repr(addresses)
    assert addresses.resend_key not in repr(addresses)
