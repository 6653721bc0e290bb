"""Builds every client from the Fleet and its secrets: the one place that knows which proxy, key and limit goes where."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from reconcilers.backends import Backends
from reconcilers.backends.compute import MARGIN, ComputeClient, ComputeDialect, DaemonName
from reconcilers.backends.forge import ForgeClient
from reconcilers.backends.limits import CallHook, Gate
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_dialect import MachineDialect
from reconcilers.backends.machine_ssh import SshShell
from reconcilers.backends.outside import PublicProbe
from reconcilers.backends.transport import Wire
from reconcilers.clock import Clock
from reconcilers.errors import Blocked
from reconcilers.secret import Secret
from specs.fleet import BackendLimit, ComputeDaemon, Fleet

UNIX = "unix:"


@dataclass(frozen=True)
class Options:
    """What is not in the Fleet: the words of systems whose schema is private (A), hooks, and fakes to plug in.

    transports  what carries HTTP instead of real connections: "forge", "outside", or "compute <name>"
    folder      what a relative `file:` in the Fleet is relative to
    """

    compute_dialect: ComputeDialect = field(default_factory=ComputeDialect)
    machine_dialect: MachineDialect = field(default_factory=MachineDialect)
    hooks: Sequence[CallHook] = ()
    transports: Mapping[str, httpx.AsyncBaseTransport] = field(default_factory=dict)
    folder: Path = Path()


def open_backends(
    fleet: Fleet, secrets: Mapping[str, Secret], clock: Clock, options: Options | None = None
) -> Backends:
    """Clients for everything that the Fleet names; no connection is made yet.

    `secrets` by reference. Raises Blocked SecretMissing, CertificateUnreadable, KeyUnreadable.
    """
    given = options or Options()
    trust = _trust(fleet, given.folder)
    limits = fleet.spec.limits
    return Backends(
        forge=_forge(fleet, secrets, _gate("Forge", limits.forge, clock, given), given, trust),
        compute={
            each.name: _compute(
                fleet, each, secrets, _gate(f"compute {each.name}", limits.compute, clock, given), given
            )
            for each in fleet.spec.compute
        },
        machines=ShellMachines(
            SshShell(
                key=_secret(secrets, fleet.spec.installer.private_key, "spec.installer.privateKey"),
                gate=_gate("machines", limits.machine, clock, given),
                proxy=fleet.spec.network.mycelium_proxy,
            ),
            given.machine_dialect,
        ),
        outside=_outside(fleet, _gate("public address", limits.outside, clock, given), given, trust),
    )


def _gate(system: str, limit: BackendLimit, clock: Clock, options: Options) -> Gate:
    return Gate(system, clock, in_flight=limit.in_flight, per_second=limit.per_second, hooks=options.hooks)


def _forge(
    fleet: Fleet, secrets: Mapping[str, Secret], gate: Gate, options: Options, trust: ssl.SSLContext
) -> ForgeClient:
    url = str(fleet.spec.forge.url).rstrip("/")
    token = _secret(secrets, fleet.spec.forge.token, "spec.forge.token")
    inner = options.transports.get("forge") or httpx.AsyncHTTPTransport(verify=trust)
    return ForgeClient(Wire(url, inner, gate, {"Authorization": f"token {token.text().strip()}"}), url)


def _compute(
    fleet: Fleet, daemon: ComputeDaemon, secrets: Mapping[str, Secret], gate: Gate, options: Options
) -> ComputeClient:
    url = str(daemon.url)
    inner = options.transports.get(gate.system)
    if url.startswith(UNIX):
        inner = inner or httpx.AsyncHTTPTransport(uds=url.removeprefix(UNIX))
        url = "http://localhost"
    timing = fleet.spec.timing
    return ComputeClient(
        name=DaemonName(daemon.name),
        wire=Wire(url, inner or httpx.AsyncHTTPTransport(), gate),
        secret=_secret(secrets, daemon.secret, f"spec.compute.{daemon.name}.secret"),
        dialect=options.compute_dialect,
        slow_limit=max(timing.deploy_limit, timing.gateway_limit).total_seconds() + MARGIN,
    )


def _outside(fleet: Fleet, gate: Gate, options: Options, trust: ssl.SSLContext) -> PublicProbe:
    fake = options.transports.get("outside")
    proxy = _resolving(fleet.spec.network.outside_proxy)
    return PublicProbe(gate, lambda: fake or httpx.AsyncHTTPTransport(verify=trust, proxy=proxy))


def _resolving(proxy: str | None) -> str | None:
    """The proxy resolves names itself: a public name may mean something else where we stand."""
    return "socks5h" + proxy.removeprefix("socks5") if proxy and proxy.startswith("socks5:") else proxy


def _secret(secrets: Mapping[str, Secret], reference: str, where: str) -> Secret:
    value = secrets.get(reference)
    if not value:
        raise Blocked(
            f"the secret {str(reference)!r} of {where} is not there: set it", system="secrets", reason="SecretMissing"
        )
    return value


def _trust(fleet: Fleet, folder: Path) -> ssl.SSLContext:
    """The system's certificates, and the Fleet's own authority if it names one."""
    trust = ssl.create_default_context()
    named = fleet.spec.network.certificate_authority
    if named:
        path = folder / named.removeprefix("file:")
        try:
            trust.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise Blocked(
                f"{path} of spec.network.certificateAuthority holds no readable certificates ({error.strerror or error})",
                system="public address",
                reason="CertificateUnreadable",
            ) from error
    return trust
