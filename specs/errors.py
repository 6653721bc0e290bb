"""How the language says no: a located error, a finding that has no line yet, and the way validators raise them."""

from dataclasses import dataclass

from pydantic_core import PydanticCustomError

from specs.secrecy import looks_secret

REFUSAL = "spec_refusal"


@dataclass(frozen=True, slots=True, order=True)
class SpecError:
    """What is wrong in a file of the fleet, where, and what would be right.

    `file` is relative to the folder; `line` and `column` count from 1 (0: the error is about the folder or file as a
    whole); `path` is the field, e.g. `spec.machine.memory`. None of the texts ever holds a value that may be secret.
    """

    file: str
    line: int
    column: int
    path: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column} " if self.line else "" if self.file == "." else f"{self.file}: "
        what = f"{self.path}: {self.problem}" if self.path else self.problem
        return f"{place}{what}; {self.remedy}" if self.remedy else f"{place}{what}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule that spans fields or documents, before it is given a line: the path from the document's root."""

    path: tuple[str | int, ...]
    problem: str
    remedy: str
    at_key: bool = False
    """The place to show is the last step's key, not its value."""


class Refused(ValueError):
    """A tester that breaks rules was to be turned into a desired state. Holds every finding."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        super().__init__("; ".join(f"{dotted(each.path)}: {each.problem}" for each in findings))


def refusal(problem: str, remedy: str) -> PydanticCustomError:
    """The error that a validator raises: pydantic keeps the place, we keep problem and remedy apart."""
    return PydanticCustomError(REFUSAL, "{problem}; {remedy}", {"problem": problem, "remedy": remedy})


def dotted(path: tuple[str | int, ...]) -> str:
    """`("spec", "allowlist", 0)` → `spec.allowlist[0]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = "…" if looks_secret(part) else ascii(part[:60])[1:-1]
            text += f".{word}" if text else word
    return text
