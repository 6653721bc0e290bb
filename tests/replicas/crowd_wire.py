"""How replicas that are processes of their own reach a world that is in another one: one Unix socket, pickled questions.

It stands where `tests.worlds.wire` and `tests.worlds.machine` stand in virtual time: under the clients' gates, so that leases,
limits and the last question before a call are the real ones; what HTTP, TLS and SSH would cost is not spent. The world goes on
with what it was asked whether or not whoever asked is still there.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import pickle
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx

from controller.store.fencing import LEASE
from reconcilers.backends.limits import Call, Gate
from reconcilers.backends.machine import MachineAddress, MachineAnswer, Machines, question_of
from reconcilers.clock import SystemClock
from reconcilers.errors import OutsideError, Throttled
from reconcilers.secret import Secret
from tests.worlds.ground import Yard
from tests.worlds.loop import outliving
from tests.worlds.machine import WorldMachines
from tests.worlds.wire import WorldTransport

READING = frozenset({"look", "answer", "job_log"})
PLACES = 4


# ---------------------------------------------------------------------------------------------------- what is sent


class _Pickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Secret):
            return Secret, (obj.reveal(),)
        if isinstance(obj, OutsideError):
            return _failure, (type(obj), obj.message, obj.system, obj.reason, getattr(obj, "retry_after", None))
        return NotImplemented


def _failure(kind: type[OutsideError], message: str, system: str, reason: str, retry_after: Any) -> OutsideError:
    made = kind(message, system=system)
    made.reason = reason
    if isinstance(made, Throttled):
        made.retry_after = retry_after
    return made


def _frame(what: object) -> bytes:
    body = io.BytesIO()
    _Pickler(body, pickle.HIGHEST_PROTOCOL).dump(what)
    return len(body.getvalue()).to_bytes(4, "big") + body.getvalue()


async def _read(reader: asyncio.StreamReader) -> Any:
    """Raises IncompleteReadError at the end."""
    length = int.from_bytes(await reader.readexactly(4), "big")
    return pickle.loads(await reader.readexactly(length))


# ---------------------------------------------------------------------------------------------------- the world's side


@dataclass
class Counters:
    """Answers replicas. `calm`: nothing has befallen anybody for a while, so that limits hold to the letter; `most`: how many of
    the calls that were begun while it was calm were under way at once, by what. `begun`: every call that has come here, from the
    beginning on, when it was sent and under which lease; whether or not whoever sent it had asked for leave."""

    yard: Yard
    transport: WorldTransport
    key: Secret
    calm: bool = False
    most: Counter[str] = field(default_factory=Counter)
    begun: list[dict[str, Any]] = field(default_factory=list)
    _now: Counter[str] = field(default_factory=Counter)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One replica."""
        gate = Gate("world", SystemClock(), in_flight=1_000_000, per_second=1_000_000_000)
        machines = WorldMachines(self.yard, self.key, gate, PLACES)
        try:
            while True:
                outliving(self._answer(await _read(reader), machines, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()  # it has ended, or the world has

    async def _answer(self, asked: Any, machines: WorldMachines, writer: asyncio.StreamWriter) -> None:
        number, told, kind, *what = asked
        self.begun.append({**told, "what": (kind, *map(str, what[:2]))})
        of = self._gate_of(kind, what) if self.calm else ""
        self._now[of] += 1
        self.most[of] = max(self.most[of], self._now[of])
        try:
            answer: Any = await (self._http(*what) if kind == "http" else self._machine(machines, *what))
        except Exception as error:
            answer = error
        finally:
            self._now[of] -= 1
        if not writer.is_closing():
            writer.write(_frame((number, answer)))

    def _gate_of(self, kind: str, what: list[Any]) -> str:
        if kind == "machine":
            return "machines"
        return "Forge" if what[1].startswith(self.yard.world.realm.forge_url) else ""

    async def _http(self, method: str, url: str, headers: list[tuple[bytes, bytes]], body: bytes) -> Any:
        request = httpx.Request(method, url, headers=headers, content=body)
        try:
            answer = await self.transport.handle_async_request(request)
        except httpx.TransportError as error:
            return type(error).__name__, str(error)
        return answer.status_code, answer.headers.raw, await answer.aread()

    async def _machine(self, machines: WorldMachines, name: str, *given: Any, **named: Any) -> Any:
        if name == "answer":  # a shape is its process's own
            given = (given[0], question_of(given[1]), *given[2:])
        answer = await getattr(machines, name)(*given[:-1], **given[-1], **named)
        return (answer.digest, answer.look) if isinstance(answer, MachineAnswer) else answer


# ---------------------------------------------------------------------------------------------------- a replica's side


class Way:
    """To the world."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._hearing = asyncio.ensure_future(self._hear())

    @classmethod
    async def open(cls, path: Path) -> Way:
        return cls(*await asyncio.open_unix_connection(path, limit=1 << 24))

    async def ask(self, *what: Any) -> Any:
        """What the world answers. Raises what it raises."""
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        lease = LEASE.get()
        told = {
            "at": time.time(),
            "under": (lease.key, lease.epoch) if lease is not None else None,
            "process": os.getpid(),
        }
        self._writer.write(_frame((number, told, *what)))
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    async def _hear(self) -> None:
        while True:
            number, answer = await _read(self._reader)
            waiting = self._asked.get(number)
            if waiting is None or waiting.done():
                continue
            if isinstance(answer, Exception):
                waiting.set_exception(answer)
            else:
                waiting.set_result(answer)


class CrowdTransport(httpx.AsyncBaseTransport):
    """Instead of every connection over HTTP."""

    def __init__(self, way: Way) -> None:
        self._way = way

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        trace = request.extensions.get("trace")
        if trace is not None:
            await trace("http11.send_request_headers.started", {})
        patience = request.extensions.get("timeout", {}).get("read")
        try:
            async with asyncio.timeout(patience):
                answer = await self._way.ask("http", request.method, str(request.url), request.headers.raw, body)
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time", request=request) from None
        if isinstance(answer[0], str):
            raise getattr(httpx, answer[0])(answer[1], request=request)
        status, headers, content = answer
        return httpx.Response(status, headers=headers, content=content, request=request)


class _CrowdMachines:
    """Instead of SSH: every call of `Machines`, through the gate."""

    def __init__(self, way: Way, gate: Gate) -> None:
        self._way, self._gate = way, gate

    def __getattr__(self, name: str) -> Any:
        async def call(address: MachineAddress, *given: Any, **named: Any) -> Any:
            return await self._ask(name, address, *map(_sendable, given), {key: _sendable(named[key]) for key in named})

        return call

    async def look(self, address: MachineAddress, query: Any) -> Any:
        return (await self.answer(address, question_of(query))).look

    async def answer(self, address: MachineAddress, question: Any) -> MachineAnswer:
        digest, look = await self._ask("answer", address, question.query, {})
        return MachineAnswer(digest, lambda: look)

    async def forget(self, key: str) -> None:
        await self._way.ask("machine", "forget", key, {})

    async def aclose(self) -> None:
        """The way is others' as well."""

    async def _ask(self, name: str, address: MachineAddress, *what: Any) -> Any:
        call = Call(f"machine {address.key}", name, name not in READING)
        async with self._gate.passing(call):
            await self._gate.leaving(call)
            return await self._way.ask("machine", name, address, *what)


def _sendable(each: Any) -> Any:
    """Views and generators as what they show."""
    if isinstance(each, str | bytes | tuple | list | frozenset | set) or not isinstance(each, Iterable):
        return each
    return dict(each) if isinstance(each, Mapping) else tuple(each)


def crowd_machines(way: Way, gate: Gate) -> Machines:
    return cast("Machines", _CrowdMachines(way, gate))
