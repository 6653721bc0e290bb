"""Orphans: what stands outside under a name that only a controller gives, and that no row of our books knows.

Nobody looks for them: whatever the listings that passes have read show is compared with the books, and nothing more is asked. An
admin is told, and decides; nothing is deleted here. An orphan may be another controller's, or of books that were lost.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.records import AddEvent, Change, Condition, Event, PutCondition, Severity, Status
from controller.store import Store, StoreError
from controller.world import World
from reconcilers.clock import Clock
from reconcilers.facts import ObjectState
from reconcilers.listings import TENANT, Listing, listed_here, listings_of
from specs.names import bearer_of, is_borne_by, tenant_name

log = logging.getLogger("controller")

CONDITION = "NothingOrphaned"
FOUND = "OrphansFound"
MOST_TOLD = 20

Thing = tuple[str, str, str]
"""What it is, where it is listed, its name."""

Row = tuple[str, ObjectState]
"""The name of an outside object in our books, and where it stands."""

Bearer = tuple[str, str]
"""A tester's name and uid."""

Known = tuple[str, str, bool]
"""The same, and whether the tester is still here."""


@dataclass
class Orphans:
    """What is unknown, since which look. Kept in memory: after a start it is learnt anew before anything is told.

    A listing may lag behind what was taken away: only what was unknown in looks further apart than the grace counts.
    """

    store: Store
    clock: Clock
    _unknown: dict[Thing, tuple[datetime, datetime]] = field(default_factory=dict)  # first and last look that showed it
    _compared: dict[tuple[str, str], datetime] = field(default_factory=dict)  # listings since the start, by age
    _last: tuple[int, dict[tuple[str, str], frozenset[str]]] = (
        -1,
        {},
    )  # commits then, and the names that were compared
    _left_out: bool = False  # some of it stood where the Fleet names nothing any more, and that is still told

    async def look(self, world: World | None) -> None:
        """Compare what is at hand, and tell what is new. A store that cannot be read or written is tried the next time."""
        if world is None:
            return
        self._forget_left_out(listed_here(world.fleet))
        # The listings first: what they show was in the books before it was made.
        news = [
            each for each in listings_of(world.looks, world.fleet) if self._compared.get(each.place) != each.taken_at
        ]
        if not news and not self._left_out:
            return
        try:
            if self._tells_nothing_new(news):
                return
            commits = self.store.commits
            self._compare(news, await self.store.names_of_objects(), await self.store.bearers())
            self._last = commits, {**self._last[1], **{each.place: each.names for each in news}}
            await self.store.write(*await self._changes(world))
            self._left_out = False
        except StoreError as error:
            log.warning("orphans are not looked for: %s", error)

    def _tells_nothing_new(self, news: Sequence[Listing]) -> bool:
        """Listings that show what the last ones showed, of which all was known, while nothing of ours was written: thousands of
        names are much to compare once a minute."""
        commits, names = self._last
        same = all(names.get(each.place) == each.names for each in news)
        if self._unknown or self._left_out or not same or commits != self.store.commits:
            return False
        self._compared.update((each.place, each.taken_at) for each in news)
        return True

    def _forget_left_out(self, here: frozenset[tuple[str, str]]) -> None:
        """What stood at a place that the Fleet does not name any more: nobody reads that listing again."""
        gone = {thing for thing in self._unknown if thing[:2] not in here}
        self._left_out = self._left_out or bool(gone)
        for thing in gone:
            del self._unknown[thing]
        self._compared = {place: at for place, at in self._compared.items() if place in here}

    def _compare(self, listings: Sequence[Listing], rows: Sequence[Row], testers: Sequence[Known]) -> None:
        here = [(name, uid) for name, uid, is_here in testers if is_here]
        standing, tenants = names_standing(rows), names_of_tenants(here)
        bearers: frozenset[Bearer] | None = None  # who bears a name is asked only of names that are in no book
        for listing in listings:
            known = tenants if listing.what == TENANT else standing
            unknown = [name for name in listing.names if name.casefold() not in known]
            if unknown and bearers is None:
                bearers = bearers_of(listings, rows, [(name, uid) for name, uid, _ in testers])
            before = {thing: seen for thing, seen in self._unknown.items() if thing[:2] == listing.place}
            # What was ours stays so when its tester has gone, though its name may tell that to nobody any more.
            things = ((*listing.place, name) for name in unknown)
            strange = {thing for thing in things if thing in before or is_ours(thing[2], bearers or ())}
            for thing in before.keys() - strange:
                del self._unknown[thing]
            for thing in strange:
                first, _ = before.get(thing, (listing.taken_at, listing.taken_at))
                # The clock may have been set back since.
                self._unknown[thing] = (min(first, listing.taken_at), listing.taken_at)
            self._compared[listing.place] = listing.taken_at

    async def _changes(self, world: World) -> tuple[Change, ...]:
        """Nothing while it says the same as the books, or while it is not clear that there are no more orphans."""
        told = await self.store.conditions("")
        known = next((each for each in told if each.type == CONDITION), None)
        certain = self._for_longer_than(world.fleet.spec.timing.listing_grace)
        if not certain:
            clear = not self._unknown and listed_here(world.fleet) <= self._compared.keys()
            if known is None or known.status is Status.TRUE or not clear:
                return ()
        status, reason = (Status.FALSE, FOUND) if certain else (Status.TRUE, CONDITION)
        text = in_words(certain) if certain else "everything that bears a name of ours is in the books"
        if known is not None and (known.status, known.message) == (status, text):
            return ()
        now = self.clock.now()
        since = known.since if known is not None and known.status is status else now
        severity = Severity.WARNING if certain else Severity.NORMAL
        return (
            PutCondition(
                Condition("", CONDITION, status, reason, text, 0, since, blames="an admin" if certain else "")
            ),
            AddEvent(Event("", "fleet", reason, text, now, severity)),
        )

    def _for_longer_than(self, grace: timedelta) -> tuple[Thing, ...]:
        return tuple(sorted(thing for thing, (first, last) in self._unknown.items() if last - first >= grace))


def names_standing(rows: Iterable[Row]) -> frozenset[str]:
    """What the books know to be there, or to be watched: folded, as Forge ignores case."""
    return frozenset(name.casefold() for name, state in rows if state is not ObjectState.GONE)


def names_of_tenants(testers: Iterable[Bearer]) -> frozenset[str]:
    """At the engines; in the spelling of gateways' names, so that each kind is compared with its own."""
    return frozenset(tenant_name(name, uid).casefold() for name, uid in testers)


def bearers_of(listings: Iterable[Listing], rows: Iterable[Row], testers: Iterable[Bearer]) -> frozenset[Bearer]:
    """Name and uid of everybody of whom books or listings tell, also of those who are gone."""
    names = [*(name for name, _ in rows), *(name for listing in listings for name in listing.names)]
    told = (bearer for name in names if (bearer := bearer_of(name)))
    return frozenset((*told, *testers))


def is_ours(name: str, bearers: Iterable[tuple[str, str]]) -> bool:
    """A machine's and an app's name tell it themselves; a gateway's and a tenant's only to who knows the tester."""
    return bearer_of(name) is not None or any(is_borne_by(name, who, uid) for who, uid in bearers)


def in_words(things: tuple[Thing, ...]) -> str:
    """What they are, where, and what can be done about them."""
    named = [f"{what} {name} at {where}" for what, where, name in things[:MOST_TOLD]]
    more = f" and {len(things) - MOST_TOLD} more" if len(things) > MOST_TOLD else ""
    return (
        f"{len(things)} in the listings bear a name of ours and are in no row of these books: {', '.join(named)}{more}; "
        "nothing is done about them: delete them there if nobody needs them (another controller may have made them)"
    )
