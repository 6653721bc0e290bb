"""A look at a make-believe machine: the frames that the look's script would print, read by what reads them everywhere."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from urllib.parse import unquote, urljoin, urlsplit

from examples.simulator.catalogue import PROXY, SUPERVISOR
from examples.simulator.http import Answer, Request
from examples.simulator.world import AUTHORISED, World
from reconcilers.backends.machine import JobState, MachineLook, MachineQuery, Probe
from reconcilers.backends.machine_alike import without_passing
from reconcilers.backends.machine_dialect import MachineDialect, Words
from reconcilers.backends.machine_jobs import LOG_TAIL
from reconcilers.backends.machine_look import COMMAND_TIME, probe_runs, read_look
from reconcilers.backends.machine_scripts import file_name
from reconcilers.backends.machine_shell import Frame
from tests.worlds.ground import Ground, JobRecord, host_key_of

REFUSED = 7  # curl's exit code when nobody listens


class Looking:
    """One look under way."""

    def __init__(self, ground: Ground, world: World, dialect: MachineDialect, host: str) -> None:
        self.ground = ground
        self.dialect = dialect
        self.host = host
        self.at_itself = world.reachable_at(host) is ground.machine
        self.found: list[Frame] = []

    async def look(self, query: MachineQuery) -> MachineLook:
        """Everything that the query asks for, in the order of the script."""
        tools = [tool for tool in self.dialect.tools if self.ground.has(tool)]
        self._say("keys", self.ground.machine.files.read(AUTHORISED) or b"")
        self._say("tools", "\n".join(tools).encode())
        await self._supervisor(query)
        for number, component in enumerate(query.components):
            if self.ground.has(component):
                await self._ask(f"version {number}", _filled(self.dialect.version, component=component))
        if self.ground.has("curl"):
            self._addresses(query)
        self._own_files(query.logs)
        return replace(
            read_look(host_key_of(self.ground.machine), query, tuple(self.found)),
            stale=frozenset(self.ground.stale),
            owned_settings=frozenset(self.ground.settings),
            owned_components=frozenset(self.ground.components),
        )

    @property
    def digest(self) -> bytes:
        """Of all that was said, and of what is told beside the frames."""
        said = b"\n".join(b" ".join((*map(str.encode, each.words), each.body)) for each in self.found)
        ground = self.ground
        beside = repr(
            (sorted(ground.stale), sorted(ground.settings), sorted(ground.components), host_key_of(ground.machine))
        )
        return sha256(without_passing(said) + beside.encode()).digest()

    def _say(self, words: str, body: bytes = b"") -> None:
        self.found.append(Frame(tuple(words.split()), body))

    async def _ask(self, words: str, command: Words) -> int:
        outcome = await self.ground.ask(command, COMMAND_TIME)
        self._say(words, outcome.out)
        self._say(f"rc {outcome.code}")
        return outcome.code

    async def _supervisor(self, query: MachineQuery) -> None:
        """Once it leaves a question unanswered it is asked no more."""
        words = self.dialect
        if not self.ground.has(SUPERVISOR) or await self._ask("services", words.service_list):
            return
        missing = False
        asked = [
            (f"secret.{number}", _filled(words.secret_get, context=context, key=key))
            for number, (context, key) in enumerate(query.secrets)
        ]
        asked += [
            (f"list.{number}", _filled(words.secret_list, context=context))
            for number, context in enumerate(query.contexts)
        ]
        for name, command in asked:
            code = await self._ask(name, command)
            missing = missing or code == 1
            if code > 1:
                return
        if missing:
            await self._ask("services", words.service_list)

    def _addresses(self, query: MachineQuery) -> None:
        machine = self.ground.machine
        if machine.alive(PROXY):
            self._say("domains", machine.door.rpc(self.dialect.domain_list, {}).body)
            self._say("rc 0")
        else:
            self._say("domains")
            self._say(f"rc {REFUSED}")
        if query.health:
            paths = [urlsplit(self.dialect.health_url.format(service=service)).path for service in query.health]
            host = urlsplit(self.dialect.router_url).netloc
            self._say("health", b"".join(_line(path, machine.through_router(_request(path, host))) for path in paths))
        for number, (_, _, probes) in enumerate(probe_runs(query.probes)):
            self._say(f"probes {number}", b"".join(map(self._probed, probes)))

    def _probed(self, probe: Probe) -> bytes:
        machine, words = self.ground.machine, self.dialect
        request = _request(probe.path, probe.host)
        if probe.side == "router":
            return _line(words.router_url + probe.path, machine.through_router(request))
        if probe.side == "loopback":
            return _line(words.loopback_url + probe.path, machine.door.answer(request, "loopback"))
        url = words.inner_url.format(address=self.host) + probe.path
        return _line(url, machine.door.answer(request, "inner") if self.at_itself else None)

    def _own_files(self, logs: tuple[str, ...]) -> None:
        ground = self.ground
        for name, job in sorted(ground.jobs.items()):
            held = "yes" if ground.lock_of(name).locked() else ""
            self._say(f"job {file_name(name)} {held}", state_file(job))
            if job.state is not JobState.SUCCEEDED or name in logs:
                self._say("log", job.log.encode()[-LOG_TAIL:])


def state_file(job: JobRecord) -> bytes:
    """The file in which a job says how it stands."""
    rc = "" if job.rc is None else job.rc
    return f"{job.state}\nrc={rc}\nwanted={job.wanted}\nbegan={job.began}\nid=\nresult={job.result}\n".encode()


def _filled(words: Words, **values: str) -> Words:
    return tuple(word.format(**values) for word in words)


def _request(target: str, host: str) -> Request:
    path, _, query = target.partition("?")
    return Request("GET", unquote(path) or "/", query, {"host": host, "user-agent": "curl/8.5.0", "accept": "*/*"})


def _line(url: str, answer: Answer | None) -> bytes:
    """What curl's `-w '%{http_code} %{redirect_url}\\n'` prints."""
    location = answer.header("location") if answer else None
    return f"{answer.status if answer else 0:03} {_joined(url, location) if location else ''}\n".encode()


_joined = lru_cache(urljoin)  # the same few at every look
