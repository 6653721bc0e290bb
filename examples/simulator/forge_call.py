"""One call of Forge's REST API while it is being answered: its caller, its path's parts, its body with checked
types, its pages.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from examples.simulator.forge import Caller, Forge, ForgeError, refuse
from examples.simulator.http import Answer, Request, json_answer
from examples.simulator.records import Account, Repository

PAGE_USUAL = 30
PAGE_MOST = 50
REQUIRED = object()


@dataclass(frozen=True)
class Call:
    """What an endpoint gets to see."""

    forge: Forge
    request: Request
    path: Mapping[str, str]
    caller: Caller

    @cached_property
    def body(self) -> dict[str, Any]:
        """The JSON object that came; bad JSON and anything else are 422, like a failed validation (V)."""
        try:
            value = json.loads(self.request.body or b"{}")
        except ValueError as error:
            refuse(422, f"invalid character in JSON body: {error}")
        if not isinstance(value, dict):
            refuse(422, f"json: cannot unmarshal {type(value).__name__} into Go value")
        return value

    def field(self, name: str, kind: type, default: Any = REQUIRED) -> Any:
        """One field with its type checked. Raises ForgeError 422."""
        value = self.body.get(name)
        if value is None:
            return refuse(422, f"[{_title(name)}]: Required") if default is REQUIRED else default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            refuse(
                422,
                f"json: cannot unmarshal {type(value).__name__} into Go struct field .{name} of type {kind.__name__}",
            )
        if isinstance(value, list) and not all(isinstance(item, str) for item in value):
            refuse(422, f"json: cannot unmarshal into Go struct field .{name} of type string")
        return value

    def me(self) -> Account:
        return self.caller.account or refuse(401, "token is required")

    def named(self) -> Account:
        """The account that the path names. Raises ForgeError 404."""
        return self.forge.need_account(self.path["name"])

    def repository(self) -> Repository:
        found = self.forge.repositories.find(self.path["owner"], self.path["repo"])
        return found or refuse(404, "The target couldn't be found.")

    def paged(self, rows: Sequence[Any], render: Callable[[Any], Any], all_without_page: bool = False) -> Answer:
        """One page: `page` from 1, `limit` at most 50 and silently clamped, `[]` past the end, X-Total-Count always
        (V).
        """
        query = self.request.params()
        shown = rows
        if "page" in query or not all_without_page:
            size = min(PAGE_MOST, _number(query.get("limit")) or PAGE_USUAL)
            first = (max(1, _number(query.get("page"))) - 1) * size
            shown = rows[first : first + size]
        return json_answer([render(row) for row in shown], headers=(("x-total-count", str(len(rows))),))


def error_answer(error: ForgeError, forge_url: str) -> Answer:
    return json_answer({"message": error.message, "url": f"{forge_url}/api/swagger"}, error.status)


def _number(raw: str | None) -> int:
    return int(raw) if raw and raw.isascii() and raw.isdigit() else 0


def _title(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
