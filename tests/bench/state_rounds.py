"""Measure the ways to a store in turns, and keep what each turn showed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.errors import BenchError, VoidRunError
from tests.bench.load import MARGIN_SECONDS, TIMEOUT_SECONDS, parse_wrk
from tests.bench.procfs import cpu_seconds, machine_cpu
from tests.bench.rounds import WARM_UP_SECONDS, say
from tests.bench.state_clients import KEYS, ONE_COMMIT, VALUE_BYTES, Outcome
from tests.bench.state_stores import Runtime, Store
from tests.bench.stats import Spread, paired_ratio, spread

SCRIPT = Path(__file__).with_name("state.lua")
SAVE, GET = "save", "get"
OPERATIONS = (SAVE, GET)

API = "API"
COMPONENT = "component"
DIRECT = "direct"
WAYS = (DIRECT, COMPONENT, API)


@dataclass(frozen=True, slots=True)
class Sample:
    """One way to one store in one round.

    Attributes:
        store: its name.
        operation: ``save`` or ``get``.
        way: ``direct`` for the client library in a process of its own, ``component`` for the
            component in such a process, ``API`` for the runtime.
        rate: right answers per second.
        p50: median latency in seconds.
        p99: its 99th percentile.
        client: CPU seconds of the load's process per operation.
        runtime: CPU seconds of the runtime per operation; None without one.
        server: CPU seconds of the server per operation; None without one.
        foreign: share of the machine's CPUs, 0 to 1, taken by other processes and the host.
    """

    store: str
    operation: str
    way: str
    rate: float
    p50: float
    p99: float
    client: float
    runtime: float | None
    server: float | None
    foreign: float


class Record:
    """The samples of a run, in the order they were taken."""

    def __init__(self, samples: Sequence[Sample] = ()) -> None:
        self.samples = list(samples)

    def of(self, store: str, operation: str, way: str) -> list[Sample]:
        """The samples of one way, one per round."""
        wanted = (store, operation, way)
        return [each for each in self.samples if (each.store, each.operation, each.way) == wanted]

    def rate(self, store: str, operation: str, way: str) -> Spread | None:
        """How many operations per second, or None where it was not measured."""
        found = [each.rate for each in self.of(store, operation, way)]
        return spread(found) if found else None

    def ratio(self, store: str, operation: str, way: str) -> Spread | None:
        """Divide one way's rate by the direct one's, round by round."""
        ours, theirs = (
            [each.rate for each in self.of(store, operation, one)] for one in (way, DIRECT)
        )
        return paired_ratio(ours, theirs) if ours and theirs else None

    def foreign(self) -> Spread:
        """How much of the machine other processes took, as shares from 0 to 1."""
        return spread(each.foreign for each in self.samples)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how much: seconds of each measurement, rounds, and callers at once."""

    seconds: float
    repeats: int
    callers: int


def play(store: Store, runtime: Runtime, plan: Plan) -> list[Sample]:
    """Warm every way to a store up, then measure them in turns.

    Raises:
        VoidRunError: a request failed.
        BenchError: a client or the generator failed.
    """
    samples = []
    for operation in OPERATIONS:
        # One commit per write says nothing about reads.
        ways = [way for way in WAYS if (way, store.client, operation) != (DIRECT, ONE_COMMIT, GET)]
        for way in ways:
            _ask(store, runtime, operation, way, plan.callers, WARM_UP_SECONDS)
        for number in range(plan.repeats):
            for way in ways:
                sample = measure(store, runtime, operation, way, plan)
                samples.append(sample)
                say(
                    f"{store.title}, {operation}: round {number + 1}, {way}: "
                    f"{sample.rate:,.0f}/s, p99 {sample.p99 * 1e3:.2f} ms"
                )
    return samples


def measure(store: Store, runtime: Runtime, operation: str, way: str, plan: Plan) -> Sample:
    """Measure one way once.

    Raises:
        VoidRunError: a request failed.
        BenchError: the client or the generator failed.
    """
    ours = {*store.pids, *runtime.pids, os.getpid()}
    server, api, own = cpu_seconds(store.pids), cpu_seconds(runtime.pids), cpu_seconds(ours)
    children, machine, began = _children_cpu(), machine_cpu(), time.monotonic()
    seen = _ask(store, runtime, operation, way, plan.callers, plan.seconds)
    capacity = (time.monotonic() - began) * (os.cpu_count() or 1)
    used = cpu_seconds(ours) - own + _children_cpu() - children
    return Sample(
        store=store.name,
        operation=operation,
        way=way,
        rate=seen.requests / seen.seconds,
        p50=seen.p50,
        p99=seen.p99,
        client=seen.cpu / seen.requests,
        runtime=(cpu_seconds(runtime.pids) - api) / seen.requests if way == API else None,
        server=(cpu_seconds(store.pids) - server) / seen.requests if store.pids else None,
        foreign=max(0.0, machine_cpu() - machine - used) / capacity,
    )


def _ask(
    store: Store, runtime: Runtime, operation: str, way: str, callers: int, seconds: float
) -> Outcome:
    what = f"{store.title}, {operation}, {way}"
    if way == API:
        return _through_api(what, store, runtime, operation, callers, seconds)
    where: Mapping[str, str] = store.where
    if way == COMPONENT:
        where = {**store.settings, "type": store.kind, "home": str(runtime.home / "component")}
    argv = [
        *(sys.executable, "-m", "tests.bench.state_clients"),
        COMPONENT if way == COMPONENT else store.client,
        *("--where", json.dumps(dict(where)), "--operation", operation),
        *("--callers", str(callers), "--seconds", str(seconds)),
    ]
    return Outcome(**_last_json(what, _output(what, argv, seconds)))


def _through_api(
    what: str, store: Store, runtime: Runtime, operation: str, callers: int, seconds: float
) -> Outcome:
    argv = [
        *("wrk", "--threads", "1", "--connections", str(callers)),
        *("--duration", f"{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_SECONDS}s"),
        *("--latency", "--script", str(SCRIPT), runtime.url(store.name)),
        *("--", operation, runtime.path(store.name), str(KEYS), str(VALUE_BYTES)),
    ]
    before = _children_cpu()
    output = _output(what, argv, seconds)
    seen = parse_wrk(output, _children_cpu() - before)
    if seen.failures or not seen.requests:
        raise VoidRunError(
            f"{what}: {seen.failures} of {seen.failures + seen.requests} requests failed "
            f"({seen.reason or 'there was no answer'}); the run is void"
        )
    return Outcome(seen.requests, seen.seconds, seen.p50, seen.p99, seen.cpu)


def _output(what: str, argv: Sequence[str], seconds: float) -> str:
    limit = seconds + MARGIN_SECONDS
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{what}: {argv[0]} did not end in {limit:g} s") from error
    if done.returncode != 0:
        raise VoidRunError(
            f"{what}: {argv[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        )
    return done.stdout


def _last_json(what: str, output: str) -> dict[str, Any]:
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise BenchError(f"{what}: the client printed no result:\n{output[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def _children_cpu() -> float:
    used = os.times()
    return used.children_user + used.children_system
