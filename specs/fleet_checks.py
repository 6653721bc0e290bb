"""The rules that the Fleet must keep on top of its model: no name twice, none unknown, no setting with two owners."""

from collections.abc import Iterable, Iterator
from typing import Final

from specs.catalogue import Catalogue
from specs.choice_checks import Path, check_choice, check_component, path_owner, secrets_of
from specs.errors import Finding
from specs.fleet import Fleet, FleetSpec
from specs.ownership import GATE_KEYS
from specs.references import FLEET_WIDE

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


def check_fleet(fleet: Fleet, catalogue: Catalogue) -> tuple[Finding, ...]:
    """Every rule that the Fleet breaks."""
    spec = fleet.spec
    defaults: Path = ("spec", "defaults")
    return (
        *_repeated((each.account for each in spec.admins), ("spec", "admins"), "account"),
        *_repeated((each.name for each in spec.compute), ("spec", "compute"), "name"),
        *_repeated((each.url for each in spec.compute), ("spec", "compute"), "url"),
        *_repeated((each.name for each in spec.engines), ("spec", "engines"), "name"),
        *_nodes(spec),
        *_settings(spec),
        *_registries(spec),
        *_mail(spec),
        *_sets(spec, catalogue),
        *check_choice(spec.defaults, defaults, fleet, catalogue),
        *_default_paths(spec, (*defaults, "components", "publicPaths"), catalogue),
        *_default_secrets(spec, defaults),
    )


def _repeated(values: Iterable[str], at: Path, field: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value.casefold() in seen:
            yield Finding((*at, index, field), f"{value!r} is there twice", "each must be another one")
        seen.add(value.casefold())


def _nodes(spec: FleetSpec) -> Iterator[Finding]:
    """Two hosts of one daemon never share an id. Two daemons may: each has its own sequence (lesson 9)."""
    for index, daemon in enumerate(spec.compute):
        at: Path = ("spec", "compute", index, "nodes")
        yield from _repeated((node.sid for node in daemon.nodes), at, "sid")
        yield from _repeated((node.grid_node for node in daemon.nodes), at, "gridNode")


def _settings(spec: FleetSpec) -> Iterator[Finding]:
    owned: list[tuple[Path, str, str]] = []
    for index, engine in enumerate(spec.engines):
        at: Path = ("spec", "engines", index)
        owned.append(((*at, "urlSetting"), engine.context, engine.url_setting))
        owned.append(((*at, "tokenSetting"), engine.context, engine.token_setting))
    for name, provider in spec.providers.items():
        owned.append((("spec", "providers", name, "setting"), provider.context, provider.setting))
    seen: set[tuple[str, str]] = set()
    for path, context, key in owned:
        if key in GATE_KEYS:
            yield Finding(path, f"{key} is kept by the sign-in gate", "choose another setting")
        elif (context, key) in seen:
            yield Finding(path, f"{context}/{key} has another owner already", "choose another setting or context")
        seen.add((context, key))


def _registries(spec: FleetSpec) -> Iterator[Finding]:
    """Two engines never share their list of tenants: each would take the other's tokens for its own."""
    owners: dict[tuple[str, int, str], str] = {}
    for index, engine in enumerate(spec.engines):
        registry = engine.registry
        owner = owners.setdefault((registry.host, registry.port, registry.context), engine.name)
        if owner != engine.name:
            at: Path = ("spec", "engines", index, "registry", "context")
            problem = f"{registry.context} on {registry.host} is the registry of engine {owner} already"
            yield Finding(at, problem, "each engine keeps its tenants in a context of its own")


def _mail(spec: FleetSpec) -> Iterator[Finding]:
    """One way out, and no password that others could read on it."""
    at: Path = ("spec", "mail", "smtp")
    smtp = spec.mail.smtp if spec.mail else None
    if spec.mail is None or smtp is None:
        return
    if spec.mail.resend_key:
        yield Finding(at, "mail goes out by Resend or by a server, not by both", "take out resendKey or smtp", True)
    if (smtp.user is None) != (smtp.password is None):
        here, missing = ("user", "password") if smtp.password is None else ("password", "user")
        yield Finding((*at, here), f"{here} is there without {missing}", f"add {missing}, or take out {here}", True)
    if smtp.password and not smtp.encrypted and smtp.host not in LOOPBACK:
        yield Finding((*at, "startTls"), "the password would go over the network in clear", "write startTls: true")


def _sets(spec: FleetSpec, catalogue: Catalogue) -> Iterator[Finding]:
    for name, members in spec.component_sets.items():
        for index, member in enumerate(members):
            yield from check_component(member, ("spec", "componentSets", name, index), catalogue)


def _default_paths(spec: FleetSpec, at: Path, catalogue: Catalogue) -> Iterator[Finding]:
    for index, path in enumerate(spec.defaults.components.public_paths):
        owner = path_owner(path, catalogue)
        if owner is None or owner.core:
            yield Finding((*at, index), f"{path!r} is below no app", "write it like /hero_whiteboard/share/")


def _default_secrets(spec: FleetSpec, at: Path) -> Iterator[Finding]:
    """What everybody's machine gets is nobody's own."""
    for place, reference in secrets_of(spec.defaults, at):
        if reference.owner not in (None, FLEET_WIDE):
            problem = f"{reference.owner}/… are sealed secrets of one tester, and this is for all"
            yield Finding(place, problem, f"keep it as {FLEET_WIDE}/… (testerctl secret set), and name that")
