"""The machines, as reconcilers use them: scripts out, frames in, failures mapped.

Implements `machine.Machines` over any shell.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from reconcilers.backends import machine_jobs, machine_scripts
from reconcilers.backends.hiding import unnamed, without
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
from reconcilers.backends.machine_alike import answer_digest, script_of
from reconcilers.backends.machine_dialect import MachineDialect
from reconcilers.backends.machine_look import read_look, readable
from reconcilers.backends.machine_shell import Frame, Ran, Shell, frames, new_nonce, whole
from reconcilers.errors import OutcomeUnknown, OutsideError, Rejected, Transient
from reconcilers.secret import HIDDEN, Secret

VALUE_LIMIT = 100 * 1024  # bytes: one argument of a command may have 128 KiB on Linux
NAME_LIMIT = 200
OUTPUT_SHOWN = 600
UNHEARD = (7, 127)  # curl found nobody who listens, or is not there itself
OUTPUT_SENT = 16384  # machine_scripts sends no more; what was cut there may end in half a secret


@dataclass
class ShellMachines:
    """All machines, over a shell. `dialect` holds every command (A), `places` is how many installs run at once on each."""

    shell: Shell
    dialect: MachineDialect = field(default_factory=MachineDialect)
    places: int = 4

    async def look(self, address: MachineAddress, query: MachineQuery) -> MachineLook:
        """See `Machines.look`."""
        return (await self.answer(address, question_of(query))).look

    async def answer(self, address: MachineAddress, question: Question) -> MachineAnswer:
        """See `Machines.answer`."""
        nonce = new_nonce()
        script = script_of(self.dialect, address.host, question, nonce)
        ran = await self.shell.run(address, script, name="look", writing=False)
        digest = answer_digest(ran, nonce)
        if digest:
            return MachineAnswer(digest, lambda: _read(address, question.query, ran, nonce))
        look = _read(address, question.query, ran, nonce)
        return MachineAnswer(digest, lambda: look)

    async def set_authorized_keys(self, address: MachineAddress, keys: tuple[str, ...]) -> None:
        """See `Machines.set_authorized_keys`."""
        kept = tuple(dict.fromkeys(each.strip() for each in keys))
        if not kept or not all(kept) or any(ord(char) < 32 for each in kept for char in each):
            raise _rejected(address, "authorised keys must be at least one, each on one line", "BadKeys")
        await self._write(address, "set_authorized_keys", machine_scripts.authorized_keys(kept))

    async def start_supervisor_job(self, address: MachineAddress, lab_url: str, version: str | None) -> None:
        """See `Machines.start_supervisor_job`."""
        job = machine_jobs.supervisor(self.dialect, lab_url, version)
        await self._write(address, "start_supervisor_job", machine_jobs.start(self.dialect, job))

    async def start_install(
        self,
        address: MachineAddress,
        component: str,
        version: str | None,
        services: tuple[str, ...],
        first: Mapping[SettingKey, Secret] = NOTHING,
    ) -> None:
        """See `Machines.start_install`."""
        job = machine_jobs.install(self.dialect, _name(address, component), version, services, self.places, first)
        await self._write(address, f"start_install {component}", machine_jobs.start(self.dialect, job))

    async def remove_component(self, address: MachineAddress, component: str, services: tuple[str, ...]) -> None:
        """See `Machines.remove_component`."""
        steps = machine_scripts.remove_component(self.dialect, _name(address, component), services)
        await self._write(address, f"remove_component {component}", steps)

    async def write_settings(
        self, address: MachineAddress, values: Mapping[SettingKey, Secret], readers: Readers, *, owned: bool
    ) -> None:
        """See `Machines.write_settings`."""
        for setting, value in values.items():
            _value(address, setting, value)
        if not values:
            return
        steps = machine_scripts.write_settings(self.dialect, values, readers, owned)
        answer = await self._write(address, "write_settings", steps, tuple(values), tuple(values.values()))
        _read_back(address, answer, values)

    async def swap_setting(
        self, address: MachineAddress, setting: SettingKey, old: Secret | None, new: Secret, readers: tuple[str, ...]
    ) -> bool:
        """See `Machines.swap_setting`."""
        _value(address, setting, new)
        steps = machine_scripts.swap_setting(self.dialect, setting, old, new, readers)
        hidden = (new,) if old is None else (old, new)
        answer = await self._write(address, "swap_setting", steps, (setting,), hidden)
        if any(frame.kind == "changed" for frame in answer):
            return False
        _read_back(address, answer, {setting: new})
        return True

    async def delete_settings(self, address: MachineAddress, keys: Iterable[SettingKey], readers: Readers) -> None:
        """See `Machines.delete_settings`. Raises Transient ReadBackMismatch when one is still there."""
        wanted = tuple(dict.fromkeys(keys))
        for context, key in wanted:
            _setting(address, context, key)
        if not wanted:
            return
        steps = machine_scripts.delete_settings(self.dialect, wanted, readers)
        left = _bodies(await self._write(address, "delete_settings", steps, wanted))
        for number, (context, key) in enumerate(wanted):
            if left.get(number, (b"", 0))[1] == 0:
                raise Transient(
                    f"{context}/{key} was deleted and is still there",
                    system=f"machine {address.key}",
                    reason="ReadBackMismatch",
                )

    async def start_service(self, address: MachineAddress, service: str) -> None:
        """See `Machines.start_service`."""
        steps = machine_scripts.start_service(self.dialect, _name(address, service))
        await self._write(address, f"start_service {service}", steps)

    async def stop_service(self, address: MachineAddress, service: str) -> None:
        """See `Machines.stop_service`."""
        steps = machine_scripts.stop_service(self.dialect, _name(address, service))
        await self._write(address, f"stop_service {service}", steps)

    async def restart_service(self, address: MachineAddress, service: str) -> None:
        """See `Machines.restart_service`."""
        steps = machine_scripts.restart_service(self.dialect, _name(address, service))
        await self._write(address, f"restart_service {service}", steps)

    async def set_domain(self, address: MachineAddress, domain: Domain) -> None:
        """See `Machines.set_domain`."""
        await self._door(address, "set_domain", machine_scripts.set_domain(self.dialect, domain))

    async def remove_domain(self, address: MachineAddress, domain: str) -> None:
        """See `Machines.remove_domain`."""
        await self._door(address, "remove_domain", machine_scripts.remove_domain(self.dialect, domain))

    async def job_log(self, address: MachineAddress, job: str) -> str:
        """See `Machines.job_log`."""
        nonce = new_nonce()
        folder = shlex.quote(machine_scripts.file_name(job))
        script = whole(f'frame log; tail -c {machine_jobs.LOG_KEPT} "$D"/jobs/{folder}/log 2>/dev/null', nonce)
        ran = await self.shell.run(address, script, name="job_log", writing=False)
        (log,) = _whole_answer(address, "job_log", ran, nonce, writing=False)
        return readable(log.body)

    async def forget(self, key: str) -> None:
        """See `Machines.forget`."""
        await self.shell.forget(key)

    async def aclose(self) -> None:
        """See `Machines.aclose`."""
        await self.shell.aclose()

    async def _write(
        self,
        address: MachineAddress,
        name: str,
        steps: list[str],
        settings: tuple[SettingKey, ...] = (),
        hidden: tuple[Secret, ...] = (),
    ) -> tuple[Frame, ...]:
        """Run a writing script. Its frames, unless one of them says that it failed."""
        nonce = new_nonce()
        script = machine_scripts.writing(self.dialect, nonce, steps)
        ran = await self.shell.run(address, script, name=name, writing=True)
        answer = _whole_answer(address, name, ran, nonce, writing=True)
        for frame in answer:
            if frame.kind == "busy":
                raise Transient(
                    f"{name}: other work on it has not ended yet", system=f"machine {address.key}", reason="MachineBusy"
                )
            if frame.kind == "failed":
                raise Transient(
                    f"{name} failed{_at(frame, settings)}{shown(frame.body, (*hidden, *address.hidden))}",
                    system=f"machine {address.key}",
                    reason="CommandFailed",
                )
        return answer

    async def _door(self, address: MachineAddress, name: str, steps: list[str]) -> None:
        """A call to the front door. Raises Rejected for what it calls invalid, OutcomeUnknown when it may have heard it,
        Transient for any other error."""
        body, rc = _bodies(await self._write(address, name, steps)).get(0, (b"", None))
        system = f"machine {address.key}"
        if rc != 0:
            kind: type[OutsideError] = Transient if rc in UNHEARD else OutcomeUnknown
            raise kind(f"{name}: the front door does not answer", system=system, reason="FrontDoorSilent")
        try:
            reply = json.loads(body)
            error = reply.get("error")
        except (ValueError, AttributeError):
            raise OutcomeUnknown(f"{name}: the front door's answer is not whole", system=system) from None
        if error:
            invalid = isinstance(error, Mapping) and error.get("code") == -32602
            kind = Rejected if invalid else Transient
            message = error.get("message") if isinstance(error, Mapping) else error
            said = _line(without(unnamed(str(message)), address.hidden))
            words = f"{name}: the front door refuses ({said})"
            raise kind(words, system=system, reason="FrontDoorRefused")


def _whole_answer(address: MachineAddress, name: str, ran: Ran, nonce: str, *, writing: bool) -> tuple[Frame, ...]:
    """The frames of a script that came to its end. What went to its error output is not repeated: it may hold anything."""
    answer = frames(ran.out, nonce)
    if answer is None:
        kind: type[OutsideError] = OutcomeUnknown if writing else Transient
        ended = "it took too long" if ran.rc in (124, 137) else f"exit code {ran.rc}"
        raise kind(f"{name} stopped half-way ({ended})", system=f"machine {address.key}", reason="ScriptCut")
    return answer


def _bodies(answer: tuple[Frame, ...]) -> dict[int, tuple[bytes, int | None]]:
    """Number → what a `got` frame holds, and the exit code after it."""
    found: dict[int, tuple[bytes, int | None]] = {}
    for frame, after in pairwise(answer):
        if frame.kind == "got" and after.kind == "rc":
            found[int(frame.words[1])] = (frame.body, int(after.words[1]))
    return found


def _read_back(address: MachineAddress, answer: tuple[Frame, ...], values: Mapping[SettingKey, Secret]) -> None:
    """What was written must be there. Raises Transient ReadBackMismatch."""
    bodies = _bodies(answer)
    for number, ((context, key), value) in enumerate(values.items()):
        body, rc = bodies.get(number, (b"", None))
        if rc != 0 or Secret(body) != value:
            raise Transient(
                f"{context}/{key} was written and reads back as something else",
                system=f"machine {address.key}",
                reason="ReadBackMismatch",
            )


def _at(frame: Frame, settings: tuple[SettingKey, ...]) -> str:
    """Which setting a `failed` frame speaks of."""
    words = frame.words[1:]
    if len(words) == 2 and words[1].isdigit() and int(words[1]) < len(settings):
        return f" at {'/'.join(settings[int(words[1])])}"
    return ""


def shown(output: bytes, hidden: tuple[Secret, ...]) -> str:
    """What the command printed, without any of the secrets and whatever looks like one, short; nothing at all when it was too
    much to be sure."""
    if len(output) >= OUTPUT_SENT:
        return ""
    for secret in hidden:
        quoted = shlex.quote(secret.reveal().decode("utf-8", "surrogateescape"))
        pieces = [secret.reveal(), quoted.encode("utf-8", "surrogateescape")]
        pieces += [each for each in secret.reveal().splitlines() if len(each) >= 4]
        for piece in sorted(filter(None, pieces), key=len, reverse=True):
            output = output.replace(piece, HIDDEN.encode())
    text = _line(without(unnamed(readable(output)), hidden))
    return f": {text}" if text else ""


def _line(text: str) -> str:
    """The end of a text on one line: that is where commands say what was wrong."""
    return " ".join(text.split())[-OUTPUT_SHOWN:]


def _read(address: MachineAddress, query: MachineQuery, ran: Ran, nonce: str) -> MachineLook:
    return read_look(ran.host_key, query, _whole_answer(address, "look", ran, nonce, writing=False))


def _name(address: MachineAddress, name: str) -> str:
    """A component's or service's name: it becomes the name of a file and of a command."""
    too_long = len(machine_scripts.file_name(name)) > NAME_LIMIT
    if too_long or not name.strip(".") or name.startswith("-") or "/" in name or any(ord(each) < 33 for each in name):
        raise _rejected(address, f"{name!r} is no name of a component or service", "BadName")
    return name


def _setting(address: MachineAddress, context: str, key: str) -> None:
    """A setting's context and key: arguments of a command, together the name of a file."""
    too_long = len(machine_scripts.setting_file((context, key))) > NAME_LIMIT
    if too_long or any(not part or part.startswith("-") or "\0" in part for part in (context, key)):
        raise _rejected(address, f"{context!r}/{key!r} is no name of a setting", "BadName")


def _value(address: MachineAddress, setting: SettingKey, value: Secret) -> None:
    """A setting and what is to be written there."""
    _setting(address, *setting)
    if b"\0" in value.reveal() or len(value.reveal()) > VALUE_LIMIT:
        limit = f"{VALUE_LIMIT >> 10} KiB"
        raise _rejected(address, f"the value of {'/'.join(setting)} has a zero byte or is over {limit}", "BadValue")


def _rejected(address: MachineAddress, message: str, reason: str) -> Rejected:
    return Rejected(message, system=f"machine {address.key}", reason=reason)
