"""Calls through two proxies: ``python -m tests.bench invocation``.

The app alone, two nginx in a row, the same with mutual TLS between them, and two Pillion runtimes
are measured in turns, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.arguments import duration, whole, wholes
from tests.bench.document import write_section
from tests.bench.errors import BenchError, MissingProgramError
from tests.bench.footprint import check_counted, footprints, memories, start_up
from tests.bench.load import Case, OwnGenerator, closed_loop_generator
from tests.bench.machine import description
from tests.bench.processes import ending_signals, work_directory
from tests.bench.report import OURS, PEER, Findings, render
from tests.bench.rounds import Record, play, say
from tests.bench.systems import App, System, cheapest_app, check, direct, nginx_pair, pillion_pair

SYSTEMS = ("app", "nginx", PEER, OURS)
COMMON_CONNECTIONS = 16


def main(argv: Sequence[str]) -> int:
    """Measure, print, and with ``--write`` record; returns the exit status."""
    args = _arguments(argv)
    command = " ".join(["python -m tests.bench invocation", *argv])
    with ending_signals():
        findings = run(args, command)
    text = render(findings)
    print(text)
    if args.write:
        write_section("invocation", text)
    return 0


def cases(args: argparse.Namespace) -> list[Case]:
    """List the loads: POST at every number of connections, then GET and a paced POST at one."""
    found = [Case("POST", connections) for connections in args.connections]
    if args.get:
        found.append(Case("GET", COMMON_CONNECTIONS))
    if args.rate:
        found.append(Case("POST", COMMON_CONNECTIONS, args.rate))
    return found


def run(args: argparse.Namespace, command: str) -> Findings:
    """Start the systems, measure them all, and stop them.

    Raises:
        BenchError: the run cannot go on or is void.
    """
    closed, opened = closed_loop_generator(args.generator), OwnGenerator()
    machine = description(command)
    loads = cases(args)
    with work_directory() as directory, contextlib.ExitStack() as stack:
        app = stack.enter_context(cheapest_app(directory))
        systems, notes = _start(args.systems, directory, app, stack)
        for system in systems:
            check(system)
        measured = {system.name for system in systems}
        start = start_up(directory / "start", app, args.starts) if OURS in measured else None
        before = memories(systems)
        _announce(args, loads, len(systems))
        record = Record()
        for case in loads:
            generator = closed if case.rate is None else opened
            record.samples += play(
                systems, app, case, generator, seconds=args.seconds, repeats=args.repeats
            )
        for system in systems:
            check_counted(system, record.requests(system.name))
        found = footprints(systems, before, args.idle_seconds)
    machine.append(("App", f"{app.program}, one process"))
    machine.append(("Load", f"{closed.name}; {opened.name} for the paced load"))
    machine.append(("Rounds", f"{args.repeats} of {args.seconds:g} s for each system and load"))
    return Findings(machine, systems, record, found, start, notes)


def _start(
    wanted: Sequence[str], directory: Path, app: App, stack: contextlib.ExitStack
) -> tuple[list[System], list[str]]:
    makers: dict[str, Callable[[], AbstractContextManager[System]]] = {
        "app": lambda: contextlib.nullcontext(direct(app)),
        "nginx": lambda: nginx_pair(directory / "nginx", app, mutual_tls=False),
        PEER: lambda: nginx_pair(directory / PEER, app, mutual_tls=True),
        OURS: lambda: pillion_pair(directory / OURS, app),
    }
    systems: list[System] = []
    notes: list[str] = []
    for name in SYSTEMS:
        if name in wanted:
            try:
                systems.append(stack.enter_context(makers[name]()))
            except MissingProgramError as error:
                note = f"`{name}` was not measured: {error}"
                say(note)
                notes.append(note)
    if not systems:
        raise BenchError("nothing is left to measure")
    return systems, notes


def _announce(args: argparse.Namespace, loads: Sequence[Case], systems: int) -> None:
    seconds = len(loads) * systems * (1 + args.repeats * args.seconds)
    seconds += args.idle_seconds + args.starts
    say(f"{systems} systems, {len(loads)} loads, {args.repeats} rounds: {seconds / 60:.0f} min")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench invocation",
        description="Measure calls through two proxies against the app alone and nginx pairs.",
    )
    parser.add_argument("--seconds", type=duration, default=4.0, help="of each measurement")
    parser.add_argument("--repeats", type=whole, default=3, help="rounds (default 3)")
    parser.add_argument("--connections", type=wholes, default=[1, 16, 64], help="as 1,16,64")
    parser.add_argument("--rate", type=float, default=1000.0, help="of the paced load; 0 for none")
    parser.add_argument("--no-get", dest="get", action="store_false", help="measure POST only")
    parser.add_argument("--systems", type=_systems, default=SYSTEMS, help=f"of {','.join(SYSTEMS)}")
    parser.add_argument("--generator", choices=("auto", "wrk", "own"), default="auto")
    parser.add_argument("--starts", type=whole, default=10, help="timed starts (default 10)")
    parser.add_argument("--idle-seconds", type=duration, default=10.0, help="of idling")
    parser.add_argument("--write", action="store_true", help="record in docs/performance.md")
    return parser.parse_args(argv)


def _systems(text: str) -> tuple[str, ...]:
    wanted = tuple(text.split(","))
    unknown = set(wanted) - set(SYSTEMS)
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
    return wanted
