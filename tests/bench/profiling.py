"""Where one runtime spends its time under load: ``python -m tests.bench profile --side caller``.

cProfile sees every Python function and charges it too much, so its figures compare functions with
one another and not with the invocation benchmark; perf sees the interpreter, OpenSSL and the kernel
at little cost, but no Python names.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pstats
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from tests.bench.arguments import duration, whole
from tests.bench.errors import BenchError, MissingProgramError, VoidRunError
from tests.bench.load import Case, Result, closed_loop_generator
from tests.bench.processes import ending_signals, work_directory
from tests.bench.rounds import say
from tests.bench.systems import CALLEE, CALLER, System, cheapest_app, check, pillion_pair
from tests.bench.table import figure, table

WARM_UP_SECONDS = 2.0
DUMP_SECONDS = 20.0
FREQUENCY = 1999
Entry = tuple[str, int, float, float]


def main(argv: Sequence[str]) -> int:
    """Profile and print; returns the exit status."""
    args = _arguments(argv)
    with ending_signals(), work_directory() as directory:
        print(_perf(args, directory) if args.perf else _cprofile(args, directory))
    return 0


def entries(stats: pstats.Stats) -> list[Entry]:
    """List functions as name, calls, own seconds and seconds with callees; most own time first."""
    raw = cast(
        "Mapping[tuple[str, int, str], tuple[int, int, float, float, object]]",
        stats.stats,  # type: ignore[attr-defined]  # typeshed leaves it out
    )
    found = [
        (_place(*key), calls, own, total)
        for key, (_primitive, calls, own, total, _callers) in raw.items()
    ]
    return sorted(found, key=lambda entry: entry[2], reverse=True)


def render(found: Sequence[Entry], requests: int, top: int) -> str:
    """Write the first functions as a table of calls and µs per request."""
    rows = [
        [
            name,
            figure(calls / requests),
            figure(own / requests * 1e6),
            figure(total / requests * 1e6),
        ]
        for name, calls, own, total in found[:top]
    ]
    whole_time = sum(own for _, _, own, _ in found) / requests * 1e6
    shown = sum(own for _, _, own, _ in found[:top]) / requests * 1e6
    text = table(["Function", "Calls/request", "Own µs", "With callees µs"], rows)
    return f"{text}\n\n{figure(shown)} of {figure(whole_time)} µs per request are shown."


def _cprofile(args: argparse.Namespace, directory: Path) -> str:
    path = directory / "profile"
    command = [sys.executable, "-m", "tests.bench.profiled", str(path)]
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(cheapest_app(directory))
        pair = pillion_pair(directory / "pair", app, commands={args.side: command})
        system = stack.enter_context(pair)
        pid = system.roles[args.side][0]
        _load(system, args, WARM_UP_SECONDS)
        os.kill(pid, signal.SIGUSR1)
        result = _load(system, args, args.seconds)
        os.kill(pid, signal.SIGUSR2)
        deadline = time.monotonic() + DUMP_SECONDS
        while not path.exists():
            if time.monotonic() > deadline:
                raise BenchError(f"the {args.side} wrote no profile in {DUMP_SECONDS:g} s")
            time.sleep(0.05)
        found = entries(pstats.Stats(str(path)))
        if args.output is not None:
            shutil.copyfile(path, args.output)
    return render(found, result.requests, args.top)


def _perf(args: argparse.Namespace, directory: Path) -> str:
    perf = shutil.which("perf")
    if perf is None:
        raise MissingProgramError("perf is not installed: leave --perf out to use cProfile")
    data = str(args.output or directory / "perf.data")
    with contextlib.ExitStack() as stack:
        app = stack.enter_context(cheapest_app(directory))
        system = stack.enter_context(pillion_pair(directory / "pair", app))
        _load(system, args, WARM_UP_SECONDS)
        record = [
            *(perf, "record", "--quiet", "--freq", str(FREQUENCY), "--output", data),
            *("--pid", str(system.roles[args.side][0]), "--", "sleep", str(args.seconds)),
        ]
        recorder = subprocess.Popen(record, stderr=subprocess.PIPE, text=True)
        try:
            _load(system, args, args.seconds + 0.5)
            _, errors = recorder.communicate(timeout=DUMP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BenchError("perf record did not end") from error
        finally:
            recorder.kill()
    if recorder.returncode != 0:
        raise BenchError(f"perf record failed: {errors.strip()}")
    report = [
        perf,
        "report",
        "--stdio",
        "--no-children",
        "--fields",
        "overhead,dso,symbol",
        "--input",
        data,
    ]
    done = subprocess.run(report, capture_output=True, text=True, timeout=120, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip() and line[0] != "#"]
    return "\n".join(lines[: args.top]) or f"perf report showed nothing: {done.stderr}"


def _load(system: System, args: argparse.Namespace, seconds: float) -> Result:
    check(system)
    case = Case(args.method, args.connections)
    result = closed_loop_generator("auto").run(system.url, case, seconds)
    if result.failures or not result.requests:
        raise VoidRunError(f"{result.failures} requests failed ({result.reason})")
    say(f"{result.requests / result.seconds:,.0f} requests/s, p99 {result.p99 * 1e3:.2f} ms")
    return result


def _place(path: str, line: int, function: str) -> str:
    if path == "~":
        return function
    return f"{'/'.join(Path(path).parts[-2:])}:{line} {function}"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench profile",
        description="Show where one runtime of a pair spends its time under load.",
    )
    parser.add_argument("--side", choices=(CALLER, CALLEE), required=True)
    parser.add_argument("--method", choices=("POST", "GET"), default="POST")
    parser.add_argument("--connections", type=whole, default=16)
    parser.add_argument("--seconds", type=duration, default=5.0, help="of profiled load")
    parser.add_argument("--top", type=whole, default=40, help="functions to print")
    parser.add_argument("--perf", action="store_true", help="use perf instead of cProfile")
    parser.add_argument("--output", type=Path, help="keep the raw profile in this file")
    return parser.parse_args(argv)
