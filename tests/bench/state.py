"""State through the API of a runtime: ``python -m tests.bench state``.

The client library alone, the component alone and the HTTP API of a runtime reach the same server
and are measured in turns, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.arguments import duration, whole
from tests.bench.document import write_section
from tests.bench.errors import BenchError, MissingProgramError
from tests.bench.machine import description
from tests.bench.processes import ending_signals, work_directory
from tests.bench.procfs import memory
from tests.bench.rounds import say
from tests.bench.state_bulk import bulk
from tests.bench.state_report import Findings, render
from tests.bench.state_rounds import Plan, Record, play
from tests.bench.state_stores import STORES, Store, runtime

CALLERS = 64
SYNCS = 100
MiB = 1024 * 1024
LIBRARIES = ("redis", "grpcio", "nats-py")


def main(argv: Sequence[str]) -> int:
    """Measure, print, and with ``--write`` record; returns the exit status."""
    args = _arguments(argv)
    command = " ".join(["python -m tests.bench state", *argv])
    with ending_signals():
        findings = run(args, command)
    text = render(findings)
    print(text)
    if args.write:
        write_section("state", text)
    return 0


def run(args: argparse.Namespace, command: str) -> Findings:
    """Start the servers and the runtime, measure every store, and stop them.

    Raises:
        BenchError: the run cannot go on or is void.
    """
    if shutil.which("wrk") is None:
        raise MissingProgramError("wrk is not installed: apt install wrk")
    machine = description(command)
    plan = Plan(args.seconds, args.repeats, args.callers)
    with work_directory() as directory, contextlib.ExitStack() as stack:
        stores, notes = _start(args.stores, directory, stack)
        sidecar = stack.enter_context(runtime(directory, stores))
        record, bulks, resident = Record(), [], memory(sidecar.pids).resident
        sync = sync_seconds(directory)
        for store in stores:
            record.samples += play(store, sidecar, plan)
            bulks.append(bulk(store, sidecar))
        after = memory(sidecar.pids).resident
    machine += [
        ("Clients", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)),
        ("Load", f"{plan.callers} callers at once; wrk with one thread for the API"),
        ("Rounds", f"{plan.repeats} of {plan.seconds:g} s for each way, operation and store"),
    ]
    machine += [
        ("Disk", f"{sync * 1e3:.2f} ms to write 4 KiB and sync them, median"),
        (
            "Memory",
            f"{resident / MiB:.0f} MiB of the runtime at the start, {after / MiB:.0f} after",
        ),
    ]
    return Findings(machine, stores, record, bulks, notes)


def sync_seconds(directory: Path) -> float:
    """Return the median time in which a small write reaches the disk of ``directory``."""
    times = []
    with (directory / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _start(
    wanted: Sequence[str], directory: Path, stack: contextlib.ExitStack
) -> tuple[list[Store], list[str]]:
    stores, notes = [], []
    for name in wanted:
        try:
            stores.append(stack.enter_context(STORES[name](directory / name)))
        except MissingProgramError as error:
            note = f"`{name}` was not measured: {error}"
            say(note)
            notes.append(note)
    if not stores:
        raise BenchError("nothing is left to measure")
    return stores, notes


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench state",
        description="Measure state stores through the API against their client libraries.",
    )
    parser.add_argument("--seconds", type=duration, default=2.0, help="of each measurement")
    parser.add_argument("--repeats", type=whole, default=5, help="rounds (default 5)")
    parser.add_argument("--callers", type=whole, default=CALLERS, help="at once (default 64)")
    parser.add_argument(
        "--stores", type=_stores, default=tuple(STORES), help=f"of {','.join(STORES)}"
    )
    parser.add_argument("--write", action="store_true", help="record in docs/performance.md")
    return parser.parse_args(argv)


def _stores(text: str) -> tuple[str, ...]:
    wanted = tuple(text.split(","))
    unknown = set(wanted) - set(STORES)
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return wanted
