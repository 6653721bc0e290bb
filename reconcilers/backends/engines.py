"""A shared engine: its list of tenants on the machine that it runs on, and the engine itself over HTTP. See CONTRACTS.md.

The list is one of hero_proc's secrets there, `<context>/TENANT_TOKENS`, JSON `{tenant: SHA-256 of the token, or the token}` (A:
the hash form, 64 hex digits; anything else is the token itself). The engine reads it when it starts (A). Who else is in it
stays as it is. There is one writer: changes that come together are written together, with one restart; another controller at
the same list is noticed, since a change is written only if the list is still what the change was made from.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import httpx

from reconcilers.backends.limits import Call, Gate, ask_before_writing
from reconcilers.backends.machine import MachineAddress, MachineLook, MachineQuery, Machines
from reconcilers.backends.transport import LimitedTransport, why
from reconcilers.errors import Blocked, OutsideError, Throttled, Transient
from reconcilers.secret import Secret

TRIES = 3  # to change a list that somebody else changes at the same time
NEIGHBOURS = 3  # under whose names a token is tried
STRANGER = "nobody"  # under whose name it is tried while there are none
LIMIT = 15.0  # seconds for one question to an engine
ASKED_TO_SLOW_DOWN = "it asked us to slow down"
REFUSED = (401, 403)  # (S)

_HASH = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class EngineDialect:
    """An engine's words. The context's header is S, the rest A."""

    tenants_key: str = "TENANT_TOKENS"
    probe_path: str = "/v1/ping"
    tenant_header: str = "X-Hero-Context"


@dataclass(frozen=True, slots=True)
class EngineProof:
    """What an engine answered to whom: HTTP statuses, None when it gave no answer.

    no_token       the tenant's name and nothing else
    wrong_token    a token that nobody has
    foreign_token  the tenant's token under another tenant's name: of several the answer that is furthest from a refusal
    own_token      the tenant's token under its own name
    error          why there was no answer
    """

    no_token: int | None
    wrong_token: int | None
    foreign_token: int | None
    own_token: int | None
    error: str = ""

    @property
    def refuses(self) -> bool:
        """Everybody who should not be let in was refused."""
        return all(each in REFUSED for each in (self.no_token, self.wrong_token, self.foreign_token))

    @property
    def leaks(self) -> bool:
        """Somebody who should not be was let in."""
        return any(_admitted(each) for each in (self.no_token, self.wrong_token, self.foreign_token))

    @property
    def admits(self) -> bool:
        """The tenant was let in."""
        return _admitted(self.own_token)


@dataclass(frozen=True, slots=True)
class EngineTenants:
    """An engine's list. `hashes`: tenant → token_hash, "" for an entry that is none of ours to understand.

    restart_due  the list was changed by us, and the engine has not been restarted since
    """

    hashes: Mapping[str, str]
    restart_due: bool


@dataclass(frozen=True, slots=True)
class _List:
    """What was read: the entries, and the very bytes that they were read from (None: there is no list yet)."""

    entries: Mapping[str, Any] = field(repr=False)
    raw: Secret | None
    restart_due: bool


@dataclass(eq=False)
class _Change:
    """One wish, and how it ended. `entry` None: the tenant goes. No tenant: the engine reads its list anew."""

    tenant: str | None
    entry: str | None = None
    settled: bool = False
    failure: OutsideError | None = None


def token_hash(token: Secret) -> str:
    """How a token stands in an engine's list: SHA-256, 64 hex digits."""
    return hashlib.sha256(token.reveal()).hexdigest()


@dataclass
class EngineClient:
    """One shared engine.

    Everything but `prove` may raise Unreachable, Transient, Blocked (HostKeyChanged, TenantsUnreadable); `register` and
    `revoke` OutcomeUnknown as well. All of them are harmless to do again.

    registry  the machine on which the list is kept; without a host key the first one that it shows is pinned
    context   of the list among hero_proc's secrets there
    service   restarted after a change
    connect   makes what carries one proof: connections of its own, so that no answer comes from before a restart
    """

    name: str
    url: str
    registry: MachineAddress
    context: str
    service: str
    machines: Machines = field(repr=False)
    gate: Gate
    connect: Callable[[], httpx.AsyncBaseTransport]
    dialect: EngineDialect = field(default_factory=EngineDialect)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)
    _wishes: list[_Change] = field(default_factory=list, init=False, repr=False)
    _restarted: datetime | None = field(default=None, init=False, repr=False)

    async def tenants(self) -> Mapping[str, str]:
        """Tenant → token_hash of everybody in the list."""
        return (await self.look()).hashes

    async def look(self) -> EngineTenants:
        """The list, and whether the engine has yet to be restarted for it."""
        found = await self._read()
        return EngineTenants({tenant: _hash_of(entry) for tenant, entry in found.entries.items()}, found.restart_due)

    async def register(self, tenant: str, token: Secret) -> None:
        """The tenant has exactly this token when this returns. Written, read back, restarted; nothing when it is so already."""
        await self._settle(_Change(tenant, token_hash(token)))

    async def revoke(self, tenant: str) -> None:
        """The tenant has no token when this returns. Not there: fine."""
        await self._settle(_Change(tenant))

    async def restart(self) -> None:
        """The engine reads its list anew: for one that still behaves as if it had not (lesson 38)."""
        await self._settle(_Change(None))

    def now(self) -> datetime:
        """UTC, by our clock."""
        return self.gate.clock.now()

    def restarted_within(self, span: timedelta) -> bool:
        """Whether we have told it to start anew so lately, for whichever tenant. Forgotten with the process."""
        return self._restarted is not None and timedelta(0) <= self.now() - self._restarted < span

    async def _settle(self, change: _Change) -> None:
        await ask_before_writing()  # from now on somebody else's task may write it
        self._wishes.append(change)
        try:
            async with self._turn:
                if not change.settled:
                    await self._grant(tuple(each for each in self._wishes if not each.settled))
        finally:
            self._wishes = [each for each in self._wishes if each is not change]
        if change.failure is not None:
            raise change.failure

    async def _grant(self, changes: tuple[_Change, ...]) -> None:
        """All that is wished for now, in one motion; they succeed and fail together. Cancelled, the others wish on."""
        failure = None
        try:
            await self._write(changes)
        except OutsideError as error:
            failure = error
        for each in changes:
            each.settled, each.failure = True, failure

    async def _write(self, changes: tuple[_Change, ...]) -> None:
        for _ in range(TRIES):
            found = await self._read()
            entries = _changed(found.entries, changes)
            if entries == found.entries:
                if found.restart_due or any(change.tenant is None for change in changes):
                    await self._start_anew()
                return
            new = Secret(json.dumps(entries, separators=(",", ":")))
            if await self.machines.swap_setting(self.registry, self._setting, found.raw, new, (self.service,)):
                await self._start_anew()
                return
        raise Transient(
            "somebody else changes the list of tenants all the time", system=self._system, reason="ListShifts"
        )

    async def _start_anew(self) -> None:
        self._restarted = self.now()
        await self.machines.restart_service(self.registry, self.service)

    async def _read(self) -> _List:
        look = await self._machine()
        if self.registry.host_key is None:
            self.registry = replace(self.registry, host_key=look.host_key)
        if not look.supervisor_up:
            raise Transient(
                f"hero_proc on {self.registry.host} does not answer", system=self._system, reason="SupervisorSilent"
            )
        raw = look.secrets.get(self._setting)
        listed = self.dialect.tenants_key in look.listed.get(self.context, ())
        if listed and not (raw and raw.reveal().strip()):
            # Believed, it would be written over with a list of ours alone (lessons 29 and 30).
            raise Transient(
                f"{'/'.join(self._setting)} on {self.registry.host} is there and reads as nothing: an admin writes {{}} "
                "there if nobody is to be in it",
                system=self._system,
                reason="TenantsUnreadable",
            )
        return _List(self._entries(raw), raw, self.service in look.stale)

    async def _machine(self) -> MachineLook:
        try:
            return await self.machines.look(
                self.registry, MachineQuery(secrets=(self._setting,), contexts=(self.context,))
            )
        except Blocked as error:
            if error.reason != "HostKeyChanged":
                raise
            raise Blocked(
                f"{self.registry.host} shows another host key than before: an admin finds out why, and writes the right one "
                f"into registry.hostKey of engine {self.name}",
                system=self._system,
                reason=error.reason,
            ) from error

    def _entries(self, raw: Secret | None) -> Mapping[str, Any]:
        """Raises Blocked TenantsUnreadable: what cannot be read whole is never written over."""
        if raw is None:
            return {}
        try:
            entries = json.loads(raw.reveal(), object_pairs_hook=_without_repetition)
        except (ValueError, RecursionError):
            entries = None
        if not isinstance(entries, dict):
            where = "/".join(self._setting)
            raise Blocked(
                f"{where} on {self.registry.host} is no JSON object of tenants: an admin mends it there",
                system=self._system,
                reason="TenantsUnreadable",
            )
        return entries

    async def prove(self, tenant: str, token: Secret, neighbours: Iterable[str] = ()) -> EngineProof:
        """Whom the engine lets in and whom not (lesson 38). `neighbours`: other tenants. Never raises for what it answers."""
        others = [each for each in dict.fromkeys(neighbours) if each != tenant][:NEIGHBOURS] or [STRANGER]
        wrong = Secret(secrets.token_urlsafe(32))
        asked = [(tenant, None), (tenant, wrong), (tenant, token), *((other, token) for other in others)]
        transport = LimitedTransport(self.connect(), self.gate)
        try:
            answers = await asyncio.gather(*(self._ask(transport, name, shown) for name, shown in asked))
        finally:
            await transport.aclose()
        statuses = [status for status, _ in answers]
        return EngineProof(
            no_token=statuses[0],
            wrong_token=statuses[1],
            own_token=statuses[2],
            foreign_token=max(statuses[3:], key=_far_from_refused),
            error=next((error for _, error in answers if error), ""),
        )

    async def _ask(
        self, transport: httpx.AsyncBaseTransport, tenant: str, token: Secret | None
    ) -> tuple[int | None, str]:
        headers = {"Accept": "*/*", "User-Agent": "tester-controller", self.dialect.tenant_header: tenant}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.text()}"
        request = httpx.Request(
            "GET",
            self.url.rstrip("/") + self.dialect.probe_path,
            headers=headers,
            extensions={
                "call": Call(self.gate.system, "probe", False),
                "limit": LIMIT,
                "timeout": httpx.Timeout(LIMIT, connect=10.0, pool=LIMIT).as_dict(),
            },
        )
        try:
            answer = await transport.handle_async_request(request)
        except Throttled:
            return None, ASKED_TO_SLOW_DOWN
        except httpx.HTTPError as error:
            return None, f"no proper answer ({why(error, request)})"
        if answer.status_code == 429:
            return None, ASKED_TO_SLOW_DOWN
        return answer.status_code, ""

    async def aclose(self) -> None:
        """Nothing of an engine's own is kept open; the way to its machine is the machines'."""

    @property
    def _setting(self) -> tuple[str, str]:
        return self.context, self.dialect.tenants_key

    @property
    def _system(self) -> str:
        return f"engine {self.name}"


def _changed(entries: Mapping[str, Any], changes: Iterable[_Change]) -> dict[str, Any]:
    """The entries as they should be; who is not spoken of stays as they are."""
    new = dict(entries)
    for change in changes:
        if change.tenant is None:
            continue
        if change.entry is None:
            new.pop(change.tenant, None)
        elif _hash_of(new.get(change.tenant)) != change.entry:
            new[change.tenant] = change.entry
    return new


def _hash_of(entry: object) -> str:
    """The hash that an entry stands for: itself, or that of the token which somebody wrote down in clear (A)."""
    if not isinstance(entry, str):
        return ""
    return entry.lower() if _HASH.fullmatch(entry) else token_hash(Secret(entry.encode("utf-8", "surrogatepass")))


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """One of two entries of a name would be lost on writing."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _admitted(status: int | None) -> bool:
    return status is not None and status < 400


def _far_from_refused(status: int | None) -> int:
    if status in REFUSED:
        return 0
    return 2 if _admitted(status) else 1
