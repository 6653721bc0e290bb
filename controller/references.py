"""Secrets that specs only refer to: `env:NAME`, `file:path`, or a name in the sealed store. Resolved anew for every pass,
so that a rotated shared key reaches every machine without a change of any spec."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from controller.store import Store
from reconcilers.secret import Secret

LARGEST = 64 * 1024


@dataclass(frozen=True)
class References:
    """`folder` is the fleet's: relative `file:` paths start there."""

    store: Store
    folder: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)

    async def resolve(self, refs: Iterable[str]) -> dict[str, Secret]:
        """The values of those that are held, byte for byte; the others are left out, and whoever needs one says so."""
        found: dict[str, Secret] = {}
        for ref in sorted(set(refs)):
            value = await self._one(ref)
            if value is not None:
                found[ref] = value
        return found

    async def _one(self, ref: str) -> Secret | None:
        kind, _, rest = ref.partition(":")
        if kind == "env" and rest:
            text = self.environ.get(rest)
            return Secret(text) if text else None
        if kind == "file" and rest:
            return self._file(self.folder / rest)
        return await self.store.sealed(ref)

    def _file(self, path: Path) -> Secret | None:
        try:
            # A pipe or a device would never end, and everybody would wait for it.
            fits = path.is_file() and 0 < path.stat().st_size <= LARGEST
            return Secret(path.read_bytes()) if fits else None
        except (OSError, ValueError):
            return None
