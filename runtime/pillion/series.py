"""Numbers of one target, as plain integers that are read at scrape time."""

from __future__ import annotations

from bisect import bisect_left

BUCKETS = (
    0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03,
    0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 2.0, 5.0,
    10.0, 20.0, 50.0, 100.0,
)  # fmt: skip
"""Upper bounds in seconds; Dapr's, and one below for what it cannot see."""


class Series:
    """What is counted of one target: replies by status, failures by reason, and latency."""

    __slots__ = ("buckets", "count", "failures", "in_flight", "seconds", "statuses")

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.in_flight = 0
        self.statuses: dict[int, int] = {}
        self.failures: dict[str, int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)

    def observe(self, seconds: float) -> None:
        """Count one call that took ``seconds``."""
        self.count += 1
        self.seconds += seconds
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
