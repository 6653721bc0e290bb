"""pyinfra's deploy of a list of commands, one operation for each.

Run by tests/bench/converge_peers.py.
"""

import json
import os
from pathlib import Path

from pyinfra.operations import server

for number, command in enumerate(json.loads(Path(os.environ["BENCH_COMMANDS"]).read_text())):
    server.shell(name=f"command {number}", commands=[command])
