"""Run :mod:`tests.bench.registry` as a process of its own and record what it prints."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from tests.bench.document import write_section
from tests.bench.errors import BenchError
from tests.bench.machine import description
from tests.bench.processes import ending_signals

LIMIT_SECONDS = 1200.0


def main(argv: Sequence[str]) -> int:
    """Measure, print, and with ``--write`` record; other arguments go to the measurement."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench registry", add_help=False)
    parser.add_argument("--write", action="store_true")
    args, rest = parser.parse_known_args(argv)
    command = " ".join(["python -m tests.bench registry", *argv])
    machine = description(command)
    with ending_signals():
        output = _run(rest)
    head = "\n".join(f"- {name}: {value}" for name, value in machine)
    text = f"{head}\n\n{output.strip()}"
    print(text)
    if args.write:
        write_section("registry", text)
    return 0


def _run(argv: Sequence[str]) -> str:
    command = [sys.executable, "-m", "tests.bench.registry", *argv]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"the registry took more than {LIMIT_SECONDS:g} s") from error
    if done.returncode != 0:
        raise BenchError(f"the registry measurement ended with {done.returncode}")
    return done.stdout
