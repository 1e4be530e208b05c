"""What processes cost without load, and what load leaves behind: memory, idle CPU, start-up."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.errors import VoidRunError
from tests.bench.processes import status_of
from tests.bench.procfs import Memory, cpu_seconds, memory
from tests.bench.rounds import say
from tests.bench.stats import Spread, spread
from tests.bench.systems import App, Sidecar, System, sidecar

SETTLE_SECONDS = 2.0
START_POLL_SECONDS = 0.003


@dataclass(frozen=True, slots=True)
class Footprint:
    """One process of one system.

    Attributes:
        system: its system's name.
        role: its role there.
        before: its memory before any load.
        after: its memory after the last load.
        idle_cpu: share of one CPU, 0 to 1, while nothing is asked of it, after the load.
    """

    system: str
    role: str
    before: Memory
    after: Memory
    idle_cpu: float


def memories(systems: Sequence[System]) -> dict[tuple[str, str], Memory]:
    """Read every process's memory, by system and role."""
    return {
        (system.name, role): memory(pids)
        for system in systems
        for role, pids in system.roles.items()
    }


def idle_cpu(systems: Sequence[System], seconds: float) -> dict[tuple[str, str], float]:
    """Leave the systems alone for ``seconds`` and return each process's share of one CPU."""
    time.sleep(SETTLE_SECONDS)
    keys = {(system.name, role): pids for system in systems for role, pids in system.roles.items()}
    say(f"Idle for {seconds:g} s")
    before = {key: cpu_seconds(pids) for key, pids in keys.items()}
    began = time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - began
    return {key: (cpu_seconds(pids) - before[key]) / elapsed for key, pids in keys.items()}


def footprints(
    systems: Sequence[System],
    before: Mapping[tuple[str, str], Memory],
    idle_seconds: float,
) -> list[Footprint]:
    """Complete the footprints after the load: memory now, then CPU while idle."""
    after = memories(systems)
    idle = idle_cpu(systems, idle_seconds)
    return [
        Footprint(system, role, before[system, role], after[system, role], idle[system, role])
        for system, role in after
    ]


def start_up(directory: Path, app: App, starts: int) -> Spread:
    """Time ``pillion sidecar`` from exec to the first 204 of ``/v1.0/healthz``, in seconds.

    One start before the timed ones makes the home with its authority and fills the file cache.

    Raises:
        BenchError: a runtime did not start.
    """
    directory.mkdir()
    home = directory / "home"
    seconds = []
    for number in range(starts + 1):
        place = directory / str(number)
        place.mkdir()
        spec = Sidecar.on_free_ports("starter", app.port)
        began = time.monotonic()
        with sidecar(place, home, spec, interval=START_POLL_SECONDS):
            seconds.append(time.monotonic() - began)
    say(f"{starts} starts: {', '.join(f'{each:.2f}' for each in seconds[1:])} s")
    return spread(seconds[1:])


def counted_calls(system: System) -> dict[str, int]:
    """Read how many calls each runtime's own metrics have counted, by role."""
    return {role: parse_counted_calls(_page(url)) for role, url in system.metrics.items()}


def parse_counted_calls(page: str) -> int:
    """Sum the replies to calls between apps on a Prometheus page.

    The caller's runtime counts replies received, the callee's replies sent.
    """
    prefixes = (
        "dapr_runtime_service_invocation_res_recv_total{",
        "dapr_runtime_service_invocation_res_sent_total{",
    )
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in page.splitlines()
        if line.startswith(prefixes)
    )


def check_counted(system: System, requests: int) -> None:
    """Make sure that metrics were counting: no runtime saw fewer calls than were answered.

    Raises:
        VoidRunError: one did.
    """
    for role, counted in counted_calls(system).items():
        if counted < requests:
            raise VoidRunError(
                f"{system.title}: the {role}'s metrics counted {counted} of {requests} calls; "
                "the run is void"
            )


def _page(url: str) -> str:
    answer = status_of(url)
    if answer is None or answer[0] != 200:
        raise VoidRunError(f"{url} has no metrics page; the run is void")
    return answer[1].decode()
