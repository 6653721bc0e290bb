"""What requests carry, told once: names, pages, and what answers there are beside the good one."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import HTTPException, Path, Query

from api.models import Problem

LARGEST_PAGE: Final = 500

Answers = dict[int | str, dict[str, Any]]

Name = Annotated[str, Path(description="A tester's name.", max_length=64)]
Component = Annotated[str, Path(description="A component of the tester's.", max_length=64)]
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="How many at most.")]
LARGEST_ID: Final = 2**63 - 1
Before = Annotated[
    int | None, Query(ge=1, le=LARGEST_ID, description="Only events older than the one of this id: the next page.")
]
Fields = Annotated[
    str, Query(max_length=1000, description="Only these fields of each, by comma; all of them if none is named.")
]

UNCHANGED: Final[Answers] = {304: {"description": "As `If-None-Match` says: nothing has changed."}}
NOT_FOUND: Final[Answers] = {404: {"model": Problem, "description": "No such tester."}}
NO_WORLD: Final[Answers] = {503: {"model": Problem, "description": "No usable Fleet yet, or the store cannot be read."}}
NO_ANSWER: Final[Answers] = {502: {"model": Problem, "description": "The machine does not answer."}}


def nobody(name: str) -> HTTPException:
    return HTTPException(404, f"there is no tester {name!r}")
