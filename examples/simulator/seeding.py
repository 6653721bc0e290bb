"""What a new world holds before anybody touches it."""

from examples.simulator.catalogue import COMPONENTS, LAB_ASSET, OWNER, VERSIONS
from examples.simulator.forge import Forge
from examples.simulator.records import ComputeState, Node, Organisation, Pool, Token
from examples.simulator.standin import STAND_IN

CONTROLLER = "controller"
ADMINS = ("mik", "sara")
PEOPLE = ("bob",)
ORGANISATIONS = ("geomind", OWNER)
SCOPES = ["write:admin", "write:user", "write:repository", "write:issue"]
FLEET = ("geomind", "fleet")
FEEDBACK = ("geomind", "feedback")


def seed_forge(forge: Forge) -> None:
    """The controller's account (a site admin with a token), admins, an ordinary person with repositories, releases of
    all components.
    """
    forge.create_account(CONTROLLER, "controller@example.org", forge.realm.draw(), admin=True, must_change=False)
    for name in ADMINS:
        forge.create_account(name, f"{name}@example.org", f"{name}-password", admin=True, must_change=False)
    for name in PEOPLE:
        forge.create_account(name, f"{name}@example.org", f"{name}-password", must_change=False, full_name=name.title())
        forge.repositories.create(name, "notes")
        forge.repositories.create(name, "dotfiles")
    for name in ORGANISATIONS:
        forge.state.organisations[name] = Organisation(id=forge.next_id(), name=name, owners=["mik"])
    add_token(forge, CONTROLLER, SCOPES)
    seed_releases(forge)
    forge.repositories.create(*FEEDBACK)
    fleet = forge.repositories.create(*FLEET)
    forge.repositories.commit(fleet)


def add_token(forge: Forge, account: str, scopes: list[str]) -> str:
    value = forge.realm.draw(40)
    forge.state.tokens[value] = Token(value=value, account=account, scopes=scopes)
    return value


def controller_token(forge: Forge) -> str:
    return next(token.value for token in forge.state.tokens.values() if token.account == CONTROLLER)


def seed_releases(forge: Forge) -> None:
    for component in COMPONENTS:
        for version in VERSIONS:
            forge.repositories.publish(OWNER, component, version, version, f"{component} {version}\n")
        forge.repositories.publish(OWNER, component, "latest", VERSIONS[-1], f"{component} {VERSIONS[-1]}\n")
    forge.repositories.publish(OWNER, "lab", "latest", VERSIONS[-1], STAND_IN)
    asset = forge.repositories.asset(OWNER, "lab", "latest", LAB_ASSET)
    if asset is None:
        raise AssertionError("lab's release has no asset")


def new_daemon(number: int) -> ComputeState:
    """Two hosts each, about ten testers to a host; the ids of nodes start at "0001" in every daemon, the grid's do
    not.
    """
    nodes = [
        Node(
            sid=f"{place:04}",
            grid_node=str(2 * number + place - 1),
            memory_mb_total=98_304,
            pools=[Pool(name="ssd1", gb_total=700), Pool(name="ssd2", gb_total=300)],
        )
        for place in (1, 2)
    ]
    return ComputeState(name=f"compute{number}", gateway_domain=f"gent{number}.grid.test", nodes=nodes)
