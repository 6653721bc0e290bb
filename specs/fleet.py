"""`kind: Fleet`: what all testers share, in one document: admins, Forge, daemons, engines, mail, defaults, limits."""

from collections.abc import Mapping
from datetime import timedelta
from math import floor
from typing import Annotated, Final, Literal, NewType

from pydantic import Discriminator, Field, StringConstraints, Tag

from specs.catalogue import ComponentName
from specs.frozen import Frozen
from specs.mail import Mail
from specs.notify import Notify
from specs.quantities import Duration, Span
from specs.references import SecretRef
from specs.ssh_keys import HostKey, SshKey
from specs.tester import TesterDefaults
from specs.text import (
    Context,
    DaemonUrl,
    Domain,
    Flag,
    ForgeName,
    Host,
    ItemName,
    ProxyUrl,
    Repository,
    Sentence,
    ServiceName,
    SettingKey,
    TesterName,
    Url,
    Whole,
)

NodeSid = NewType("NodeSid", str)
"""A daemon's own id of a node, e.g. `0001`: what `deploy_vm` takes (S)."""
GridNode = NewType("GridNode", str)
"""The grid's id of a node, e.g. `2`: what `deploy_webgateway` takes (S)."""

DEMO_SET: Final = (
    "hero_proc",
    "hero_router",
    "hero_proxy",
    "hero_cockpit",
    "hero_db",
    "hero_indexer",
    "hero_agent",
    "hero_books",
    "hero_slides",
    "hero_whiteboard",
    "hero_planner",
    "hero_biz",
)


class Admin(Frozen):
    """Somebody who looks after the fleet: on every allowlist, with a key on every machine."""

    account: ForgeName
    """The admin's account at Forge."""
    ssh_keys: tuple[SshKey, ...] = ()
    """The admin's public SSH keys."""


class Installer(Frozen):
    """The key with which the controller enters the machines."""

    private_key: SecretRef
    """Where the private key is kept."""
    user: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] = "root"
    """The user on the machine."""


class Forge(Frozen):
    """The Forge server."""

    url: Url
    """Its address."""
    token: SecretRef
    """Where the controller's token is kept. It must belong to a site admin."""
    owner: ForgeName | None = None
    """The account that the token belongs to. Without it: whose it was at first. Only needed when another account takes over."""
    components_owner: ForgeName = "lhumina_code"
    """The owner of the components' repositories and releases."""
    feedback_repository: Repository | None = None
    """The repository to which testers are given access for feedback, and lose it when they go or it is another one."""


class Node(Frozen):
    """A host, under both of its ids."""

    sid: Annotated[NodeSid, Field(pattern=r"^[0-9A-Za-z]{1,32}$")]
    """The daemon's own id of the node, in quotes: "0001"."""
    grid_node: Annotated[GridNode, Field(pattern=r"^[1-9][0-9]{0,9}$")]
    """The grid's id of the same node, in quotes: "2"."""
    name: Sentence | None = None
    """What people call it."""
    gone: Flag = False
    """true: it is gone for good. Machines on it are counted as lost and made anew elsewhere; nobody looks after them again."""


class ComputeDaemon(Frozen):
    """One hero_compute daemon. It has an id sequence of its own: a machine is known by daemon and id."""

    name: ItemName
    """What specs call it, as in `node: gent/0001`."""
    url: DaemonUrl
    """Where it listens: http(s)://…, or unix:/path/to/rpc.sock."""
    secret: SecretRef
    """Where the secret is kept under which all our machines are made."""
    gateway_domain: Domain
    """The domain below which its web gateways appear."""
    nodes: Annotated[tuple[Node, ...], Field(min_length=1)]
    """The hosts that it may use."""
    gone: Flag = False
    """true: it is gone for good, never to be asked again. All that it had is counted as lost and made anew elsewhere."""


class Registry(Frozen):
    """Where a shared engine's tokens are registered: among hero_proc's secrets on the machine that it runs on."""

    host: Host
    """That machine's Mycelium address or name. It is entered with the installer's key."""
    port: Annotated[Whole, Field(ge=1, le=65_535)] = 22
    """Where it takes SSH connections."""
    host_key: HostKey | None = None
    """Its public host key. Without it: the one that it shows at first contact."""
    context: Context
    """The context of hero_proc in which the engine keeps its tenants, e.g. embedder."""
    service: ServiceName
    """The service that reads them when it starts, e.g. hero_embedder."""


class Engine(Frozen):
    """A shared engine. Every tester gets a token of their own for it."""

    name: ItemName
    """What it is called, e.g. embedder."""
    url: Url
    """Where testers' machines reach it."""
    url_setting: SettingKey
    """The setting that holds its address on a tester's machine."""
    token_setting: SettingKey
    """The setting that holds the tester's token."""
    context: Context = "cockpit"
    """The context of both settings on a tester's machine."""
    registry: Registry
    """Where the tokens are registered."""
    retired: Flag = False
    """true: nobody uses it any more. Tokens are revoked there; when nobody has one, it may be taken out of the Fleet."""
    gone: Flag = False
    """true: it is gone for good, never to be asked again. Tokens there are counted as lost with it."""


class Provider(Frozen):
    """An AI provider whose key a tester's machine may hold."""

    setting: SettingKey
    """The setting that holds the key on the machine."""
    context: Context = "cockpit"
    """The context of that setting."""
    default: SecretRef | None = None
    """Where the key is kept that `default` hands out. A determined tester can read it on their machine."""


class MachineAccess(Frozen):
    """How a bare machine gets its first tool."""

    lab_url: Url | None = None
    """Where the machine downloads lab from. Without it: the `latest` release of lab at Forge (A)."""


class Network(Frozen):
    """How the controller reaches what is not next to it."""

    mycelium_proxy: ProxyUrl | None = None
    """A SOCKS5 proxy through which Mycelium addresses are reached."""
    outside_proxy: ProxyUrl | None = None
    """A SOCKS5 proxy through which public names are reached."""
    certificate_authority: Annotated[str, StringConstraints(pattern=r"^file:[^\x00-\x1f\x7f]{1,1000}$")] | None = None
    """`file:` and the path of the CA that signs the public names, when it is not one of the system's."""


Percent = Annotated[str, StringConstraints(pattern=r"^([1-9]?[0-9]|100)%$")]
Removals = Annotated[
    Annotated[Percent, Tag("percent")] | Annotated[Annotated[Whole, Field(ge=0)], Tag("count")],
    Discriminator(lambda value: "percent" if isinstance(value, str) else "count"),
]


class Safety(Frozen):
    """What keeps a mistake from becoming a disaster."""

    max_removals: Removals = "20%"
    """How many testers one revision may remove: a number, or a share of the fleet like "20%" (then at least one)."""
    allow_removals: Annotated[Whole, Field(ge=0)] | None = None
    """The override: so many may go in this very revision. Take it out afterwards."""
    max_lost: Annotated[Whole, Field(ge=0)] = 2
    """When more things than this are missing in one look, nothing is repaired and a person decides."""
    inner_proof: Literal["enforce", "report"] = "enforce"
    """Whether a door that is open on the inner network shuts the tester's access, or is only reported."""
    max_rebuilds: Annotated[Whole, Field(ge=0, le=100)] = 2
    """How often a machine that never becomes reachable is built anew before a person decides."""

    def removals_of(self, total: int) -> int:
        """How many of `total` testers may be removed at once, without the override."""
        if isinstance(self.max_removals, int):
            return self.max_removals
        share = int(self.max_removals.rstrip("%"))
        return max(1, floor(total * share / 100)) if share else 0


class Timing(Frozen):
    """How often things are looked at, and how long they may take."""

    resync: Span = timedelta(minutes=10)
    """How often a tester that is in sync is looked at."""
    poll: Span = timedelta(seconds=2)
    """How often something that we wait for is looked at."""
    look_age: Span = timedelta(seconds=30)
    """How old a shared listing may be."""
    listing_grace: Duration = timedelta(seconds=120)
    """How long after a call's limit an absence in a listing still proves nothing."""
    deploy_limit: Span = timedelta(seconds=300)
    """How long making a machine may take."""
    gateway_limit: Span = timedelta(seconds=300)
    """How long making a gateway may take."""
    reachable_limit: Span = timedelta(minutes=20)
    """How long a new machine may stay unreachable before it is built anew."""
    install_limit: Span = timedelta(minutes=30)
    """How long one component's install may take."""
    proof_limit: Span = timedelta(minutes=2)
    """How long an open door may stay unproven before it is shut."""
    backoff_base: Span = timedelta(seconds=5)
    """The first wait after a failure."""
    backoff_ceiling: Span = timedelta(minutes=10)
    """The longest wait after failures."""
    outside_proof_every: Span = timedelta(minutes=30)
    """How often one path is probed from outside while nothing changes."""
    releases_every: Span = timedelta(minutes=15)
    """How often Forge is asked for the newest releases, once for the whole fleet."""
    capacity_lag: Duration = timedelta(seconds=120)
    """How long after a machine was ordered a node's free room may not show it yet."""
    expiry_warning: Duration = timedelta(days=7)
    """How long before a tester's last day the status says so."""


class BackendLimit(Frozen):
    """How much one outside system is asked at once."""

    in_flight: Annotated[Whole, Field(ge=1, le=10_000)]
    """Calls under way at the same time."""
    per_second: Annotated[Whole, Field(ge=1, le=100_000)]
    """Calls begun in a second."""


class Limits(Frozen):
    """How much the outside is asked at once."""

    forge: BackendLimit = BackendLimit(in_flight=8, per_second=20)
    """Calls to Forge."""
    compute: BackendLimit = BackendLimit(in_flight=4, per_second=10)
    """Calls to one compute daemon."""
    machine: BackendLimit = BackendLimit(in_flight=32, per_second=100)
    """Calls to the machines together."""
    outside: BackendLimit = BackendLimit(in_flight=8, per_second=20)
    """Probes of public addresses together."""
    engine: BackendLimit = BackendLimit(in_flight=4, per_second=20)
    """Calls to one shared engine."""
    mail: BackendLimit = BackendLimit(in_flight=2, per_second=2)
    """Letters."""
    installs: Annotated[Whole, Field(ge=1, le=64)] = 8
    """Installs at the same time on one machine."""


def _known_providers() -> dict[str, Provider]:
    return {name: Provider(setting=f"{name.upper()}_API_KEY") for name in ("openrouter", "groq", "sambanova")}


class FleetSpec(Frozen):
    """What all testers share."""

    admins: Annotated[tuple[Admin, ...], Field(min_length=1)]
    """Who looks after the fleet. At least one, or nobody could help a tester who is locked out."""
    installer: Installer
    """The key with which the controller enters the machines."""
    forge: Forge
    """The Forge server."""
    compute: Annotated[tuple[ComputeDaemon, ...], Field(min_length=1)]
    """The compute daemons."""
    engines: tuple[Engine, ...] = ()
    """The shared engines."""
    mail: Mail | None = None
    """How mail goes out. Without it nothing is sent."""
    notify: Notify = Notify()
    """Who is told when something happens. Without it nobody."""
    providers: Mapping[ItemName, Provider] = Field(default_factory=_known_providers)
    """The AI providers that specs may name. Without it: openrouter, groq and sambanova, none with a default key."""
    machine_access: MachineAccess = MachineAccess()
    """How a bare machine gets its first tool."""
    network: Network = Network()
    """Proxies and certificates."""
    component_sets: Mapping[ItemName, tuple[ComponentName, ...]] = {"demo": DEMO_SET}
    """Set → its components. Without it: `demo`, the twelve of the standard demo."""
    defaults: TesterDefaults = TesterDefaults()
    """What every tester gets that does not say otherwise. Mappings are merged, lists and single values replaced."""
    safety: Safety = Safety()
    """What keeps a mistake from becoming a disaster."""
    timing: Timing = Timing()
    """How often, how long."""
    limits: Limits = Limits()
    """How much at once."""

    @property
    def lab_url(self) -> str:
        """Where machines download lab from (A)."""
        default = f"{self.forge.url}/{self.forge.components_owner}/lab/releases/download/latest/lab-linux-x86_64"
        return self.machine_access.lab_url or default

    def daemon(self, name: str) -> ComputeDaemon:
        """The daemon of that name. Raises KeyError."""
        for each in self.compute:
            if each.name == name:
                return each
        raise KeyError(name)

    def secrets(self) -> tuple[SecretRef, ...]:
        """Every secret that the Fleet itself refers to, in the order of the document, without repetition."""
        found: list[SecretRef | None] = [self.installer.private_key, self.forge.token]
        found += [each.secret for each in self.compute]
        if self.mail:
            found += [self.mail.resend_key, self.mail.smtp.password if self.mail.smtp else None]
        found += self.notify.secrets()
        found += [each.default for each in self.providers.values()]
        return tuple(dict.fromkeys(each for each in found if each is not None))


class FleetMetadata(Frozen):
    """What the fleet is called."""

    name: TesterName
    """The fleet's name."""


class Fleet(Frozen):
    """The fleet."""

    api_version: Literal["hero.tester/v1"]
    """The version of this language."""
    kind: Literal["Fleet"]
    """This document describes the fleet."""
    metadata: FleetMetadata
    """What the fleet is called."""
    spec: FleetSpec
    """What all testers share."""

    @property
    def name(self) -> str:
        """Short for `metadata.name`."""
        return self.metadata.name
