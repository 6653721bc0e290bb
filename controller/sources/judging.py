"""What a source has read as a fleet: what was parsed and judged before is not parsed and judged again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import NamedTuple

from reconcilers.clock import Clock
from specs.fleet import Fleet
from specs.folder import Folder
from specs.loading import Loaded, load_folder_content
from specs.memory import Memory


class Question(NamedTuple):
    """All that an answer depends on. `known`: the testers that there are; `last_fleet`: the last good one."""

    found: Folder
    today: date
    known: frozenset[str]
    last_fleet: Fleet | None


@dataclass
class Judge:
    """One source's own; asked by one task at a time."""

    clock: Clock
    _memory: Memory = field(default_factory=Memory)
    _last: tuple[Question, Loaded] | None = None

    async def judge(self, found: Folder, known: frozenset[str], last_fleet: Fleet | None) -> Loaded:
        """What these files say, today."""
        question = Question(found, self.clock.now().date(), known, last_fleet)
        if self._last is None or self._last[0] != question:
            self._last = question, await asyncio.to_thread(load_folder_content, *question, self._memory)
        return self._last[1]

    def amend(self, of: Loaded, files: Mapping[str, bytes], loaded: Loaded) -> None:
        """If the last answer was `of`, it is `loaded` from now on, to the same question with these files edited."""
        if self._last is not None and self._last[1] is of:
            question = self._last[0]
            found = replace(question.found, files={**question.found.files, **files})
            self._last = question._replace(found=found), loaded

    def answer_to(self, found: Folder) -> Loaded | None:
        """The last answer, if it was about these files."""
        return self._last[1] if self._last is not None and self._last[0].found == found else None
