"""The scripts that change something on a machine: pure functions from what is wanted to the text that /bin/sh runs.

Every script takes one lock first, may run twice at once, and may be done again. All files of ours are under
`~/.tester-controller` (0700):

    lock                one writing script at a time
    stale/<service>     it reads settings written since its last restart; holds the run that said so
    settings/<setting>  written by us as ours          components/<component>  installed by us
    jobs/<job>/         state, log, lock and script of a detached job (`machine_jobs`)
    places/<n>          held by an install while it works; places/next by the one that is next

Names become file names percent-encoded. Every word is quoted by `shlex.quote`; a secret stands in the script, which
comes in on standard input, and in the arguments of the one command that stores it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

from reconcilers.backends.machine import Domain, Readers, SettingKey, install_job
from reconcilers.backends.machine_dialect import MachineDialect, line
from reconcilers.backends.machine_shell import whole
from reconcilers.secret import Secret
from specs.catalogue import owner_of

LOCK_WAIT = 45  # seconds for the lock of all writing scripts
RPC_TIME = 10  # seconds for one call to the front door


def file_name(text: str) -> str:
    """A name as a file name: nothing in it climbs, hides or breaks a line."""
    return "=" + quote(text, safe="")


def from_file_name(name: str) -> str:
    return unquote(name.removeprefix("="))


def setting_file(setting: SettingKey) -> str:
    """The file name of a setting; the colon cannot stand in either part."""
    return "=" + quote(setting[0], safe="") + ":" + quote(setting[1], safe="")


def from_setting_file(name: str) -> SettingKey:
    context, _, key = name.removeprefix("=").partition(":")
    return unquote(context), unquote(key)


WRITING = f"""\
mkdir -p "$D/stale" "$D/settings" "$D/components" "$D/jobs" || {{ frame failed files; frame end; return; }}
exec 9>"$D/lock"
timeout {LOCK_WAIT} flock 9 || {{ frame busy; frame end; return; }}
call() {{ "$@" 9>&-; }}
told() {{ call "$@" >"$D/out" 2>&1; }}
failed() {{ frame failed "$@"; head -c 16384 "$D/out" 2>/dev/null; rm -f "$D/out"; frame end; }}
clear_stale() {{ if [ "$(cat "$1" 2>/dev/null)" = "$2" ]; then rm -f "$1"; fi; }}
"""
# Children get no lock (`call`): a service that they leave behind would hold it for ever. What they print goes to a file
# (`told`): the same service would keep our connection's output open.


def writing(dialect: MachineDialect, nonce: str, steps: Iterable[str]) -> bytes:
    """A whole writing script: the lock, then the steps, each of which ends the script with a `failed` frame if it must."""
    bin_dir = f'PATH="$HOME/{dialect.bin}:$PATH"; export PATH\n'
    return whole(bin_dir + WRITING + "\n".join(steps) + '\nrm -f "$D/out"', nonce)


def outside_install(component: str) -> list[str]:
    """Steps that hold the lock of the component's install job until the script ends: an install never finds its service
    stopped or its program gone under its hands. Frame `busy` when one runs. Children get this lock as little as the other."""
    job = _job_folder(component)
    return [
        f"if [ -d {job} ]; then exec 8>{job}/lock; timeout 2 flock 8 || {{ frame busy; frame end; return; }}; fi",
        'call() { "$@" 8>&- 9>&-; }',
    ]


def _job_folder(component: str) -> str:
    return f'"$D"/jobs/{shlex.quote(file_name(install_job(component)))}'


def must(command: str, what: str) -> str:
    """A step that ends the script when it fails; its output goes along."""
    return f"told {command} || {{ failed {what}; return; }}"


def authorized_keys(keys: tuple[str, ...]) -> list[str]:
    """Replace the file in one motion, so that there is no moment at which nobody can get in."""
    lines = " ".join(shlex.quote(key) for key in keys)
    new = '"$HOME/.ssh/authorized_keys.new"'
    return [
        must('mkdir -p "$HOME/.ssh"', "keys"),
        'chmod 700 "$HOME/.ssh"',
        f"printf '%s\\n' {lines} >{new} && chmod 600 {new} && [ -s {new} ] || {{ failed keys; return; }}",
        must(f'mv -f {new} "$HOME/.ssh/authorized_keys"', "keys"),
    ]


def mark_stale(settings: Iterable[SettingKey], readers: Readers) -> list[str]:
    """Said before anything is written: should we be cut off, the readers are restarted once too often, never too seldom."""
    services = sorted({service for setting in settings for service in readers.get(setting, ())})
    return [f'printf \'%s\\n\' "$N" >"$D"/stale/{shlex.quote(file_name(each))}' for each in services]


def write_settings(
    dialect: MachineDialect, values: Mapping[SettingKey, Secret], readers: Readers, owned: bool
) -> list[str]:
    """Ownership, stale marks, then each value, and each read back in frames `got <n>` and `rc <n>`."""
    marks = [f': >"$D"/settings/{shlex.quote(setting_file(each))}' for each in values] if owned else []
    steps = marks + mark_stale(values, readers)
    for number, ((context, key), value) in enumerate(values.items()):
        text = value.reveal().decode("utf-8", "surrogateescape")
        steps.append(must(line(dialect.secret_set, context=context, key=key, value=text), f"set {number}"))
        steps.append(f"frame got {number}; call {line(dialect.secret_get, context=context, key=key)} 2>/dev/null")
        steps.append("frame rc $?")
    return steps


def swap_setting(
    dialect: MachineDialect, setting: SettingKey, old: Secret | None, new: Secret, readers: tuple[str, ...]
) -> list[str]:
    """If it holds what it should: stale marks, write, frames `got 0` and `rc 0`. Else frame `changed`.

    What it holds is compared together with the exit code of the question, so that "not there" is no empty value and no
    last newline is lost.
    """
    context, key = setting
    get = line(dialect.secret_get, context=context, key=key)
    held = "x1" if old is None else old.reveal().decode("utf-8", "surrogateescape") + "x0"
    text = new.reveal().decode("utf-8", "surrogateescape")
    return [
        f"held=$(call {get} 2>/dev/null; printf 'x%s' \"$?\")",
        f'if [ "$held" = {shlex.quote(held)} ]; then',
        *mark_stale((setting,), {setting: readers}),
        must(line(dialect.secret_set, context=context, key=key, value=text), "set 0"),
        f"frame got 0; call {get} 2>/dev/null",
        "frame rc $?; else frame changed; fi",
    ]


def delete_settings(dialect: MachineDialect, settings: tuple[SettingKey, ...], readers: Readers) -> list[str]:
    """Stale marks, then delete, then look: frames `got <n>` and `rc <n>`, where 0 means that it is still there."""
    steps = mark_stale(settings, readers)
    for number, (context, key) in enumerate(settings):
        steps.append(must(line(dialect.secret_delete, context=context, key=key), f"delete {number}"))
        steps.append(f"frame got {number}; call {line(dialect.secret_get, context=context, key=key)} >/dev/null 2>&1")
        mark = f'"$D"/settings/{shlex.quote(setting_file((context, key)))}'
        steps.append(f"rc=$?; frame rc $rc; [ $rc -eq 0 ] || rm -f {mark}")
    return steps


def restart_service(dialect: MachineDialect, service: str) -> list[str]:
    """Restart, not while its component is being installed; the stale mark goes only if it is still the one that was there
    before. The front door alone is restarted at any time: nothing may keep it from being shut."""
    mark = f'"$D"/stale/{shlex.quote(file_name(service))}'
    return [
        *([] if service == dialect.door else outside_install(owner_of(service))),
        f"was=$(cat {mark} 2>/dev/null)",
        must(line(dialect.service_restart, service=service), "restart"),
        f'clear_stale {mark} "$was"',
    ]


def start_service(dialect: MachineDialect, service: str) -> list[str]:
    """Start, not while its component is being installed; with a stale mark restart, since it may be running after all, and
    then starting would change nothing."""
    mark = f'"$D"/stale/{shlex.quote(file_name(service))}'
    start = must(line(dialect.lab_start, service=service), "start")
    restart = f"told {line(dialect.service_restart, service=service)}"
    return [
        *outside_install(owner_of(service)),
        f"was=$(cat {mark} 2>/dev/null)",
        f'if [ -n "$was" ] && {restart}; then clear_stale {mark} "$was"; else {start}; fi',
    ]


def stop_service(dialect: MachineDialect, service: str) -> list[str]:
    return [must(line(dialect.service_stop, service=service), "stop")]


def remove_component(dialect: MachineDialect, component: str, services: tuple[str, ...]) -> list[str]:
    """Stop and remove, not while its install runs; what is not there is fine. Ownership goes last."""
    binary = f'"$HOME"/{shlex.quote(dialect.bin)}/{shlex.quote(component)}'
    job = _job_folder(component)
    stops = "\n".join(f"  told {line(dialect.lab_stop, service=each)}" for each in services)
    stale = " ".join(f'"$D"/stale/{shlex.quote(file_name(each))}' for each in services)
    return [
        *outside_install(component),
        f"if [ -e {binary} ]; then\n{stops}\n  {must(line(dialect.lab_uninstall, component=component), 'remove')}\nfi",
        f"[ ! -e {binary} ] || {{ failed remove; return; }}",
        f'rm -f "$D"/components/{shlex.quote(file_name(component))} {stale}',
        f"rm -rf {job}",
    ]


def door(dialect: MachineDialect, method: str, params: Mapping[str, object]) -> str:
    """One JSON-RPC call to the front door; prints its answer."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    curl = line(("curl", "-s", "-S", "-f", "--max-time", str(RPC_TIME), "-X", "POST", "--unix-socket"))
    rest = line(("-H", "Content-Type: application/json", "--data-binary", "@-", dialect.door_url))
    return f'printf %s {shlex.quote(body)} | {curl} "$HOME"/{shlex.quote(dialect.door_socket)} {rest}'


def set_domain(dialect: MachineDialect, domain: Domain) -> list[str]:
    """Register; the answer stands in frame `got 0`."""
    params = {
        "domain": domain.domain,
        "auth_mode": domain.auth_mode,
        "backend": domain.backend,
        "public_paths": list(domain.public_paths),
    }
    return _door_step(dialect, dialect.domain_add, params)


def remove_domain(dialect: MachineDialect, domain: str) -> list[str]:
    """Take a registration away; the answer stands in frame `got 0`."""
    return _door_step(dialect, dialect.domain_remove, {"domain": domain})


def _door_step(dialect: MachineDialect, method: str, params: Mapping[str, object]) -> list[str]:
    return [f'frame got 0; {{ {door(dialect, method, params)}; }} 2>"$D/out" 9>&-', "frame rc $?"]
