"""Detached jobs on a machine: an install goes on when the connection does not, and is never begun twice at once.

A job's directory holds `lock` (held as long as the job lives), `state` (replaced in one motion), `log` (the last 64 to
128 KiB) and `run` (its script). A state that says running while nobody holds the lock means that the job died.

Installs are begun all at once and take their turns among themselves: each waits on the machine for one of a few places,
so that no place stands empty until we look again. A place is a lock as well, and free as soon as its holder is no more.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from reconcilers.backends.machine import NOTHING, SUPERVISOR_JOB, SettingKey, install_job
from reconcilers.backends.machine_dialect import MachineDialect, line
from reconcilers.backends.machine_scripts import file_name
from reconcilers.secret import Secret
from specs.catalogue import catalogue

LOG_KEPT = 64 * 1024
LOG_TAIL = 4 * 1024
START_WAIT = 90  # times one second, until a supervisor just started answers
PLACE_EVERY = 0.5  # seconds between two tries of the one who is next for a place


@dataclass(frozen=True, slots=True)
class JobScript:
    """What a job does: `work`, a shell function body that sets RESULT, and how it is known."""

    name: str
    wanted: str
    work: str


# `keep` reads the output until everybody has closed it, which a service started by the job may never do. So the job does
# not wait for the end of its output but for a line of its own, and holds the lock where `keep` does not.
#
# Those who wait for a place stand in line at `places/next`; only the first of them tries the places, so that one that is
# free is taken at once, and by one.
FRAME = """\
umask 077
LC_ALL=C; export LC_ALL
DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND
PATH="$B:$PATH"; export PATH
state() {
  printf '%s\\nrc=%s\\nwanted=%s\\nbegan=%s\\nid=%s\\nresult=%s\\n' "$1" "$2" "$WANTED" "$BEGAN" "$ID" "$RESULT" \\
    >"$J/state.new" && mv -f "$J/state.new" "$J/state"
}
cut_log() { tail -c KEPT "$J/log" >"$J/log.new" 2>/dev/null && mv -f "$J/log.new" "$J/log"; size=KEPT; }
keep() {
  size=0
  while IFS= read -r text || [ -n "$text" ]; do
    case $text in
      *"$ID")
        text=${text%"$ID"}
        [ -z "$text" ] || printf '%s\\n' "$text" >>"$J/log"
        [ "$size" -le KEPT ] || cut_log
        rm -f "$J/open"; continue ;;
    esac
    printf '%s\\n' "$text" >>"$J/log"
    size=$((size + ${#text} + 1))
    [ "$size" -le LARGEST ] || cut_log
  done
}
call() { echo "+ $*"; "$@" 7>&- 8>&-; }
quiet() { timeout -k 1 15 "$@" 7>&- 8>&-; }
clear_stale() { if [ "$(cat "$1" 2>/dev/null)" = "$2" ]; then rm -f "$1"; fi; }
version_of() { [ -x "$B/$1" ] && quiet VERSION 2>/dev/null | { read -r name version rest; printf %s "$version"; }; }
take_place() {
  mkdir -p "$D/places" || return
  waits="waits for one of $1 places"
  exec 6>"$D/places/next"
  if ! flock -n 6; then echo "$waits"; waits=; flock 6 8>&- || return; fi
  while :; do
    place=0
    while [ "$place" -lt "$1" ]; do
      exec 7>"$D/places/$place"
      if flock -n 7; then exec 6>&-; return 0; fi
      place=$((place + 1))
    done
    exec 7>&-
    [ -z "$waits" ] || { echo "$waits"; waits=; }
    sleep EVERY 8>&-
  done
}
after() {
  [ -e "$D/jobs/$2/lock" ] || return 0
  exec 5<"$D/jobs/$2/lock"
  if ! flock -n -s 5; then echo "waits for $1"; flock -s 5 8>&-; fi
  exec 5<&-
}
job() {
  work
  rc=$?
  exec 7>&-
  printf '%s\\n' "$ID"
  tries=0
  while [ -e "$J/open" ] && [ "$tries" -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
  if [ "$rc" -eq 0 ]; then state succeeded 0; else state failed "$rc"; fi
}
"""


def start(dialect: MachineDialect, job: JobScript) -> list[str]:
    """Steps of a writing script that start a job, unless it runs: frame `started` or `running`."""
    folder = f'"$D"/jobs/{shlex.quote(file_name(job.name))}'
    return [
        f'J={folder}; mkdir -p "$J" || {{ failed files; return; }}',
        'exec 8>"$J/lock"',
        # A look may hold the lock for an instant, so the answer is waited for a little.
        "timeout 1 flock 8 || { frame running; frame end; return; }",
        f"ID=$N; RESULT=; WANTED={shlex.quote(job.wanted)}; BEGAN=$(date -u +%Y-%m-%dT%H:%M:%SZ)",
        f'B="$HOME"/{shlex.quote(dialect.bin)}',
        f"script={shlex.quote(_text(dialect, job))}",
        'printf \'%s\\n\' "$script" >"$J/run.new" && mv -f "$J/run.new" "$J/run" || { failed files; return; }',
        ': >"$J/log"; : >"$J/open"',
        'printf \'running\\nrc=\\nwanted=%s\\nbegan=%s\\nid=%s\\nresult=\\n\' "$WANTED" "$BEGAN" "$ID" '
        '>"$J/state.new" && mv -f "$J/state.new" "$J/state" || { failed files; return; }',
        "export J D B ID RESULT WANTED BEGAN",
        'setsid nohup sh "$J/run" </dev/null >/dev/null 2>&1 9>&- &',
        "exec 8>&-",
        "frame started",
    ]


def _text(dialect: MachineDialect, job: JobScript) -> str:
    version = " ".join('"$1"' if word == "{component}" else shlex.quote(word) for word in dialect.version)
    frame = FRAME.replace("KEPT", str(LOG_KEPT)).replace("LARGEST", str(2 * LOG_KEPT)).replace("VERSION", version)
    frame = frame.replace("EVERY", str(PLACE_EVERY))
    work = f"work() {{\n{job.work}\n}}\n"
    return frame + work + "{ job 2>&1; } | ( exec 8>&-; keep ) &\nexec 8>&-\n"


def supervisor(dialect: MachineDialect, lab_url: str, version: str | None) -> JobScript:
    """Base packages, lab, hero_proc installed and answering: each only if it is missing. One that ran before another version was
    brought is stopped, if need be by a later try."""
    wanted = version or ""
    packages = line((*dialect.packages_install, *dialect.base_packages))
    build = _build(dialect, dialect.supervisor, version)
    name = shlex.quote(dialect.supervisor)
    lab = f'"$B"/{shlex.quote(dialect.lab)}'
    answers = f"quiet {line(dialect.service_list)} >/dev/null 2>&1"
    # A relay that is being maintained answers with a page and 200: as lab it would be there, and never work.
    work = f"""\
  is_page() {{ [ "$(head -c 1 "$1")" = "<" ]; }}
  if ! command -v curl >/dev/null 2>&1; then
    call {line(dialect.packages_refresh)} || return
    call {packages} || return
  fi
  mkdir -p "$B" || return
  if ! [ -x {lab} ] || is_page {lab}; then
    call curl -fsSL -o {lab}.part {shlex.quote(lab_url)} || return
    if is_page {lab}.part; then echo "a web page was answered where lab should be"; return 1; fi
    chmod +x {lab}.part && mv -f {lab}.part {lab} || return
  fi
  have=$(version_of {name})
  want={shlex.quote(wanted)}
  if ! [ -x "$B"/{name} ] || {{ [ -n "$want" ] && [ "${{have#v}}" != "${{want#v}}" ]; }}; then
    {build} || return
    : >"$J/brought" || return
  fi
  if [ -e "$J/brought" ]; then
    RESULT=$(version_of {name})
    if {answers}; then call {line(dialect.lab_stop, service=dialect.supervisor)} || return; fi
    rm -f "$J/brought"
  fi
  if ! {answers}; then
    call {line(dialect.lab_start, service=dialect.supervisor)} || return
    waited=0
    until {answers}; do
      waited=$((waited + 1))
      [ "$waited" -lt {START_WAIT} ] || {{ echo "{dialect.supervisor} does not answer"; return 1; }}
      sleep 1
    done
  fi
  RESULT=$(version_of {name})
  return 0"""
    return JobScript(SUPERVISOR_JOB, wanted, work)


def install(
    dialect: MachineDialect,
    component: str,
    version: str | None,
    services: tuple[str, ...],
    places: int,
    first: Mapping[SettingKey, Secret] = NOTHING,
) -> JobScript:
    """Install or update a component and start its services, when one of so many places is free; services that ran another
    version are restarted. What the component needs to start is waited for, if it is being installed as well; by then the
    place is given back, so that it can be had by that. `first` is written before services of another version are started.

    What was written before the first start is read by it: a fresh service is no longer stale. A service that another
    version may have left running is restarted, which is the same; also by a later try than the one that brought the version.
    """
    name = shlex.quote(component)
    known = catalogue().get(component)
    needs = [need for need in (known.needs if known else ()) if need != dialect.supervisor]
    waits = [f"  after {shlex.quote(need)} {shlex.quote(file_name(install_job(need)))}" for need in needs]
    steps = "\n".join((*waits, *_written_first(dialect, first), *(_start_after_install(dialect, s) for s in services)))
    # "before" is kept to the end: when this try breaks off, the next one finds the new version there, and the old one running.
    work = f"""\
  take_place {places} || return
  : >"$D"/components/{shlex.quote(file_name(component))}
  fresh=yes
  if [ -x "$B"/{name} ]; then fresh=; fi
  [ -e "$J/before" ] || printf '%s\\n' "$(version_of {name})" >"$J/before" || return
  before=$(cat "$J/before")
  {_build(dialect, component, version)} || return
  RESULT=$(version_of {name})
  exec 7>&-
{steps}
  rm -f "$J/before"
  return 0"""
    return JobScript(install_job(component), version or "", work)


def _written_first(dialect: MachineDialect, first: Mapping[SettingKey, Secret]) -> list[str]:
    """A version that cannot be told counts as another one."""
    if not first:
        return []
    writes = [
        f"    call {line(dialect.secret_set, context=context, key=key, value=value.text())} || return"
        for (context, key), value in first.items()
    ]
    return ['  if [ -z "$RESULT" ] || [ "$before" != "$RESULT" ]; then', *writes, "  fi"]


def _start_after_install(dialect: MachineDialect, service: str) -> str:
    mark = f'"$D"/stale/{shlex.quote(file_name(service))}'
    start = f"call {line(dialect.lab_start, service=service)}"
    restart = f"call {line(dialect.service_restart, service=service)}"
    return f"""\
  was=$(cat {mark} 2>/dev/null)
  if [ -n "$fresh" ]; then
    {start} || return
    clear_stale {mark} "$was"
  elif [ "$before" != "$RESULT" ] && {restart}; then
    clear_stale {mark} "$was"
  else
    {start} || return
  fi"""


def _build(dialect: MachineDialect, component: str, version: str | None) -> str:
    words = dialect.lab_build + (dialect.lab_build_version if version else ())
    return f"call {line(words, component=component, version=version or '')}"
