"""Puts a world on loopback: HTTP for Forge, the daemons, Resend and the control address, TLS for the public names, SMTP,
SOCKS5 and SSH.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncssh
import uvicorn

from examples.simulator import seeding
from examples.simulator.catalogue import LAB_ASSET, OWNER
from examples.simulator.control import answer_control
from examples.simulator.frontdoor import host_name
from examples.simulator.http import Answer, Handler, Request, asgi, text
from examples.simulator.network import Listeners, Overlay
from examples.simulator.post import SMTP_USER
from examples.simulator.smtp import Smtp
from examples.simulator.ssh import Hosts
from examples.simulator.tls import certificates
from examples.simulator.tools import USUAL_SHELL, lay_out
from examples.simulator.world import World

COMPUTE_SECRET = "compute-secret"
LISTENERS = ("forge", "control", "inner", "outside", "socks", "resend", "smtp")
LONGEST_SOCKET = 100
PATIENCE = 5.0
"""Real seconds to wait for a port that a predecessor still holds."""


@dataclass(frozen=True)
class ComputeAddress:
    """One daemon. `nodes`: dictionaries with `sid` and `grid_node`."""

    name: str
    url: str
    socket: str
    secret: str
    gateway_domain: str
    nodes: list[dict[str, str]]


@dataclass(frozen=True)
class AdminMachine:
    """`host`: its Mycelium address; `host_key`: the OpenSSH public form, `ssh-ed25519 AAAA…`."""

    host: str
    host_key: str


@dataclass(frozen=True)
class EngineAddress:
    """One shared engine. `context` and `service`: where its registry is, and what to restart, on the admin machine."""

    name: str
    url: str
    context: str
    service: str


@dataclass(frozen=True)
class Addresses:
    """Where everything is; the same as `addresses.json`."""

    pid: int
    forge_url: str
    forge_token: str
    compute: list[ComputeAddress]
    socks: str
    ca_file: str
    installer_key_file: str
    control_url: str
    lab_url: str
    shell: str
    speed: float
    admin_machine: AdminMachine
    engines: list[EngineAddress]
    resend_url: str
    resend_key: str
    smtp_host: str
    smtp_port: int
    smtp_user: str
    smtp_password: str


class _Server(uvicorn.Server):
    """A server among several in one loop: signals are the process's business. `is_up` is set once it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class _Ports:
    """Remembers the ports of a state folder, so that a restart binds the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}

    async def bind(self, name: str) -> socket.socket:
        """A listening-ready socket on loopback; raises OSError when the port of before stays taken."""
        for _ in range(int(PATIENCE / 0.1)):
            with contextlib.suppress(OSError):
                return self._bound(name)
            await asyncio.sleep(0.1)
        return self._bound(name)

    def _bound(self, name: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", self._known.get(name, 0)))
        except OSError:
            sock.close()
            raise
        self._known[name] = int(sock.getsockname()[1])
        self._path.write_text(json.dumps(self._known))
        return sock


class _Site:
    """The running servers of one world."""

    def __init__(self, world: World, state_dir: Path, shell: str) -> None:
        self._world = world
        self._dir = state_dir.resolve()
        self._dir.mkdir(parents=True, exist_ok=True)
        self._shell = shell
        self._ports = _Ports(self._dir / "ports.json")
        self._servers: list[tuple[_Server, asyncio.Task[None]]] = []
        self._overlay: Overlay | None = None

    async def open(self) -> Addresses:
        lay_out(self._dir / "tools", self._shell)
        self._hosts = Hosts(self._world, self._dir / "tools")
        sockets = {name: await self._ports.bind(name) for name in LISTENERS}
        port = {name: int(sock.getsockname()[1]) for name, sock in sockets.items()}
        self._world.state.forge_url = f"http://127.0.0.1:{port['forge']}"
        listeners = Listeners(port["inner"], port["outside"], port["forge"])
        self._overlay = Overlay(self._world, self._hosts, listeners)
        ca, cert, key = certificates(
            self._dir / "tls", [one.gateway_domain for one in self._world.state.daemons.values()]
        )
        await self._start(self._world.ask_forge, sockets["forge"])
        await self._start(lambda request: answer_control(self._world, request), sockets["control"])
        await self._start(self._inner, sockets["inner"])
        await self._start(self._outside, sockets["outside"], ssl_certfile=str(cert), ssl_keyfile=str(key))
        await self._start(self._world.ask_mail, sockets["resend"])
        self._smtp = Smtp(self._world.post, self._world.smtp_delivered)
        self._streams = [
            await asyncio.start_server(self._overlay.serve, sock=sockets["socks"]),
            await asyncio.start_server(self._smtp.serve, sock=sockets["smtp"]),
        ]
        compute = [await self._daemon(name) for name in self._world.daemons]
        self._world.admit(_installer_key(self._dir).with_suffix(".pub").read_text().strip())
        self._ticking = asyncio.create_task(self._tick())
        self._world.save()
        return self._addresses(port, compute, ca)

    async def close(self) -> None:
        self._ticking.cancel()
        for stream in self._streams:
            stream.close()
        self._smtp.close()
        if self._overlay is not None:
            self._overlay.close()
        for server, _ in self._servers:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in self._servers), return_exceptions=True)
        self._hosts.close()
        self._world.save()
        shutil.rmtree(self._short_folder(), ignore_errors=True)

    async def _daemon(self, name: str) -> ComputeAddress:
        async def answer(request: Request) -> Answer:
            return await self._world.ask_compute(name, request)

        sock = await self._ports.bind(name)
        port = int(sock.getsockname()[1])
        path = self._socket_path(name)
        path.unlink(missing_ok=True)
        unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        unix.bind(str(path))
        await self._start(answer, sock)
        await self._start(answer, unix)
        state = self._world.state.daemons[name]
        nodes = [{"sid": node.sid, "grid_node": node.grid_node} for node in state.nodes]
        return ComputeAddress(name, f"http://127.0.0.1:{port}", str(path), COMPUTE_SECRET, state.gateway_domain, nodes)

    def _socket_path(self, name: str) -> Path:
        """Below the state folder, or, where that would be too long for a socket, in the system's temporary folder."""
        path = self._dir / "sockets" / name / "rpc.sock"
        if len(str(path)) > LONGEST_SOCKET:
            path = self._short_folder() / name / "rpc.sock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _short_folder(self) -> Path:
        mark = hashlib.sha256(str(self._dir).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"hero-simulator-{mark}"

    async def _start(self, handler: Handler, sock: socket.socket, **tls: str) -> None:
        config = uvicorn.Config(
            asgi(handler),
            lifespan="off",
            log_level="critical",
            access_log=False,
            timeout_keep_alive=60,  # longer than clients keep an idle connection: nobody writes into one that is being closed
            timeout_graceful_shutdown=1,
            server_header=False,
            **_any(tls),
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        self._servers.append((server, task))
        await server.is_up.wait()

    async def _inner(self, request: Request) -> Answer:
        meant = self._overlay.meant_by(request.client[1]) if self._overlay and request.client else None
        answer = await self._world.ask_overlay(*meant, request) if meant else None
        return answer or text("connection refused\n", 502)

    async def _outside(self, request: Request) -> Answer:
        return self._world.ask_outside(host_name(request), request)

    async def _tick(self) -> None:
        """Keeps the saved time near the real one, so that time never runs backwards much after a kill."""
        while True:
            await asyncio.sleep(1)
            self._world.save()

    def _addresses(self, port: dict[str, int], compute: list[ComputeAddress], ca: Path) -> Addresses:
        forge = self._world.realm.forge_url
        return Addresses(
            pid=os.getpid(),
            forge_url=forge,
            forge_token=seeding.controller_token(self._world.forge),
            compute=compute,
            socks=f"socks5://127.0.0.1:{port['socks']}",
            ca_file=str(ca),
            installer_key_file=str(_installer_key(self._dir)),
            control_url=f"http://127.0.0.1:{port['control']}",
            lab_url=f"{forge}/{OWNER}/lab/releases/download/latest/{LAB_ASSET}",
            shell=self._shell,
            speed=self._world.clock.speed,
            admin_machine=_admin_machine(self._world),
            engines=_engines(self._world),
            resend_url=f"http://127.0.0.1:{port['resend']}",
            resend_key=self._world.post.state.resend_key,
            smtp_host="127.0.0.1",
            smtp_port=port["smtp"],
            smtp_user=SMTP_USER,
            smtp_password=self._world.post.state.smtp_password,
        )


def _admin_machine(world: World) -> AdminMachine:
    state = world.admin.state
    public = asyncssh.import_private_key(state.host_key).export_public_key().decode()
    return AdminMachine(state.mycelium_ip, " ".join(public.split()[:2]))


def _engines(world: World) -> list[EngineAddress]:
    host = world.admin.state.mycelium_ip
    return [
        EngineAddress(one.name, f"http://[{host}]:{one.port}", one.context, one.service) for one in world.state.engines
    ]


def _any(values: dict[str, str]) -> dict[str, Any]:
    return dict(values)


def _installer_key(folder: Path) -> Path:
    """A key pair that an installer may use; the public half lies beside it with `.pub`."""
    path = folder / "installer_key"
    if not path.exists():
        key = asyncssh.generate_private_key("ssh-ed25519", comment="installer")
        path.touch(mode=0o600)
        path.write_bytes(key.export_private_key())
        path.with_suffix(".pub").write_bytes(key.export_public_key())
    return path


def _write_down(folder: Path, addresses: Addresses) -> None:
    fresh = folder / "addresses.json.new"
    fresh.write_text(json.dumps(asdict(addresses), indent=2) + "\n")
    os.replace(fresh, folder / "addresses.json")


@contextlib.asynccontextmanager
async def serving(world: World, state_dir: Path, shell: str = USUAL_SHELL) -> AsyncIterator[Addresses]:
    """Serves the world on loopback until the block ends; `addresses.json` is in the folder while it does."""
    site = _Site(world, state_dir, shell)
    addresses = await site.open()
    _write_down(state_dir, addresses)
    try:
        yield addresses
    finally:
        await site.close()
