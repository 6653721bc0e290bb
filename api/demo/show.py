"""The demo from start to end: world, fleet, controller and API together, watched until every tester is ready."""

from __future__ import annotations

import asyncio
import shutil
import socket
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from shlex import quote

from rich.console import Console

from api import logs
from api.access.access import Access
from api.complaint import Complaint
from api.demo.alone import alone
from api.demo.checks import Check, counts, doors, mail_words, sums, undoubled
from api.demo.crash import Life, doomed
from api.demo.faults import Narrator, befallen, drawn
from api.demo.folder import write_fleet
from api.demo.screen import Screen, finished, numbers, show_checks, show_reasons
from api.demo.world import World, alive, opened
from api.server import LISTEN, Place, bound, here, make_app, place, serve
from api.signals import stop_on_signals
from api.terminal import err, out, progress, text
from api.window import Window
from api.words import span
from controller.admission import Admission
from controller.places import Places, opened_store
from controller.queries import Queries, TesterSummary
from controller.records import Phase
from controller.running import Controller
from controller.store import alone as alone_with_books
from reconcilers.clock import SystemClock

LOOK_EVERY = 0.25  # seconds
WORLD, FLEET, BOOKS = "world", "fleet", "controller"  # below the demo's folder


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line."""

    state: Path
    speed: float
    ends: bool  # --exit: end when all are ready
    keep: bool  # leave the world running
    fresh: bool  # begin with a new one
    timeout: timedelta
    faults: str = ""  # the profile that the world's are drawn from
    seed: int = 1  # to draw them by
    life: Life | None = None  # of a crash drill

    @property
    def log(self) -> Path:
        """Where the controller's own log goes: the terminal shows the table."""
        return self.state / "controller.log"


@dataclass(frozen=True)
class Demo:
    """One demo that runs."""

    wishes: Wishes
    world: World
    controller: Controller
    place: Place
    console: Console
    narrator: Narrator | None = None  # of faults

    @property
    def ask(self) -> Queries:
        return Queries(self.controller.store)

    async def watch(self) -> None:
        """Show testers come to life, then what came of it; with --exit that is the end, else until `stop`."""
        testers = await self._until_ready()
        if not testers:
            return
        self.console.print(finished(testers))
        self.console.print(text(f"\n{mail_words(await self.world.books(), testers)}"))
        drilled = await self._drilled(testers)
        if self.wishes.ends:
            await self._check(drilled, testers)
            return
        await self._tell(testers)
        await self.controller.stop.wait()

    async def _until_ready(self) -> tuple[TesterSummary, ...]:
        """Nobody when the demo was stopped before. Raises Complaint when it takes too long, with --exit."""
        clock = self.controller.clock
        began = clock.now()
        with Screen(self.console, began) as screen:
            while not self.controller.stop.is_set():
                for line in await self._faults():
                    screen.say(line)
                testers, errors = await self.ask.testers(), await self._errors()
                screen.show(testers, errors, clock.now())
                if not errors and self._all_ready(testers) and not self._more_to_come:
                    return testers
                if self.wishes.ends and clock.now() - began > self.wishes.timeout:
                    break
                await asyncio.sleep(LOOK_EVERY)
            else:
                return ()
        details = [await self.ask.tester(one.record.name) for one in testers if not one.ready]
        show_reasons(err(), errors, tuple(one for one in details if one is not None))
        raise Complaint(f"Not everybody was ready within {span(self.wishes.timeout)}; {self.wishes.log} may tell more.")

    async def _faults(self) -> tuple[str, ...]:
        """What has befallen the world since it was asked last."""
        return await self.narrator.news() if self.narrator is not None else ()

    @property
    def _more_to_come(self) -> bool:
        return self.narrator is not None and self.narrator.pending

    async def _drilled(self, testers: tuple[TesterSummary, ...]) -> tuple[Check, ...]:
        """Show after a drill that nothing was doubled by it, by the world's own books. Nothing when there was none."""
        life = self.wishes.life
        if life is None and self.narrator is None:
            return ()
        self.console.print()
        if life is not None:
            self.console.print(text(life.reminder), soft_wrap=True)
        if self.narrator is not None:
            told = await befallen(self.world, self.narrator.now)
            self.console.print(text(f"{told} ({self.wishes.faults}, seed {self.wishes.seed})."))
        self.console.print(text("The world's own books:"))
        found = await undoubled(self.world, testers)
        show_checks(self.console, found)
        return found

    async def _errors(self) -> tuple[str, ...]:
        """What is wrong with the specs: whoever is in a broken file is among nobody's testers."""
        source = await self.ask.source()
        return source.errors if source is not None else ()

    def _all_ready(self, testers: tuple[TesterSummary, ...]) -> bool:
        """Everybody is ready, and was looked at since this start: what the books of the last one say may be old."""
        seen = self.controller.engine.passes >= len(testers) > 0
        return seen and all(
            one.ready and one.record.phase is Phase.READY and one.record.observed_generation == one.record.generation
            for one in testers
        )

    async def _check(self, drilled: tuple[Check, ...], testers: tuple[TesterSummary, ...]) -> None:
        """The end with --exit. Raises Complaint when not all is as it should be; `drilled` is shown already."""
        found = () if drilled else await sums(self.world, testers)
        with progress("people of the world sign in at every door"):
            found += await doors(self.world, testers)
        show_checks(self.console, found)
        if not all(one.ok for one in (*drilled, *found)):
            raise Complaint("All are ready, but not everything is as it should be: see the lines marked ✗.")
        if self.wishes.life is not None and not self.wishes.life.died:
            raise Complaint(f"{self.wishes.life.reminder} If the testers were ready already, --fresh begins anew.")

    async def _tell(self, testers: tuple[TesterSummary, ...]) -> None:
        addresses, root = self.world.addresses, self.wishes.state
        proxy = addresses.socks.replace("socks5:", "socks5h:")
        lines = {
            "Page": f"{self.place.url}/",
            "Specs": f"{root / FLEET} (change a file, add one, remove one: it is picked up at once)",
            "World": f"{numbers(counts(await self.world.books(), testers))}; its own books: {addresses.control_url}/_sim/books",
            "A door": f"curl --proxy {proxy} --cacert {quote(str(addresses.ca_file))} -i {testers[0].link}",
            "Ask": f"testerctl describe {testers[0].record.name} --state {quote(str(root / BOOKS))}",
        }
        self.console.print()
        for label, words in lines.items():
            self.console.print(text(f"{label:<7} {words}"), soft_wrap=True)
        self.console.print(text("It goes on keeping them so, until Ctrl-C.", "dim"))


async def show(wishes: Wishes, listen: str) -> None:
    """The whole demo. Raises Complaint when something is not as it should be."""
    with alone(wishes.state):
        if wishes.fresh:
            await _forget(wishes)
        async with alone_with_books(Places(wishes.state / FLEET, wishes.state / BOOKS).url, SystemClock()):
            logs.set_up(wishes.log)
            with progress("making a world"):
                world = await opened(wishes.state / WORLD, wishes.speed, wishes.state / "world.log")
            try:
                await _control(wishes, world, listen)
            finally:
                if not wishes.keep:
                    await world.stop()


async def _control(wishes: Wishes, world: World, listen: str) -> None:
    where = Places(write_fleet(wishes.state, world.addresses), wishes.state / BOOKS)
    sock, real = _somewhere(listen)
    with sock:
        async with opened_store(where, SystemClock()) as store:
            controller = Controller(where, store) if wishes.life is None else doomed(where, store, wishes.life)
            stop_on_signals(controller.stop)
            if wishes.life is not None:
                wishes.life.ends_with_parent(controller.stop)
            demo = Demo(wishes, world, controller, real, out(), await _faults(wishes, world, controller))
            demo.console.print(text(_greeting(world, real)), soft_wrap=True)
            app = make_app(Window(controller), access=Access(Admission(store, controller.clock), real.url))
            await controller.run(serve(app, sock, controller.stop), demo.watch())


async def _faults(wishes: Wishes, world: World, controller: Controller) -> Narrator | None:
    """Schedule them, once: the world keeps those of the life before."""
    if not wishes.faults:
        return None
    life, speed = wishes.life, world.addresses.speed
    now = (await world.books())["time"]
    if life is None or life.death is None:
        await world.set_faults(drawn(wishes.faults, wishes.seed, now, speed))
    return Narrator(world, controller.clock, (now, controller.clock.now()), life.told if life is not None else set())


def _greeting(world: World, real: Place) -> str:
    found = "was alive already" if world.found else "began"
    return (
        f"A make-believe world {found}, {world.addresses.speed:g} times as fast as the real one. Watch: {real.url}/\n"
    )


def _somewhere(listen: str) -> tuple[socket.socket, Place]:
    """The usual place, or any other when that one is taken: a demo need not care."""
    try:
        return bound(here(place(listen)))
    except Complaint:
        if listen != LISTEN:
            raise
        return bound(replace(place(LISTEN), port=0))


async def _forget(wishes: Wishes) -> None:
    """Begin anew: end the world that may still run, and throw its state away with everything that was made from it."""
    addresses = await alive(wishes.state / WORLD)
    if addresses is not None:
        await World(addresses, found=True).stop()
    for name in (WORLD, BOOKS, FLEET, "secrets"):
        shutil.rmtree(wishes.state / name, ignore_errors=True)
    (wishes.state / "written.json").unlink(missing_ok=True)
