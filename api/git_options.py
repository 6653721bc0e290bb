"""The options of `testerctl run` that make a git repository the source of specs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from api.complaint import Complaint
from api.signatures import SHORTEST_SECRET
from controller.places import Places
from controller.references import References
from controller.running import FromGit
from controller.sources.mirror import Repository
from controller.store import Store
from reconcilers.secret import Secret
from specs.references import SecretRef

BRANCH, USER = "main", "token"

GitUrl = Annotated[
    str,
    typer.Option("--git", envvar="TESTERCTL_GIT", help="A git repository (https or ssh) in the place of the folder."),
]
Branch = Annotated[str, typer.Option("--branch", help="Of the repository.")]
GitPath = Annotated[str, typer.Option("--path", help="The folder in the repository, if not all of it.")]
GitToken = Annotated[
    str, typer.Option("--git-token", help="Where the token for https is: env:NAME, file:path, a/name.")
]
GitUser = Annotated[str, typer.Option("--git-user", help="Whose token it is; most servers do not care.")]
GitKey = Annotated[Path | None, typer.Option("--git-key", help="A private key for ssh.")]
KnownHosts = Annotated[
    Path | None, typer.Option("--git-known-hosts", help="The servers' host keys, if not the user's own file.")
]
WebhookSecret = Annotated[
    str, typer.Option("--webhook-secret", help="Where the secret of Forge's webhook is; without it none is taken in.")
]
PublicUrl = Annotated[
    str,
    typer.Option("--public-url", envvar="TESTERCTL_PUBLIC_URL", help="Where people reach the pages, for links."),
]
Comments = Annotated[bool, typer.Option("--comment-plans", help="Tell plans as comments of pull requests too.")]


@dataclass(frozen=True)
class GitOptions:
    """What was asked for. `token` and `webhook_secret` are references, "" for none."""

    url: str
    branch: str
    path: str
    user: str
    token: str
    key: Path | None
    known_hosts: Path | None
    webhook_secret: str
    public_url: str
    comments: bool


def checked_public_url(url: str) -> str:
    """Without a slash at its end. Raises Complaint for what is no address of pages."""
    parts = urlsplit(url)
    odd = parts.query or parts.fragment or parts.username or re.search(r"[\s\x00-\x1f\x7f<>\"'\\]", url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or odd):
        raise Complaint(f"{url!r} is no address for --public-url: write it like https://testers.example.org")
    return url.rstrip("/")


async def from_git(asked: GitOptions, where: Places, store: Store) -> FromGit | None:
    """The source that was asked for, None for the folder. Raises Complaint for what cannot be, StoreError."""
    if not asked.url:
        refuse_idle(
            {
                "--branch": asked.branch != BRANCH,
                "--path": asked.path,
                "--git-token": asked.token,
                "--git-user": asked.user != USER,
                "--git-key": asked.key,
                "--git-known-hosts": asked.known_hosts,
                "--comment-plans": asked.comments,
            }
        )
        return None
    token = await given_secret(asked.token, "--git-token", where, store) if asked.token else None
    for option, path in (("--git-key", asked.key), ("--git-known-hosts", asked.known_hosts)):
        if path is not None and not path.is_file():
            raise Complaint(f"There is no file {path} ({option}).")
    try:
        repository = Repository(
            asked.url,
            asked.branch,
            asked.path.strip("/"),
            asked.user,
            token,
            asked.key.resolve() if asked.key else None,
            asked.known_hosts.resolve() if asked.known_hosts else None,
        )
    except ValueError as error:
        raise Complaint(f"{error}.") from error
    return FromGit(repository, asked.comments)


def refuse_idle(given: Mapping[str, object]) -> None:
    """What says how to read a repository would be left out without a word where there is none. Raises Complaint."""
    idle = [option for option, said in given.items() if said]
    if idle:
        raise Complaint(f"{', '.join(idle)}: of use only with --git, which names the repository.")


async def doorbell_secret(asked: GitOptions, where: Places, store: Store) -> Secret | None:
    """The webhook's secret, None when none is wanted. Raises Complaint for one that is not there or too short, StoreError."""
    if not asked.webhook_secret:
        return None
    if not asked.url:
        raise Complaint("--webhook-secret needs --git: a folder is watched by itself.")
    found = await given_secret(asked.webhook_secret, "--webhook-secret", where, store)
    if len(found.reveal()) < SHORTEST_SECRET:
        raise Complaint(f"The secret of --webhook-secret has less than {SHORTEST_SECRET} bytes: choose a longer one.")
    return found


async def given_secret(reference: str, option: str, where: Places, store: Store) -> Secret:
    """What a reference leads to, without the newline that editors leave at the end of a file."""
    try:
        SecretRef.parse(reference)
    except ValueError as error:
        raise Complaint(f"{option}: {error}.") from error
    found = (await References(store, where.files).resolve([reference])).get(reference)
    value = found.reveal().strip() if found is not None else b""
    if not value:
        raise Complaint(f"The secret {reference} of {option} is not there: set it.")
    return Secret(value)
