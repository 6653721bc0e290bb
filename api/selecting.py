"""`fields=name,phase`: only these of an answer, for who needs little of much."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import HTTPException
from pydantic import BaseModel
from pydantic.alias_generators import to_camel

MOST = 1000
"""Characters."""


def chosen_fields(asked: str, model: type[BaseModel]) -> frozenset[str]:
    """Their names outside; all of them for nothing. Raises HTTPException 422, naming those that there are."""
    known = {info.serialization_alias or info.alias or to_camel(name) for name, info in model.model_fields.items()}
    wanted = {each.strip() for each in asked.split(",") if each.strip()}
    strange = sorted(wanted - known)
    if strange:
        raise HTTPException(
            422, f"fields: there is no {', '.join(strange)[:200]}; there are {', '.join(sorted(known))}"
        )
    return frozenset(wanted or known)


def only(answer: BaseModel, fields: frozenset[str]) -> dict[str, Any]:
    """As JSON values."""
    return {key: value for key, value in answer.model_dump(mode="json").items() if key in fields}


def each_only(answers: Iterable[BaseModel], fields: frozenset[str]) -> list[dict[str, Any]]:
    return [only(each, fields) for each in answers]
