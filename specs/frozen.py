"""The base of every model of the language: immutable, no unknown fields, camelCase outside and snake_case inside."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Frozen(BaseModel):
    """A value. Unknown fields are refused; YAML and JSON Schema speak camelCase, Python snake_case.

    A field's docstring is its description in the JSON Schema.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        ser_json_timedelta="iso8601",
    )

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: nobody changes a value. pydantic would copy a default into every document that leaves it unsaid."""
        return self

    @classmethod
    def from_books(cls, body: str) -> Self:
        """What a program of ours has written down. A newer one, beside which we work while replicas are upgraded one by one,
        may have more fields: they are left out. Raises ValidationError."""
        return cls.model_validate_json(body, extra="ignore")
