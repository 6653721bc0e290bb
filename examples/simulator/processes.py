"""The real processes of a machine: found by the HOME in their environment, so that nobody else's is ever touched."""

import os
import signal
from pathlib import Path


def of_home(home: str) -> list[int]:
    """Process ids whose environment carries exactly this HOME (an absolute path inside the simulator's state)."""
    mark = f"HOME={home}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in environment and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


def kill_all(home: str) -> None:
    """Ends every process of a machine, also those that its own processes start meanwhile."""
    for _ in range(5):
        pids = of_home(home)
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
