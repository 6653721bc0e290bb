"""The world: owns every system, its books, its log and its file. Nothing here knows a socket."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from examples.simulator import admin, invariants, seeding
from examples.simulator.books import books
from examples.simulator.clock import WORLD_BEGINS, WorldClock
from examples.simulator.compute import Compute, MachineYard, backend_address
from examples.simulator.compute_rpc import WRITING, answer_compute, rpc_method
from examples.simulator.drift import Drift
from examples.simulator.engines import Engines
from examples.simulator.faults import Faults
from examples.simulator.files import DiskFiles, Files, MemoryFiles
from examples.simulator.forge import Forge
from examples.simulator.forge_api import answer_api
from examples.simulator.forge_login import answer_web, who_calls
from examples.simulator.forge_oauth import OAuthError
from examples.simulator.frontdoor import Side
from examples.simulator.grid import Grid
from examples.simulator.http import Answer, Request, page
from examples.simulator.keys import new_host_key
from examples.simulator.log import Log
from examples.simulator.machine import Machine, Surroundings
from examples.simulator.post import Post
from examples.simulator.realm import Realm
from examples.simulator.records import Gateway, MachineState, Mail, Violation, Vm, WorldState
from examples.simulator.standin import BARE_PROGRAMS, STAND_IN

AUTHORISED = ".ssh/authorized_keys"
DOOR = 9988
FORGE_DELAY = 0.1
"""Simulated seconds that a call of Forge takes."""


class World(MachineYard):
    """Everything outside. With `state_dir` it lives on disk and goes on where it stopped; without, in memory only.

    `clock`: one of another kind, instead of one that runs `speed` times as fast as the event loop's.
    """

    def __init__(
        self,
        seed: int = 1,
        speed: float = 60.0,
        state_dir: Path | None = None,
        daemons: int = 1,
        clock: WorldClock | None = None,
    ) -> None:
        self.state_dir = state_dir = state_dir.resolve() if state_dir else None
        if state_dir is not None:
            state_dir.mkdir(parents=True, exist_ok=True)
        self.state, fresh = _loaded(state_dir) or (WorldState(seed=seed, time=WORLD_BEGINS), True)
        self.log = Log(state_dir / "log.jsonl" if state_dir else None)
        last = self.log.entries[-1].time if self.log.entries else 0.0
        self.clock = clock or WorldClock(speed, max(self.state.time, last))
        self.realm = Realm(self.state, self.clock)
        self.faults = Faults(self.state.faults, self.clock)
        self.grid = Grid(self.state.daemons)
        self.forge = Forge(
            self.state.forge,
            self.realm,
            lambda *thing: self.faults.listed("forge", *thing),
            lambda listing, rows: self.faults.cut_short("forge", listing, rows),
        )
        self.post = Post(self.state.post, self.realm, self.faults, self.state.violations)
        self.machines: dict[str, Machine] = {}
        self.on_buried: list[Callable[[Machine], None]] = []
        self.on_cut: list[Callable[[Machine], None]] = []
        self.on_rekeyed: list[Callable[[Machine], None]] = []
        self.on_changed: list[Callable[[], None]] = []
        self.wrong_now: set[tuple[str, str]] = set()
        self.drift = Drift(self)
        self._dirty = False
        self._saving: asyncio.Handle | None = None
        self._around = self._surroundings()
        if fresh:
            seeding.seed_forge(self.forge)
            for number in range(1, daemons + 1):
                daemon = seeding.new_daemon(number)
                self.state.daemons[daemon.name] = daemon
        self.daemons = {
            name: Compute(daemon, self.realm, self.grid, self.faults, self)
            for name, daemon in self.state.daemons.items()
        }
        for machine in self.state.machines.values():
            self.machines[machine.key] = self._raised_again(machine)
        self.admin = self._admin_machine()
        self.engines = Engines(self.state.engines, self.faults, lambda: self.admin)
        self.save()

    # -- machines

    def born(self, compute: Compute, vm: Vm) -> None:
        key = f"{compute.name}/{vm.sid}"
        host_key = new_host_key(self.realm, "machine", key, vm.name)
        state = MachineState(key=key, name=vm.name, mycelium_ip=vm.mycelium_ip, host_key=host_key)
        self.state.machines[key] = state
        self.machines[key] = self._new_machine(state, vm.ssh_keys)

    def buried(self, compute: Compute, vm: Vm) -> None:
        key = f"{compute.name}/{vm.sid}"
        machine = self.machines.pop(key, None)
        self.state.machines.pop(key, None)
        if machine is not None:
            for tell in self.on_buried:
                tell(machine)
            machine.files.destroy()

    def _new_machine(self, state: MachineState, ssh_keys: list[str]) -> Machine:
        """With the files of a bare image."""
        files = self._files(state)
        if isinstance(files, DiskFiles):
            files.make_folders("home/.ssh", "home/.tmp", "home/hero/bin", "sim/bin", "sim/calls")
            for program in BARE_PROGRAMS:
                files.write(f"../sim/bin/{program}", STAND_IN.encode(), 0o755)
        files.write(AUTHORISED, "".join(f"{line}\n" for line in ssh_keys).encode(), 0o600)
        return Machine(state, files, self._around)

    def _raised_again(self, state: MachineState) -> Machine:
        """After a restart of the simulator: what was starting has not come up."""
        for service in state.services.values():
            service.state = "stopped" if service.state == "starting" else service.state
        return Machine(state, self._files(state), self._around)

    def _admin_machine(self) -> Machine:
        if self.state.admin is not None:
            return self._raised_again(self.state.admin)
        self.state.engines = admin.new_engines()
        self.state.admin = admin.new_admin(self.realm, self.state.engines)
        machine = self._new_machine(self.state.admin, [])
        admin.furnish(machine.files, self.state.admin)
        return machine

    def admit(self, key: str) -> None:
        """Lets a public key in at the admin machine, once."""
        held = self.admin.files.read(AUTHORISED) or b""
        if key.encode() not in held.splitlines():
            self.admin.files.write(AUTHORISED, held + f"{key}\n".encode())

    def every_machine(self) -> list[Machine]:
        """The admin machine too."""
        return [self.admin, *self.machines.values()]

    def stands(self, machine: Machine) -> bool:
        """Whether this very machine has not been deleted."""
        return machine is self.admin or self.machines.get(machine.state.key) is machine

    def _files(self, state: MachineState) -> Files:
        place = self.machine_dir(state)
        return DiskFiles(place) if place else MemoryFiles()

    def machine_dir(self, state: MachineState) -> Path | None:
        return self.state_dir / "machines" / f"{state.key.replace('/', '-')}-{state.name}" if self.state_dir else None

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            self.realm,
            self.faults,
            self._fetch,
            self.forge.repositories.version,
            self.forge.repositories.broken,
            self._note,
            self.changed,
            self._began,
            self._sign_in,
            self.cut,
        )

    def cut(self, machine: Machine) -> None:
        """Every SSH connection to the machine breaks; what runs there goes on."""
        for tell in self.on_cut:
            tell(machine)

    def machine_named(self, name: str) -> Machine:
        """By the VM's name, by daemon/sid, or `admin`. Raises KeyError."""
        for machine in (*self.machines.values(), self.admin):
            if name in (machine.state.key, machine.name):
                return machine
        raise KeyError(f"no machine {name!r}")

    def reachable_at(self, address: str) -> Machine | None:
        """The machine behind a Mycelium address, once it has found its network."""
        if address.strip("[]") == self.admin.state.mycelium_ip:
            cut = self.faults.active("machine", "overlay", ("inner_unroutable",), self.admin.name)
            return self.admin if self.state.admin_reachable and not cut else None
        found = self.grid.vm_at(address)
        if found is None:
            return None
        daemon, vm = found
        unroutable = self.faults.active("machine", "overlay", ("inner_unroutable",), vm.name)
        return (
            self.machines.get(f"{daemon.name}/{vm.sid}")
            if self.daemons[daemon.name].reachable(vm) and not unroutable
            else None
        )

    def behind(self, gateway: Gateway) -> Machine | None:
        """The machine that a gateway leads to, whether or not its network is up; None when it is gone."""
        found = self.grid.vm_at(backend_address(gateway.backends[0]) or "")
        return self.machines.get(f"{found[0].name}/{found[1].sid}") if found else None

    # -- what the systems answer

    async def ask_forge(self, request: Request) -> Answer:
        async def answer(request: Request) -> Answer:
            await self.clock.sleep(FORGE_DELAY)
            is_api = request.path.startswith("/api/")
            return answer_api(self.forge, request) if is_api else answer_web(self.forge, request)

        caller = who_calls(self.forge, request)
        done = await self.faults.around(("forge", f"{request.method} {request.path}"), answer, request)
        writing = request.path.startswith("/api/") and request.method not in ("GET", "HEAD")
        who = caller.account.name if caller.account else "anonymous"
        self.log.add(self.clock.now(), "forge", request.method, request.path, who, writing, done.status)
        if request.method not in ("GET", "HEAD"):
            self.changed()
        self.flush()
        return done

    async def ask_compute(self, name: str, request: Request) -> Answer:
        compute, method = self.daemons[name], rpc_method(request)
        life = compute.state.starts

        async def written() -> None:
            self.changed()
            self.flush()

        async def answer(request: Request) -> Answer:
            return await answer_compute(compute, request, written)

        if not self.listens(name):
            return Answer(503).travelling("cut")
        done = await self.faults.around(("compute", method), answer, request, name)
        if compute.state.starts != life:
            done = done.travelling("cut")
        writing = method in WRITING
        self.log.add(self.clock.now(), name, request.method, f"{request.path} {method}", "client", writing, done.status)
        if writing:
            self.changed()
        self.flush()
        return done

    def listens(self, daemon: str) -> bool:
        """Whether anybody takes connections where this daemon is."""
        return self.clock.now() >= self.state.daemons[daemon].down_until and not self.faults.is_down("compute", daemon)

    def ask_inner(self, machine: Machine, request: Request, side: Side = "inner") -> Answer | None:
        """The port that the gateway reaches, on the overlay. None: nobody listens."""
        answer = machine.door.answer(request, side)
        status = answer.status if answer else 0
        self.log.add(self.clock.now(), f"door:{machine.name}", request.method, request.path, side, False, status)
        self.flush()
        return answer

    def ask_outside(self, fqdn: str, request: Request) -> Answer:
        """A public name, as the internet sees it."""
        gateway = self.grid.gateway(fqdn)
        if gateway is None or self.clock.now() < gateway.ready_at:
            return page("404 Not Found", 404)
        machine = self.reachable_at(backend_address(gateway.backends[0]) or "")
        unroutable = self.faults.active("compute", "gateway", ("outside_unroutable",), gateway.name)
        answer = self.ask_inner(machine, request, "outside") if machine and gateway.routes and not unroutable else None
        return answer or page("502 Bad Gateway", 502)

    async def ask_overlay(self, machine: Machine, port: int, request: Request) -> Answer | None:
        """A port of a machine, as its neighbours see it. None: nobody listens."""
        engine = self.engines.at(port) if machine is self.admin else None
        if engine is not None:
            return await self.ask_engine(engine.name, request)
        return self.ask_inner(machine, request) if port == DOOR else None

    async def ask_engine(self, name: str, request: Request) -> Answer | None:
        """A shared engine, by its name. None: nobody listens. Raises KeyError when there is no such engine."""
        engine = self.engines.named(name)

        async def answer(request: Request) -> Answer:
            return self.engines.answer(engine, request) or Answer(502)

        if not self.engines.listens(engine):
            return None
        done = await self.faults.around(
            ("engine", f"{engine.name} {request.method} {request.path}"), answer, request, name
        )
        who = request.headers.get("x-hero-context", "anonymous")
        self.log.add(self.clock.now(), f"engine:{engine.name}", request.method, request.path, who, False, done.status)
        self.flush()
        return done

    async def ask_mail(self, request: Request) -> Answer:
        """Resend."""

        async def answer(request: Request) -> Answer:
            done = await self.post.answer(request)
            self.changed()
            return done

        done = await self.faults.around(("mail", f"{request.method} {request.path}"), answer, request)
        writing = request.method == "POST"
        self.log.add(self.clock.now(), "mail", request.method, request.path, "client", writing, done.status)
        self.flush()
        return done

    def smtp_delivered(self, to: str, status: int) -> None:
        """The SMTP server took a mail, or did not."""
        self.log.add(self.clock.now(), "mail", "SMTP", "DATA", to, True, status)
        self.changed()
        self.flush()

    async def _fetch(self, machine: Machine, origin: str, request: Request) -> Answer | str:
        """A machine's curl asks another host: the answer, or how it failed."""
        host = origin.partition("://")[2]
        if origin == self.realm.forge_url:
            return await self.ask_forge(request)
        if host.startswith("["):
            neighbour = self.reachable_at(host.partition("]")[0])
            if neighbour is None:
                return "unreachable"
            port = host.rpartition("]:")[2]
            return await self.ask_overlay(neighbour, int(port) if port.isdigit() else 80, request) or "refused"
        if origin.startswith("https://") and self.grid.gateway(host):
            return self.ask_outside(host, request)
        return "unknown"

    def _began(self, machine: Machine, service: str) -> None:
        if machine is self.admin:
            self.engines.started(service)

    def _note(self, machine: Machine, what: str, writing: bool, status: int) -> None:
        program, _, rest = what.partition(" ")
        self.log.add(self.clock.now(), f"machine:{machine.name}", program, rest, "root", writing, status)
        self.flush()

    def _sign_in(self, issuer: str, form: dict[str, str]) -> str | None:
        """hero_proxy at Forge's token endpoint and userinfo."""
        if issuer.rstrip("/") != self.realm.forge_url:
            return None
        try:
            tokens = self.forge.oauth.exchange(form)
        except OAuthError:
            return None
        account = self.forge.oauth.bearer(f"bearer {tokens['access_token']}")
        return account.name if account and not account.prohibit_login else None

    @property
    def violations(self) -> list[Violation]:
        """What was true at some instant and must never be."""
        return self.state.violations

    @property
    def mailbox(self) -> list[Mail]:
        """Every mail that was delivered, oldest first."""
        return self.state.post.mailbox

    # -- books and file

    def changed(self) -> None:
        """The books differ now: look at the invariants, and save before this tick of the loop is over."""
        self._dirty = True
        invariants.watch(self)
        for tell in self.on_changed:
            tell()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if self._saving is None or self._saving.cancelled():
            self._saving = loop.call_soon(self.flush)

    def flush(self) -> None:
        """Saves if something changed since."""
        self._saving = None
        if self._dirty:
            self.save()

    def save(self) -> None:
        """Atomically, so that a kill at any instant loses nothing that was answered."""
        self._dirty = False
        self.state.time = self.clock.now()
        if self.state_dir is None:
            return
        fresh = self.state_dir / "world.json.new"
        fresh.write_text(self.state.model_dump_json())
        os.replace(fresh, self.state_dir / "world.json")

    def books(self) -> dict[str, Any]:
        """Who and what there is, for a person or a test; no secret in it."""
        return books(self)


def _loaded(state_dir: Path | None) -> tuple[WorldState, bool] | None:
    if state_dir is None or not (state_dir / "world.json").exists():
        return None
    return WorldState.model_validate_json((state_dir / "world.json").read_bytes()), False
