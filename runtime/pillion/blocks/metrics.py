"""The Prometheus page: plain integers, read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pillion.call import Reply
from pillion.operation import Request
from pillion.series import BUCKETS, Series
from pillion.wire.errors_json import text_reply

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


@dataclass(frozen=True, slots=True)
class Gauge:
    """One number of the runtime's own.

    Attributes:
        name: without prefix; counters end in ``_total``.
        text: what it counts.
        read: gives its value.
        labels: besides ``app_id``.
    """

    name: str
    text: str
    read: Callable[[], float]
    labels: Mapping[str, str]


class MetricsPage:
    """Answers ``GET /metrics``.

    Args:
        app_id: the label that every metric carries.
        sent, received: what is counted of calls, by the app at the other end.
        gauges: everything else.
    """

    __slots__ = ("_app_id", "_gauges", "_received", "_registry", "_sent")

    def __init__(
        self,
        app_id: str,
        sent: Mapping[str, Series],
        received: Mapping[str, Series],
        gauges: Iterable[Gauge],
    ) -> None:
        self._app_id = app_id
        self._sent = sent
        self._received = received
        self._gauges = tuple(gauges)
        self._registry: Any = None

    async def serve(self, request: Request) -> Reply:
        """Answer with the page."""
        if request.path.rstrip(b"/") not in (b"/metrics", b""):
            return text_reply(404, "metrics are at /metrics\n")
        # The library costs 5 MiB and is needed only where somebody scrapes.
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

        if self._registry is None:
            self._registry = CollectorRegistry()
            self._registry.register(self)
        page = generate_latest(self._registry)
        return Reply(200, [(b"Content-Type", CONTENT_TYPE_PLAIN_0_0_4.encode())], page)

    def collect(self) -> Iterable[Metric]:
        """Give the library what was counted."""
        yield from self._calls(
            "dapr_runtime_service_invocation_res_recv", "dst_app_id", "calls to", self._sent
        )
        yield from self._calls(
            "dapr_runtime_service_invocation_res_sent", "src_app_id", "calls from", self._received
        )
        yield from self._own()

    def _calls(
        self, name: str, label: str, what: str, series: Mapping[str, Series]
    ) -> Iterable[Metric]:
        from prometheus_client.metrics_core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        labels = ["app_id", label]
        replies = CounterMetricFamily(
            name, f"replies to {what} an app, by status", labels=[*labels, "status"]
        )
        failures = CounterMetricFamily(
            name + "_failed", f"{what} an app without a reply", labels=[*labels, "reason"]
        )
        latency = HistogramMetricFamily(
            name + "_latency_seconds", f"time to the reply of {what} an app", labels=labels
        )
        flight = GaugeMetricFamily(name + "_in_flight", f"{what} an app now", labels=labels)
        for peer, one in list(series.items()):
            key = [self._app_id, peer]
            for status, count in list(one.statuses.items()):
                replies.add_metric([*key, str(status)], count)
            for reason, count in list(one.failures.items()):
                failures.add_metric([*key, reason], count)
            latency.add_metric(key, _cumulated(one), one.seconds)
            flight.add_metric(key, one.in_flight)
        yield from (replies, failures, latency, flight)

    def _own(self) -> Iterable[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, Any] = {}
        for gauge in self._gauges:
            names = ["app_id", *gauge.labels]
            family = families.get(gauge.name)
            if family is None:
                counts = gauge.name.endswith("_total")
                kind = CounterMetricFamily if counts else GaugeMetricFamily
                family = kind("pillion_" + gauge.name, gauge.text, labels=names)
                families[gauge.name] = family
            family.add_metric([self._app_id, *gauge.labels.values()], gauge.read())
        yield from families.values()


def _cumulated(series: Series) -> list[tuple[str, float]]:
    total = 0.0
    buckets = []
    for bound, count in zip(BUCKETS, series.buckets, strict=False):
        total += count
        buckets.append((f"{bound:g}", total))
    buckets.append(("+Inf", float(series.count)))
    return buckets
