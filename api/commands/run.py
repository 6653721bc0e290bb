"""`testerctl run`: the controller itself, with its read API, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Annotated

import typer

from api import logs
from api.access.options import AskedAccess, SignInClient, SignInSecret, access_of
from api.books import places
from api.complaint import Complaint
from api.examining import examine_fleet, examine_folder, in_words
from api.git_options import (
    BRANCH,
    USER,
    Branch,
    Comments,
    GitKey,
    GitOptions,
    GitPath,
    GitToken,
    GitUrl,
    GitUser,
    KnownHosts,
    PublicUrl,
    WebhookSecret,
    checked_public_url,
    doorbell_secret,
    from_git,
)
from api.options import FLEET, STATE, FleetFolder, SecretsFolder, StateFolder
from api.routes.hook import Doorbell
from api.server import LISTEN, Place, bound, make_app, place, serve
from api.signals import stop_on_signals
from api.terminal import err, text
from api.window import Window
from api.words import one_line
from controller.checkup.doctor import Telling, Verdict
from controller.collector import collecting_seldom
from controller.places import Places
from controller.replicas.shares import Rhythm
from controller.running import Controller, is_shared, working_store
from controller.store import StoreError
from reconcilers.clock import SystemClock
from reconcilers.errors import OutsideError
from reconcilers.secret import Secret

log = logging.getLogger("controller")


def command(
    fleet: FleetFolder = FLEET,
    state: StateFolder = STATE,
    listen: Annotated[str, typer.Option("--listen", help="Where the read API and the pages answer.")] = LISTEN,
    git: GitUrl = "",
    branch: Branch = BRANCH,
    path: GitPath = "",
    git_token: GitToken = "",
    git_user: GitUser = USER,
    git_key: GitKey = None,
    git_known_hosts: KnownHosts = None,
    webhook_secret: WebhookSecret = "",
    public_url: PublicUrl = "",
    comment_plans: Comments = False,
    sign_in_client: SignInClient = "",
    sign_in_secret: SignInSecret = "",
    secrets_folder: SecretsFolder = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the controller.

    It makes the world match the folder, or the git repository, and keeps it so, until SIGTERM or Ctrl-C.
    """
    if not git and not fleet.is_dir():
        raise Complaint(
            f"{fleet} is not a folder. Point --fleet (or TESTERCTL_FLEET) to the folder of your YAML files, or --git to "
            "their repository."
        )
    asked = GitOptions(
        git,
        branch,
        path,
        git_user,
        git_token,
        git_key,
        git_known_hosts,
        webhook_secret,
        checked_public_url(public_url),
        comment_plans,
    )
    who = AskedAccess(sign_in_client, sign_in_secret, asked.public_url)
    where = place(listen)
    logs.set_up(verbose=verbose)
    sock, real = bound(where)
    secrets = secrets_folder or (state if git else None)
    with sock:
        asyncio.run(_run(places(fleet, state, secrets), asked, who, sock, real))


async def _run(where: Places, asked: GitOptions, who: AskedAccess, sock: socket.socket, real: Place) -> None:
    async with collecting_seldom(SystemClock()), working_store(where, SystemClock()) as store:
        source = await from_git(asked, where, store)
        secret = await doorbell_secret(asked, where, store)
        replicas = Rhythm() if is_shared(where) else None
        controller = Controller(where, store, git=source, dashboard=asked.public_url, replicas=replicas)
        access = await access_of(who, controller, real)
        bell = _doorbell(controller, secret, asked.branch)
        stop_on_signals(controller.stop)
        _say(f"The controller works on the {controller.source.name}; see {real.url}/ (Ctrl-C ends it).")
        checking = asyncio.ensure_future(_warn(controller, where))
        try:
            await controller.run(serve(make_app(Window(controller), bell, access), sock, controller.stop))
        finally:
            checking.cancel()
            await asyncio.wait((checking,))
    _say("stopped; everything is written down, the next start goes on from here")


def _doorbell(controller: Controller, secret: Secret | None, branch: str) -> Doorbell | None:
    if secret is None or controller.pulls is None:
        return None
    return Doorbell(secret, branch, controller.source.rescan, controller.pulls.ring, controller.clock)


async def _warn(controller: Controller, where: Places) -> None:
    """What `doctor` would find wrong, as warnings: nothing waits for it, and nothing is refused for it."""
    store, clock = controller.store, controller.clock
    try:
        if controller.git is None:
            found = await examine_folder(where, store, clock)
        else:
            telling = Telling(controller.git.repository.url, controller.git.comments)
            found = await examine_fleet(await controller.first_fleet(), where, store, clock, telling)
    except (OutsideError, StoreError) as error:
        log.warning("the Fleet's endpoints and credentials were not checked: %s", error)
        return
    for one in found:
        if one.verdict is Verdict.WRONG:
            log.warning("%s", one_line(in_words(one)))


def _say(words: str) -> None:
    err().print(text(words), soft_wrap=True)
