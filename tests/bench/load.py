"""Drive load at a URL from a process of its own: wrk where it is installed, else our generator."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.bench.app import PAYLOAD
from tests.bench.errors import BenchError

SCRIPT = Path(__file__).with_name("wrk.lua")
MARGIN_SECONDS = 30.0
TIMEOUT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Case:
    """One load.

    Attributes:
        method: ``POST`` sends 1 KiB, ``GET`` sends none; both are answered 1 KiB.
        connections: keep-alive connections.
        rate: requests per second in an open loop, or None for a closed loop.
    """

    method: str
    connections: int
    rate: float | None = None

    @property
    def body_bytes(self) -> int:
        """The length of the request's body."""
        return len(PAYLOAD) if self.method == "POST" else 0

    @property
    def title(self) -> str:
        """How the tables call it."""
        noun = "connection" if self.connections == 1 else "connections"
        pace = f", {self.rate:,.0f} requests/s paced" if self.rate is not None else ""
        return f"{self.method}, {self.connections} {noun}{pace}"


@dataclass(frozen=True, slots=True)
class Result:
    """What the generator saw; times in seconds.

    Attributes:
        requests: right answers.
        seconds: how long they took together.
        p50: median latency.
        p99: its 99th percentile.
        failures: anything but a right answer.
        reason: what failed, or nothing.
        late: 99th percentile of the generator's own lateness in an open loop.
        cpu: CPU seconds of the generator.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    failures: int
    reason: str = ""
    late: float = 0.0
    cpu: float = 0.0


class Generator(Protocol):
    """A program that loads a URL and reports."""

    name: str

    def run(self, url: str, case: Case, seconds: float) -> Result:
        """Load ``url`` for ``seconds``.

        Raises:
            BenchError: the program itself failed.
        """
        ...


class Wrk:
    """wrk with one thread; closed loop only."""

    name = "wrk"

    def run(self, url: str, case: Case, seconds: float) -> Result:
        """Load ``url`` for ``seconds``, rounded to whole ones, as wrk takes no others."""
        argv = [
            *("wrk", "--threads", "1", "--connections", str(case.connections)),
            *("--duration", f"{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_SECONDS}s"),
            *("--latency", "--script", str(SCRIPT), url),
            *("--", case.method, str(case.body_bytes)),
        ]
        output, cpu = _run(argv, seconds)
        return parse_wrk(output, cpu)


class OwnGenerator:
    """The generator in :mod:`tests.bench.generator`; closed and open loop."""

    name = "the bundled generator"

    def run(self, url: str, case: Case, seconds: float) -> Result:
        """Load ``url`` for ``seconds``."""
        argv = [
            *(sys.executable, "-m", "tests.bench.generator", "--url", url),
            *("--method", case.method, "--body-bytes", str(case.body_bytes)),
            *("--expected-bytes", str(len(PAYLOAD)), "--connections", str(case.connections)),
            *("--seconds", str(seconds)),
        ]
        if case.rate is not None:
            argv += ["--rate", str(case.rate)]
        output, cpu = _run(argv, seconds)
        return Result(**_last_json(output), cpu=cpu)


def closed_loop_generator(choice: str) -> Generator:
    """Return the generator for closed loops: ``wrk``, ``own``, or ``auto`` for the best there is.

    Raises:
        BenchError: wrk was asked for and is not installed.
    """
    installed = shutil.which("wrk") is not None
    if choice == "wrk" and not installed:
        raise BenchError("wrk is not installed: apt install wrk, or use --generator own")
    return Wrk() if installed and choice != "own" else OwnGenerator()


def parse_wrk(output: str, cpu: float) -> Result:
    """Read the line of JSON that ``wrk.lua`` prints; wrk counts in microseconds."""
    found = _last_json(output)
    failures = {
        name: int(found[name])
        for name in ("connect", "read", "write", "status", "timeout")
        if found[name]
    }
    return Result(
        requests=int(found["requests"]) - failures.get("status", 0),
        seconds=found["microseconds"] / 1e6,
        p50=found["p50"] / 1e6,
        p99=found["p99"] / 1e6,
        failures=sum(failures.values()),
        reason=", ".join(f"{count} {name} errors" for name, count in failures.items()),
        cpu=cpu,
    )


def _last_json(output: str) -> dict[str, Any]:
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            parsed: dict[str, Any] = json.loads(line)
            return parsed
    raise BenchError(f"the load generator printed no result:\n{output[-2000:]}")


def _run(argv: Sequence[str], seconds: float) -> tuple[str, float]:
    before = _children_cpu()
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=seconds + MARGIN_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{argv[0]} did not end {MARGIN_SECONDS:g} s after its time") from error
    if done.returncode != 0:
        raise BenchError(f"{argv[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout, _children_cpu() - before


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
