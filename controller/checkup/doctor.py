"""Rights first: is everything that the Fleet names there, does it let us in, may we do what we shall have to do (lesson 3)?
Asks, and changes nothing. `testerctl doctor` shows the findings, and `run` warns of what is wrong when it starts.

Each system is a round: its first question decides whether the others can be asked. All rounds run side by side, and every
question has a limit of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from controller.checkup.findings import Ailing, Finding, Question, Round, Untold, Verdict, demand
from controller.checkup.forge import Telling, of_forge
from reconcilers.backends import Backends
from reconcilers.backends.compute import ComputeClient
from reconcilers.backends.engines import STRANGER, EngineClient
from reconcilers.backends.mail import NoMailer, ResendMailer, UnusableMailer
from reconcilers.backends.opening import Options, open_backends
from reconcilers.backends.reaching import greet_proxy, try_resend
from reconcilers.clock import Clock
from reconcilers.engine_tokens import new_token
from reconcilers.errors import OutsideError
from reconcilers.facts import Facts
from reconcilers.installer_key import installer_public_key
from reconcilers.secret import Secret
from specs.fleet import ComputeDaemon, Fleet
from specs.gone import standing

__all__ = ["LIMIT", "Finding", "Telling", "Verdict", "examine"]

LIMIT = timedelta(seconds=20)  # for one question


async def examine(
    fleet: Fleet,
    secrets: Mapping[str, Secret],
    clock: Clock,
    options: Options | None = None,
    limit: timedelta = LIMIT,
    standing_at: Mapping[str, int] = MappingProxyType({}),
    telling: Telling | None = None,
) -> tuple[Finding, ...]:
    """Every finding about a Fleet, in the order of its document; what is gone for good is not asked. `secrets`: those that
    are held, by reference. `standing_at`: how many machines our books have at each daemon. `telling`: where answers go back to
    git. Never raises for what is wrong outside."""
    fleet = standing(fleet)
    found = list(_secrets(fleet, secrets))
    key = _installer_key(fleet, secrets)
    found.append(key)
    try:
        backends = open_backends(fleet, _with_stand_ins(fleet, secrets, key), clock, options)
    except (OutsideError, ValueError) as error:
        return (*found, Finding("fleet", "clients", Verdict.WRONG, f"nothing could be asked: {error}"))
    try:
        forge_round = of_forge(fleet, backends.forge, clock, telling, known=bool(secrets.get(fleet.spec.forge.token)))
        rounds = [forge_round, *_rounds(fleet, secrets, backends, standing_at, enters=key.verdict is Verdict.GOOD)]
        answers = await asyncio.gather(*(_asked(one, limit) for one in rounds))
    finally:
        await backends.aclose()
    return (*found, *(finding for one in answers for finding in one))


def _rounds(
    fleet: Fleet,
    secrets: Mapping[str, Secret],
    backends: Backends,
    standing_at: Mapping[str, int],
    *,
    enters: bool,
) -> list[Round]:
    spec = fleet.spec
    proxies = {"myceliumProxy": spec.network.mycelium_proxy, "outsideProxy": spec.network.outside_proxy}
    return [
        *(
            _daemon(
                each, backends.daemon(each.name), standing_at.get(each.name, 0), known=bool(secrets.get(each.secret))
            )
            for each in spec.compute
        ),
        *(_proxy(name, address) for name, address in proxies.items() if address),
        *(one for each in spec.engines for one in _engine(backends.engine(each.name), enters=enters)),
        _mail(backends),
    ]


async def _asked(one: Round, limit: timedelta) -> tuple[Finding, ...]:
    first = await _answer(one.system, one.first, limit)
    if first.verdict is Verdict.WRONG:
        left = f"not asked: see {one.first.what!r}"
        return (first, *(Finding(one.system, each.what, Verdict.UNKNOWN, left) for each in one.others))
    return (first, *await asyncio.gather(*(_answer(one.system, each, limit) for each in one.others)))


async def _answer(system: str, question: Question, limit: timedelta) -> Finding:
    try:
        async with asyncio.timeout(limit.total_seconds()):
            return Finding(system, question.what, Verdict.GOOD, await question.ask())
    except Untold as error:
        return Finding(system, question.what, Verdict.UNKNOWN, str(error))
    except Ailing as error:
        return Finding(system, question.what, Verdict.WRONG, error.detail, error.mend)
    except OutsideError as error:
        return Finding(system, question.what, Verdict.WRONG, error.message, question.mend)
    except TimeoutError:
        late = f"no answer within {limit.total_seconds():.0f} s"
        return Finding(system, question.what, Verdict.WRONG, late, question.mend)


def _secrets(fleet: Fleet, secrets: Mapping[str, Secret]) -> list[Finding]:
    wanted = fleet.spec.secrets()
    missing = [ref for ref in wanted if not secrets.get(ref)]
    mend = "set it: a variable or file of the controller's, or `testerctl secret set`"
    if not missing:
        return [Finding("secrets", "all there", Verdict.GOOD, f"{len(wanted)} that the Fleet refers to")]
    return [Finding("secrets", str(ref), Verdict.WRONG, "nobody holds it, or it is empty", mend) for ref in missing]


def _installer_key(fleet: Fleet, secrets: Mapping[str, Secret]) -> Finding:
    what = "installer's key"
    if not secrets.get(fleet.spec.installer.private_key):
        return Finding("machines", what, Verdict.UNKNOWN, "its secret is not there")
    try:
        public = installer_public_key(Facts("", "", fleet, secrets=secrets))
    except OutsideError as error:
        return Finding("machines", what, Verdict.WRONG, error.message)
    return Finding("machines", what, Verdict.GOOD, f"a private key of kind {public.split()[0]}")


def _with_stand_ins(fleet: Fleet, secrets: Mapping[str, Secret], key: Finding) -> dict[str, Secret]:
    """So that the clients can be built and all the rest be asked; what needs a missing secret is left out below."""
    spec = fleet.spec
    held = {ref: value for ref, value in secrets.items() if value}
    if key.verdict is not Verdict.GOOD:
        throwaway = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        held[spec.installer.private_key] = Secret(throwaway)
    stand_in = Secret("not-there")
    return {**dict.fromkeys((spec.forge.token, *(each.secret for each in spec.compute)), stand_in), **held}


# ------------------------------------------------------------------------------------------------ the systems


def _daemon(daemon: ComputeDaemon, client: ComputeClient, standing: int, *, known: bool) -> Round:
    async def methods() -> str:
        missing = await client.missing_methods()
        if missing:
            raise Ailing(
                f"it does not know {', '.join(missing)}",
                "whoever runs it updates it, or the words in ComputeDialect are corrected",
            )
        return str(daemon.url)

    async def nodes() -> str:
        return await _nodes(daemon, client)

    async def machines() -> str:
        demand(known, "the daemon's secret is not there")
        listed = len(await client.list_vms())
        if standing and not listed:
            raise Ailing(
                f"it shows none under our secret, and our books have {standing} there",
                f"under another secret our machines are invisible: see that spec.compute.{daemon.name}.secret is still the "
                "one that they were made with; if they are truly gone, the controller says so of each",
            )
        return f"{listed} under our secret"

    mend = f"see that spec.compute.{daemon.name}.url is right, and that the daemon runs and is reachable from here"
    return Round(
        f"compute {daemon.name}",
        Question("answers, knows our methods", methods, mend),
        (Question("nodes of the Fleet", nodes), Question("machines can be listed", machines)),
    )


async def _nodes(daemon: ComputeDaemon, client: ComputeClient) -> str:
    there = {node.sid: node for node in await client.list_nodes()}
    wrong = []
    for each in daemon.nodes:
        node = there.get(each.sid)
        if node is None:
            wrong.append(f"{each.sid} is unknown to it (it knows {', '.join(sorted(there)) or 'none'})")
        elif node.grid_node != each.grid_node:
            wrong.append(f"{each.sid} is the grid's node {node.grid_node}, not {each.grid_node}")
        elif not node.online:
            wrong.append(f"{each.sid} is offline, so nobody is placed there")
    if wrong:
        mend = f"correct spec.compute.{daemon.name}.nodes, or bring the node back"
        raise Ailing("; ".join(wrong), mend)
    return ", ".join(each.sid for each in daemon.nodes)


def _proxy(name: str, address: str) -> Round:
    async def greets() -> str:
        await greet_proxy(address)
        return address

    mend = f"see that spec.network.{name} is right, and that the proxy runs"
    return Round("network", Question(name, greets, mend))


def _engine(engine: EngineClient, *, enters: bool) -> tuple[Round, Round]:
    """Its registry on its machine, and itself: either may be well without the other."""

    async def registry() -> str:
        demand(enters, "the installer's key cannot be used")
        return f"{len(await engine.tenants())} tenants"

    async def refuses() -> str:
        proof = await engine.prove(STRANGER, new_token())
        if proof.error:
            raise Ailing(proof.error, f"see that url of engine {engine.name} is right, and that the engine runs")
        if proof.leaks or proof.admits:
            raise Ailing("it lets strangers in", "whoever runs it makes it ask for its tenants' tokens, at once")
        if not proof.refuses:
            said = ", ".join(str(each) for each in (proof.no_token, proof.wrong_token) if each is not None)
            raise Ailing(f"it answers strangers with {said}, not with 401 or 403", "see that its url is right")
        return "answers, and refuses strangers"

    system = f"engine {engine.name}"
    mend = f"see that registry.host of engine {engine.name} is right, and that it has the installer's key"
    return Round(system, Question("registry can be read", registry, mend)), Round(system, Question("answers", refuses))


def _mail(backends: Backends) -> Round:
    async def key() -> str:
        mailer = backends.mail
        if isinstance(mailer, UnusableMailer):
            raise Ailing(mailer.reason.message, "")
        if isinstance(mailer, NoMailer):
            raise Untold("no way out is configured: letters are logged, not sent")
        if isinstance(mailer, ResendMailer):
            await try_resend(mailer)
        return f"by {mailer.kind}; no letter is sent to try it"

    mend = "see that spec.mail.resendUrl is right, and that a key of Resend's is where spec.mail.resendKey points"
    return Round("mail", Question("way out", key, mend))
