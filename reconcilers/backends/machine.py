"""What the controller knows and wants of a machine: the values, and the one interface that reconcilers talk to.

Nothing here opens a connection. `machine_client.ShellMachines` is the real thing over `machine_ssh`; worlds in virtual
time put the simulator behind the same interface.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from reconcilers.backends.probes import Probe as Probe
from reconcilers.backends.probes import ProbeAnswer as ProbeAnswer
from reconcilers.secret import Secret

SettingKey = tuple[str, str]  # context, key
NOTHING: Mapping[SettingKey, Secret] = MappingProxyType({})
Readers = Mapping[SettingKey, tuple[str, ...]]  # which services read a setting when they start

SUPERVISOR_JOB = "supervisor"
HOSTS_STAND_IN = "h{}-b8e4c6a2.invalid"


def install_job(component: str) -> str:
    """The name of the job that installs a component."""
    return f"component-{component}"


@dataclass(frozen=True, slots=True)
class MachineAddress:
    """Where a machine is reached. `key` is its identity, "daemon/vmid" (lesson 9); `host_key` the pinned one; `hidden`: secrets
    that may lie there, which stand in no error whatever a command prints."""

    key: str
    host: str
    user: str = "root"
    host_key: str | None = None  # OpenSSH's public form, "ssh-ed25519 AAAA…"
    port: int = 22
    hidden: tuple[Secret, ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class MachineQuery:
    """Everything that one look shall answer. Equal questions have equal digests, whatever their order.

    components  whose exact version is wanted
    health      services whose health check is wanted
    secrets     (context, key) to be read
    contexts    contexts whose keys are to be listed
    probes      anonymous questions to the front door
    logs        jobs whose printed end is wanted even though they ended well; of all others it comes unasked
    """

    components: tuple[str, ...] = ()
    health: tuple[str, ...] = ()
    secrets: tuple[SettingKey, ...] = ()
    contexts: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()
    logs: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """A short name of the question, the same for equal questions in any order."""
        return _digest(self)


@lru_cache
def _digest(query: MachineQuery) -> str:
    parts = {each.name: sorted(set(map(repr, getattr(query, each.name)))) for each in fields(query)}
    return hashlib.sha256(repr(sorted(parts.items())).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Shape:
    """A question without its hosts, for which stand-ins are in their places. There is one for all who ask alike: equal shapes are
    the same one, for as long as anybody holds it."""

    query: MachineQuery


class Question(NamedTuple):
    """What a machine is asked, in little room: most testers' questions have one shape. `hosts`: in the order of the stand-ins."""

    shape: Shape
    hosts: tuple[str, ...]

    @property
    def query(self) -> MachineQuery:
        """The question in full, made anew."""
        host_of = {stand_in(number): host for number, host in enumerate(self.hosts)}
        asked = self.shape.query
        return replace(asked, probes=tuple([Probe(each.side, host_of[each.host], each.path) for each in asked.probes]))


_shapes: WeakValueDictionary[MachineQuery, Shape] = WeakValueDictionary()


def question_of(query: MachineQuery) -> Question:
    """The question as it is put and kept."""
    hosts = tuple(sorted({probe.host for probe in query.probes}))
    stands_for = {host: stand_in(number) for number, host in enumerate(hosts)}
    probes = tuple([Probe(probe.side, stands_for[probe.host], probe.path) for probe in query.probes])
    asked = replace(query, probes=probes)
    shape = _shapes.get(asked)
    if shape is None:
        shape = _shapes[asked] = Shape(asked)
    return Question(shape, hosts)


def stand_in(number: int) -> str:
    """In the order of what it stands for, since the script asks in the order of the hosts' names."""
    return HOSTS_STAND_IN.format(number)


class JobState(StrEnum):
    """How a detached job stands. DIED: it says running, and nobody holds its lock."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DIED = "died"


@dataclass(frozen=True, slots=True)
class Job:
    """The last run of a detached job on the machine.

    rc      exit code once it ended
    log     the tail of what it printed, 4 KiB at most; "" when it ended well and was not asked for
    result  what it is proud of: after an install the version that the component itself tells, "" if it does not
    wanted  what it was asked for: the pinned version, or "" for the newest of the channel
    began   when, ISO 8601 in UTC by the machine's own clock
    """

    name: str
    state: JobState
    rc: int | None = None
    log: str = ""
    result: str = ""
    wanted: str = ""
    began: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """One registration at the front door."""

    domain: str
    auth_mode: str
    backend: str
    public_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MachineLook:
    """What one round trip saw.

    supervisor_up     hero_proc answered *every* question of this look. False: services, secrets and listed are unknown,
                      not empty
    services          name → state, in the supervisor's words: a hint, not a proof (lesson 34)
    versions          installed components that were asked for; None: installed, but it does not tell its version
    health            service → HTTP status, 0 when nobody answered; without an entry when it could not be asked
    secrets           those asked for that exist
    listed            context → its keys
    domains           None: the front door did not answer
    stale             services that read settings written since their last restart
    owned_settings    (context, key) that we wrote as ours
    owned_components  components that we installed
    """

    host_key: str
    authorized_keys: tuple[str, ...] = ()
    tools: frozenset[str] = frozenset()
    supervisor_up: bool = False
    services: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str | None] = field(default_factory=dict)
    health: Mapping[str, int] = field(default_factory=dict)
    secrets: Mapping[SettingKey, Secret] = field(default_factory=dict)
    listed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    domains: tuple[Domain, ...] | None = None
    stale: frozenset[str] = frozenset()
    jobs: Mapping[str, Job] = field(default_factory=dict)
    owned_settings: frozenset[SettingKey] = frozenset()
    owned_components: frozenset[str] = frozenset()
    probes: Mapping[Probe, ProbeAnswer] = field(default_factory=dict)


class MachineAnswer:
    """What a machine answered to a look. It is read when somebody wants to know more of it than whether it is as before.

    `digest` is the same for answers from which the same follows, and is shown to nobody; b"": not known.
    """

    __slots__ = ("_read", "digest")

    def __init__(self, digest: bytes, read: Callable[[], MachineLook]) -> None:
        self.digest = digest
        self._read: Callable[[], MachineLook] | MachineLook = read

    @property
    def look(self) -> MachineLook:
        if not isinstance(self._read, MachineLook):
            self._read = self._read()
        return self._read


class Machines(Protocol):
    """All machines. Every method may raise Unreachable (nobody there), Transient (it did not work, try again) or
    Blocked (HostKeyChanged); methods that write raise OutcomeUnknown when the connection went away meanwhile, and are
    harmless to do again."""

    async def look(self, address: MachineAddress, query: MachineQuery) -> MachineLook:
        """One round trip that answers everything asked for, as far as the machine can."""
        ...

    async def answer(self, address: MachineAddress, question: Question) -> MachineAnswer:
        """As `look`, and not read yet."""
        ...

    async def set_authorized_keys(self, address: MachineAddress, keys: tuple[str, ...]) -> None:
        """Exactly these keys may sign in, from now on. Raises Rejected when there is none, or one of several lines."""
        ...

    async def start_supervisor_job(self, address: MachineAddress, lab_url: str, version: str | None) -> None:
        """Start job "supervisor": base packages, lab, hero_proc, each only if needed. A no-op while it runs."""
        ...

    async def start_install(
        self,
        address: MachineAddress,
        component: str,
        version: str | None,
        services: tuple[str, ...],
        first: Mapping[SettingKey, Secret] = NOTHING,
    ) -> None:
        """Start job "component-<name>": install or update, then (re)start its services. A no-op while it runs.

        `first` is written before services of another version than before are started; it stands in the job's script, which
        lies on the machine, so nothing in it may be secret.
        """
        ...

    async def remove_component(self, address: MachineAddress, component: str, services: tuple[str, ...]) -> None:
        """Stop its services and remove it. Not there: fine."""
        ...

    async def write_settings(
        self, address: MachineAddress, values: Mapping[SettingKey, Secret], readers: Readers, *, owned: bool
    ) -> None:
        """Mark the readers stale, write each value, read it back. Raises Transient ReadBackMismatch naming the key."""
        ...

    async def delete_settings(self, address: MachineAddress, keys: Iterable[SettingKey], readers: Readers) -> None:
        """Mark the readers stale, delete, and give up ownership. Not there: fine."""
        ...

    async def swap_setting(
        self, address: MachineAddress, setting: SettingKey, old: Secret | None, new: Secret, readers: tuple[str, ...]
    ) -> bool:
        """Write a setting that others write too: only if it still holds `old` (None: is not there), else False.

        Otherwise as `write_settings`, but without making it ours.
        """
        ...

    async def start_service(self, address: MachineAddress, service: str) -> None:
        """Start it; a service whose settings changed is restarted instead, should it run after all."""
        ...

    async def stop_service(self, address: MachineAddress, service: str) -> None: ...

    async def restart_service(self, address: MachineAddress, service: str) -> None:
        """Restart it. The stale marker goes, unless a newer one was made meanwhile."""
        ...

    async def set_domain(self, address: MachineAddress, domain: Domain) -> None:
        """Register a domain at the front door, or change its registration."""
        ...

    async def remove_domain(self, address: MachineAddress, domain: str) -> None: ...

    async def job_log(self, address: MachineAddress, job: str) -> str:
        """All that is kept of a job's output, 64 KiB at most; "" when there is none."""
        ...

    async def forget(self, key: str) -> None:
        """Close the kept connection of a machine (daemon/vmid): it is gone, or has another host key now."""
        ...

    async def aclose(self) -> None: ...
