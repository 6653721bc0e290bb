"""pyinfra's deploy of a no-op check: every fact is asked for, and compared with what is expected.

Run by tests/bench/noop_peers.py.
"""

import json
import os
from pathlib import Path

from pyinfra import host
from pyinfra.facts.server import Command

for command, expected in json.loads(Path(os.environ["BENCH_CHECKS"]).read_text()):
    told = host.get_fact(Command, command)
    if (told or "").strip() != expected:
        raise ValueError(f"{command} says {told!r} instead of {expected!r}")
