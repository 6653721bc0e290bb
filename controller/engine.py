"""The engine: takes names from the queue and gives each tester one pass at a time, many testers at once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

from controller.backoff import Failures, spread
from controller.in_use import last_good_fleet
from controller.intake import Revision, Taken, take_in
from controller.meters import Meters
from controller.passes.acting import Draining, where
from controller.passes.converging import Bench, Pass, converge
from controller.passes.operations import Operations
from controller.passes.proofs import Proofs
from controller.passes.removal import remove
from controller.passes.rest import Rest
from controller.passes.resting import Resting, may_rest
from controller.passes.status import REACHABLE
from controller.passes.written_off import write_off
from controller.promises import all_promises
from controller.queue import Queue, Urgency
from controller.records import (
    AddEvent,
    Event,
    NameForgeOwner,
    Severity,
    TesterBooks,
)
from controller.recovery import known_now
from controller.references import References
from controller.sightings import Sightings
from controller.store import Store, StoreError
from controller.store.fencing import LEASE, Lease, NotOurs
from controller.world import World
from reconcilers.backends.haste import HASTE
from reconcilers.clock import Clock
from reconcilers.errors import OutsideError
from reconcilers.facts import ObjectState, Promise
from reconcilers.gateway_routing import GRID_ROUTING
from reconcilers.secret import Secret
from specs.desired import needs_of_secret
from specs.fleet import Fleet

log = logging.getLogger("controller")

AT_ONCE = 256  # passes; the limits on the outside live in the transports, so this only bounds memory
FOR_CHANGES = 32  # of these: hundreds of others may wait for machines that do not answer
DRAIN = timedelta(seconds=5)  # how long a pass may take to reach its next safe point after SIGTERM
RESTING = 1 / 4  # of the resync: how old a listing may be for who was in sync and is looked at because it is time
START_SPREAD = timedelta(seconds=2)
FOR_EACH = timedelta(milliseconds=20)  # of the time over which everybody is looked at after another Fleet
AT_FIRST = 500  # testers whose books are read at once


class Engine:
    """`open_world` builds the clients for a Fleet; `folder` is where relative `file:` references start."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        open_world: Callable[[Fleet, dict[str, Secret]], World],
        folder: Path,
        chance: random.Random,
    ) -> None:
        self.store = store
        self.clock = clock
        self.chance = chance
        self.queue = Queue(clock)
        self.operations = Operations(wake=self.queue.add)
        self.references = References(store, folder)
        self.sightings = Sightings()
        self.meters = Meters()
        self.passes = 0  # ended since the start
        self.world_error: str = ""
        self._open_world = open_world
        self._world: World | None = None
        self._world_of: tuple[str, dict[str, Secret]] | None = None
        self.alone = True  # the whole store is ours; else those testers are that the queue admits
        self.placing: AbstractAsyncContextManager[None] = (
            asyncio.Lock()
        )  # one for all worlds: calls of a retired one go on
        self.lease_of: Callable[[str], Lease | None] = lambda name: None  # raises NotOurs
        self._world_ready = asyncio.Event()
        self._adopting = asyncio.Lock()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._unbegun: set[object] = set()  # those of them that have not taken their first step
        self._failures = Failures({})
        self.proofs = Proofs(store)
        self.resting = Resting(store, self.proofs)
        self._bench = Bench(
            store,
            clock,
            self.operations,
            chance,
            lambda: self._stopping,
            self._secrets_of,
            self.sightings,
            self.meters,
            proofs=self.proofs,
        )

    @property
    def world(self) -> World | None:
        return self._world

    async def take_in(self, revision: Revision) -> Taken:
        """A new reading of the source: rows, then a new world if the Fleet changed, then work. Raises StoreError."""
        taken = await take_in(revision, self.store, self.clock, self.chance)
        try:
            if taken.fleet is not None:
                await self.adopt(taken.fleet)
        finally:  # the rows are written: whoever reads the same again will find nothing changed
            for name in taken.changed:
                self.queue.add(name)
        return taken

    async def adopt(self, fleet: Fleet) -> None:
        """Work with this Fleet from now on; passes under way end with the old one. Credentials are resolved anew."""
        async with self._adopting:
            await self._adopt(fleet)

    async def _adopt(self, fleet: Fleet) -> None:
        secrets = await self.references.resolve(fleet_references(fleet))
        key = fleet.model_dump_json()
        if self._world_of == (key, secrets):
            return
        await self._name_owner(fleet)
        try:
            world = self._open_world(fleet, secrets)
        except OutsideError as error:
            await self._tell_world_error(str(error))
            return
        except Exception as error:  # a mistake of ours: the last good world goes on, and texts may hold values
            log.error("the Fleet could not be opened: %s", where(error))
            await self._tell_world_error(f"internal error ({type(error).__name__}); the log has it")
            return
        world.mark = self.resting.mark_of_world(key, secrets)
        world.looks.promised, world.looks.placing = self._promised, self.placing
        world.looks.unrouted = self._unrouted
        timing = fleet.spec.timing
        world.looks.resting_age = max(timing.look_age, timing.resync * RESTING)
        old, self._world, self._world_of, self.world_error = self._world, world, (key, secrets), ""
        self._world_ready.set()
        if old is not None:
            await old.retire()
            names = sorted(await self.store.names())
            within = min(timing.resync, max(START_SPREAD, FOR_EACH * len(names)))
            for name in names:
                self.queue.add(name, within * self.chance.random(), Urgency.RESYNC)

    async def _name_owner(self, fleet: Fleet) -> None:
        """A Fleet that names the Forge token's account decides whose what we make there is from now on."""
        named, known = fleet.spec.forge.owner, await self.store.forge_owner()
        if not named or named.casefold() == known.casefold():
            return
        now = self.clock.now()
        text = f"what is made at Forge belongs to {named} from now on, as spec.forge.owner says"
        event = Event("", "fleet", "ForgeOwnerNamed", f"{text} (before: {known})" if known else text, now)
        await self.store.write(NameForgeOwner(named, now), AddEvent(event))

    async def run(self) -> None:
        """Work until `stop`. Raises StoreError when the store cannot be read at the start."""
        if self.alone:  # else it begins with what the crew gets
            await self.recover(lambda name: True)
            await self._adopt_last_fleet()
            await self.look_at_first(await self.store.names(), START_SPREAD)
        await self._world_ready.wait()
        slots = asyncio.Semaphore(AT_ONCE)
        self.queue.others_at_once = max(1, AT_ONCE - FOR_CHANGES)

        def ended(task: asyncio.Task[None]) -> None:
            slots.release()
            self._ended(task)

        while not self._stopping:
            await slots.acquire()  # first, so that who is most urgent is decided when a pass can begin
            name = await self.queue.get()
            if self.queue.urgency_of(name) is not Urgency.CHANGED:
                await asyncio.sleep(0)  # one in a turn of the loop: a change never waits for the work of hundreds
            if self._bench.stopping():
                return
            task = asyncio.create_task(self._one(name), name=name)
            self._tasks.add(task)
            self._unbegun.add(task)
            task.add_done_callback(ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Also of one that was cut off before it took its first step: it could not say that the name is free again."""
        self._tasks.discard(task)
        if task in self._unbegun:
            self._unbegun.discard(task)
            self.queue.done(task.get_name())

    async def look_at_first(self, names: Iterable[str], within: timedelta) -> None:
        """Queue these testers, spread over the given time; who was at rest before is compared with what it rested on."""
        every = sorted(names)
        for some in (every[start : start + AT_FIRST] for start in range(0, len(every), AT_FIRST)):
            await self.resting.recall(some)
            for name in some:
                self.queue.add(name, within * self.chance.random(), Urgency.FAILING)

    async def look_at_all(self, within: timedelta) -> None:
        """Queue every tester that has no time of its own, spread over the given time: a net under lost wake-ups."""
        for name in sorted(await self.store.names()):
            after = within * self.chance.random()
            if name not in self.queue:
                self.queue.add(name, after, Urgency.RESYNC)

    async def stop(self) -> None:
        """End passes at their next safe point; what does not get there in seconds is cancelled and journalled as unknown."""
        self._stopping = True
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.operations.aclose()
        while await self._write_down() and self.resting.are_left:
            continue
        if self._world is not None:
            await self._world.retire()

    async def _one(self, name: str) -> None:
        self._unbegun.discard(asyncio.current_task())
        HASTE.set(self.queue.haste_of(name))  # of this task and all that it starts
        wait: timedelta | None = None
        urgency, began, whole = Urgency.RESYNC, self.clock.now(), False
        try:
            LEASE.set(self.lease_of(name))  # of this task and all that it starts
            wait = await self.look(name)
            self._failures.forget(name)
            whole = True
            if wait is not None and self._world is not None and wait < self._world.fleet.spec.timing.resync / 2:
                urgency = Urgency.FAILING
        except asyncio.CancelledError:
            raise
        except Exception as error:
            wait, urgency = self._failures.next_wait(name, self.chance), Urgency.FAILING
            await self._tell_broken_pass(name, error)
        finally:
            if wait is not None and not self._stopping:
                self.queue.add(name, wait, urgency)
            self.queue.done(name)
            self.passes += 1
            now = self.clock.now()
            self.meters.passed(now, now - began, whole=whole)
        if self.proofs.are_due(now) or self.resting.are_many:
            await self._write_down()

    async def _write_down(self) -> bool:
        """When what was seen, and who has come to rest. False: of the latter nothing can be written now."""
        rows, written = self.resting.rows(), False
        try:
            written = await self.proofs.flush(rows)
        finally:
            if not written:
                self.resting.unwritten(rows)
        return written

    async def look(self, name: str) -> timedelta | None:
        """One pass over one tester, now. Returns when to look again; None: the tester is no more, or there is no world yet."""
        wait = await self._look(name)
        if wait is None:
            self.sightings.forget(name)
            self.resting.discard(name)
        return wait

    async def _look(self, name: str) -> timedelta | None:
        urgency = self.queue.urgency_of(name)
        is_resync = urgency is Urgency.RESYNC or (urgency is Urgency.FAILING and self.resting.is_recalled(name))
        rest = await self._rest(name) if is_resync else None
        if rest is not None and self.clock.now() < rest.until:
            return spread(rest.world.fleet.spec.timing.resync, self.chance)
        self.resting.begin(name)
        under_way = self.operations.of(name)  # before the books are read
        books = await self.store.books(name, marked=None if urgency is Urgency.CHANGED else may_rest)
        world = self._world
        if books is None or world is None:
            return None
        world.users += 1
        try:
            secrets = await self._secrets_of(books)
            one = Pass(books, secrets, world, self._bench, under_way, is_resync)
            await write_off(one.snapshot, world.gone, under_way, self.clock.now())
            if rest is not None and await self.resting.with_due_turns(rest, one):
                return spread(world.fleet.spec.timing.resync, self.chance)
            wait = await (remove(one) if books.record.leaving else converge(one))
            if one.ended is not None:
                self.resting.note(one, *one.ended, secrets, books.mark)
            return wait
        finally:
            await world.leave()

    async def _rest(self, name: str) -> Rest | None:
        """That of a tester that was settled and is so still, by all that was looked at then."""
        world, now = self._world, self.clock.now()
        rest = self.resting.of(name, world, now) if world is not None else None
        if world is None or rest is None or self.operations.of(name):
            return None
        world.users += 1
        try:
            found = await self.resting.is_as_it_was(rest, name, now)
            secrets = await self._values_of(rest.needs) if rest.needs else {}
            again = await self.resting.renewed(found[0], name, secrets, self.clock.now()) if found else None
        finally:
            await world.leave()
        rest, now = again, self.clock.now()
        if found is None or rest is None or self.resting.of(name, world, now) is not rest or self._world is not world:
            return None
        self.sightings.rests(name, found[1], now, rest.seen)
        return rest

    async def _promised(self) -> tuple[Promise, ...]:
        """Room that rows of machines have been given, every row that exists or is being made, and what is foreseen."""
        made = frozenset({ObjectState.INTENDED, ObjectState.EXISTING})
        limit = self._world.fleet.spec.timing.deploy_limit if self._world is not None else timedelta(0)
        return all_promises(*await self.store.given_away("machine", made), self.clock.now(), limit)

    async def _unrouted(self) -> int:
        """How many testers are told to be fine inside and dead from outside."""
        return sum(each.reason == GRID_ROUTING for each in await self.store.conditions_of_type(REACHABLE))

    async def _secrets_of(self, books: TesterBooks) -> dict[str, Secret]:
        """Those of the tester's own spec, and the Fleet's credentials as the present world was opened with."""
        return await self._values_of(needs_of_secret(books.record.desired))

    async def _values_of(self, needs: Iterable[str]) -> dict[str, Secret]:
        of_fleet = self._world_of[1] if self._world_of is not None else {}
        return {**of_fleet, **await self.references.resolve(needs)}

    def drop(self, whose: Callable[[str], bool]) -> None:
        """Cut off what is under way over testers that are not ours any more; nothing of it can be written."""
        for task in self._tasks:
            if whose(task.get_name()):
                task.cancel()
        self.operations.drop(whose)
        self.sightings.forget_those(whose)
        self.resting.discard_those(filter(whose, self.resting.names))
        self.queue.discard_those(whose)

    async def recover(self, whose: Callable[[str], bool]) -> None:
        """Calls that were under way when an earlier process ended (`controller.recovery`)."""
        entries = [entry for entry in await self.store.unfinished() if whose(entry.tester)]
        if entries:
            rows = await self.store.objects(states=frozenset({ObjectState.INTENDED}))
            await self.store.write(*known_now(entries, rows, self.clock.now()))

    async def follow_fleet(self) -> None:
        """Work with the Fleet that the books tell by now, if it is another one."""
        fleet = await last_good_fleet(self.store)
        if fleet is not None:
            await self.adopt(fleet)

    async def _adopt_last_fleet(self) -> None:
        """While the source gives no Fleet, the last good one stays in force."""
        async with self._adopting:
            fleet = await last_good_fleet(self.store) if self._world is None else None
            if fleet is not None:
                await self._adopt(fleet)

    async def _tell_broken_pass(self, name: str, error: Exception) -> None:
        if isinstance(error, (Draining, NotOurs)):
            return
        ours = not isinstance(error, StoreError)
        log.error("the pass over %s broke off: %s", name, where(error) if ours else error)
        reason, why = "InternalError", f"with an internal error ({type(error).__name__}); the log has it"
        if isinstance(error, StoreError):
            reason, why = "StoreError", f"at the store: {error}"
        text = f"the pass broke off {why}; it is tried again"
        event = Event(name, "", reason, text, self.clock.now(), Severity.WARNING)
        try:
            await self.store.write(AddEvent(event))
        except StoreError:
            log.error("and it could not be written down: the store does not take it")

    async def _tell_world_error(self, text: str) -> None:
        if text == self.world_error:
            return
        self.world_error = text
        log.error("the Fleet cannot be used: %s", text)
        event = Event("", "fleet", "FleetUnusable", text, self.clock.now(), Severity.WARNING)
        await self.store.write(AddEvent(event))


def fleet_references(fleet: Fleet) -> list[str]:
    """The credentials that the clients need; testers' own secrets are resolved with each pass."""
    spec, mail = fleet.spec, fleet.spec.mail
    post = (mail.resend_key, mail.smtp.password if mail.smtp else None) if mail else ()
    daemons = (daemon.secret for daemon in spec.compute)
    told = spec.notify.secrets()
    return [spec.forge.token, spec.installer.private_key, *daemons, *(ref for ref in post if ref is not None), *told]
