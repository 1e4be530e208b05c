"""Measure systems in turns, and keep what each turn showed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.errors import VoidRunError
from tests.bench.load import Case, Generator
from tests.bench.procfs import cpu_seconds, machine_cpu
from tests.bench.stats import Spread, paired_ratio, spread
from tests.bench.systems import App, System

WARM_UP_SECONDS = 1.0
APP = "app"
GENERATOR = "generator"


@dataclass(frozen=True, slots=True)
class Sample:
    """One system under one load in one round.

    Attributes:
        system: its name.
        case: the load.
        rate: right answers per second.
        p50: median latency in seconds.
        p99: its 99th percentile.
        late: 99th percentile of the generator's lateness in seconds, open loop only.
        cpu: CPU seconds per request, by role, the app's and the generator's among them.
        foreign: share of the machine's CPUs, 0 to 1, taken by other processes and the host.
        requests: right answers.
    """

    system: str
    case: Case
    rate: float
    p50: float
    p99: float
    late: float
    cpu: Mapping[str, float]
    foreign: float
    requests: int

    @property
    def pair(self) -> float:
        """CPU seconds per request of the two proxies together; 0 for the app alone."""
        return sum(used for role, used in self.cpu.items() if role not in (APP, GENERATOR))


class Record:
    """The samples of a run, in the order they were taken."""

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self.samples = list(samples)

    def of(self, system: str, case: Case) -> list[Sample]:
        """The samples of one system under one load, one per round."""
        return [each for each in self.samples if each.system == system and each.case == case]

    def cases(self) -> list[Case]:
        """The loads, in the order they were measured."""
        return list(dict.fromkeys(sample.case for sample in self.samples))

    def requests(self, system: str) -> int:
        """How many right answers one system gave in all."""
        return sum(sample.requests for sample in self.samples if sample.system == system)

    def ratio(self, ours: str, theirs: str, case: Case, quantity: str) -> Spread | None:
        """Divide one system's figures by another's, round by round.

        Args:
            ours: the system above the line.
            theirs: the system below it.
            case: the load.
            quantity: ``rate``, ``p50``, ``p99`` or ``pair``.

        Returns:
            The ratio, or None where either system was not measured or took no time.
        """
        above = [getattr(sample, quantity) for sample in self.of(ours, case)]
        below = [getattr(sample, quantity) for sample in self.of(theirs, case)]
        if not above or not below or min(below) <= 0:
            return None
        return paired_ratio(above, below)

    def foreign(self) -> Spread:
        """How much of the machine other processes took, as shares from 0 to 1."""
        return spread(sample.foreign for sample in self.samples)


def play(
    systems: Sequence[System],
    app: App,
    case: Case,
    generator: Generator,
    *,
    seconds: float,
    repeats: int,
) -> list[Sample]:
    """Warm every system up, then measure them in turns, ``repeats`` times.

    Raises:
        VoidRunError: a request failed.
        BenchError: the generator failed.
    """
    for system in systems:
        generator.run(system.url, case, WARM_UP_SECONDS)
    samples = []
    for number in range(repeats):
        for system in systems:
            sample = measure(system, systems, app, case, generator, seconds)
            samples.append(sample)
            say(
                f"{case.title}: round {number + 1}, {system.title}: {sample.rate:,.0f} requests/s, "
                f"p99 {sample.p99 * 1e3:.2f} ms, pair {sample.pair * 1e6:.1f} µs/request"
            )
    return samples


def measure(
    system: System,
    everyone: Sequence[System],
    app: App,
    case: Case,
    generator: Generator,
    seconds: float,
) -> Sample:
    """Measure one system under one load once.

    Raises:
        VoidRunError: a request failed.
        BenchError: the generator failed.
    """
    roles = {**system.roles, APP: app.pids}
    ours = {pid for each in everyone for pid in each.pids} | {*app.pids, os.getpid()}
    before = {role: cpu_seconds(pids) for role, pids in roles.items()}
    ours_before, machine_before, began = cpu_seconds(ours), machine_cpu(), time.monotonic()
    result = generator.run(system.url, case, seconds)
    elapsed, machine_after = time.monotonic() - began, machine_cpu()
    ours_used = cpu_seconds(ours) - ours_before + result.cpu
    used = {role: cpu_seconds(pids) - before[role] for role, pids in roles.items()}
    if result.failures or not result.requests:
        raise VoidRunError(
            f"{system.title}, {case.title}: {result.failures} of "
            f"{result.failures + result.requests} requests failed "
            f"({result.reason or 'there was no answer'}); the run is void"
        )
    capacity = elapsed * (os.cpu_count() or 1)
    return Sample(
        system=system.name,
        case=case,
        rate=result.requests / result.seconds,
        p50=result.p50,
        p99=result.p99,
        late=result.late,
        cpu={
            **{role: seconds / result.requests for role, seconds in used.items()},
            GENERATOR: result.cpu / result.requests,
        },
        foreign=max(0.0, machine_after - machine_before - ours_used) / capacity,
        requests=result.requests,
    )


def say(line: str) -> None:
    """Tell the person waiting how far the run is; figures for keeping go to standard output."""
    print(line, file=sys.stderr, flush=True)
