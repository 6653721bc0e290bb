"""Secrets stay secret (law 10) in every seeded world: what is secret there, and everything that is written, kept, told or shown.

    async with canaries(rig, seed, moments) as seen:
        …
        await seen.ask()                    what people and programs would be shown at the end
        leaked = seen.leaks(await rig.trace())

Secret is every value that opens something and that anybody had in this world's life: what the Fleet refers to, what the
controller sealed, what the outside made or was given (`Held`). It is gathered as it comes up: most of it is rotated away
before the end.

It must be nowhere in `Told`: the log (of ours, httpx and asyncssh, at DEBUG), errors with their tracebacks, what is committed,
the windows (`canary_windows.py`), the trace, the database's files. How it is looked for: `canary_scan.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import re
import traceback
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from controller.records import Change, PutFacts, Seal
from controller.store import StoreError
from examples.simulator.engines import REGISTRY
from examples.simulator.http import Request
from examples.simulator.machine import Machine
from reconcilers.errors import OutsideError
from reconcilers.welcome import SEALED_LETTER
from tests.worlds import canary_windows as windows
from tests.worlds.canary_scan import leaks
from tests.worlds.loop import outliving
from tests.worlds.mishap import Mishap
from tests.worlds.rig import Rig

LOGGERS = ("api", "controller", "reconcilers", "specs", "httpx", "httpcore", "asyncssh", "asyncio")
OPENS = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD)$")
"""The settings of a machine whose values open something, by the end of their names."""
IN_CLEAR = "sk-or-v1-aaaaaaaa"
"""What somebody writes into a spec by mistake (`edits.SPOILING`)."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_GIVEN = re.compile(rb'"(?:password|secret|client_secret)": ?"((?:[^"\\]|\\.)+)"')


class Held:
    """What is secret, by what it is; nothing is forgotten."""

    def __init__(self, rig: Rig) -> None:
        self.values: dict[str, bytes] = {}
        self._rig = rig
        self._known: set[bytes] = set()
        self._seen: dict[int, int] = {}  # machine → its changes of secrets at the last look
        self._fleets_own()

    def add(self, what: str, value: str | bytes) -> None:
        text = value.encode() if isinstance(value, str) else value
        if text and text not in self._known:
            self._known.add(text)
            self.values[f"{what} (number {len(self.values)})"] = text

    def _fleets_own(self) -> None:
        at = self._rig.addresses
        self.add("Forge's token", at.forge_token)
        for daemon in at.compute:
            self.add(f"the secret of daemon {daemon.name}", daemon.secret)
        self.add("Resend's key", at.resend_key)
        self.add("SMTP's password", self._rig.world.post.state.smtp_password)
        self.add("a provider's key", os.environ["SIM_OPENROUTER"])
        self.add("the installer's private key", Path(at.installer_key_file).read_bytes())
        self.add("a provider's key in a spec", IN_CLEAR)

    def own(self, file: Path) -> None:
        """The key under which the store seals."""
        if file.exists():
            self.add("the sealing key", file.read_bytes())

    def sealed(self, changes: tuple[Change, ...]) -> None:
        for change in changes:
            # Of a letter the password in it is secret, which has been sealed before.
            if isinstance(change, Seal) and not change.name.endswith(f"/{SEALED_LETTER}"):
                self.add(f"sealed {change.name}", change.value.reveal())

    def asked(self, request: Request) -> None:
        """What a server is told in confidence."""
        _, _, token = request.headers.get("authorization", "").partition(" ")
        self.add("a token in a header", token)
        for value in _GIVEN.findall(request.body):
            self.add("given to a server", str(json.loads(b'"%s"' % value)))

    def look(self) -> None:
        """At the outside, whenever something has changed there."""
        forge = self._rig.world.state.forge
        for app in forge.apps:
            self.add(f"client secret of app {app.id}", app.client_secret)
        for token in forge.tokens.values():
            self.add(f"token of {token.account}", token.value)
        for machine in self._rig.world.every_machine():
            if self._seen.get(id(machine)) != machine.state.secret_changes:
                self._seen[id(machine)] = machine.state.secret_changes
                self._on(machine)

    def _on(self, machine: Machine) -> None:
        if machine is not self._rig.world.admin and "GROQ_API_KEY" not in machine.state.secrets.get("cockpit", {}):
            # As a tester does from the cockpit: a key that nobody but the machine knows.
            machine.set_secret("cockpit", "GROQ_API_KEY", f"gsk_{self._rig.world.realm.secret(machine.name)}".encode())
        self.add(f"host key of {machine.name}", machine.state.host_key)
        for context, held in machine.state.secrets.items():
            for key, value in held.items():
                if key == REGISTRY:
                    self._registered(value)
                elif OPENS.search(key):
                    self.add(f"{context}/{key} of {machine.name}", value)

    def _registered(self, value: bytes) -> None:
        """Tokens of tenants stand there as they are, or as digests, which open nothing."""
        try:
            tenants = json.loads(value)
        except ValueError:
            return
        for tenant, token in tenants.items() if isinstance(tenants, dict) else ():
            if isinstance(token, str) and not _DIGEST.fullmatch(token):
                self.add(f"token of tenant {tenant}", token)


class Told(logging.Handler):
    """Everything that came to light, by where; the same thing once."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.places: dict[str, dict[str, None]] = {}
        self._raised: list[OutsideError] = []
        self._forms = logging.Formatter()

    def add(self, where: str, text: str) -> None:
        self.places.setdefault(where, {})[text] = None

    def emit(self, record: logging.LogRecord) -> None:
        self.add("log", record.getMessage())
        if record.exc_info:
            self.add("log", self._forms.formatException(record.exc_info))

    def raised(self, error: OutsideError) -> None:
        """Its traceback is looked at when it has one."""
        self.look()
        if str(error) not in self.places.get("errors", {}):
            self._raised.append(error)

    def look(self) -> None:
        raised, self._raised = self._raised, []
        for error in raised:
            self.add("errors", str(error))
            self.add("tracebacks", repr(error) + "".join(traceback.format_exception(error)))

    def committed(self, changes: tuple[Change, ...]) -> None:
        """What a commit writes in clear; a row that is gone at the end was readable until then."""
        for change in changes:
            told = change.facts.model_dump_json() if isinstance(change, PutFacts) else repr(change)
            self.add("commits", told)

    def bytes(self) -> dict[str, bytes]:
        return {where: "\n".join(texts).encode("utf-8", "surrogateescape") for where, texts in self.places.items()}


class Canaries:
    """See the module."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.held, self.told = Held(rig), Told()
        self._rig = rig
        self._chance = random.Random(f"canaries {seed}")
        self._asked = False
        self._hook_lives()
        self._hook_world()
        self.held.look()

    async def ask(self, *, most: int | None = None) -> None:
        """Ask the present life's windows, about everybody or only so many; which windows is chance (`windows.paths`), and some
        are asked once in a world only: they cost more than all the rest."""
        names = sorted(record.name for record in await self._rig.store.testers())
        chosen = names if most is None else self._chance.sample(names, min(most, len(names)))
        more, self._asked = not self._asked, True
        for where, text in (await windows.shown(self._rig, self._chance, chosen, more=more)).items():
            self.told.add(where, text)

    async def ask_at(self, moments: Iterable[timedelta]) -> None:
        """Nobody can be asked while there is no life, or while its store does not answer."""
        for moment in moments:
            await self._rig.run_for(moment - self._rig.elapsed)
            if self._rig._life is not None:
                with contextlib.suppress(StoreError):
                    await self.ask(most=1)

    def leaks(self, trace: str) -> list[str]:
        """What stands where it must not. To be asked once, at the end."""
        self.held.look()
        self.held.own(self._rig.places.key_file)
        self.told.look()
        self.told.add("trace", trace)
        return leaks(self.held.values, {**self.told.bytes(), **self._files()})

    def _files(self) -> Mapping[str, bytes]:
        folder, key = self._rig.places.state, self._rig.places.key_file
        return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file != key}

    def _hook_lives(self) -> None:
        start = self._rig.start

        async def started() -> None:
            await start()
            self._rig.store.listeners.append(self._committed)

        self._rig.start = started  # type: ignore[method-assign]
        self._rig.store.listeners.append(self._committed)

    def _committed(self, changes: tuple[Change, ...]) -> None:
        self.held.sealed(changes)
        self.told.committed(changes)

    def _hook_world(self) -> None:
        world, faults = self._rig.world, self._rig.world.faults
        world.on_changed.append(self.held.look)
        around = faults.around

        async def heard(call: tuple[str, str], handler: Any, request: Request, target: str = "") -> Any:
            self.held.asked(request)
            return await around(call, handler, request, target)

        faults.around = heard  # type: ignore[method-assign]


def asked_at(seed: int, events: Iterable[object]) -> list[timedelta]:
    """The middle of a mishap in which everything echoes; where everything echoes all the time, of the first one."""
    mishaps = [each for each in events if isinstance(each, Mishap)]
    echoing = [each for each in mishaps if seed % 2 or each.kind == "server_echoes"]
    return [(each.at + each.ended) / 2 for each in echoing[:1]]


@asynccontextmanager
async def canaries(rig: Rig, seed: int, moments: Iterable[timedelta] = ()) -> AsyncIterator[Canaries]:
    """From now on everything that is secret in the rig's world, and everything that is told, is noted. `moments`: since the
    world's beginning, at which the windows are asked.

    In every second world everything echoes all the time, whatever befalls it; in the others when `server_echoes` does."""
    seen = Canaries(rig, seed)
    rig.world.faults.echoes += seed % 2
    asking = outliving(seen.ask_at(sorted(moments)))
    with _noting(seen.told):
        try:
            yield seen
        finally:
            asking.cancel()
            await asyncio.wait((asking,))
    if not asking.cancelled():
        asking.result()


@contextmanager
def _noting(told: Told) -> Iterator[None]:
    """Whatever is logged, and every error of the outside."""
    made = OutsideError.__init__

    def noted(self: OutsideError, *words: Any, **named: Any) -> None:
        made(self, *words, **named)
        told.raised(self)

    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).addHandler(told)
        logging.getLogger(name).setLevel(logging.DEBUG)
    OutsideError.__init__ = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        OutsideError.__init__ = made  # type: ignore[method-assign]
        for name, level in levels.items():
            logging.getLogger(name).removeHandler(told)
            logging.getLogger(name).setLevel(level)
