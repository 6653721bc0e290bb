"""References to secrets. A spec never holds a secret, only where it is: the environment, a file, the sealed store."""

import re
from typing import Any, Final, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from specs.errors import refusal
from specs.secrecy import looks_secret

PATTERN: Final = (
    r"^(env:[A-Za-z_][A-Za-z0-9_]{0,127}"
    r"|file:[^\u0000-\u001f\u007f]{1,1000}"
    r"|[a-z][a-z0-9-]{0,62}(/[a-z0-9][a-z0-9_.-]{0,62}){1,4})$"
)
_REFERENCE = re.compile(PATTERN)
_REMEDY: Final = "refer to it as env:NAME, file:path, or a name in the sealed store like alice/sambanova"

FLEET_WIDE: Final = "shared"
"""The first part of the names of sealed secrets that every tester's spec may name: `shared/openrouter`."""

SecretKind = Literal["env", "file", "sealed"]


class SecretRef(str):
    """Where a secret is kept: `env:NAME`, `file:path`, or a name in the sealed store (`alice/sambanova`)."""

    __slots__ = ()

    @property
    def kind(self) -> SecretKind:
        """Which of the three it is."""
        if self.startswith("env:"):
            return "env"
        return "file" if self.startswith("file:") else "sealed"

    @property
    def target(self) -> str:
        """The variable's name, the file's path, or the name in the sealed store."""
        return str(self) if self.kind == "sealed" else self.partition(":")[2]

    @property
    def owner(self) -> str | None:
        """Whose sealed secret it is: the first part of its name, a tester's or FLEET_WIDE. None for the other kinds."""
        return self.partition("/")[0] if self.kind == "sealed" else None

    @classmethod
    def parse(cls, value: str) -> "SecretRef":
        """Raises a refusal, which never repeats the value: somebody may have written the secret itself."""
        if looks_secret(value):
            raise refusal("this looks like the secret itself", _REMEDY)
        if not _REFERENCE.fullmatch(value):
            raise refusal("this is not a reference to a secret", _REMEDY)
        return cls(value)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validated from text, serialised as text."""
        return core_schema.no_info_after_validator_function(
            cls.parse, core_schema.str_schema(), serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A string of one of the three shapes."""
        return {"type": "string", "pattern": PATTERN, "examples": ["env:FORGE_TOKEN", "file:installer_key"]}
