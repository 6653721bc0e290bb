"""The one script of a look, and how its answer is read. It changes nothing, and answers what it can on a bare machine.

Few processes, every one of them with a time limit, and one `curl` for all health checks, one for each side and host of the
front door.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import Any
from urllib.parse import quote

from reconcilers.backends.machine import (
    Domain,
    Job,
    JobState,
    MachineLook,
    MachineQuery,
    Probe,
    ProbeAnswer,
    SettingKey,
)
from reconcilers.backends.machine_dialect import MachineDialect, line
from reconcilers.backends.machine_jobs import LOG_TAIL
from reconcilers.backends.machine_scripts import door, file_name, from_file_name, from_setting_file
from reconcilers.backends.machine_shell import Frame, whole
from reconcilers.secret import Secret

COMMAND_TIME = 6  # seconds for one command of the supervisor or a component
URL_TIME = 4  # seconds for one address
URLS_TIME = 24  # seconds for all addresses of one curl
MAY_STAND = "/~@!$&'()*+,;=:%-._?"  # in a path, so that curl takes no character of it for a pattern
NO_ANSWER = ("000", "0", "")


def look_script(dialect: MachineDialect, address: str, query: MachineQuery, nonce: str) -> bytes:
    """The script of a look. `address` is the machine's own Mycelium address."""
    steps = [
        f'PATH="$HOME/{dialect.bin}:$PATH"; export PATH',
        'frame keys; cat "$HOME/.ssh/authorized_keys" 2>/dev/null',
        f"frame tools; for tool in {shlex.join(dialect.tools)}; do",
        '  if command -v "$tool" >/dev/null 2>&1; then echo "$tool"; fi; done',
        # Before the services: an install that ends in the middle of the look is then seen as under way, never as over with
        # its services still down.
        *_jobs(query),
        *_supervisor(dialect, query),
        *_versions(dialect, query.components),
        *_addresses(dialect, address, query),
        'for kind in stale settings components; do frame "$kind"; ls -1 "$D/$kind" 2>/dev/null; done',
    ]
    return whole("\n".join(steps), nonce)


def _supervisor(dialect: MachineDialect, query: MachineQuery) -> list[str]:
    """What hero_proc is asked. Once it leaves a question unanswered it is asked no more: each would take its full time."""
    services = f"ask services {line(dialect.service_list)}"
    asked = [services, "[ $rc -eq 0 ] || up=; missing="]
    for number, (context, key) in enumerate(query.secrets):
        asked.append(f"ask secret.{number} {line(dialect.secret_get, context=context, key=key)}")
    for number, context in enumerate(query.contexts):
        asked.append(f"ask list.{number} {line(dialect.secret_list, context=context)}")
    # "It is not there" is believed only of a supervisor that is still well afterwards (lesson 29).
    asked.append(f'if [ -n "$missing" ]; then {services}; fi')
    ask = (
        'ask() { [ "$up" = yes ] || return 0; frame "$1"; shift; '
        f'within {COMMAND_TIME} "$@" 2>/dev/null; rc=$?; frame rc $rc; '
        "[ $rc -ne 1 ] || missing=yes; [ $rc -lt 2 ] || up=; }"
    )
    return [ask, f"up=; rc=0; if command -v {shlex.quote(dialect.supervisor)} >/dev/null 2>&1; then up=yes; fi", *asked]


def _versions(dialect: MachineDialect, components: Iterable[str]) -> list[str]:
    steps = []
    for number, component in enumerate(components):
        binary = f'"$HOME"/{shlex.quote(dialect.bin)}/{shlex.quote(component)}'
        version = line(dialect.version, component=component)
        ask = f"frame version {number}; within {COMMAND_TIME} {version} 2>/dev/null; frame rc $?"
        steps.append(f"if [ -x {binary} ]; then {ask}; fi")
    return steps


def _addresses(dialect: MachineDialect, address: str, query: MachineQuery) -> list[str]:
    steps = [f"frame domains; {door(dialect, dialect.domain_list, {})} 2>/dev/null; frame rc $?"]
    if query.health:
        urls = [dialect.health_url.format(service=quote(each, safe="")) for each in query.health]
        steps.append(f"frame health; {_curl(urls, None)}")
    for number, (side, _, probes) in enumerate(probe_runs(query.probes)):
        host = probes[0].host
        base = _base(dialect, side, address)
        steps.append(
            f"frame probes {number}; {_curl([base + quote(each.path, safe=MAY_STAND) for each in probes], host)}"
        )
    return ["if command -v curl >/dev/null 2>&1; then", *steps, "fi"]


def _base(dialect: MachineDialect, side: str, address: str) -> str:
    """Where the questions of a side go to."""
    if side == "inner":
        return dialect.inner_url.format(address=address)
    return dialect.router_url if side == "router" else dialect.loopback_url


@lru_cache
def probe_runs(probes: tuple[Probe, ...]) -> tuple[tuple[str, str, tuple[Probe, ...]], ...]:
    """The probes by side and host, each group in one order: what one curl asks."""
    ordered = sorted(set(probes))
    return tuple((side, host, tuple(group)) for (side, host), group in groupby(ordered, key=lambda p: (p.side, p.host)))


def _curl(urls: list[str], host: str | None) -> str:
    """One curl for many addresses: a line for each with its status and where it redirects to."""
    words = ["curl", "-s", "--max-time", str(URL_TIME), "-w", "%{http_code} %{redirect_url}\\n"]
    words += ["-H", f"Host: {host}"] if host is not None else []
    for url in urls:
        words += ["-o", "/dev/null", url]
    return f"within {URLS_TIME} {shlex.join(words)} 2>/dev/null"


def _jobs(query: MachineQuery) -> list[str]:
    """How our jobs on the machine stand. A job is dead when it says running twice and nobody held its lock in between.

    A state is read without a process of its own, and what a job printed is left out when it ended well and nobody asked: a
    machine has a job for each component, nearly all of them long done.
    """
    logs = " ".join(("", *map(file_name, query.logs), ""))
    return [
        'state_of() { said=; while IFS= read -r row; do said="$said$row\n"; done <"$1"; }',
        'for job in "$D"/jobs/*; do',
        '  [ -f "$job/state" ] || continue',
        '  state_of "$job/state"; held=yes',
        "  case $said in",
        '    running*) if flock -n "$job/lock" true 2>/dev/null; then last=$said; state_of "$job/state"',
        '      [ "$last" != "$said" ] || held=; fi ;;',
        "  esac",
        '  frame job "${job##*/}" "$held"; printf "%s" "$said"',
        f"  case $said in succeeded*) case {shlex.quote(logs)} in",
        '    *" ${job##*/} "*) ;; *) continue ;; esac ;; esac',
        f'  frame log; tail -c {LOG_TAIL} "$job/log" 2>/dev/null',
        "done",
    ]


@dataclass
class _Gathered:
    """What has been read so far; becomes the look when all frames are through."""

    keys: tuple[str, ...] = ()
    tools: frozenset[str] = frozenset()
    answered: bool = False
    silent: bool = False
    services: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    health: dict[str, int] = field(default_factory=dict)
    secrets: dict[SettingKey, Secret] = field(default_factory=dict)
    listed: dict[str, frozenset[str]] = field(default_factory=dict)
    domains: tuple[Domain, ...] | None = None
    names: dict[str, frozenset[str]] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    probes: dict[Probe, ProbeAnswer] = field(default_factory=dict)


def read_look(host_key: str, query: MachineQuery, answer: tuple[Frame, ...]) -> MachineLook:
    """The look that the frames hold. What cannot be understood is left out: unknown, never guessed."""
    got = _Gathered()
    got.probes = {each: ProbeAnswer(None, error="it could not be asked") for each in query.probes}
    for frame, after in zip(answer, (*answer[1:], Frame((), b"")), strict=True):
        _take(got, query, frame, after)
    up = got.answered and not got.silent
    return MachineLook(
        host_key=host_key,
        authorized_keys=got.keys,
        tools=got.tools,
        supervisor_up=up,
        services=got.services if up else {},
        versions=got.versions,
        health=got.health,
        secrets=got.secrets if up else {},
        listed=got.listed if up else {},
        domains=got.domains,
        stale=frozenset(map(from_file_name, got.names.get("stale", ()))),
        jobs=got.jobs,
        owned_settings=frozenset(map(from_setting_file, got.names.get("settings", ()))),
        owned_components=frozenset(map(from_file_name, got.names.get("components", ()))),
        probes=got.probes,
    )


def _take(got: _Gathered, query: MachineQuery, frame: Frame, after: Frame) -> None:
    """Read one frame; `after` is the next one, which holds the exit code or the log."""
    text = frame.body.decode("utf-8", "replace")
    rc = int(after.words[1]) if after.kind == "rc" else None
    kind, _, index = frame.kind.partition(".")
    match kind:
        case "keys":
            lines = (each.strip() for each in text.splitlines())
            got.keys = tuple(each for each in lines if each and not each.startswith("#"))
        case "tools":
            got.tools = frozenset(text.split())
        case "services" | "secret" | "list":
            _take_supervisor(got, query, kind, int(index or 0), frame.body, rc)
        case "version":
            got.versions[query.components[int(frame.words[1])]] = version_in(text) if rc == 0 else None
        case "domains":
            got.domains = domains_in(frame.body) if rc == 0 else None
        case "health":
            got.health = {name: status for name, (status, _) in zip(query.health, _curled(text), strict=False)}
        case "probes":
            _, _, probes = probe_runs(query.probes)[int(frame.words[1])]
            for probe, (status, location) in zip(probes, _curled(text), strict=False):
                got.probes[probe] = (
                    ProbeAnswer(status, location) if status else ProbeAnswer(None, error="nobody answers there")
                )
        case "stale" | "settings" | "components":
            got.names[kind] = frozenset(text.split())
        case "job":
            log = after.body if after.kind == "log" else b""
            job = job_in(from_file_name(frame.words[1]), text, log, held=len(frame.words) > 2)
            if job is not None:
                got.jobs[job.name] = job


def _take_supervisor(got: _Gathered, query: MachineQuery, kind: str, number: int, body: bytes, rc: int | None) -> None:
    """What hero_proc said. 1 and nothing printed means "it does not exist" (A); any other failure means that it is not well."""
    if kind == "services":
        services = services_in(body) if rc == 0 else None
        got.answered = services is not None
        got.services = services or {}
    elif kind == "secret" and rc == 0:
        got.secrets[query.secrets[number]] = Secret(body)
    elif kind == "list" and rc == 0:
        got.listed[query.contexts[number]] = frozenset(body.decode("utf-8", "replace").splitlines()) - {""}
    elif not (kind == "secret" and rc == 1 and not body):
        got.silent = True


def version_in(text: str) -> str | None:
    """`<component> <version>`; None when it says anything else: unknown is shown as unknown."""
    words = text.split()
    return words[1] if len(words) == 2 else None


def services_in(body: bytes) -> dict[str, str] | None:
    """The supervisor's list; None when it is none."""
    try:
        return {str(each["name"]): str(each["state"]).lower() for each in json.loads(body)}
    except (ValueError, TypeError, KeyError):
        return None


def domains_in(body: bytes) -> tuple[Domain, ...] | None:
    """The front door's registrations; None when the answer is none."""
    try:
        rows: list[Mapping[str, Any]] = json.loads(body)["result"]
        return tuple(
            Domain(
                domain=str(each["domain"]),
                auth_mode=str(each["auth_mode"]),
                backend=str(each["backend"]),
                public_paths=tuple(str(path) for path in each.get("public_paths") or ()),
            )
            for each in rows
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def job_in(name: str, text: str, log: bytes, *, held: bool) -> Job | None:
    """A job from its state file; None when that cannot be read."""
    word, _, rest = text.partition("\n")
    fields = dict(each.partition("=")[::2] for each in rest.splitlines())
    if word not in (JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED):
        return None
    state = JobState.DIED if word == JobState.RUNNING and not held else JobState(word)
    rc = fields.get("rc", "")
    return Job(
        name=name,
        state=state,
        rc=int(rc) if rc.isdigit() else None,
        log=readable(_from_a_line(log)),
        result=fields.get("result", ""),
        wanted=fields.get("wanted", ""),
        began=fields.get("began", ""),
    )


def _from_a_line(log: bytes) -> bytes:
    """A tail from its first whole line on: half a line may be half a secret."""
    return log.partition(b"\n")[2] or log if len(log) >= LOG_TAIL else log


def readable(log: bytes) -> str:
    """A log as people can read it: no control characters, and no half character where the tail was cut."""
    text = log.decode("utf-8", "replace").lstrip("\ufffd").replace("\r", "\n")
    return "".join(each for each in text if each in "\n\t" or each.isprintable())


def _curled(text: str) -> list[tuple[int, str]]:
    found = []
    for each in text.splitlines():
        status, _, location = each.partition(" ")
        found.append((int(status) if status.isascii() and status.isdigit() else 0, location.strip()))
    return found
