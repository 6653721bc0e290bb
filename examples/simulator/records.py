"""What the world remembers, as records that go to one JSON file and back. No behaviour here."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """A mutable record; bytes travel as base64."""

    model_config = ConfigDict(extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class Key(Record):
    id: int
    title: str
    key: str


class Account(Record):
    """One account of Forge. `password` is a digest; `source_id` 0 is a local account."""

    id: int
    name: str
    email: str
    password: str = ""
    full_name: str = ""
    admin: bool = False
    active: bool = True
    prohibit_login: bool = False
    must_change: bool = False
    source_id: int = 0
    login_name: str = ""
    visibility: str = "public"
    created: float = 0.0
    keys: list[Key] = Field(default_factory=list)
    packages: list[str] = Field(default_factory=list)


class Organisation(Record):
    id: int
    name: str
    full_name: str = ""
    owners: list[str] = Field(default_factory=list)


class Token(Record):
    value: str
    account: str
    scopes: list[str]


class App(Record):
    """One OAuth application; its id is its place in Forge's one sequence."""

    id: int
    owner: str
    name: str
    client_id: str
    client_secret: str
    redirect_uris: list[str]
    confidential: bool
    created: float


class Code(Record):
    """One authorisation code on its way from the browser to the token endpoint."""

    client_id: str
    account: str
    redirect_uri: str
    challenge: str = ""
    nonce: str = ""
    expires: float


class Asset(Record):
    id: int
    name: str
    content: str


class Release(Record):
    id: int
    tag: str
    name: str
    target: str
    published: float
    assets: list[Asset] = Field(default_factory=list)
    broken: str = ""
    """`install`: lab cannot install it; `start`: its services die when they start."""


class Status(Record):
    id: int
    sha: str
    state: str
    target_url: str
    description: str
    context: str
    creator: str
    created: float


class Pull(Record):
    """A pull request; `sha` is its head, on `branch`; it asks to be merged into `base`."""

    number: int
    title: str
    author: str
    branch: str
    base: str
    sha: str
    open: bool = True


class Comment(Record):
    """On a pull request. `edits`: how often it was changed."""

    id: int
    pull: int
    author: str
    body: str
    edits: int = 0


class Repository(Record):
    id: int
    owner: str
    name: str
    commits: list[str] = Field(default_factory=list)
    releases: list[Release] = Field(default_factory=list)
    statuses: list[Status] = Field(default_factory=list)
    collaborators: dict[str, str] = Field(default_factory=dict)
    pulls: list[Pull] = Field(default_factory=list)
    comments: list[Comment] = Field(default_factory=list)


class ForgeState(Record):
    accounts: dict[str, Account] = Field(default_factory=dict)
    organisations: dict[str, Organisation] = Field(default_factory=dict)
    renamed: dict[str, str] = Field(default_factory=dict)
    tokens: dict[str, Token] = Field(default_factory=dict)
    apps: list[App] = Field(default_factory=list)
    codes: dict[str, Code] = Field(default_factory=dict)
    grants: dict[str, str] = Field(default_factory=dict)
    repositories: dict[str, Repository] = Field(default_factory=dict)
    next_id: int = 1
    legacy: bool = False


class Pool(Record):
    """`gb_foreign`: what others than our VMs hold."""

    name: str
    gb_total: int
    gb_foreign: int = 0


class Node(Record):
    """One host. `sid` is the daemon's own id, `grid_node` the grid's. `dead_since`: it is dead, and looks up for long."""

    sid: str
    grid_node: str
    online: bool = True
    dead_since: float | None = None
    memory_mb_total: int = 131_072
    memory_mb_foreign: int = 0
    pools: list[Pool] = Field(default_factory=list)


class Vm(Record):
    """One VM; its state is read off the clock. `reachable_at` None: never."""

    sid: str
    name: str
    node_sid: str
    image: str
    cpu: int
    memory_mb: int
    disk_gb: int
    rootfs_gb: int
    pool: str
    ssh_keys: list[str]
    secret: str
    mycelium_ip: str
    created_at: float
    starting_at: float
    ready_at: float
    address_at: float
    reachable_at: float | None
    failed: bool = False
    crashes_from: float | None = None
    """It comes up and crashes, again and again, since then."""
    gone_at: float | None = None
    """It goes away by then: cancelled before, or rolled back."""


class Gateway(Record):
    sid: str
    name: str
    fqdn: str
    kind: str
    node_sid: str
    backends: list[str]
    tls_passthrough: bool
    secret: str
    created_at: float
    ready_at: float
    failed: bool = False
    """So says the listing; whether it leads anywhere is another matter (lesson 12)."""
    routes: bool = True
    gone_at: float | None = None


class Freed(Record):
    """What a deleted VM held; the readout counts it until `until`."""

    node_sid: str
    pool: str
    memory_mb: int
    disk_gb: int
    until: float


class ComputeState(Record):
    """One daemon. `down_until`: it is being restarted; `starts`: how often it was; `last_address`: of the last VM removed."""

    name: str
    gateway_domain: str
    nodes: list[Node] = Field(default_factory=list)
    vms: dict[str, Vm] = Field(default_factory=dict)
    gateways: dict[str, Gateway] = Field(default_factory=dict)
    freed: list[Freed] = Field(default_factory=list)
    next_vm: int = 1
    next_gateway: int = 1
    down_until: float = 0.0
    starts: int = 0
    last_address: str = ""


class Installed(Record):
    """One installed component. `running` is the version that its services were started with."""

    version: str
    running: str | None = None


class Service(Record):
    """`state` is what the supervisor says, `alive` what is. `works`: it does more than answer its health check."""

    component: str
    state: str = "stopped"
    pid: int | None = None
    alive: bool = False
    works: bool = True
    healthy_at: float = 0.0
    knows: int = 0
    """How many changes of secrets there had been on the machine when it started."""


class Domain(Record):
    domain: str
    auth_mode: str
    backend: str
    public_paths: list[str] = Field(default_factory=list)


class DoorConfig(Record):
    """What hero_proxy read when it was started last. `ungated`: a fault made it forget its gate."""

    client_id: str = ""
    client_secret: str = ""
    issuer: str = ""
    redirect_uri: str = ""
    allowed: list[str] = Field(default_factory=list)
    listener: bool = False
    ungated: bool = False


class MachineState(Record):
    key: str
    name: str
    mycelium_ip: str
    host_key: str
    packages: dict[str, str] = Field(default_factory=dict)
    package_lists: bool = False
    supervisor: bool = False
    lab: str | None = None
    components: dict[str, Installed] = Field(default_factory=dict)
    services: dict[str, Service] = Field(default_factory=dict)
    secrets: dict[str, dict[str, bytes]] = Field(default_factory=dict)
    secret_changes: int = 0
    changed: dict[str, int] = Field(default_factory=dict)
    """The number of the last change of a secret, `context/KEY`."""
    domains: dict[str, Domain] = Field(default_factory=dict)
    door: DoorConfig = Field(default_factory=DoorConfig)
    sessions: dict[str, str] = Field(default_factory=dict)
    next_pid: int = 400


class Engine(Record):
    """One shared engine. `accepted`: tenant → sha256 of its token, as it read them at its last start; `foreign`: tenants of
    others, who must stay registered.
    """

    name: str
    service: str
    context: str
    port: int
    accepted: dict[str, str] = Field(default_factory=dict)
    foreign: dict[str, str] = Field(default_factory=dict)


class Mail(Record):
    """One delivered mail. `key`: Resend's Idempotency-Key or the Message-ID without its brackets; `how`: resend or smtp."""

    id: str
    sender: str
    to: list[str]
    subject: str
    text: str = ""
    html: str = ""
    reply_to: list[str] = Field(default_factory=list)
    key: str = ""
    at: float
    how: str


class Remembered(Record):
    """What Resend keeps of an Idempotency-Key: a digest of the body, and the id that it answered."""

    digest: str
    id: str
    at: float


class PostState(Record):
    """Resend and the SMTP server. The credentials are made with the world."""

    resend_key: str = ""
    smtp_password: str = ""
    only_sends: bool = False
    """The key may do nothing else: a question for the domains is refused."""
    mailbox: list[Mail] = Field(default_factory=list)
    keys: dict[str, Remembered] = Field(default_factory=dict)


class Fault(Record):
    """One unpleasantness: which calls (`system`, `method`, both with wildcards), what (`kind`), how often and from
    when. `bit`: how often it has spoilt something.
    """

    system: str
    method: str
    kind: str
    times: int | None = 1
    at: float | None = None
    until: float | None = None
    target: str = "*"
    options: dict[str, Any] = Field(default_factory=dict)
    bit: int = 0


class Violation(Record):
    """Something that must never be true, seen at `time`."""

    time: float
    kind: str
    what: str


class WorldState(Record):
    seed: int
    time: float
    drawn: int = 0
    forge_url: str = "http://forge.test"
    forge: ForgeState = Field(default_factory=ForgeState)
    daemons: dict[str, ComputeState] = Field(default_factory=dict)
    machines: dict[str, MachineState] = Field(default_factory=dict)
    admin: MachineState | None = None
    admin_reachable: bool = True
    engines: list[Engine] = Field(default_factory=list)
    post: PostState = Field(default_factory=PostState)
    faults: list[Fault] = Field(default_factory=list)
    violations: list[Violation] = Field(default_factory=list)
