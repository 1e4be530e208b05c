"""Turn the samples of an invocation run into tables, ratios and a verdict on the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.bench.footprint import Footprint
from tests.bench.load import Case
from tests.bench.rounds import APP, GENERATOR, Record, Sample
from tests.bench.stats import Spread, spread
from tests.bench.systems import CALLEE, CALLER, System
from tests.bench.table import figure, table, with_range

MiB = 1024 * 1024
OURS = "pillion"
PEER = "nginx-mtls"
RATIOS = ((OURS, PEER), (OURS, "nginx"), (PEER, "nginx"))
JUDGED = Case("POST", 16)


@dataclass(frozen=True, slots=True)
class Target:
    """A limit that the project has set itself, and what was measured."""

    title: str
    limit: float
    unit: str
    measured: float

    @property
    def met(self) -> bool:
        """Whether the measured figure is within the limit."""
        return self.measured <= self.limit

    def row(self) -> list[str]:
        """Its line in the table."""
        return [
            self.title,
            f"≤ {self.limit:g}{self.unit}",
            f"{figure(self.measured)}{self.unit}",
            "met" if self.met else "**not met**",
        ]


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything one invocation run found.

    Attributes:
        machine: what it ran on, as names and values.
        systems: what was measured, in the order of the turns.
        record: the samples.
        footprints: memory and idle CPU of each process.
        start: seconds from exec to healthy, or None when Pillion was not measured.
        notes: what a reader must know, such as a peer that is missing.
    """

    machine: Sequence[tuple[str, str]]
    systems: Sequence[System]
    record: Record
    footprints: Sequence[Footprint] = ()
    start: Spread | None = None
    notes: Sequence[str] = field(default_factory=tuple)


def targets(findings: Findings) -> list[Target]:
    """Set what was measured against the limits; what was not measured is left out."""
    found = []
    cpu = findings.record.ratio(OURS, PEER, JUDGED, "pair")
    if cpu is not None:
        title = "CPU per request of the pair, over nginx with mutual TLS (POST, 16 connections)"
        found.append(Target(title, 1.8, "x", cpu.median))
    p99 = findings.record.ratio(OURS, PEER, JUDGED, "p99")
    if p99 is not None:
        title = "p99 latency, over nginx with mutual TLS (POST, 16 connections)"
        found.append(Target(title, 1.5, "x", p99.median))
    ours = [each for each in findings.footprints if each.system == OURS]
    if ours:
        resident = max(each.after.resident for each in ours) / MiB
        found.append(Target("Resident memory of a runtime after load", 55, " MiB", resident))
        idle = max(each.idle_cpu for each in ours) * 100
        found.append(Target("CPU of an idle runtime", 0.5, " %", idle))
    if findings.start is not None:
        title = "From exec to healthy, median"
        found.append(Target(title, 0.7, " s", findings.start.median))
    return found


def render(findings: Findings) -> str:
    """Write the findings as Markdown that reads well on a terminal."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in findings.machine)]
    parts += [f"> {note}" for note in findings.notes]
    verdict = [target.row() for target in targets(findings)]
    if verdict:
        parts += ["### Targets", table(["Target", "Limit", "Measured", "Verdict"], verdict)]
    ratios = ratio_rows(findings.record)
    if ratios:
        headers = ["Load", "Systems", "CPU of the pair", "p50", "p99", "Requests/s"]
        parts += ["### Ratios", "Medians, with the range over the rounds.", table(headers, ratios)]
    parts.append("### Loads")
    for case in findings.record.cases():
        parts += [f"#### {case.title}", case_table(findings.record, findings.systems, case)]
    if findings.footprints:
        parts += ["### Memory and idle CPU", footprint_table(findings)]
    if findings.start is not None:
        text = f"`pillion sidecar` took {with_range(findings.start, ' s')} from exec to healthy."
        parts += ["### Start-up", text]
    if findings.record.samples:
        parts += ["### Company", company(findings.record)]
    return "\n\n".join(parts)


def case_table(record: Record, systems: Sequence[System], case: Case) -> str:
    """One load: a row for each system, medians over the rounds."""
    headers = [
        *("System", "Requests/s", "p50 ms", "p99 ms"),
        *("Caller µs", "Callee µs", "Pair µs", "App µs", "Generator µs"),
    ]
    rows = []
    for system in systems:
        samples = record.of(system.name, case)
        if samples:
            rows.append([system.title, *_figures(samples)])
    return table(headers, rows)


def ratio_rows(record: Record) -> list[list[str]]:
    """Every load and every pair of systems that was measured under it."""
    rows = []
    for case in record.cases():
        for ours, theirs in RATIOS:
            cells = [
                record.ratio(ours, theirs, case, name) for name in ("pair", "p50", "p99", "rate")
            ]
            if any(cells):
                shown = [with_range(cell, "x") if cell else "-" for cell in cells]
                rows.append([case.title, f"{ours} ÷ {theirs}", *shown])
    return rows


def footprint_table(findings: Findings) -> str:
    """A row for each process of each pair."""
    titles = {system.name: system.title for system in findings.systems}
    headers = ["Process", "RSS idle MiB", "RSS after load MiB", "PSS after load MiB", "Idle CPU %"]
    rows = [
        [
            f"{titles[each.system]}, {each.role}",
            figure(each.before.resident / MiB),
            figure(each.after.resident / MiB),
            figure(each.after.proportional / MiB),
            figure(each.idle_cpu * 100),
        ]
        for each in findings.footprints
    ]
    return table(headers, rows)


def company(record: Record) -> str:
    """Say how quiet the machine was, and how late the open-loop generator."""
    foreign = record.foreign()
    text = (
        f"Other processes and the host took {foreign.median:.0%} of the CPUs meanwhile "
        f"(median; worst {foreign.high:.0%})."
    )
    late = [sample.late for sample in record.samples if sample.case.rate is not None]
    if late:
        worst = spread(late)
        text += (
            f" At the paced rate the generator itself sent its requests up to "
            f"{worst.median * 1e3:.2f} ms late (p99, median of the rounds; worst "
            f"{worst.high * 1e3:.2f} ms), which is part of every latency above."
        )
    return text


def _figures(samples: Sequence[Sample]) -> list[str]:
    rate = spread(sample.rate for sample in samples).median
    p50 = spread(sample.p50 for sample in samples).median
    p99 = spread(sample.p99 for sample in samples).median
    pair = spread(sample.pair for sample in samples).median

    def used(role: str) -> str:
        found = [sample.cpu[role] for sample in samples if role in sample.cpu]
        return figure(spread(found).median * 1e6) if found else "-"

    return [
        f"{rate:,.0f}",
        *(figure(p50 * 1e3), figure(p99 * 1e3), used(CALLER), used(CALLEE)),
        figure(pair * 1e6) if pair else "-",
        *(used(APP), used(GENERATOR)),
    ]
