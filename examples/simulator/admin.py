"""The admin machine: stands before anybody comes, is no VM of any daemon, and carries the shared engines."""

import ipaddress
import json

from examples.simulator.catalogue import SUPERVISOR, VERSIONS
from examples.simulator.engines import REGISTRY, token_digest
from examples.simulator.files import Files
from examples.simulator.keys import new_host_key
from examples.simulator.machine_apt import ARCHIVE
from examples.simulator.realm import Realm
from examples.simulator.records import Engine, Installed, MachineState, Service
from examples.simulator.standin import STAND_IN

NAME = "admin"
KEY = "admin/0001"
FOREIGN = "workshop"
"""A tenant that somebody else registered at every engine; its token is `workshop-<engine>-token`."""
_ENGINES = (("embedder", "hero_embedder", 9801), ("voice", "hero_voice", 9802))


def new_engines() -> list[Engine]:
    return [
        Engine(name=name, service=service, context=name, port=port, accepted=held, foreign=held)
        for name, service, port in _ENGINES
        for held in ({FOREIGN: token_digest(f"{FOREIGN}-{name}-token")},)
    ]


def new_admin(realm: Realm, engines: list[Engine]) -> MachineState:
    """Supervisor and engines are installed and running, as somebody set them up long ago."""
    address = ipaddress.IPv6Address((0x04 << 120) | realm.chance("admin machine").getrandbits(120))
    components = (SUPERVISOR, *(engine.service for engine in engines))
    return MachineState(
        key=KEY,
        name=NAME,
        mycelium_ip=str(address),
        host_key=new_host_key(realm, "admin machine"),
        packages={name: ARCHIVE[name] for name in ("curl", "ca-certificates")},
        package_lists=True,
        supervisor=True,
        lab=VERSIONS[-1],
        components={name: Installed(version=VERSIONS[-1], running=VERSIONS[-1]) for name in components},
        services={
            engine.service: Service(component=engine.service, state="running", pid=300 + place, alive=True)
            for place, engine in enumerate(engines)
        },
        secrets={engine.context: {REGISTRY: json.dumps(engine.foreign).encode()} for engine in engines},
    )


def furnish(files: Files, state: MachineState) -> None:
    """Its programs, beyond those of a bare image."""
    files.write("../sim/bin/curl", STAND_IN.encode(), 0o755)
    for program in ("lab", *state.components):
        files.write(f"hero/bin/{program}", STAND_IN.encode(), 0o755)
