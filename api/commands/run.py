"""`testerctl run`: the controller itself, with its read API, until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Annotated

import typer

from api import logs
from api.books import places
from api.complaint import Complaint
from api.examining import examine_folder, in_words
from api.options import FLEET, STATE, FleetFolder, StateFolder
from api.server import LISTEN, Place, bound, make_app, place, serve
from api.signals import stop_on_signals
from api.terminal import err, text
from api.window import Window
from api.words import one_line
from controller.doctor import Verdict
from controller.running import Controller, Places, working_store
from controller.store import Store, StoreError
from reconcilers.clock import Clock, SystemClock
from reconcilers.errors import OutsideError

log = logging.getLogger("controller")


def command(
    fleet: FleetFolder = FLEET,
    state: StateFolder = STATE,
    listen: Annotated[
        str, typer.Option("--listen", help="Where the read API and the page answer; loopback only.")
    ] = LISTEN,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the controller.

    It makes the world match the folder, and keeps it so, until SIGTERM or Ctrl-C.
    """
    if not fleet.is_dir():
        raise Complaint(
            f"{fleet} is not a folder. Point --fleet (or TESTERCTL_FLEET) to the folder of your YAML files."
        )
    where = place(listen)
    logs.set_up(verbose=verbose)
    sock, real = bound(where)
    with sock:
        asyncio.run(_run(places(fleet, state), sock, real))


async def _run(where: Places, sock: socket.socket, real: Place) -> None:
    async with working_store(where, SystemClock()) as store:
        controller = Controller(where, store)
        stop_on_signals(controller.stop)
        _say(f"The controller works on {where.folder}; see {real.url}/ (Ctrl-C ends it).")
        checking = asyncio.ensure_future(_warn(where, store, controller.clock))
        try:
            await controller.run(serve(make_app(Window(controller)), sock, controller.stop))
        finally:
            checking.cancel()
            await asyncio.wait((checking,))
    _say("stopped; everything is written down, the next start goes on from here")


async def _warn(where: Places, store: Store, clock: Clock) -> None:
    """What `doctor` would find wrong, as warnings: nothing waits for it, and nothing is refused for it."""
    try:
        found = await examine_folder(where, store, clock)
    except (OutsideError, StoreError) as error:
        log.warning("the Fleet's endpoints and credentials were not checked: %s", error)
        return
    for one in found:
        if one.verdict is Verdict.WRONG:
            log.warning("%s", one_line(in_words(one)))


def _say(words: str) -> None:
    err().print(text(words), soft_wrap=True)
