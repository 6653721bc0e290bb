"""The public keys that a tester keeps at Forge, for those whose spec says `keys.ssh: required`."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic_core import PydanticCustomError

from reconcilers.backends.forge import ForgeClient
from reconcilers.errors import Blocked
from specs.ssh_keys import key_identity, parse_ssh_key


async def account_keys(forge: ForgeClient, login: str) -> tuple[str, ...]:
    """Those that may go on a machine, each with the account's name as its comment. Raises OutsideError."""
    return usable(await forge.keys(login), login)


def usable(lines: Iterable[str], login: str) -> tuple[str, ...]:
    """Without comments of their own, at which the grid might split a key (P), and without keys that no spec may hold. Pure."""
    found = {}
    for line in lines:
        bare = key_identity(" ".join(line.split()))
        try:
            found[bare] = f"{parse_ssh_key(bare)} {login}"
        except PydanticCustomError:
            continue
    return tuple(found.values())


def key_required(forge_url: str, login: str, reveal: str = "") -> Blocked:
    """What is said until the account has a key: who does what, and where.

    `reveal`: the tester whose one-time password nobody has been told yet, as the welcome mail only follows the machine.
    """
    first = f"an admin tells {login} the one-time password (`testerctl reveal {reveal}`), then " if reveal else ""
    return Blocked(
        f"{login} has no usable public SSH key on Forge, and the spec asks for one (keys.ssh: required): {first}"
        f"{login} signs in, opens {key_page(forge_url)}, chooses `Add key` and pastes the one line of the .pub file "
        "(ssh-ed25519 AAAA…; `ssh-keygen -t ed25519` makes a pair); the machine is built then",
        system="Forge",
        reason="SshKeyRequired",
    )


def key_page(forge_url: str) -> str:
    """Where an account adds its keys (P)."""
    return f"{forge_url.rstrip('/')}/user/settings/keys"
