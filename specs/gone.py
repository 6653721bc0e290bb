"""What a Fleet says is gone for good, what of it still stands, and which engines are in use."""

from dataclasses import dataclass, field

from specs.fleet import Engine, Fleet


@dataclass(frozen=True, slots=True)
class Gone:
    """Daemons by name, nodes as (daemon, its own id of the node), engines by name."""

    daemons: frozenset[str] = field(default_factory=frozenset)
    nodes: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    engines: frozenset[str] = field(default_factory=frozenset)

    def place(self, daemon: str, node: str = "") -> bool:
        """Whether what is at this place is lost with it. `node` "": nobody knows on which."""
        return daemon in self.daemons or (daemon, node) in self.nodes


def gone_of(fleet: Fleet) -> Gone:
    """Everything with `gone: true`."""
    compute = fleet.spec.compute
    return Gone(
        frozenset(daemon.name for daemon in compute if daemon.gone),
        frozenset((daemon.name, str(node.sid)) for daemon in compute for node in daemon.nodes if node.gone),
        frozenset(engine.name for engine in fleet.spec.engines if engine.gone),
    )


def standing(fleet: Fleet) -> Fleet:
    """The Fleet without what is gone: what clients are made for, and where machines may be. A daemon may have no node left:
    what it still has there is looked after all the same."""
    compute = tuple(
        daemon.model_copy(update={"nodes": tuple(node for node in daemon.nodes if not node.gone)})
        for daemon in fleet.spec.compute
        if not daemon.gone
    )
    engines = tuple(engine for engine in fleet.spec.engines if not engine.gone)
    return fleet.model_copy(update={"spec": fleet.spec.model_copy(update={"compute": compute, "engines": engines})})


def used_engines(fleet: Fleet) -> tuple[Engine, ...]:
    """The engines for which testers get a token: neither retired nor gone."""
    return tuple(engine for engine in fleet.spec.engines if not engine.gone and not engine.retired)
