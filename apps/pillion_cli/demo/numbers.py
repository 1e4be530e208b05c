"""The numbers of the demo, as lines of a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_COLUMNS = ("time", 6), ("calls", 8), ("calls/s", 8), ("p50 ms", 7), ("p99 ms", 7), ("failed", 7)
HEADER = " ".join(f"{name:>{width}}" for name, width in _COLUMNS) + "  answered by"


class Numbers:
    """Everything since the start.

    Attributes:
        calls: orders that were placed.
        failed: orders that were not.
        instances: orders by the process that took them.
        stock: orders by what kept the stock.
        errors: failures by their text.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.failed = 0
        self.instances: Counter[str] = Counter()
        self.stock: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._milliseconds: list[float] = []

    def add(self, stats: Mapping[str, Any]) -> None:
        """Add what came since the last time."""
        self.calls += sum(stats["instances"].values())
        self.failed += sum(stats["errors"].values())
        self.instances.update(stats["instances"])
        self.stock.update(stats["stock"])
        self.errors.update(stats["errors"])
        self._milliseconds += stats["milliseconds"]

    def line(self, stats: Mapping[str, Any], elapsed: float, seconds: float) -> str:
        """Return one line of the table: ``seconds`` of ``stats`` at ``elapsed``."""
        milliseconds = sorted(stats["milliseconds"])
        rate = sum(stats["instances"].values()) / seconds
        who = ", ".join(f"{name} ({count})" for name, count in sorted(stats["instances"].items()))
        return (
            f"{elapsed:>5.0f}s {self.calls:>8} {rate:>8.0f} {quantile(milliseconds, 0.5):>7.1f} "
            f"{quantile(milliseconds, 0.99):>7.1f} {self.failed:>7}  {who}"
        )

    def summary(self, elapsed: float) -> list[str]:
        """Return the lines for the end."""
        milliseconds = sorted(self._milliseconds)
        p50, p99 = quantile(milliseconds, 0.5), quantile(milliseconds, 0.99)
        calls = f"{self.calls} orders in {elapsed:.0f} s, {self.failed} failed"
        lines = [f"{calls}; p50 {p50:.1f} ms, p99 {p99:.1f} ms"]
        for name, count in self.instances.most_common():
            lines.append(f"  orders in process {name}: {count}")
        for name, count in self.stock.most_common():
            lines.append(f"  stock in {name}: {count}")
        for text, count in self.errors.most_common(5):
            lines.append(f"  failed {count} times: {text}")
        return lines


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of ``ordered`` lies; 0 for nothing."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
