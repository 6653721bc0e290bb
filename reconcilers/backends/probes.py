"""What the front door is asked and what it answers: values that the machine's own probes and those from outside share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Side = Literal["loopback", "inner", "router"]


@dataclass(frozen=True, slots=True, order=True)
class Probe:
    """One anonymous question to the front door, or to the apps behind it, put on the machine itself.

    side  "loopback": the port that always answers; "inner": the Mycelium address, the port that the web gateway reaches;
          "router": hero_router on loopback, behind the front door
    host  the Host header, normally the tester's public name
    path  absolute, with its query if any
    """

    side: Side
    host: str
    path: str


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What came back: a status and where it points to (absolute, "" when nowhere), or no status and a short reason."""

    status: int | None
    location: str = ""
    error: str = ""
