"""``python -m tests.bench [MEASUREMENT] [options]``; without a name, all of them, recorded."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.errors import BenchError


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to run: the module with its ``main(argv)``, and what it shows."""

    module: str
    summary: str


MEASUREMENTS = {
    "invocation": Entry(
        "tests.bench.invocation",
        "calls through two proxies: speed, CPU, memory, start-up, against nginx",
    ),
    "streaming": Entry(
        "tests.bench.streaming",
        "1 GiB up and down through two proxies: throughput and extra memory",
    ),
    "registry": Entry(
        "tests.bench.discovery",
        "10,000 registered instances: the cost of a pick and of a change",
    ),
    "state": Entry(
        "tests.bench.state",
        "state stores through the API: speed and CPU, against their client libraries",
    ),
}
TOOLS = {
    "profile": Entry("tests.bench.profiling", "where one runtime spends its time under load"),
}

USAGE = "usage: python -m tests.bench [MEASUREMENT] [options]   (--help after a name for its own)"


def usage() -> str:
    """List the measurements."""
    lines = [USAGE, "", "Without a name, all measurements run and docs/performance.md is written."]
    entries = {**MEASUREMENTS, **TOOLS}
    lines += [f"  {name:<12} {entry.summary}" for name, entry in entries.items()]
    return "\n".join(lines)


def run(name: str, argv: Sequence[str]) -> int:
    """Run one measurement: its module has ``main(argv) -> exit status``."""
    module = importlib.import_module({**MEASUREMENTS, **TOOLS}[name].module)
    status: int = module.main(list(argv))
    return status


def main(argv: Sequence[str]) -> int:
    """Run what the command line names; returns the exit status."""
    if argv and argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv and argv[0] not in {**MEASUREMENTS, **TOOLS}:
        print(f"unknown measurement {argv[0]!r}\n{usage()}", file=sys.stderr)
        return 2
    try:
        if argv:
            return run(argv[0], argv[1:])
        return max(run(name, ["--write"]) for name in MEASUREMENTS)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; nothing was recorded", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
