"""The demo's own fleet: a Fleet made from the world's addresses, testers copied from examples/fleet, make-believe secrets.

What a person has changed or removed since stays as they left it: only files that are still as the demo wrote them are
written anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from api.demo.world import Addresses, Engine
from specs.fleet import Timing
from specs.quantities import duration_text

EXAMPLES = Path(__file__).parents[2] / "examples" / "fleet"
FLEET_FILE = "fleet.yaml"
HEADER = """\
# yaml-language-server: $schema=../../specs/schema/fleet.json
# The demo wrote this for its make-believe world. Change the testers beside it: a saved file is picked up at once.
"""
# Limits leave a busy machine some air: real seconds, however fast the world's clock runs.
LEAST = {
    "resync": timedelta(seconds=10),
    "poll": timedelta(milliseconds=500),
    "look_age": timedelta(seconds=1),
    "listing_grace": timedelta(seconds=5),
    "deploy_limit": timedelta(seconds=30),
    "gateway_limit": timedelta(seconds=30),
    "reachable_limit": timedelta(minutes=2),
    "install_limit": timedelta(minutes=2),
    "proof_limit": timedelta(seconds=30),
    "backoff_base": timedelta(seconds=1),
    "backoff_ceiling": timedelta(seconds=10),
    "outside_proof_every": timedelta(seconds=20),
    "releases_every": timedelta(seconds=10),
    "capacity_lag": timedelta(seconds=5),
}
MOST_AT_ONCE = {
    "forge": 200,
    "compute": 100,
    "outside": 200,
    "engine": 100,
}  # calls in a second: the world stands next door


def write_fleet(root: Path, addresses: Addresses) -> Path:
    """Write what is missing or still ours below `root`; returns the folder of specs."""
    folder = root / "fleet"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {FLEET_FILE: fleet_text(addresses)}
    needed = {
        "forge_token": addresses.forge_token,
        "compute_secret": addresses.daemons[0].secret,
        "resend_key": addresses.resend_key,
    }
    for example in sorted(EXAMPLES.glob("*.yaml")):
        if example.name != FLEET_FILE:
            wanted[example.name], found = with_files(example.read_text())
            needed |= dict.fromkeys(found, "")
    _write_secrets(root / "secrets", needed)
    _write_ours(folder, root / "written.json", wanted)
    return folder


def with_files(text: str) -> tuple[str, frozenset[str]]:
    """`env:DEMO_X_KEY` becomes `file:../secrets/x_key`, so that other terminals need no environment; and the files' names."""
    names = frozenset(name.lower() for name in re.findall(r"env:DEMO_(\w+)", text))
    return re.sub(r"env:DEMO_(\w+)", lambda found: f"file:../secrets/{found[1].lower()}", text), names


def fleet_text(addresses: Addresses) -> str:
    """The Fleet of this world as YAML."""
    spec: dict[str, Any] = {
        "admins": [{"account": "mik"}, {"account": "sara"}],
        "installer": {"privateKey": f"file:{addresses.installer_key_file}"},
        "forge": {"url": addresses.forge_url, "token": "file:../secrets/forge_token"},
        "compute": [
            {
                "name": daemon.name,
                "url": daemon.url,
                "secret": "file:../secrets/compute_secret",
                "gatewayDomain": daemon.gateway_domain,
                "nodes": [{"sid": sid, "gridNode": grid_node} for sid, grid_node in daemon.nodes],
            }
            for daemon in addresses.daemons
        ],
        "engines": [_engine(one, addresses) for one in addresses.engines],
        "mail": {
            "from": "hero@example.org",
            "resendUrl": addresses.resend_url,
            "resendKey": "file:../secrets/resend_key",
        },
        "providers": {
            "openrouter": {"setting": "OPENROUTER_API_KEY", "default": "file:../secrets/openrouter_key"},
            "groq": {"setting": "GROQ_API_KEY"},
            "sambanova": {"setting": "SAMBANOVA_API_KEY"},
        },
        "machineAccess": {"labUrl": addresses.lab_url},
        "network": {
            "myceliumProxy": addresses.socks,
            "outsideProxy": addresses.socks,
            "certificateAuthority": f"file:{addresses.ca_file}",
        },
        "defaults": {"machine": {"keepAfterRemoval": "0s"}},
        "safety": {"maxRemovals": 1},
        "timing": timing(addresses.speed),
        "limits": {system: {"inFlight": 16, "perSecond": per_second} for system, per_second in MOST_AT_ONCE.items()},
    }
    document = {"apiVersion": "hero.tester/v1", "kind": "Fleet", "metadata": {"name": "demo"}, "spec": spec}
    return HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _engine(engine: Engine, addresses: Addresses) -> dict[str, Any]:
    """Its tokens are registered among hero_proc's secrets on the admin machine."""
    word = engine.name.upper()
    return {
        "name": engine.name,
        "url": engine.url,
        "urlSetting": f"HERO_{word}_URL",
        "tokenSetting": f"SHARED_{word}_TOKEN",
        "registry": {
            "host": addresses.admin_host,
            "hostKey": addresses.admin_host_key,
            "context": engine.context,
            "service": engine.service,
        },
    }


def timing(speed: float) -> dict[str, str]:
    """The usual times, as much shorter as the world's clock is faster."""
    usual = Timing()
    spans = {name: max(getattr(usual, name) / speed, least) for name, least in LEAST.items()}
    fields = Timing.model_fields
    return {fields[name].alias or name: duration_text(_whole(length)) for name, length in spans.items()}


def _whole(length: timedelta) -> timedelta:
    return timedelta(milliseconds=round(length / timedelta(milliseconds=1)))


def _write_secrets(folder: Path, needed: Mapping[str, str]) -> None:
    """Files that only we can read. Those without a given value get one out of thin air, once."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, value in {"openrouter_key": "", **needed}.items():
        path = folder / name
        if value or not path.exists():
            _write(path, value or f"make-believe-{secrets.token_urlsafe(18)}", 0o600)


def _write_ours(folder: Path, notes: Path, wanted: Mapping[str, str]) -> None:
    """Write each file that was never written, or that is still as we wrote it."""
    written: dict[str, str] = json.loads(notes.read_text()) if notes.exists() else {}
    for name, text in wanted.items():
        path = folder / name
        there = _mark(path.read_bytes()) if path.exists() else None
        if name in written and there != written[name]:
            continue
        if there is None or name in written:
            _write(path, text, 0o644)
            written[name] = _mark(text.encode())
    _write(notes, json.dumps(written, indent=2), 0o644)


def _mark(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, text: str, mode: int) -> None:
    """Whole or not at all, also when the demo is killed meanwhile."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(draft, path)
