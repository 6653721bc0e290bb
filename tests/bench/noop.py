"""`python -m tests.bench.noop`: a no-op check of many machines over real SSH, by us, by a bare loop and by our peers.

12 versions, 12 services and 8 settings each for the peers. We ask for at least as much with one command (the notes say what),
and work out what it means for each tester. Figures are CPU milliseconds of the client for each machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections import Counter
from pathlib import Path

from reconcilers.backends.machine_alike import script_of
from reconcilers.backends.machine_dialect import MachineDialect
from reconcilers.backends.machine_ssh import CIPHERS
from reconcilers.facts import Facts
from reconcilers.machine_look import machine_address, machine_question
from specs.loading import load_folder
from tests.bench.loopback import Loopback, loopback
from tests.bench.noop_ours import Round, answer_of, bare, ours
from tests.bench.noop_peers import Ansible, Check, Pyinfra, all_in_one, checks_of, told_by
from tests.bench.report import Figure, Report, median, openssh_version, peer_versions, versions
from tests.bench.settled import Copy, Sample, sampled
from tests.worlds.loop import run

UNIT = "ms CPU a machine"
FEW = 20
"""Machines of the runs with a task for each check, and of those that tell what a run costs before its first machine."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machines", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = Report("noop", versions=versions("asyncssh", "cryptography"))
    report.versions["OpenSSH"] = openssh_version()
    with tempfile.TemporaryDirectory(prefix="bench-noop-") as folder:
        root = Path(folder)
        sample = run(sampled(root / "sample"))
        report.notes.append(_asked(sample))
        with loopback(root / "ssh") as server:
            for number in range(options.machines):
                server.answers(number, answer_of(sample, Copy(number, sample)), b"@@")
            warm = _of_ours(report, sample, server, root, options.machines, options.rounds)
            if not options.without_peers:
                _of_peers(report, server, root, options.machines, warm)
    report.told(options.json)


def _of_ours(report: Report, sample: Sample, server: Loopback, root: Path, number: int, rounds: int) -> Figure:
    """Ours and the floor, side by side. Returns the warm figure."""
    script = _script(sample)
    plain = asyncio.run(bare(server, script, number, rounds))
    best = asyncio.run(bare(server, script, number, rounds, CIPHERS))
    found = asyncio.run(ours(sample, number, server, root / "ours", rounds))

    def add(name: str, cpu: list[float], goal: float | None = None) -> Figure:
        return report.add(median(name, [1000 * each / number for each in cpu], UNIT, number, goal))

    settled = add("ours, warm: settled testers, compared by digest", [each.cpu for each in found.settled], 1.0)
    whole = add("ours, warm: a whole pass forced (parse, plan, compare)", [each.cpu for each in found.whole], 1.0)
    cold = add("ours, cold: every connection opened anew", [each.cpu for each in found.cold], 3.5)
    add("ours, from the start of the controller", [found.started.cpu])
    floor = add("bare asyncssh, open connections, its own ciphers", plain.warm)
    floor_best = add("bare asyncssh, open connections, our ciphers", best.warm)
    floor_kept = add("bare asyncssh, by shells that stay, our ciphers", best.kept)
    floor_cold = add("bare asyncssh, connecting and one command", plain.cold)
    report.ratio("ours, warm / bare asyncssh as it comes", settled, floor, 1.3)
    report.ratio("ours, warm / bare asyncssh with our ciphers", settled, floor_best, 1.3)
    report.ratio("ours, warm / bare asyncssh by shells that stay", settled, floor_kept)
    report.ratio("ours, whole pass / bare asyncssh as it comes", whole, floor, 1.3)
    report.ratio("ours, cold / bare asyncssh cold", cold, floor_cold)
    wall = [number / each.wall for each in found.settled]
    report.add(
        Figure(
            "ours, warm, both ends on this machine", max(wall), "machines/s", number, tuple(wall), goal=700, least=True
        )
    )
    report.add(
        Figure("ours, warm, what one core of the client is good for", 1000 / settled.value, "machines/s", number)
    )
    report.notes.append(_beside("settled", found.settled) + "; " + _beside("whole", found.whole))
    return settled


def _of_peers(report: Report, server: Loopback, root: Path, number: int, warm: Figure) -> None:
    names = [f"hero_{each}" for each in range(12)]
    checks = checks_of(names, names, [f"KEY_{each}" for each in range(8)])
    server.commands(told_by(checks))
    few = min(FEW, number)
    report.versions |= peer_versions("ansible-core", "pyinfra", "paramiko")

    def add(name: str, cpu: float, count: int) -> Figure:
        return report.add(Figure(name, 1000 * cpu / count, UNIT, count))

    ansible = Ansible(server, root / "ansible", number)
    add("Ansible, all checks in one task, opening its connections", ansible.cpu([all_in_one(checks)]), number)
    best = add("Ansible, all checks in one task, on open connections", ansible.cpu([all_in_one(checks)]), number)
    ansible.close()
    fewer = Ansible(server, root / "ansible-few", few)
    fewer.cpu([Check("true", "")])
    add("Ansible, a task for each check", fewer.cpu(checks), few)
    fewer.close()
    many = Pyinfra(server, root / "pyinfra", number).cpu([all_in_one(checks)])
    small = Pyinfra(server, root / "pyinfra-few", few)
    little = small.cpu([all_in_one(checks)])
    add("pyinfra, all checks in one fact", many, number)
    add("pyinfra, a fact for each check", small.cpu(checks), few)
    report.ratio("Ansible's best, on open connections / ours, warm", best, warm, 75, least=True)
    if number > few:
        margin = add("pyinfra, all in one, at the margin", many - little, number - few)
        report.ratio("pyinfra's best at the margin / ours, warm", margin, warm, 5, least=True)


def _script(sample: Sample) -> bytes:
    """A look as we put it."""
    loaded = load_folder(sample.folder, sample.at.date()).testers
    books = sample.books
    facts = Facts(tester=books.record.name, uid=books.record.uid, fleet=sample.fleet, steps=dict(books.facts))
    question = machine_question(next(iter(loaded.values())).desired, facts)
    return script_of(MachineDialect(), machine_address(facts).host, question, "@word")


def _asked(sample: Sample) -> str:
    kinds = Counter(each.kind.partition(".")[0] for each in sample.frames)
    services = next(len(json.loads(each.body)) for each in sample.frames if each.kind == "services")
    return (
        f"one look of ours asks for {kinds['version']} versions, {services} services and {kinds['secret']} settings,"
        f" and for {kinds['job']} jobs, health, the front door on {kinds['probes']} sides, its domains and the authorised keys"
    )


def _beside(name: str, rounds: list[Round]) -> str:
    looks, others = rounds[-1].looks, [each.others for each in rounds]
    return f"{name}: {looks} looks a round, {others} calls elsewhere, {[each.commits for each in rounds]} commits"


if __name__ == "__main__":
    main()
