"""Scheduled unpleasantness. A fault matches calls by system and method, and often by a target. The kinds of `WIRE` act on
any HTTP call, those of `PLACES` where they say; the README tells what each does.
"""

import json
from collections.abc import Callable, Coroutine
from fnmatch import fnmatchcase
from typing import Any, TypeVar

from examples.simulator import echoes
from examples.simulator.clock import WorldClock
from examples.simulator.http import Answer, Handler, Request, json_answer, page
from examples.simulator.records import Fault

__all__ = ["Fault", "Faults"]

PLACES: dict[str, tuple[str, str]] = {
    "listing_lags": ("forge or compute", "the listing's name"),
    "listing_omits": ("forge or compute", "the listing's name"),
    "listing_truncated": ("forge or compute", "the listing's name"),
    "never_reachable": ("compute", "deploy_vm"),
    "slow_network": ("compute", "deploy_vm"),
    "vm_fails": ("compute", "deploy_vm"),
    "deploy_rolls_back": ("compute", "deploy_vm"),
    "stuck_contract": ("compute", "deploy_vm"),
    "address_reused": ("compute", "deploy_vm"),
    "rolled_back_later": ("compute", "deploy_vm or deploy_webgateway"),
    "teardown_lags": ("compute", "delete_vm or delete_webgateway"),
    "capacity_overstated": ("compute", "list_nodes"),
    "capacity_stale": ("compute", "list_nodes"),
    "method_missing": ("compute", "the method's name"),
    "slow_chain": ("compute", "deploy_webgateway"),
    "name_taken": ("compute", "deploy_webgateway"),
    "gateway_failed_but_exists": ("compute", "deploy_webgateway"),
    "gateway_answer_lacks_fqdn": ("compute", "deploy_webgateway"),
    "gateway_listing_lacks_fqdn": ("compute", "list_webgateways"),
    "outside_unroutable": ("compute", "gateway"),
    "inner_unroutable": ("machine", "overlay"),
    "cut_mid_command": ("machine", "the command's first two words"),
    "hangs": ("machine", "the command's first two words"),
    "disk_full": ("machine", "files"),
    "command_fails": ("machine", "the command's first two words"),
    "install_fails": ("machine", "lab build or apt-get install"),
    "start_fails": ("machine", "service start"),
    "slow_start": ("machine", "service start"),
    "supervisor_lies": ("machine", "service start"),
    "version_unknown": ("machine", "version"),
    "secret_reads_empty": ("machine", "secret get"),
    "secret_trimmed": ("machine", "secret set"),
    "secret_store_unreachable": ("machine", "secret get, set, list or delete"),
    "listener_opens_ungated": ("machine", "hero_proxy start"),
    "open_paths": ("machine", "door"),
    "inner_side_open": ("machine", "door"),
    "registry_unreachable": ("engine", "start"),
    "ignores_revocation": ("engine", "start"),
    "stands_open": ("engine", "ping"),
    "ignores_tenant": ("engine", "ping"),
    "answer_lost": ("mail", "POST /emails or smtp DATA"),
    "rate_limited": ("mail", "POST /emails or smtp DATA"),
    "refused": ("mail", "POST /emails or smtp RCPT"),
}
"""Kind → the system and the method of a fault that has it."""

T = TypeVar("T")


class Faults:
    """The faults that are still to come or under way. They are part of the world's state.

    `echoes`: for how many reasons whoever fails repeats what it was told (`echoes.py`).
    """

    def __init__(self, rows: list[Fault], clock: WorldClock) -> None:
        self.rows = rows
        self.echoes = 0
        self._clock = clock

    def add(self, fault: Fault) -> Fault:
        """Raises ValueError for a kind that nobody knows: it would do nothing, silently."""
        if fault.kind not in WIRE_KINDS and fault.kind not in PLACES:
            raise ValueError(f"unknown kind of fault: {fault.kind!r}")
        self.rows.append(fault)
        return fault

    def clear(self) -> None:
        self.rows.clear()

    def active(
        self, system: str, method: str, kinds: tuple[str, ...] | frozenset[str], target: str = ""
    ) -> Fault | None:
        """The first fault that applies now; it is not used up."""
        fault = self._applying(system, method, kinds, target)
        if fault is not None:
            fault.bit += 1
        return fault

    def _applying(self, system: str, method: str, kinds: tuple[str, ...] | frozenset[str], target: str) -> Fault | None:
        if not self.rows:
            return None
        now = self._clock.now()
        for fault in self.rows:
            if (
                fault.kind in kinds
                and fault.times != 0
                and (fault.at is None or fault.at <= now)
                and (fault.until is None or now < fault.until)
                and fnmatchcase(system, fault.system)
                and fnmatchcase(method, fault.method)
                and fnmatchcase(target, fault.target)
            ):
                return fault
        return None

    def take(self, system: str, method: str, kinds: tuple[str, ...] | frozenset[str], target: str = "") -> Fault | None:
        """The first fault that applies now, used up once."""
        fault = self.active(system, method, kinds, target)
        if fault is not None and fault.times is not None:
            fault.times -= 1
        return fault

    def listed(self, system: str, method: str, name: str, age: float) -> bool:
        """Whether a listing shows a thing of this age in simulated seconds."""
        if self.active(system, method, ("listing_omits",), name):
            return False
        lag = self._applying(system, method, ("listing_lags",), "")
        if lag is None or age >= float(lag.options.get("seconds", 60)):
            return True
        lag.bit += 1
        return False

    def cut_short(self, system: str, method: str, rows: list[T]) -> list[T]:
        """What a listing shows of its rows."""
        fault = self._applying(system, method, ("listing_truncated",), "")
        if fault is None or len(rows) <= (kept := int(fault.options.get("keep", 0))):
            return rows
        fault.bit += 1
        return rows[:kept]

    def is_down(self, system: str, target: str = "") -> bool:
        """Whether nobody listens there."""
        return self.active(system, "*", ("down",), target) is not None

    async def around(self, call: tuple[str, str], handler: Handler, request: Request, target: str = "") -> Answer:
        """Answers a call of (system, method), spoilt by the first wire fault that applies. `target`: which daemon or engine."""
        fault = self.take(*call, kinds=WIRE_KINDS, target=target)
        done = await (handler(request) if fault is None else WIRE[fault.kind](fault, self._clock, handler, request))
        return echoes.repeating(done, request) if self.echoes else done


Spoiler = Callable[[Fault, WorldClock, Handler, Request], Coroutine[Any, Any, Answer]]


async def _error_though_created(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    done = await handler(request)
    if "jsonrpc" in (sent := _object(done.body)):
        return json_answer(
            {"jsonrpc": "2.0", "id": sent.get("id"), "error": {"code": -32000, "message": "deployment failed"}}
        )
    return json_answer({"message": "internal server error", "url": ""}, 500)


async def _timeout_after(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    return await _held(fault, clock, await handler(request))


async def _timeout_before(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    return await _held(fault, clock, page("504 Gateway Time-out", 504))


async def _held(fault: Fault, clock: WorldClock, answer: Answer) -> Answer:
    seconds = fault.options.get("seconds")
    if seconds is None:
        return answer.travelling("never")
    await clock.sleep(float(seconds))
    return answer


async def _bad_gateway(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    return page("502 Bad Gateway", 502)


async def _cut(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    return (await handler(request)).travelling("cut")


async def _slow(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    """Everything of the call is late, its effect too."""
    await clock.sleep(float(fault.options.get("seconds", 300)))
    return await handler(request)


async def _down(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    """Where there is a listener all the same, it hangs up."""
    return Answer(503).travelling("cut")


async def _read_only(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    if request.method in ("GET", "HEAD"):
        return await handler(request)
    status = int(fault.options.get("status", 503))
    return json_answer({"message": "the server is in read-only mode", "url": ""}, status)


async def _throttled(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    after = fault.options.get("retry_after")
    return Answer(429, b"Too Many Requests\n", (("retry-after", str(after)),) if after is not None else ())


async def _says_done(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    return json_answer({"jsonrpc": "2.0", "id": _object(request.body).get("id"), "result": {"deleted": True}})


async def _html(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    return page("Maintenance")


async def _half_json(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    done = await handler(request)
    return Answer(done.status, done.body[: max(1, len(done.body) // 2)], done.headers)


async def _echo(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    """A refusal that repeats the request, as servers do that were built to be easy to talk to."""
    body = request.body.decode("utf-8", "replace")
    begins = max(0, body.find(str(fault.options.get("after", ""))))
    message = f"cannot take {request.headers.get('authorization', '')} {body[begins:]}"
    if "jsonrpc" in (sent := _object(request.body)):
        error = {"code": int(fault.options.get("code", -32000)), "message": message}
        return json_answer({"jsonrpc": "2.0", "id": sent.get("id"), "error": error})
    status = int(fault.options.get("status", 400))
    return json_answer({"statusCode": status, "name": "validation_error", "message": message, "url": ""}, status)


async def _restart_required(fault: Fault, clock: WorldClock, handler: Handler, request: Request) -> Answer:
    asked = _object(request.body).get("id")
    message = "connection to the chain is dead, restart required"
    return json_answer({"jsonrpc": "2.0", "id": asked, "error": {"code": -32000, "message": message}})


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


WIRE: dict[str, Spoiler] = {
    "error_reported_though_created": _error_though_created,
    "timeout_after_effect": _timeout_after,
    "timeout_before": _timeout_before,
    "http_502": _bad_gateway,
    "cut_mid_answer": _cut,
    "slow": _slow,
    "down": _down,
    "read_only": _read_only,
    "throttled": _throttled,
    "html_200": _html,
    "half_json": _half_json,
    "restart_required": _restart_required,
    "says_done": _says_done,
    "echo": _echo,
}
WIRE_KINDS = frozenset(WIRE)
