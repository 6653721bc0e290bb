"""The writing scripts on a make-believe machine: the same commands in the same order, one script at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from examples.simulator.machine_faults import is_full
from examples.simulator.outcome import Outcome
from examples.simulator.world import AUTHORISED
from reconcilers.backends.machine import Readers, SettingKey, install_job
from reconcilers.backends.machine_dialect import MachineDialect
from reconcilers.backends.machine_scripts import LOCK_WAIT
from reconcilers.secret import Secret
from specs.catalogue import owner_of
from tests.worlds.ground import Failed, Ground
from tests.worlds.machine_jobs import clear_stale, filled

INSTALL_WAIT = 2.0  # seconds


class Busy(Exception):
    """Other work on it has not ended."""


class Differs(Exception):
    """A setting reads back as something else, or is still there: which."""


class Script:
    """One writing script. `id` marks what it makes stale."""

    def __init__(self, ground: Ground, dialect: MachineDialect) -> None:
        self.ground = ground
        self.dialect = dialect
        ground.runs += 1
        self.id = f"run {ground.runs}"

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """While no other script writes. Raises Busy."""
        async with _held(self.ground.writing, LOCK_WAIT):
            yield

    @asynccontextmanager
    async def outside_install(self, component: str) -> AsyncIterator[None]:
        """While no install of the component runs. Raises Busy."""
        job = install_job(component)
        if job not in self.ground.jobs:
            yield
            return
        async with _held(self.ground.lock_of(job), INSTALL_WAIT):
            yield

    async def must(self, words: Sequence[str | bytes], at: str = "") -> Outcome:
        """Raises Failed."""
        outcome = await self.ground.run(words)
        if outcome.code:
            raise Failed(at, outcome.out + outcome.err)
        return outcome

    # -- keys

    async def authorized_keys(self, keys: tuple[str, ...]) -> None:
        if is_full(self.ground.machine):
            raise Failed("", b"")
        self.ground.machine.files.write(AUTHORISED, "".join(f"{key}\n" for key in keys).encode(), 0o600)

    # -- settings

    def mark_stale(self, settings: Iterable[SettingKey], readers: Readers) -> None:
        for service in sorted({service for setting in settings for service in readers.get(setting, ())}):
            self.ground.stale[service] = self.id

    async def write_settings(self, values: Mapping[SettingKey, Secret], readers: Readers, owned: bool) -> None:
        """Raises Failed, Differs."""
        if owned:
            self.ground.settings |= dict.fromkeys(values)
        self.mark_stale(values, readers)
        differs = None
        for setting, value in values.items():
            await self._set(setting, value)
            held = await self._held_value(setting)
            if differs is None and (held is None or held != value):
                differs = setting
        if differs is not None:
            raise Differs(differs)

    async def swap_setting(
        self, setting: SettingKey, old: Secret | None, new: Secret, readers: tuple[str, ...]
    ) -> bool:
        """Raises Failed, Differs."""
        held = await self._held_value(setting)
        if held != old:
            return False
        self.mark_stale((setting,), {setting: readers})
        await self._set(setting, new)
        if await self._held_value(setting) != new:
            raise Differs(setting)
        return True

    async def delete_settings(self, settings: tuple[SettingKey, ...], readers: Readers) -> None:
        """Raises Failed, Differs."""
        self.mark_stale(settings, readers)
        left = None
        for context, key in settings:
            await self.must(filled(self.dialect.secret_delete, context=context, key=key), f" at {context}/{key}")
            if await self._held_value((context, key)) is None:
                self.ground.settings.pop((context, key), None)
            else:
                left = left or (context, key)
        if left is not None:
            raise Differs(left)

    async def _set(self, setting: SettingKey, value: Secret) -> None:
        context, key = setting
        words = [word.format(context=context, key=key) for word in self.dialect.secret_set if word != "{value}"]
        await self.must([*words, value.reveal()], f" at {context}/{key}")

    async def _held_value(self, setting: SettingKey) -> Secret | None:
        context, key = setting
        outcome = await self.ground.run(filled(self.dialect.secret_get, context=context, key=key))
        return None if outcome.code else Secret(outcome.out)

    # -- services

    async def start_service(self, service: str) -> None:
        """Raises Busy, Failed."""
        was = self.ground.stale.get(service)
        async with self.outside_install(owner_of(service)):
            restart = filled(self.dialect.service_restart, service=service)
            if was is not None and not (await self.ground.run(restart)).code:
                clear_stale(self.ground, service, was)
            else:
                await self.must(filled(self.dialect.lab_start, service=service))

    async def restart_service(self, service: str) -> None:
        """Raises Busy, Failed. The front door alone is restarted at any time."""
        was = self.ground.stale.get(service)
        if service == self.dialect.door:
            await self.must(filled(self.dialect.service_restart, service=service))
        else:
            async with self.outside_install(owner_of(service)):
                await self.must(filled(self.dialect.service_restart, service=service))
        clear_stale(self.ground, service, was)

    async def stop_service(self, service: str) -> None:
        """Raises Failed."""
        await self.must(filled(self.dialect.service_stop, service=service))

    async def remove_component(self, component: str, services: tuple[str, ...]) -> None:
        """Raises Busy, Failed."""
        ground = self.ground
        async with self.outside_install(component):
            if ground.has(component):
                for service in services:
                    await ground.run(filled(self.dialect.lab_stop, service=service))
                await self.must(filled(self.dialect.lab_uninstall, component=component))
            ground.components.pop(component, None)
            for service in services:
                ground.stale.pop(service, None)
            ground.jobs.pop(install_job(component), None)

    # -- the front door

    async def door(self, method: str, params: Mapping[str, object]) -> Any:
        """One JSON-RPC call; its answer, None when nobody answers."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        socket = f"{self.ground.machine.files.home}/{self.dialect.door_socket}"
        words = ("curl", "-s", "-S", "-f", "-X", "POST", "--unix-socket", socket)
        rest = ("-H", "Content-Type: application/json", "--data-binary", "@-", self.dialect.door_url)
        outcome = await self.ground.run((*words, *rest), body.encode())
        return None if outcome.code else json.loads(outcome.out)


@asynccontextmanager
async def _held(lock: asyncio.Lock, patience: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(patience):
            await lock.acquire()
    except TimeoutError:
        raise Busy from None
    try:
        yield
    finally:
        lock.release()
