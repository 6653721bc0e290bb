"""The machines' typed client in worlds without sockets: every call becomes what its script does on the simulator's machine.

Stands where `ShellMachines` over `SshShell` stands, behind the same interface and the same gate, and fails in the same
ways: nobody there, another host key, the key refused, the connection cut under a script that goes on, a script that takes
too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from examples.simulator.machine import Machine
from examples.simulator.ways import GIVES_UP
from examples.simulator.world import AUTHORISED
from reconcilers.backends.limits import Call, Gate
from reconcilers.backends.machine import (
    NOTHING,
    Domain,
    MachineAddress,
    MachineAnswer,
    MachineLook,
    MachineQuery,
    Question,
    Readers,
    SettingKey,
    question_of,
)
from reconcilers.backends.machine_client import shown
from reconcilers.backends.machine_dialect import MachineDialect
from reconcilers.backends.machine_lines import SCRIPTS_PER_MACHINE
from reconcilers.backends.machine_look import readable
from reconcilers.backends.machine_shell import ANSWER_LIMIT, SCRIPT_LIMIT
from reconcilers.backends.machine_ssh import import_key, openssh_form
from reconcilers.errors import Blocked, OutcomeUnknown, OutsideError, Rejected, Transient, Unreachable
from reconcilers.secret import Secret
from tests.worlds.ground import Cut, Failed, Ground, Yard, host_key_of
from tests.worlds.machine_jobs import Install, start_install, start_supervisor
from tests.worlds.machine_look import Looking
from tests.worlds.machine_work import Busy, Differs, Script

T = TypeVar("T")

LOGIN = 1.0  # virtual seconds to sign in
ROUND_TRIP = 0.3  # virtual seconds that a script takes beyond its commands


@dataclass
class _Line:
    """What we hold of one machine: the one that we are connected to, and the places."""

    machine: Machine | None = None
    leads_to: tuple[str, str] = ("", "")
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SCRIPTS_PER_MACHINE))
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)


class WorldMachines:
    """Implements `reconcilers.backends.machine.Machines`."""

    def __init__(self, yard: Yard, key: Secret, gate: Gate, places: int = 4) -> None:
        """`places`: how many installs run at once on each. Raises Blocked KeyUnreadable."""
        self._yard = yard
        self._public = openssh_form(import_key(key))
        self._gate = gate
        self._dialect = MachineDialect()
        self._places = places
        self._lines: dict[str, _Line] = {}

    async def look(self, address: MachineAddress, query: MachineQuery) -> MachineLook:
        return (await self.answer(address, question_of(query))).look

    async def answer(self, address: MachineAddress, question: Question) -> MachineAnswer:
        def work(ground: Ground) -> Coroutine[Any, Any, MachineAnswer]:
            return self._answer(ground, address, question.query)

        return await self._run(address, "look", False, work)

    async def _answer(self, ground: Ground, address: MachineAddress, query: MachineQuery) -> MachineAnswer:
        looking = Looking(ground, self._yard.world, self._dialect, address.host)
        seen = await looking.look(query)
        self._yard.world.log.add(
            self._yard.world.clock.now(), f"machine:{ground.machine.name}", "look", "", "root", False, 0
        )
        return MachineAnswer(looking.digest, lambda: seen)

    async def set_authorized_keys(self, address: MachineAddress, keys: tuple[str, ...]) -> None:
        kept = tuple(dict.fromkeys(each.strip() for each in keys))
        if not kept or not all(kept) or any(ord(char) < 32 for each in kept for char in each):
            raise Rejected(
                "authorised keys must be at least one, each on one line", system=_of(address), reason="BadKeys"
            )
        await self._write(address, "set_authorized_keys", lambda script: script.authorized_keys(kept))

    async def start_supervisor_job(self, address: MachineAddress, lab_url: str, version: str | None) -> None:
        def work(script: Script) -> Coroutine[Any, Any, None]:
            return start_supervisor(script.ground, self._dialect, lab_url, version)

        await self._write(address, "start_supervisor_job", work)

    async def start_install(
        self,
        address: MachineAddress,
        component: str,
        version: str | None,
        services: tuple[str, ...],
        first: Mapping[SettingKey, Secret] = NOTHING,
    ) -> None:
        def work(script: Script) -> Coroutine[Any, Any, None]:
            what = Install(component, version, services, self._places, first)
            return start_install(script.ground, self._dialect, what)

        await self._write(address, f"start_install {component}", work)

    async def remove_component(self, address: MachineAddress, component: str, services: tuple[str, ...]) -> None:
        name = f"remove_component {component}"
        await self._write(address, name, lambda script: script.remove_component(component, services))

    async def write_settings(
        self, address: MachineAddress, values: Mapping[SettingKey, Secret], readers: Readers, *, owned: bool
    ) -> None:
        if values:
            given, told = dict(values), tuple(values.values())
            work = partial(Script.write_settings, values=given, readers=readers, owned=owned)
            await self._write(address, "write_settings", work, told)

    async def swap_setting(
        self, address: MachineAddress, setting: SettingKey, old: Secret | None, new: Secret, readers: tuple[str, ...]
    ) -> bool:
        told = (new,) if old is None else (old, new)
        work = partial(Script.swap_setting, setting=setting, old=old, new=new, readers=readers)
        return await self._write(address, "swap_setting", work, told)

    async def delete_settings(self, address: MachineAddress, keys: Iterable[SettingKey], readers: Readers) -> None:
        wanted = tuple(dict.fromkeys(keys))
        if wanted:
            await self._write(address, "delete_settings", lambda script: script.delete_settings(wanted, readers))

    async def start_service(self, address: MachineAddress, service: str) -> None:
        await self._write(address, f"start_service {service}", lambda script: script.start_service(service))

    async def stop_service(self, address: MachineAddress, service: str) -> None:
        await self._write(address, f"stop_service {service}", lambda script: script.stop_service(service))

    async def restart_service(self, address: MachineAddress, service: str) -> None:
        await self._write(address, f"restart_service {service}", lambda script: script.restart_service(service))

    async def set_domain(self, address: MachineAddress, domain: Domain) -> None:
        params = {
            "domain": domain.domain,
            "auth_mode": domain.auth_mode,
            "backend": domain.backend,
            "public_paths": list(domain.public_paths),
        }
        await self._door(address, "set_domain", self._dialect.domain_add, params)

    async def remove_domain(self, address: MachineAddress, domain: str) -> None:
        await self._door(address, "remove_domain", self._dialect.domain_remove, {"domain": domain})

    async def _door(self, address: MachineAddress, name: str, method: str, params: Mapping[str, object]) -> None:
        reply = await self._write(address, name, lambda script: script.door(method, params))
        if reply is None:
            raise Transient(f"{name}: the front door does not answer", system=_of(address), reason="FrontDoorSilent")
        if error := reply.get("error"):
            kind: type[OutsideError] = Rejected if error["code"] == -32602 else Transient
            words = f"{name}: the front door refuses ({error['message']})"
            raise kind(words, system=_of(address), reason="FrontDoorRefused")

    async def job_log(self, address: MachineAddress, job: str) -> str:
        async def work(ground: Ground) -> str:
            found = ground.jobs.get(job)
            return readable(found.log.encode()) if found else ""

        return await self._run(address, "job_log", False, work)

    async def forget(self, key: str) -> None:
        self._lines.pop(key, None)

    async def aclose(self) -> None:
        self._lines.clear()

    # -- the way there

    async def _write(
        self,
        address: MachineAddress,
        name: str,
        work: Callable[[Script], Coroutine[Any, Any, T]],
        told: tuple[Secret, ...] = (),
    ) -> T:
        """Runs a writing script, which was told these secrets. Raises what `Machines` says."""

        async def alone(ground: Ground) -> T:
            script = Script(ground, self._dialect)
            async with script.alone():
                return await work(script)

        system = _of(address)
        try:
            return await self._run(address, name, True, alone)
        except Busy:
            raise Transient(
                f"{name}: other work on it has not ended yet", system=system, reason="MachineBusy"
            ) from None
        except Failed as error:
            at, printed = error.args
            words = f"{name} failed{at}{shown(printed, (*told, *address.hidden))}"
            raise Transient(words, system=system, reason="CommandFailed") from None
        except Differs as error:
            place = "/".join(error.args[0])
            what = (
                "deleted and is still there"
                if name == "delete_settings"
                else "written and reads back as something else"
            )
            raise Transient(f"{place} was {what}", system=system, reason="ReadBackMismatch") from None

    async def _run(
        self, address: MachineAddress, name: str, writing: bool, work: Callable[[Ground], Coroutine[Any, Any, T]]
    ) -> T:
        line = self._lines.setdefault(address.key, _Line())
        unclear: type[OutsideError] = OutcomeUnknown if writing else Transient
        async with line.places:
            await self._connected(address, line)
            async with self._gate.passing(Call(_of(address), name, writing)):
                ground = self._yard.of(await self._connected(address, line))
                try:
                    return await ground.answered(_limited(work, ground), ANSWER_LIMIT)
                except Cut as error:
                    line.machine = None
                    words = f"{name} did not come to an end that we saw ({error})"
                    raise unclear(words, system=_of(address), reason="ConnectionLost") from None
                except TimeoutError:
                    words = f"{name} stopped half-way (it took too long)"
                    raise unclear(words, system=_of(address), reason="ScriptCut") from None

    async def _connected(self, address: MachineAddress, line: _Line) -> Machine:
        """The machine at the other end. Raises Unreachable, Blocked HostKeyChanged, Transient LoginRefused."""
        async with line.opening:
            machine = self._yard.world.reachable_at(address.host)
            if machine is None:
                line.machine = None
                await asyncio.sleep(GIVES_UP)
                raise Unreachable(f"no SSH connection to {address.host} (Host unreachable)", system=_of(address))
            shown = host_key_of(machine)
            if address.host_key is not None and address.host_key != shown:
                raise _host_key_changed(address, shown)
            if line.machine is not machine or line.leads_to != (address.host, address.user):
                await asyncio.sleep(LOGIN)
                if address.user != "root" or self._public not in _authorised(machine):
                    raise Transient(
                        f"the login as {address.user} is refused: is the installer's key among its authorised keys?",
                        system=_of(address),
                        reason="LoginRefused",
                    )
                line.machine, line.leads_to = machine, (address.host, address.user)
        return machine


async def _limited(work: Callable[[Ground], Coroutine[Any, Any, T]], ground: Ground) -> T:
    """The machine itself ends a script that takes too long. Raises TimeoutError."""
    async with asyncio.timeout(SCRIPT_LIMIT):
        await asyncio.sleep(ROUND_TRIP)
        return await work(ground)


def _authorised(machine: Machine) -> set[str]:
    """The keys that may sign in, without comments; lines with options count for nobody of ours."""
    lines = (machine.files.read(AUTHORISED) or b"").decode("utf-8", "replace").splitlines()
    return {" ".join(line.split()[:2]) for line in lines}


def _host_key_changed(address: MachineAddress, seen: str) -> Blocked:
    return Blocked(
        f"it shows another host key ({seen}) than at first contact ({address.host_key}): an admin finds out why",
        system=_of(address),
        reason="HostKeyChanged",
    )


def _of(address: MachineAddress) -> str:
    return f"machine {address.key}"
