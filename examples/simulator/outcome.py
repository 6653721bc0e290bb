"""What a command leaves behind."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Exit code and the bytes on standard output and standard error."""

    code: int = 0
    out: bytes = b""
    err: bytes = b""


def said(words: str) -> Outcome:
    return Outcome(out=words.encode("utf-8", "surrogateescape"))


def failed(why: str, code: int = 1) -> Outcome:
    return Outcome(code, err=f"{why}\n".encode("utf-8", "surrogateescape"))
