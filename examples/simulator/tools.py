"""The few real programs that a machine's shell may use: links in one folder, and a whitelist, so that nothing else
is on PATH.
"""

import shutil
from pathlib import Path

_NAMES = (
    "sh cat mkdir mkfifo mv rm rmdir chmod sleep flock setsid nohup mktemp tail head kill touch ls printf "
    "echo test [ date timeout sed grep awk wc sort uniq tr cut tee xargs dirname basename id true false "
    "sha256sum cksum ps env ln cp cmp stat readlink od expr seq uname "
)
PROGRAMS = frozenset(_NAMES.split())
USUAL_SHELL = "/bin/sh"


class MissingProgramError(RuntimeError):
    """This machine lacks a program that a make-believe machine needs."""


def shell_path(shell: str) -> str:
    """`busybox`, or a path; raises MissingProgramError."""
    found = shutil.which(shell)
    if found is None:
        raise MissingProgramError(f"there is no {shell} here; choose another --shell")
    return found


def lay_out(folder: Path, shell: str) -> None:
    """Links to every program of the whitelist that exists here; `sh` leads to the chosen shell."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "sh").symlink_to(shell_path(shell))
    for program in PROGRAMS:
        found = shutil.which(program)
        if found and program != "sh":
            (folder / program).symlink_to(found)
