"""The request log: every call that any system of the world saw, in order, also across restarts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One call. `what`: a REST path, an RPC method or a command, without secrets. `status`: HTTP status or exit code."""

    number: int
    time: float
    system: str
    method: str
    what: str
    who: str
    writing: bool
    status: int


class Log:
    """Append only; with a file, each entry is on disk before its answer leaves."""

    def __init__(self, path: Path | None = None) -> None:
        self.entries: list[Entry] = []
        if path is not None and path.exists():
            self.entries = [Entry(**json.loads(line)) for line in path.read_text().splitlines() if line.endswith("}")]
        self._file = path.open("a", buffering=1) if path is not None else None

    def add(self, time: float, system: str, method: str, what: str, who: str, writing: bool, status: int) -> None:
        entry = Entry(len(self.entries) + 1, time, system, method, what, who, writing, status)
        self.entries.append(entry)
        if self._file is not None:
            self._file.write(json.dumps(vars(entry)) + "\n")

    def writes(self, since: int = 0) -> list[Entry]:
        """Writing calls after entry number `since`."""
        return [entry for entry in self.entries[since:] if entry.writing]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
