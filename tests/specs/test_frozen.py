"""Unknown fields are errors in what people write, and no concern of ours in what a newer program has written down."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from specs.fleet import Fleet
from specs.loading import Loaded


@pytest.mark.parametrize("place", ["{", '"spec":{', '"admins":[{', '"limits":{'])
def test_only_the_books_may_know_more_than_we_do(example: Loaded, place: str) -> None:
    fleet = example.fleet
    assert fleet is not None
    body = fleet.model_dump_json(by_alias=True)
    more = body.replace(place, f'{place}"mood":"glad",', 1)
    assert more != body
    assert Fleet.from_books(more) == fleet
    with pytest.raises(ValidationError):
        Fleet.model_validate_json(more)
    with pytest.raises(ValidationError):
        Fleet.from_books(body.replace('"kind":"Fleet"', '"kind":"Crowd"'))
