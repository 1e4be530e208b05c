"""Verdicts and tables are made from the data."""

from __future__ import annotations

import pytest
from tests.bench.footprint import Footprint, parse_counted_calls
from tests.bench.load import Case
from tests.bench.procfs import Memory
from tests.bench.report import Findings, Target, company, render, targets
from tests.bench.rounds import Record, Sample
from tests.bench.stats import Spread
from tests.bench.systems import System

MiB = 1024 * 1024
JUDGED = Case("POST", 16)
SYSTEMS = [
    System("nginx-mtls", "nginx pair, mutual TLS", ""),
    System("pillion", "Pillion pair", ""),
]


def sample(system: str, caller: float, p99: float, *, case: Case = JUDGED) -> Sample:
    """One round; ``caller`` in CPU seconds, the callee uses half as much."""
    cpu = {"caller": caller, "callee": caller / 2, "app": 5e-6, "generator": 4e-6}
    return Sample(system, case, 12_345.0, p99 / 3, p99, 0.0007, cpu, 0.25, 1000)


def findings(ours: float, resident: float) -> Findings:
    """A run in which Pillion costs ``ours`` times nginx and keeps ``resident`` MiB."""
    memory = Memory(int(resident * MiB), int(resident * MiB), 20 * MiB)
    return Findings(
        machine=[("Command", "`this`")],
        systems=SYSTEMS,
        record=Record(
            [
                sample("nginx-mtls", 20e-6, 0.002),
                sample("pillion", 20e-6 * ours, 0.002 * ours),
                sample("pillion", 20e-6, 0.002, case=Case("POST", 16, 1000.0)),
            ]
        ),
        footprints=[Footprint("pillion", "caller", memory, memory, 0.004)],
        start=Spread(0.5, 0.4, 0.6),
    )


@pytest.mark.parametrize(
    ("ours", "resident", "verdicts"),
    [
        (1.2, 50, [True, True, True, True, True]),
        (1.6, 56, [True, False, False, True, True]),
        (2.0, 50, [False, False, True, True, True]),
    ],
)
def test_verdicts(ours: float, resident: float, verdicts: list[bool]) -> None:
    """Each target is judged by what was measured for it and nothing else."""
    assert [target.met for target in targets(findings(ours, resident))] == verdicts


def test_what_was_not_measured_is_not_judged() -> None:
    """Without a peer there is no ratio, and no target that needs one."""
    record = Record([sample("pillion", 20e-6, 0.002)])
    assert targets(Findings([], SYSTEMS, record)) == []


def test_a_target_reads_as_a_line() -> None:
    """A missed limit stands out."""
    target = Target("Memory", 55, " MiB", 56.04)
    assert target.row() == ["Memory", "≤ 55 MiB", "56.0 MiB", "**not met**"]


def test_report_shows_units_and_ratios() -> None:
    """CPU is in µs, latency in ms, memory in MiB; notes and the command are there."""
    text = render(findings(1.2, 50))
    assert "- Command: `this`" in text
    row = next(line for line in text.splitlines() if line.startswith("| nginx pair, mutual TLS"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        *("nginx pair, mutual TLS", "12,345", "0.67", "2.00"),
        *("20.0", "10.0", "30.0", "5.00", "4.00"),
    ]
    assert "1.20x (1.20-1.20)" in text
    assert "| Pillion pair, caller |" in text
    assert "0.50 s (0.40-0.60)" in text


def test_company_is_reported() -> None:
    """The share of other processes and the generator's own lateness are told."""
    text = company(findings(1.0, 50).record)
    assert "took 25% of the CPUs" in text
    assert "0.70 ms late" in text


def test_counted_calls() -> None:
    """Replies are summed over statuses; latencies and failures are no replies."""
    prefix = "dapr_runtime_service_invocation_res"
    page = "\n".join(
        [
            f"# TYPE {prefix}_recv_total counter",
            f'{prefix}_recv_total{{app_id="a",status="200"}} 3028.0',
            f'{prefix}_recv_total{{app_id="a",status="404"}} 2.0',
            f'{prefix}_recv_latency_seconds_count{{app_id="a"}} 3030.0',
            f'{prefix}_sent_total{{app_id="a",status="200"}} 1e3',
        ]
    )
    assert parse_counted_calls(page) == 4030
