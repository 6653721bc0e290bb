"""Builds every client from the Fleet and its secrets: the one place that knows which proxy, key and limit goes where."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from reconcilers.backends import Backends
from reconcilers.backends.compute import LANES, MARGIN, ComputeClient, ComputeDialect, DaemonName
from reconcilers.backends.engines import EngineClient, EngineDialect
from reconcilers.backends.forge import ForgeClient
from reconcilers.backends.limits import CallHook, Counted, Gate, Shared
from reconcilers.backends.machine import MachineAddress, Machines
from reconcilers.backends.machine_client import ShellMachines
from reconcilers.backends.machine_dialect import MachineDialect
from reconcilers.backends.machine_kept import KeptShells, Login
from reconcilers.backends.mail import Mailer, NoMailer, ResendMailer, UnusableMailer
from reconcilers.backends.mail_smtp import SmtpMailer, SmtpServer
from reconcilers.backends.notice_hooks import NoticeHook
from reconcilers.backends.outside import PublicProbe
from reconcilers.backends.transport import LimitedTransport, Wire
from reconcilers.clock import Clock
from reconcilers.errors import Blocked
from reconcilers.secret import Secret
from specs.fleet import BackendLimit, ComputeDaemon, Engine, Fleet
from specs.mail import Mail, Smtp
from specs.notify import NoticeHook as Hook

UNIX = "unix:"


@dataclass(frozen=True)
class Options:
    """What is not in the Fleet: the words of systems whose schema is private (A), hooks, and fakes to plug in.

    sharing     the limit that this controller keeps together with others, by the gate's name and its calls in flight
    counted     told of every call how it ended and how long it took
    transports  what carries HTTP instead of real connections: "forge", "outside", "mail", "compute <name>",
                "engine <name>" or "webhook <name>"
    shells      who holds the connections to machines: sets of clients with the same options share them
    machines    makes the machines' client, instead of one over SSH, from the installer's key, the gate, and how many
                installs run at once on a machine
    folder      what a relative `file:` in the Fleet is relative to
    trust       what the system trusts, read anew for each set of clients: tests have no time for that
    """

    compute_dialect: ComputeDialect = field(default_factory=ComputeDialect)
    machine_dialect: MachineDialect = field(default_factory=MachineDialect)
    engine_dialect: EngineDialect = field(default_factory=EngineDialect)
    hooks: Sequence[CallHook] = ()
    sharing: Callable[[str, int], Shared] | None = None
    counted: Counted | None = None
    transports: Mapping[str, httpx.AsyncBaseTransport] = field(default_factory=dict)
    shells: KeptShells = field(default_factory=KeptShells)
    machines: Callable[[Secret, Gate, int], Machines] | None = None
    folder: Path = Path()
    trust: Callable[[], ssl.SSLContext] = ssl.create_default_context


def open_backends(
    fleet: Fleet, secrets: Mapping[str, Secret], clock: Clock, options: Options | None = None
) -> Backends:
    """Clients for everything that the Fleet names; no connection is made yet.

    `secrets` by reference. Raises Blocked SecretMissing, SecretUnusable, CertificateUnreadable, KeyUnreadable.
    """
    given = options or Options()
    trust = _trust(fleet, given)
    limits = fleet.spec.limits
    forge = _forge(fleet, secrets, _gate("Forge", limits.forge, clock, given), given, trust)
    compute = {
        each.name: _compute(
            fleet, each, secrets, _gate(f"compute {each.name}", limits.compute, clock, given), given, trust
        )
        for each in fleet.spec.compute
    }
    # The last that may be refused: what is lent to it goes back when the whole is closed.
    machines = _machines(fleet, secrets, _gate("machines", limits.machine, clock, given), given)
    return Backends(
        forge=forge,
        compute=compute,
        machines=machines,
        outside=_outside(fleet, _gate("public address", limits.outside, clock, given), given, trust),
        engines={
            each.name: _engine(
                fleet, each, machines, _gate(f"engine {each.name}", limits.engine, clock, given), given, trust
            )
            for each in fleet.spec.engines
        },
        mail=_mail(fleet.spec.mail, secrets, _gate("mail", limits.mail, clock, given), given, trust),
        hooks={
            each.name: _hook(each, secrets, _gate(f"webhook {each.name}", limits.mail, clock, given), given, trust)
            for each in fleet.spec.notify.hooks
        },
    )


def open_sign_in(fleet: Fleet, gate: Gate, options: Options) -> httpx.AsyncClient:
    """Forge for the sign-ins of people: without the controller's token, and with a gate of its own, so that neither waits
    for the other. Raises Blocked CertificateUnreadable."""
    inner = options.transports.get("forge") or httpx.AsyncHTTPTransport(verify=_trust(fleet, options))
    return httpx.AsyncClient(transport=LimitedTransport(inner, gate), timeout=httpx.Timeout(15.0), trust_env=False)


def _gate(system: str, limit: BackendLimit, clock: Clock, options: Options, lane: str = "") -> Gate:
    return Gate(
        system,
        clock,
        in_flight=limit.in_flight,
        per_second=limit.per_second,
        hooks=options.hooks,
        counted=options.counted,
        shared=options.sharing(f"{system} {lane}", limit.in_flight) if options.sharing is not None else None,
    )


def _forge(
    fleet: Fleet, secrets: Mapping[str, Secret], gate: Gate, options: Options, trust: ssl.SSLContext
) -> ForgeClient:
    url = str(fleet.spec.forge.url).rstrip("/")
    token = _word(secrets, fleet.spec.forge.token, "spec.forge.token")
    inner = options.transports.get("forge") or httpx.AsyncHTTPTransport(verify=trust)
    return ForgeClient(Wire(url, inner, gate, {"Authorization": f"token {token}"}), url)


def _compute(
    fleet: Fleet,
    daemon: ComputeDaemon,
    secrets: Mapping[str, Secret],
    gate: Gate,
    options: Options,
    trust: ssl.SSLContext,
) -> ComputeClient:
    url, socket = str(daemon.url), None
    if url.startswith(UNIX):
        url, socket = "http://localhost", url.removeprefix(UNIX)
    timing = fleet.spec.timing

    def wire(gate: Gate) -> Wire:
        inner = options.transports.get(gate.system) or httpx.AsyncHTTPTransport(verify=trust, uds=socket)
        return Wire(url, inner, gate)

    return ComputeClient(
        name=DaemonName(daemon.name),
        wire=wire(gate),
        lanes={lane: wire(_gate(gate.system, fleet.spec.limits.compute, gate.clock, options, lane)) for lane in LANES},
        secret=_text(secrets, daemon.secret, f"spec.compute.{daemon.name}.secret"),
        dialect=options.compute_dialect,
        slow_limit=max(timing.deploy_limit, timing.gateway_limit).total_seconds() + MARGIN,
    )


def _machines(fleet: Fleet, secrets: Mapping[str, Secret], gate: Gate, options: Options) -> Machines:
    key = _secret(secrets, fleet.spec.installer.private_key, "spec.installer.privateKey")
    if options.machines is not None:
        return options.machines(key, gate, fleet.spec.limits.installs)
    shell = options.shells.lend(Login(key, fleet.spec.installer.user, fleet.spec.network.mycelium_proxy), gate)
    return ShellMachines(shell, options.machine_dialect, fleet.spec.limits.installs)


def _engine(
    fleet: Fleet, engine: Engine, machines: Machines, gate: Gate, options: Options, trust: ssl.SSLContext
) -> EngineClient:
    registry = engine.registry
    fake = options.transports.get(gate.system)
    proxy = _resolving(fleet.spec.network.mycelium_proxy)
    return EngineClient(
        name=engine.name,
        url=str(engine.url),
        registry=MachineAddress(
            key=f"of {gate.system}",
            host=registry.host,
            user=fleet.spec.installer.user,
            host_key=registry.host_key,
            port=registry.port,
        ),
        context=registry.context,
        service=registry.service,
        machines=machines,
        gate=gate,
        connect=lambda: fake or httpx.AsyncHTTPTransport(verify=trust, proxy=proxy),
        dialect=options.engine_dialect,
    )


def _mail(
    mail: Mail | None, secrets: Mapping[str, Secret], gate: Gate, options: Options, trust: ssl.SSLContext
) -> Mailer:
    if mail is None or not mail.send or not (mail.resend_key or mail.smtp):
        return NoMailer()
    try:
        if mail.smtp:
            return SmtpMailer(_smtp(mail.smtp, secrets), mail.sender, gate, trust, mail.reply_to)
        key = _word(secrets, mail.resend_key or "", "spec.mail.resendKey")
    except Blocked as error:
        return UnusableMailer("smtp" if mail.smtp else "resend", error)
    inner = options.transports.get(gate.system) or httpx.AsyncHTTPTransport(verify=trust)
    wire = Wire(str(mail.resend_url), inner, gate, {"Authorization": f"Bearer {key}"})
    return ResendMailer(wire, mail.sender, mail.reply_to)


def _hook(hook: Hook, secrets: Mapping[str, Secret], gate: Gate, options: Options, trust: ssl.SSLContext) -> NoticeHook:
    """One that lacks a secret takes nothing, and says why; everything else goes on."""
    fake = options.transports.get(gate.system)

    def connect() -> httpx.AsyncBaseTransport:
        return fake or httpx.AsyncHTTPTransport(verify=trust)

    try:
        where = f"spec.notify.hooks.{hook.name}"
        url = _secret(secrets, hook.url, f"{where}.url")
        secret = _secret(secrets, hook.secret, f"{where}.secret") if hook.secret else None
    except Blocked as error:
        return NoticeHook(hook.name, gate, connect, problem=error)
    return NoticeHook(hook.name, gate, connect, url, secret)


def _smtp(smtp: Smtp, secrets: Mapping[str, Secret]) -> SmtpServer:
    password = _text(secrets, smtp.password, "spec.mail.smtp.password") if smtp.password else None
    return SmtpServer(smtp.host, smtp.port, smtp.start_tls, smtp.user, password)


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


def _text(secrets: Mapping[str, Secret], reference: str, where: str) -> Secret:
    """One that is sent as text. Raises Blocked SecretMissing, SecretUnusable."""
    value = _secret(secrets, reference, where)
    try:
        value.text()
    except ValueError:
        raise _unusable(reference, where, "is not UTF-8 text") from None
    return value


def _word(secrets: Mapping[str, Secret], reference: str, where: str) -> str:
    """What a header carries of one. Raises Blocked SecretMissing, SecretUnusable."""
    word = _text(secrets, reference, where).text().strip()
    if not (word and word.isascii() and word.isprintable()):
        raise _unusable(reference, where, "is not one line of plain letters, as an editor may have saved it")
    return word


def _unusable(reference: str, where: str, what: str) -> Blocked:
    message = f"the secret {str(reference)!r} of {where} {what}: set it anew"
    return Blocked(message, system="secrets", reason="SecretUnusable")


def _trust(fleet: Fleet, options: Options) -> ssl.SSLContext:
    """The system's certificates, and the Fleet's own authority if it names one."""
    trust = options.trust()
    named = fleet.spec.network.certificate_authority
    if named:
        path = options.folder / named.removeprefix("file:")
        try:
            trust.load_verify_locations(path)
        except (OSError, ssl.SSLError) as error:
            raise Blocked(
                f"{path} of spec.network.certificateAuthority holds no readable certificates ({error.strerror or error})",
                system="public address",
                reason="CertificateUnreadable",
            ) from error
    return trust
