"""The commands and addresses of a machine. What CONTRACTS.md does not mark S or P is an assumption (A), changed here.

A command is a tuple of words; `{name}` in a word is filled in, and every word is quoted for the shell on its own.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

Words = tuple[str, ...]


def line(words: Words, **values: str) -> str:
    """One shell command, every word quoted. A value is never read again for placeholders."""
    return " ".join(shlex.quote(word.format(**values)) for word in words)


@dataclass(frozen=True, slots=True)
class MachineDialect:
    """Every word that we say on a machine. Paths are relative to the home directory of the user that signs in.

    Marks: lab_build, service start, secret_set, version, domain_add S; health, secret get/list/delete P; the rest A.
    """

    bin: str = "hero/bin"
    tools: Words = ("curl", "lab", "hero_proc")
    supervisor: str = "hero_proc"
    base_packages: Words = ("curl", "ca-certificates")
    packages_refresh: Words = ("apt-get", "update")
    packages_install: Words = ("apt-get", "install", "-y", "--no-install-recommends")
    lab: str = "lab"
    lab_build: Words = ("lab", "build", "{component}", "--download", "--install")
    lab_build_version: Words = ("--version", "{version}")
    lab_uninstall: Words = ("lab", "uninstall", "{component}")
    lab_start: Words = ("lab", "service", "{service}", "start")
    lab_stop: Words = ("lab", "service", "{service}", "stop")
    version: Words = ("{component}", "--version")
    service_list: Words = ("hero_proc", "service", "list", "--json")
    service_restart: Words = ("hero_proc", "service", "restart", "{service}")
    service_stop: Words = ("hero_proc", "service", "stop", "{service}")
    secret_set: Words = ("hero_proc", "secret", "set", "--quiet", "--context", "{context}", "{key}", "{value}")
    secret_get: Words = ("hero_proc", "secret", "get", "--context", "{context}", "{key}")
    secret_list: Words = ("hero_proc", "secret", "list", "--context", "{context}")
    secret_delete: Words = ("hero_proc", "secret", "delete", "--context", "{context}", "{key}")
    health_url: str = "http://127.0.0.1:9988/{service}/health"
    loopback_url: str = "http://127.0.0.1:9989"
    router_url: str = "http://127.0.0.1:9988"
    inner_url: str = "http://[{address}]:9988"
    door: str = "hero_proxy"
    door_socket: str = "hero/var/sockets/hero_proxy/rpc.sock"
    door_url: str = "http://localhost/rpc"
    domain_add: str = "domain.add"
    domain_list: str = "domain.list"
    domain_remove: str = "domain.remove"
