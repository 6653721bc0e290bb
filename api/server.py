"""The read API: the app, where it may listen, and serving it inside the controller's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import uvicorn
from fastapi import FastAPI

from api import problems
from api.access import routes as access_routes
from api.access.access import Access
from api.complaint import Complaint
from api.description import described
from api.examples import with_examples
from api.guard import Guard
from api.pages.routes import add_pages
from api.patience import PatientProtocol, most_connections
from api.routes import components, events, fleet, health, hook, metrics, nodes, revisions, stream, testers
from api.routes.hook import Doorbell
from api.window import Window
from controller.admission import Admission
from controller.program import program_version

LISTEN = "127.0.0.1:8484"
GRACE = 2  # seconds that open requests get when the server stops


@dataclass(frozen=True)
class Place:
    """An address and a port; port 0 takes any that is free."""

    address: IPv4Address | IPv6Address
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"http://{host}:{self.port}"


class _Api(FastAPI):
    """With what `api.description` tells, and an example of every answer."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = with_examples(described(super().openapi()))
        return self.openapi_schema


def make_app(window: Window, doorbell: Doorbell | None = None, access: Access | None = None) -> FastAPI:
    """The whole API. `doorbell`: what takes in Forge's webhooks. `access`: who may look; without it, whoever is on this machine.

    No documentation pages: they would load scripts from elsewhere; /openapi.json has everything.
    """
    app = _Api(
        title="Tester controller",
        version=program_version(),
        summary="How the testers stand. Read only.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would lead to what the Host header says, in clear
        openapi_url="/openapi.json",
    )
    app.state.window = window
    app.state.streams = set()
    app.state.doorbell = doorbell
    app.state.access = access or Access(Admission(window.controller.store, window.clock), f"http://{LISTEN}")
    for router in (
        testers.router,
        health.router,
        hook.router,
        access_routes.router,
        fleet.router,
        events.router,
        nodes.router,
        revisions.router,
        components.router,
        stream.router,
        metrics.router,
    ):
        app.router.routes.extend(router.routes)  # each is whole: to include it would make it anew
    add_pages(app, window)
    problems.register(app)
    app.add_middleware(Guard, access=app.state.access)
    return app


def place(listen: str) -> Place:
    """`127.0.0.1:8484` or `[::1]:8484`. Raises Complaint for what is none. Who listens beyond loopback must know who may look
    (`api.access.options`)."""
    host, colon, port = listen.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ip_address("127.0.0.1" if bare == "localhost" else bare)
        number = int(port)
    except ValueError:
        address, number = None, -1
    if not colon or address is None or not 0 <= number <= 65535:
        raise Complaint(f"{listen!r} is no place to listen: write an address and a port, like {LISTEN} or [::1]:8484.")
    return Place(address, number)


def here(where: Place) -> Place:
    """The place, if it is on loopback. Raises Complaint: what does not know who may look is for whoever is on this machine."""
    if not where.address.is_loopback:
        raise Complaint(
            f"{where.address} is not on loopback, and whoever reaches it could look. "
            f"To look from elsewhere: ssh -L {where.port}:127.0.0.1:{where.port} <host>."
        )
    return where


def bound(where: Place) -> tuple[socket.socket, Place]:
    """A socket that listens there, and the place with its real port. Raises Complaint when somebody else has it."""
    family = socket.AF_INET6 if where.address.version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((str(where.address), where.port))
    except OSError as error:
        sock.close()
        raise Complaint(
            f"{where.url} cannot be listened at ({error.strerror}). Perhaps another controller runs; "
            "--listen takes another place."
        ) from error
    return sock, Place(where.address, int(sock.getsockname()[1]))


class _Quiet(uvicorn.Server):
    """Signals belong to the controller, which ends passes first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


async def serve(app: FastAPI, sock: socket.socket, stop: asyncio.Event) -> None:
    """Answer until `stop`, in the loop of the caller."""
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        limit_concurrency=most_connections(),
        lifespan="off",
        log_level="error",  # what is no HTTP is told to whoever sent it; anybody could fill a log with it
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Quiet(config)
    serving = asyncio.ensure_future(server.serve(sockets=[sock]))
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        await _ended(serving, server)


async def _ended(serving: asyncio.Task[None], server: uvicorn.Server) -> None:
    """Wait for the server's own end. A cancellation hurries it and never cuts it off: it would leave its socket with the loop."""
    cancelled: asyncio.CancelledError | None = None
    while not serving.done():
        try:
            await asyncio.wait((serving,))
        except asyncio.CancelledError as error:
            server.force_exit = True
            cancelled = error
    serving.result()
    if cancelled is not None:
        raise cancelled
