"""Large bodies through two proxies: ``python -m tests.bench streaming``.

One body goes up and one comes down, through two Pillion runtimes and through two nginx with mutual
TLS that stream too (no buffering to disk), in turns.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench.arguments import whole
from tests.bench.document import write_section
from tests.bench.errors import MissingProgramError, VoidRunError
from tests.bench.machine import description
from tests.bench.processes import ending_signals, work_directory
from tests.bench.procfs import cpu_seconds, memory, reset_peak
from tests.bench.rounds import say
from tests.bench.stats import paired_ratio, spread
from tests.bench.systems import METHOD_PATH, System, direct, nginx_pair, pillion_pair, python_app
from tests.bench.table import figure, table, with_range

MiB = 1024 * 1024
LIMIT_MIB = 40
DIRECTIONS = ("upload", "download")
MARGIN_SECONDS = 300.0
OURS = "pillion"
PEER = "nginx-mtls"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One large body through one system.

    Attributes:
        system: its name.
        direction: ``upload`` or ``download``.
        rate: bytes per second.
        extra: by role, the most memory above what was resident before any transfer, in bytes.
        cpu: by role, CPU seconds.
    """

    system: str
    direction: str
    rate: float
    extra: Mapping[str, int]
    cpu: Mapping[str, float]

    @property
    def pair(self) -> float:
        """CPU seconds of the two proxies together."""
        return sum(self.cpu.values())


def main(argv: Sequence[str]) -> int:
    """Measure, print, and with ``--write`` record; returns the exit status."""
    args = _arguments(argv)
    command = " ".join(["python -m tests.bench streaming", *argv])
    with ending_signals():
        text = run(args.mib * MiB, args.repeats, command)
    print(text)
    if args.write:
        write_section("streaming", text)
    return 0


def run(length: int, repeats: int, command: str) -> str:
    """Start the systems, stream ``repeats`` bodies of ``length`` bytes each way, and report.

    Raises:
        BenchError: the run cannot go on or is void.
    """
    machine = description(command)
    notes: list[str] = []
    with work_directory() as directory, contextlib.ExitStack() as stack:
        app = stack.enter_context(python_app(directory))
        systems = [direct(app)]
        try:
            peer = nginx_pair(directory / PEER, app, mutual_tls=True, streaming=True)
            systems.append(stack.enter_context(peer))
        except MissingProgramError as error:
            notes.append(f"> `{PEER}` was not measured: {error}")
        unlimited = ("--max-body-size", "-1")
        ours = pillion_pair(directory / OURS, app, extra=unlimited)
        systems.append(stack.enter_context(ours))
        resident = {
            system.name: {role: memory(pids).resident for role, pids in system.roles.items()}
            for system in systems
        }
        transfers = [
            transfer(system, direction, length, resident[system.name])
            for _ in range(repeats)
            for direction in DIRECTIONS
            for system in systems
        ]
    machine.append(("App", f"{app.program}, one process"))
    machine.append(("Bodies", f"{repeats} of {length // MiB:,} MiB each way through each system"))
    head = "\n".join(f"- {name}: {value}" for name, value in machine)
    return "\n\n".join([head, *notes, *render(systems, transfers)])


def transfer(system: System, direction: str, length: int, resident: Mapping[str, int]) -> Transfer:
    """Stream one body in a process of its own and see what it cost.

    Raises:
        VoidRunError: not every byte arrived.
    """
    name = "sink" if direction == "upload" else f"source?bytes={length}"
    reset_peak(system.pids)
    before = {role: cpu_seconds(pids) for role, pids in system.roles.items()}
    argv = [
        *(sys.executable, "-m", "tests.bench.streamer", direction),
        *("--url", system.base + METHOD_PATH + name, "--bytes", str(length)),
    ]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=MARGIN_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        text = f"{system.title}: the {direction} took more than {MARGIN_SECONDS:g} s"
        raise VoidRunError(f"{text}; the run is void") from error
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise VoidRunError(f"{system.title}: the {direction} failed ({reason[0]}); the run is void")
    result = json.loads(done.stdout)
    if result["bytes"] != length:
        raise VoidRunError(
            f"{system.title}: {result['bytes']} of {length} bytes arrived; the run is void"
        )
    found = Transfer(
        system=system.name,
        direction=direction,
        rate=length / result["seconds"],
        extra={role: memory(pids).peak - resident[role] for role, pids in system.roles.items()},
        cpu={role: cpu_seconds(pids) - before[role] for role, pids in system.roles.items()},
    )
    worst = max(found.extra.values(), default=0) / MiB
    say(f"{direction}, {system.title}: {found.rate / MiB:,.0f} MiB/s, {worst:.1f} MiB extra")
    return found


def render(systems: Sequence[System], transfers: Sequence[Transfer]) -> list[str]:
    """Write the verdict, the ratios and the figures as Markdown."""
    ours = [each for each in transfers if each.system == OURS]
    worst = max(extra for each in ours for extra in each.extra.values()) / MiB
    verdict = "met" if worst <= LIMIT_MIB else "**not met**"
    row = ["Extra memory of a runtime, worst", f"≤ {LIMIT_MIB} MiB", f"{worst:.1f} MiB", verdict]
    parts = ["### Targets", table(["Target", "Limit", "Measured", "Verdict"], [row])]
    if any(each.system == PEER for each in transfers):
        headers = ["Direction", "Systems", "Throughput", "CPU of the pair"]
        ratios = [_ratio_row(direction, transfers) for direction in DIRECTIONS]
        parts += ["### Ratios", table(headers, ratios)]
    headers = [
        *("Direction and system", "MiB/s", "CPU s, caller", "CPU s, callee"),
        *("Extra MiB, caller", "Extra MiB, callee"),
    ]
    rows = [_row(direction, system, transfers) for direction in DIRECTIONS for system in systems]
    return [*parts, "### Figures", "Medians; the extra memory is the worst.", table(headers, rows)]


def _of(system: str, direction: str, transfers: Sequence[Transfer]) -> list[Transfer]:
    return [each for each in transfers if each.system == system and each.direction == direction]


def _row(direction: str, system: System, transfers: Sequence[Transfer]) -> list[str]:
    found = _of(system.name, direction, transfers)
    rate = spread(each.rate / MiB for each in found)
    cells = [f"{direction}, {system.title}", with_range(rate)]
    for role in ("caller", "callee"):
        used = [each.cpu[role] for each in found if role in each.cpu]
        cells.append(figure(spread(used).median) if used else "-")
    for role in ("caller", "callee"):
        extra = [each.extra[role] for each in found if role in each.extra]
        cells.append(figure(max(extra) / MiB) if extra else "-")
    return cells


def _ratio_row(direction: str, transfers: Sequence[Transfer]) -> list[str]:
    ours, theirs = (_of(name, direction, transfers) for name in (OURS, PEER))
    rate = paired_ratio([each.rate for each in ours], [each.rate for each in theirs])
    cpu = paired_ratio([each.pair for each in ours], [each.pair for each in theirs])
    return [direction, f"{OURS} ÷ {PEER}", with_range(rate, "x"), with_range(cpu, "x")]


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench streaming",
        description="Measure large bodies through two proxies, both ways.",
    )
    parser.add_argument("--mib", type=whole, default=1024, help="MiB in one body (default 1024)")
    parser.add_argument("--repeats", type=whole, default=3, help="rounds (default 3)")
    parser.add_argument("--write", action="store_true", help="record in docs/performance.md")
    return parser.parse_args(argv)
