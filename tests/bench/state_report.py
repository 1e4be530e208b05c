"""Turn the samples of a run over state stores into tables and a verdict on the targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.state_bulk import Bulk
from tests.bench.state_clients import ONE_COMMIT
from tests.bench.state_rounds import API, COMPONENT, DIRECT, GET, OPERATIONS, WAYS, Record
from tests.bench.state_stores import Store
from tests.bench.stats import spread
from tests.bench.table import figure, table, with_range

SHARE = 0.6
"""Of the direct rate, through the API."""
GROUPED = 20.0
"""Durable saves over one commit per write."""
READS = 8000.0
"""Reads of the embedded store per second."""
ROUND_TRIPS = 1.5
"""What counts as one, measured."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the project has set itself, and what was measured: at least, or at most."""

    title: str
    limit: float
    unit: str
    measured: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the measured figure is on the right side of the limit."""
        if self.at_most:
            return self.measured <= self.limit
        return self.measured >= self.limit

    def row(self) -> list[str]:
        """Its line in the table."""
        sign = "≤" if self.at_most else "≥"
        return [
            self.title,
            f"{sign} {self.limit:,g}{self.unit}",
            f"{figure(self.measured)}{self.unit}",
            "met" if self.met else "**not met**",
        ]


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything one run found.

    Attributes:
        machine: what it ran on, as names and values.
        stores: what was measured, in order.
        record: the samples.
        bulks: the bulk gets.
        notes: what a reader must know, such as a server that is missing.
    """

    machine: Sequence[tuple[str, str]]
    stores: Sequence[Store]
    record: Record
    bulks: Sequence[Bulk] = ()
    notes: Sequence[str] = ()


def targets(findings: Findings) -> list[Target]:
    """Set what was measured against the limits; what was not measured is left out."""
    found = []
    for store in findings.stores:
        for operation in OPERATIONS:
            ratio = findings.record.ratio(store.name, operation, API)
            if ratio is None:
                continue
            title = f"{store.title}, {operation} through the API ÷ {direct_title(store)}"
            limit = GROUPED if store.client == ONE_COMMIT else SHARE
            found.append(Target(title, limit, "x", ratio.median))
        reads = findings.record.rate(store.name, GET, API)
        if store.client == ONE_COMMIT and reads is not None:
            found.append(Target(f"{store.title}, get through the API", READS, "/s", reads.median))
    titles = {store.name: store.title for store in findings.stores}
    found += [
        Target(
            f"{titles[each.store]}, bulk get of 1,000 keys",
            ROUND_TRIPS,
            " round trips",
            each.round_trips,
            at_most=True,
        )
        for each in findings.bulks
        if each.round_trips is not None
    ]
    return found


def direct_title(store: Store) -> str:
    """How the tables call the way without the runtime and without the component."""
    return "one commit per write" if store.client == ONE_COMMIT else f"{store.client} alone"


def render(findings: Findings) -> str:
    """Write the findings as Markdown that reads well on a terminal."""
    parts = ["\n".join(f"- {name}: {value}" for name, value in findings.machine)]
    parts += [f"> {note}" for note in findings.notes]
    verdict = [target.row() for target in targets(findings)]
    if verdict:
        parts += ["### Targets", table(["Target", "Limit", "Measured", "Verdict"], verdict)]
    text = "Rates over those of the direct way, medians with the range over the rounds."
    headers = ["Store and operation", "Component alone", "Through the API"]
    parts += ["### Ratios", text, table(headers, ratio_rows(findings))]
    headers = [
        *("Store, operation and way", "Per second", "p50 ms", "p99 ms"),
        *("Client CPU µs", "Runtime CPU µs", "Server CPU µs"),
    ]
    text = "Medians. CPU is that of one operation, all threads of a process."
    parts += ["### Figures", text, table(headers, figure_rows(findings))]
    if findings.bulks:
        headers = ["1,000 keys of 1 KiB", "Median ms", "Worst ms", "Round trips"]
        parts += ["### Bulk get", table(headers, bulk_rows(findings))]
    foreign = findings.record.foreign()
    text = (
        f"Other processes and the host took {foreign.median:.0%} of the CPUs meanwhile "
        f"(median; worst {foreign.high:.0%})."
    )
    return "\n\n".join([*parts, "### Company", text])


def ratio_rows(findings: Findings) -> list[list[str]]:
    """A row for each store and operation that has a direct way."""
    rows = []
    for store in findings.stores:
        for operation in OPERATIONS:
            cells = [findings.record.ratio(store.name, operation, way) for way in (COMPONENT, API)]
            if any(cells):
                shown = [with_range(cell, "x") if cell else "-" for cell in cells]
                rows.append([f"{store.title}, {operation}", *shown])
    return rows


def figure_rows(findings: Findings) -> list[list[str]]:
    """A row for each way of each store and operation."""
    rows = []
    for store in findings.stores:
        titles = {DIRECT: direct_title(store), COMPONENT: "component alone", API: "API"}
        for operation in OPERATIONS:
            for way in WAYS:
                cells = _figures(findings.record, store.name, operation, way)
                if cells:
                    rows.append([f"{store.title}, {operation}, {titles[way]}", *cells])
    return rows


def bulk_rows(findings: Findings) -> list[list[str]]:
    """A row for each store."""
    titles = {store.name: store.title for store in findings.stores}
    return [
        [
            titles[each.store],
            figure(each.median * 1e3),
            figure(each.worst * 1e3),
            f"{each.round_trips:.1f}" if each.round_trips is not None else "no server",
        ]
        for each in findings.bulks
    ]


def _figures(record: Record, store: str, operation: str, way: str) -> list[str]:
    samples = record.of(store, operation, way)
    if not samples:
        return []

    def shown(values: Sequence[float | None], unit: float) -> str:
        found = [value for value in values if value is not None]
        return figure(spread(found).median * unit) if found else "-"

    return [
        f"{spread(each.rate for each in samples).median:,.0f}",
        shown([each.p50 for each in samples], 1e3),
        shown([each.p99 for each in samples], 1e3),
        shown([each.client for each in samples], 1e6),
        shown([each.runtime for each in samples], 1e6),
        shown([each.server for each in samples], 1e6),
    ]


__all__ = ["Findings", "Target", "render", "targets"]
