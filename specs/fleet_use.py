"""A Fleet that leaves out what testers still use is refused: nobody could look after, or take away, what they have there."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from specs.choice_checks import Path
from specs.errors import Finding
from specs.fleet import Fleet

NAMED: Final = 5
"""So many testers are named; of the others there is only the number."""

Users = tuple[str, ...]
"""Names of testers."""


@dataclass(frozen=True, slots=True)
class InUse:
    """Which testers have something where. Daemons and engines by name, nodes as (daemon, its own id of the node)."""

    daemons: Mapping[str, Users] = field(default_factory=dict)
    nodes: Mapping[tuple[str, str], Users] = field(default_factory=dict)
    engines: Mapping[str, Users] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What one Fleet named and the next one does not."""

    daemons: tuple[str, ...] = ()
    nodes: tuple[tuple[str, str], ...] = ()
    engines: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.daemons or self.nodes or self.engines)


def left_out(before: Fleet, now: Fleet) -> LeftOut:
    """Nodes only of daemons that are still there."""
    daemons = {daemon.name: {node.sid for node in daemon.nodes} for daemon in now.spec.compute}
    engines = {engine.name for engine in now.spec.engines}
    return LeftOut(
        tuple(daemon.name for daemon in before.spec.compute if daemon.name not in daemons),
        tuple(
            (daemon.name, str(node.sid))
            for daemon in before.spec.compute
            for node in daemon.nodes
            if daemon.name in daemons and node.sid not in daemons[daemon.name]
        ),
        tuple(engine.name for engine in before.spec.engines if engine.name not in engines),
    )


def check_left_out(left: LeftOut, fleet: Fleet, in_use: InUse) -> tuple[Finding, ...]:
    """A finding about `fleet` for everything that it leaves out and that testers use: whose, and what to do first."""
    return tuple(_findings(left, fleet, in_use))


def _findings(left: LeftOut, fleet: Fleet, in_use: InUse) -> Iterator[Finding]:
    at: Path = ("spec", "compute")
    for name in left.daemons:
        if users := in_use.daemons.get(name):
            yield Finding(at, f"daemon {name} is left out while in use by {_whose(users)}", _LEAVE_FIRST, at_key=True)
    for daemon, sid in left.nodes:
        if users := in_use.nodes.get((daemon, sid)):
            index = next(index for index, each in enumerate(fleet.spec.compute) if each.name == daemon)
            problem = f"node {daemon}/{sid} is left out while in use by {_whose(users)}"
            yield Finding((*at, index, "nodes"), problem, _LEAVE_FIRST, at_key=True)
    for name in left.engines:
        if users := in_use.engines.get(name):
            problem = f"engine {name} is left out while {_whose(users)} may have a token there"
            yield Finding(("spec", "engines"), problem, _REVOKE_FIRST, at_key=True)


_LEAVE_FIRST: Final = (
    "put it back until they have left: remove them, or name another machine.node and raise machine.rebuild; "
    "if it is gone for good, put it back with gone: true"
)
_REVOKE_FIRST: Final = (
    "put it back with retired: true until their tokens are revoked; if it is gone for good, with gone: true"
)


def _whose(users: Users) -> str:
    more = f" and {len(users) - NAMED} more" if len(users) > NAMED else ""
    return ", ".join(users[:NAMED]) + more
