"""One typed client per outside system, and under them the transports: limits, time-outs, error mapping.

`opening.open_backends` builds them all from a Fleet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from reconcilers.backends.compute import ComputeClient
from reconcilers.backends.engines import EngineClient
from reconcilers.backends.forge import ForgeClient
from reconcilers.backends.machine import Machines
from reconcilers.backends.mail import Mailer, NoMailer
from reconcilers.backends.notice_hooks import NoticeHook
from reconcilers.backends.outside import PublicProbe
from reconcilers.errors import Blocked


@dataclass
class Backends:
    """Everything outside that reconcilers talk to."""

    forge: ForgeClient
    compute: Mapping[str, ComputeClient]
    machines: Machines
    outside: PublicProbe
    engines: Mapping[str, EngineClient] = field(default_factory=dict)
    mail: Mailer = field(default_factory=NoMailer)
    hooks: Mapping[str, NoticeHook] = field(default_factory=dict)

    def daemon(self, name: str) -> ComputeClient:
        """The client of one daemon. Raises Blocked DaemonUnknown, naming it."""
        found = self.compute.get(name)
        if found is None:
            raise Blocked(
                f"the fleet names no compute daemon {name!r}: put it back under spec.compute",
                system=f"compute {name}",
                reason="DaemonUnknown",
            )
        return found

    def engine(self, name: str) -> EngineClient:
        """The client of one shared engine. Raises Blocked EngineUnknown, naming it."""
        found = self.engines.get(name)
        if found is None:
            raise Blocked(
                f"the fleet names no engine {name!r}: put it back under spec.engines",
                system=f"engine {name}",
                reason="EngineUnknown",
            )
        return found

    async def aclose(self) -> None:
        """Close every connection."""
        await self.machines.aclose()
        await self.outside.aclose()
        await self.forge.aclose()
        await self.mail.aclose()
        for client in self.compute.values():
            await client.aclose()
        for engine in self.engines.values():
            await engine.aclose()
