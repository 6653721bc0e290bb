"""The check-up of a folder's Fleet: for `testerctl doctor`, and for the start of `testerctl run`."""

from __future__ import annotations

from collections import Counter

from controller.checkup.doctor import LIMIT, Finding, Telling, Verdict, examine
from controller.places import Places
from controller.references import References
from controller.store import Store
from reconcilers.backends.opening import Options
from reconcilers.clock import Clock
from reconcilers.facts import MachineFacts, ObjectState
from specs.fleet import Fleet
from specs.loading import load_folder

SIGNS = {Verdict.GOOD: "✓", Verdict.WRONG: "✗", Verdict.UNKNOWN: "–"}


async def examine_folder(
    where: Places, store: Store, clock: Clock, telling: Telling | None = None
) -> tuple[Finding, ...]:
    """The findings about the Fleet in a folder; one about the folder itself when it holds no usable Fleet."""
    loaded = load_folder(where.folder, clock.now().date())
    if loaded.fleet is None:
        why = "; ".join(str(error) for error in loaded.errors[:3]) or "there is none"
        mend = f"`testerctl validate {where.folder}` shows everything"
        return (Finding("fleet", "can be read", Verdict.WRONG, why, mend),)
    return await examine_fleet(loaded.fleet, where, store, clock, telling)


async def examine_fleet(
    fleet: Fleet, where: Places, store: Store, clock: Clock, telling: Telling | None = None
) -> tuple[Finding, ...]:
    """The findings about a Fleet that was read already. `telling`: where answers go back to git."""
    secrets = await References(store, where.files).resolve(fleet.spec.secrets())
    machines = await store.objects(MachineFacts.step, frozenset({ObjectState.EXISTING}))
    standing_at = Counter(row.identity.get("daemon", "") for row in machines)
    return await examine(fleet, secrets, clock, Options(folder=where.files), LIMIT, standing_at, telling)


def in_words(finding: Finding) -> str:
    """`Forge, token's owner: …; make that account …`."""
    mend = f"; {finding.mend}" if finding.mend else ""
    return f"{finding.system}, {finding.what}: {finding.detail}{mend}"
