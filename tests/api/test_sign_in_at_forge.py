"""The sign-in against the simulator's Forge, with an application that was made there as an admin makes one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from api.access.access import Access
from api.access.sign_in import SignIn
from api.server import make_app
from api.window import Window
from controller.admission import Admission
from controller.places import Places, opened_store
from controller.records import PutFleet
from controller.running import Controller
from examples.simulator.http import Request
from examples.simulator.seeding import controller_token
from examples.simulator.world import World
from reconcilers.backends.opening import Options
from reconcilers.secret import Secret
from specs.fleet import Fleet
from tests.controller.fakes import FLEET

BASE = "https://testers.example.org"
APPS = "/api/v1/user/applications/oauth2"


class WorldsClock:
    """Tells the time of the world."""

    def __init__(self, world: World) -> None:
        self.world = world

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.world.clock.now(), UTC)

    async def sleep(self, span: timedelta) -> None:
        await self.world.clock.sleep(span.total_seconds())


class Town:
    """A Forge, windows, and a person's browser between them."""

    def __init__(self, world: World, controller: Controller, browser: httpx.AsyncClient) -> None:
        self.world, self.controller, self.browser = world, controller, browser

    async def signs_in(self, account: str, before_coming_back: Callable[[], object] = bool) -> httpx.Response:
        """Follows the way to Forge, where somebody is signed in, and back."""
        begun = await self.browser.get("/sign-in/forge", params={"next": "/nodes"})
        there = urlsplit(begun.headers["location"])
        request = Request("GET", there.path, there.query, {"x-sim-user": account})
        back = (await self.world.ask_forge(request)).header("location")
        assert back is not None
        before_coming_back()
        return await self.browser.get(back)


async def town(tmp_path: Path, world: World) -> AsyncIterator[Town]:
    async def forge(asked: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in asked.headers.items()}
        answer = await world.ask_forge(
            Request(asked.method, asked.url.path, asked.url.query.decode(), headers, asked.content)
        )
        return httpx.Response(answer.status, headers=list(answer.headers), content=answer.body)

    body = {"name": "testers", "redirect_uris": [f"{BASE}/sign-in/callback"], "confidential_client": True}
    token = {"authorization": f"token {controller_token(world.forge)}"}
    app = (await world.ask_forge(Request("POST", APPS, headers=token, body=json.dumps(body).encode()))).json()
    document = FLEET.model_dump(mode="json", by_alias=True)
    document["spec"]["forge"]["url"] = world.realm.forge_url
    document["spec"]["admins"] = [{"account": "mik"}]
    clock = WorldsClock(world)
    where = Places(tmp_path / "fleet", tmp_path / "state")
    async with opened_store(where, clock) as store:
        await store.write(PutFleet(Fleet.model_validate(document).model_dump_json(), "r1"))
        controller = Controller(where, store, clock)
        admission = Admission(store, clock)
        way = Options(transports={"forge": httpx.MockTransport(forge)})
        sign_in = SignIn(admission, app["client_id"], Secret(app["client_secret"]), BASE, way)
        made = make_app(Window(controller), access=Access(admission, BASE, True, sign_in))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url=BASE) as browser:
            yield Town(world, controller, browser)


@pytest.fixture
async def there(tmp_path: Path) -> AsyncIterator[Town]:
    async for made in town(tmp_path, World(speed=30.0)):
        yield made


@pytest.mark.parametrize(("account", "status"), [("mik", 303), ("bob", 403)])
async def test_who_is_an_admin_comes_in(there: Town, account: str, status: int) -> None:
    answer = await there.signs_in(account)
    assert answer.status_code == status, answer.text
    assert answer.headers.get("location") == ("/nodes" if status == 303 else None)
    looked = await there.browser.get("/api/v1/fleet")
    assert looked.status_code == (200 if status == 303 else 401)


async def test_a_disabled_admin_is_refused_although_forge_answers_200(there: Town) -> None:
    answer = await there.signs_in("mik", before_coming_back=lambda: there.world.drift.disable_account("mik"))
    assert answer.status_code == 403
    assert (await there.browser.get("/api/v1/fleet")).status_code == 401
