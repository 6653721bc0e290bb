"""One machine: its installed programs, its supervisor with services and secrets, its front door. Commands run
here, whoever brings them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from examples.simulator import echoes, machine_apt, machine_curl, machine_faults, machine_lab, machine_proc
from examples.simulator.catalogue import PROXY, ROUTER, SUPERVISOR
from examples.simulator.faults import Faults
from examples.simulator.files import Files
from examples.simulator.frontdoor import FrontDoor
from examples.simulator.http import Answer, Request, json_answer, page, text
from examples.simulator.outcome import Outcome, failed, said
from examples.simulator.realm import Realm
from examples.simulator.records import MachineState, Service

NOT_FOUND = 127
TALKATIVE = ("lab", SUPERVISOR)
"""What prints its arguments and its environment while the world echoes."""


@dataclass(frozen=True)
class Surroundings:
    """What a machine sees of the world: chance and clock, the faults, other hosts, and where a version comes from.

    `fetch(machine, origin, request)` asks another host; `version(component, wanted)`: what lab would install, None when there is
    no such release; `broken(component, version)`: how a version is broken (`install`, `start` or not at all);
    `note(machine, what, writing, status)` keeps the log; `changed()`: the world's books differ now; `began(machine, service)`:
    a service has started; `cut(machine)` breaks every connection to it.
    """

    realm: Realm
    faults: Faults
    fetch: Callable[["Machine", str, Request], Awaitable["Answer | str"]]
    version: Callable[[str, str | None], str | None]
    broken: Callable[[str, str], str]
    note: Callable[["Machine", str, bool, int], None]
    changed: Callable[[], None]
    began: Callable[["Machine", str], None]
    sign_in: "Callable[[str, dict[str, str]], str | None]"
    cut: "Callable[[Machine], None]"


class Machine:
    """A Hero OS machine. `state` is what it remembers, `files` what lies in root's home."""

    def __init__(self, state: MachineState, files: Files, around: Surroundings) -> None:
        self.state = state
        self.files = files
        self.around = around
        self.apt_is_busy = False
        self.door = FrontDoor(state, around.realm, around.faults, around.sign_in, self.proxy_alive, self.through_router)

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def faults(self) -> Faults:
        return self.around.faults

    def now(self) -> float:
        return self.around.realm.now()

    async def takes(self, what: str, least: float, most: float) -> None:
        """Lets the time of a command pass, drawn from the seed, in simulated seconds."""
        await self.around.realm.clock.sleep(
            self.around.realm.chance(self.state.key, self.name, what).uniform(least, most)
        )

    # -- commands

    async def run(self, argv: list[bytes], stdin: bytes = b"", cwd: str | None = None) -> Outcome:
        """One command. Arguments and outputs are bytes; `cwd` is an absolute path below the machine, by default $HOME."""
        name, arguments = argv[0].decode("utf-8", "surrogateescape"), argv[1:]
        what, writing = describe(name, arguments)
        outcome = await self.answer(name, arguments, stdin, cwd)
        self.around.note(self, what, writing, outcome.code)
        if writing:
            self.around.changed()
        return outcome

    async def answer(self, name: str, arguments: list[bytes], stdin: bytes = b"", cwd: str | None = None) -> Outcome:
        """As `run`, but nobody notes it: for a question that is put again and again."""
        outcome = await self._answer(name, arguments, stdin, cwd)
        if self.faults.echoes and name in TALKATIVE:
            return echoes.printing(outcome, [name.encode(), *arguments], self.state.secrets)
        return outcome

    async def _answer(self, name: str, arguments: list[bytes], stdin: bytes, cwd: str | None) -> Outcome:
        if self.faults.rows and (spoilt := await machine_faults.spoilt(self, name, arguments)):
            return spoilt
        if name == "curl":
            return await machine_curl.run(self, arguments, stdin, cwd or self.files.home)
        words = [argument.decode("utf-8", "surrogateescape") for argument in arguments]
        if name == "apt-get":
            return await machine_apt.apt_get(self, words)
        if name == "dpkg-query":
            return machine_apt.dpkg_query(self, words)
        if name == "lab":
            return await machine_lab.run(self, words)
        if name == SUPERVISOR and SUPERVISOR in self.state.components and words != ["--version"]:
            return await machine_proc.run(self, arguments)
        return self._component(name, words)

    def _component(self, name: str, words: list[str]) -> Outcome:
        installed = self.state.components.get(name)
        if installed is None:
            return failed(f"{name}: not found", NOT_FOUND)
        if words == ["--version"]:
            if self.faults.take("machine", "version", ("version_unknown",), name):
                return said(f"{name} (development build)\n")
            return said(f"{name} {installed.version}\n")
        return failed(f"{name}: run it through hero_proc", 2)

    def set_secret(self, context: str, key: str, value: bytes | None) -> None:
        """None removes it. Whoever reads it notices at its next start."""
        held = self.state.secrets.setdefault(context, {})
        if held.get(key) != value:
            self.state.secret_changes += 1
            self.state.changed[f"{context}/{key}"] = self.state.secret_changes
        if value is None:
            held.pop(key, None)
        else:
            held[key] = value

    # -- services

    def alive(self, service: str) -> bool:
        """What is, whatever the supervisor says."""
        if service == SUPERVISOR:
            return self.state.supervisor
        found = self.state.services.get(service)
        return bool(found and self.state.supervisor and found.alive)

    def proxy_alive(self) -> bool:
        return self.alive(PROXY)

    def healthy(self, service: str) -> bool:
        found = self.state.services.get(service)
        return self.alive(service) and (found is None or self.now() >= found.healthy_at)

    def new_pid(self) -> int:
        self.state.next_pid += 1
        return self.state.next_pid

    def begin(self, name: str, service: Service) -> None:
        """The service is up from now on; it answers some seconds later: cold starts take their time (lesson 21)."""
        lie = self.faults.take("machine", "service start", ("supervisor_lies",), name)
        service.state, service.pid, service.alive = "running", self.new_pid(), lie is None
        cold = self.around.realm.chance(self.state.key, name, service.pid).uniform(0, 6)
        slow = self.faults.take("machine", "service start", ("slow_start",), name)
        service.knows = self.state.secret_changes
        service.healthy_at = self.now() + (float(slow.options.get("seconds", 120)) if slow else cold)
        component = self.state.components.get(service.component)
        if component is not None:
            component.running = component.version
        if name == PROXY and service.alive:
            self.door.read_settings()
        if service.alive:
            self.around.began(self, name)

    # -- HTTP inside

    def through_router(self, request: Request) -> Answer | None:
        """hero_router on loopback, port 9988. None: nobody listens."""
        if not self.alive(ROUTER):
            return None
        service, _, rest = request.path.lstrip("/").partition("/")
        if service == "":
            return page("Services", 200, "".join(f"<li>{name}</li>" for name in sorted(self.state.services)))
        if service == "status":
            return page("Status", 200, f"<p>{len(self.state.services)} services</p>")
        if service == "health":
            return text("ok\n")
        if service != SUPERVISOR and service not in self.state.services:
            return text("no such service\n", 404)
        if not self.healthy(service):
            return text(f"{service} does not answer\n", 502)
        return text("ok\n") if rest == "health" else self._app(service, request)

    def _app(self, service: str, request: Request) -> Answer:
        """What a working app says: a page, or, below `api/`, what it would list."""
        found = self.state.services.get(service)
        if found is not None and not found.works:
            return text(f"{service}: internal error\n", 500)
        if request.path == "/hero_books/api/libraries":
            held = self.state.secrets.get("cockpit", {}) | self.state.secrets.get("books", {})
            names = held.get("BOOKS_LIBRARIES", b"hero").decode("utf-8", "replace")
            return json_answer({"libraries": [name.strip() for name in names.split(",") if name.strip()]})
        if request.path == "/hero_agent/api/tools":
            return json_answer({"tools": ["search", "read", "write"]})
        return page(f"{service} on {self.name}", 200, f"<p>{request.path}</p>")


def describe(name: str, arguments: list[bytes]) -> tuple[str, bool]:
    """A command for the log, without any secret value, and whether it changes anything."""
    words = [argument.decode("utf-8", "replace") for argument in arguments]
    if name == SUPERVISOR:
        return machine_proc.describe(words)
    if name == "curl":
        return machine_curl.describe(words)
    if name == "lab":
        return " ".join(["lab", *words]), words[:1] != ["--version"]
    return " ".join([name, *words[:6]]), name == "apt-get"
