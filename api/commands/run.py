"""`testerctl run`: the controller itself, with its read API, until SIGTERM."""

from __future__ import annotations

import asyncio
import socket
from typing import Annotated

import typer

from api import logs
from api.alone import alone
from api.books import places
from api.complaint import Complaint
from api.options import FLEET, STATE, FleetFolder, StateFolder
from api.server import LISTEN, Place, bound, make_app, place, serve
from api.signals import stop_on_signals
from api.terminal import err, text
from api.window import Window
from controller.running import Controller, Places, opened_store
from reconcilers.clock import SystemClock


def command(
    fleet: FleetFolder = FLEET,
    state: StateFolder = STATE,
    listen: Annotated[
        str, typer.Option("--listen", help="Where the read API and the page answer; loopback only.")
    ] = LISTEN,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the controller: make the world match the folder, and keep it so, until SIGTERM or Ctrl-C."""
    if not fleet.is_dir():
        raise Complaint(
            f"{fleet} is not a folder. Point --fleet (or TESTERCTL_FLEET) to the folder of your YAML files."
        )
    where = place(listen)
    logs.set_up(verbose=verbose)
    sock, real = bound(where)
    with sock, alone(state):
        asyncio.run(_run(places(fleet, state), sock, real))


async def _run(where: Places, sock: socket.socket, real: Place) -> None:
    async with opened_store(where, SystemClock()) as store:
        controller = Controller(where, store)
        stop_on_signals(controller.stop)
        _say(f"The controller works on {where.folder}; see {real.url}/ (Ctrl-C ends it).")
        await controller.run(serve(make_app(Window(controller)), sock, controller.stop))
    _say("stopped; everything is written down, the next start goes on from here")


def _say(words: str) -> None:
    err().print(text(words), soft_wrap=True)
