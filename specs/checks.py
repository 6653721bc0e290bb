"""The rules that one tester must keep on top of its model: does it fit itself, the Fleet and the catalogue?

Each rule yields findings; a path counts from the document's root. What the Fleet's defaults say about a component
that a tester does not get is passed over; what the tester's own document says about it is an error.
"""

from collections.abc import Iterator, Mapping
from datetime import date

from pydantic_core import PydanticCustomError

from specs.catalogue import Catalogue
from specs.choice_checks import Path, check_choice, path_owner, secrets_of
from specs.errors import Finding
from specs.fleet import Fleet
from specs.forge_rules import forge_name
from specs.merging import effective
from specs.ownership import Place, chosen_components, context_of
from specs.references import FLEET_WIDE
from specs.suggest import suggestion
from specs.tester import Tester, TesterSpec


def check_tester(tester: Tester, fleet: Fleet, catalogue: Catalogue) -> tuple[Finding, ...]:
    """Every rule that the tester breaks. The Fleet must be sound (specs.fleet_checks)."""
    return (*check_own(tester, fleet), *check_choices(tester.spec, fleet, catalogue))


def check_own(tester: Tester, fleet: Fleet) -> tuple[Finding, ...]:
    """The rules that hang on who it is."""
    return (*_account(tester, fleet), *_of_others(tester))


def check_choices(own: TesterSpec, fleet: Fleet, catalogue: Catalogue) -> tuple[Finding, ...]:
    """The rules that hang on what it chooses: whoever chooses the same breaks the same."""
    spec = effective(own, fleet)
    chosen = chosen_components(spec.components, fleet, catalogue)
    return (
        *check_choice(own, ("spec",), fleet, catalogue),
        *_default_set(own, spec, fleet),
        *_needs(own, chosen, catalogue),
        *_not_chosen(own, chosen, catalogue),
        *_public_paths(own, chosen, catalogue),
        *_settings_agree(spec, chosen, catalogue),
        *_borrowed(own, fleet),
    )


def check_dates(tester: Tester, today: date) -> tuple[Finding, ...]:
    """For a new tester: dates that have passed already."""
    spec = tester.spec
    dates: dict[Path, date | None] = {
        ("spec", "expires"): spec.expires,
        ("spec", "paused", "until"): spec.paused.until if spec.paused else None,
    }
    return tuple(
        Finding(path, f"{day} has passed already", "take it out, or choose a day to come")
        for path, day in dates.items()
        if day is not None and day < today
    )


def _account(tester: Tester, fleet: Fleet) -> Iterator[Finding]:
    identity = tester.spec.identity
    if identity.account is None:
        try:
            forge_name(tester.name)
        except PydanticCustomError as error:
            problem = str((error.context or {}).get("problem"))
            remedy = "choose another name, or give the account's name in spec.identity.account"
            yield Finding(("metadata", "name"), problem, remedy)
    at: Path = ("spec", "identity")
    if not identity.existing:
        admins = {admin.account.casefold() for admin in fleet.spec.admins}
        if tester.account.casefold() in admins:
            place: Path = (*at, "account") if identity.account else ("metadata", "name")
            yield Finding(place, f"{tester.account!r} is an admin's account", "adopt it: existing: true")
        return
    if "when_removed" in identity.model_fields_set and identity.when_removed != "keep":
        problem = f"an existing account is never changed or deleted, so it cannot be {identity.when_removed!r}"
        yield Finding((*at, "whenRemoved"), problem, "write keep, or take it out")
    if identity.password_reset:
        problem = "the password of an existing account is not ours to reset"
        yield Finding((*at, "passwordReset"), problem, "take it out; the person resets it at Forge")


def _default_set(own: TesterSpec, spec: TesterSpec, fleet: Fleet) -> Iterator[Finding]:
    """A set that nobody wrote down but that is missing from the Fleet."""
    name = spec.components.set
    written = "set" in own.components.model_fields_set
    if not written and name not in fleet.spec.component_sets:
        yield Finding(("spec", "components", "set"), f"the Fleet has no set {name!r}", "choose one that it has")


def _needs(own: TesterSpec, chosen: tuple[str, ...], catalogue: Catalogue) -> Iterator[Finding]:
    remove = own.components.remove
    for name in chosen:
        for need in catalogue[name].needs:
            if need in chosen:
                continue
            at: Path = (
                ("spec", "components", "remove", remove.index(need)) if need in remove else ("spec", "components")
            )
            yield Finding(at, f"{name} needs {need} to start", f"keep {need}, or take out {name} as well")


def _not_chosen(own: TesterSpec, chosen: tuple[str, ...], catalogue: Catalogue) -> Iterator[Finding]:
    places: tuple[tuple[Path, Mapping[str, object]], ...] = (
        (("spec", "components", "settings"), own.components.settings),
        (("spec", "version", "pin"), own.version.pin),
    )
    for at, mapping in places:
        for name in mapping:
            if name in catalogue and name not in chosen:
                yield Finding((*at, name), f"{name} is not on this tester's machine", "add it, or take this out", True)


def _public_paths(own: TesterSpec, chosen: tuple[str, ...], catalogue: Catalogue) -> Iterator[Finding]:
    apps = {name: component for name, component in catalogue.items() if name in chosen}
    for index, path in enumerate(own.components.public_paths):
        at: Path = ("spec", "components", "publicPaths", index)
        owner = path_owner(path, apps)
        if owner is None:
            first = path.split("/")[1]
            if first in catalogue:
                yield Finding(at, f"{first} is not on this tester's machine", "add it, or take this out")
                continue
            known = [service for app in apps.values() if not app.core for service in app.services]
            yield Finding(at, f"{path!r} is below no app of this tester", suggestion(first, known))
        elif owner.core:
            yield Finding(at, f"{path!r} belongs to {owner.name}, which is never public", "name a path of an app")


def _settings_agree(spec: TesterSpec, chosen: tuple[str, ...], catalogue: Catalogue) -> Iterator[Finding]:
    """Two components may share a setting, but not disagree about it."""
    first: dict[Place, tuple[str, object]] = {}
    for name, values in spec.components.settings.items():
        if name not in chosen:
            continue
        for key, value in values.items():
            owner, before = first.setdefault((context_of(catalogue[name], key), key), (name, value))
            if before != value:
                problem = f"{owner} and {name} share this setting and disagree about it"
                yield Finding(("spec", "components", "settings", name, key), problem, "write it once")


def _borrowed(own: TesterSpec, fleet: Fleet) -> Iterator[Finding]:
    """The controller's own secrets never go to a tester's machine."""
    spec = fleet.spec
    ours = {spec.installer.private_key, spec.forge.token, *(daemon.secret for daemon in spec.compute)}
    if spec.mail:
        ours |= {each for each in (spec.mail.resend_key, spec.mail.smtp and spec.mail.smtp.password) if each}
    for at, reference in secrets_of(own, ("spec",)):
        if reference in ours:
            problem = "this is a secret of the controller itself"
            yield Finding(at, problem, "a tester's machine gets secrets of its own")


def _of_others(tester: Tester) -> Iterator[Finding]:
    """A sealed secret of another tester's never goes to this one's machine."""
    if tester.name == FLEET_WIDE:
        problem = f"{FLEET_WIDE}/… are the sealed secrets of the whole fleet"
        yield Finding(("metadata", "name"), problem, "choose another name")
    for at, reference in secrets_of(tester.spec, ("spec",)):
        if reference.owner not in (None, tester.name, FLEET_WIDE):
            problem = f"{reference.owner}/… are not the sealed secrets of {tester.name}"
            remedy = (
                f"keep it as {tester.name}/… or, for everybody, as {FLEET_WIDE}/… (testerctl secret set), and name that"
            )
            yield Finding(at, problem, remedy)
