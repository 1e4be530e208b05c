"""Every call is counted once, by how it ended."""

from __future__ import annotations

import asyncio

import pytest

from pillion.call import Reply
from pillion.errors import Unavailable
from pillion.layers.telemetry import telemetry
from pillion.series import BUCKETS, Series


def test_replies_are_counted_by_status(clock, app, start):
    """With the time until the reply's head."""
    series = Series()
    handler = telemetry(series, clock)(app)
    for status, seconds in ((200, 0.004), (500, 0.3), (200, 1000.0)):
        start(handler)
        assert series.in_flight == 1
        clock.advance(seconds)
        app.answer(Reply(status))
    assert series.statuses == {200: 2, 500: 1}
    assert series.failures == {}
    assert (series.count, series.in_flight) == (3, 0)
    assert series.seconds == pytest.approx(1000.304)
    assert sum(series.buckets) == 3
    assert series.buckets[-1] == 1


def test_failures_are_counted_by_reason(clock, app, start):
    """And raised on, as they are."""
    series = Series()
    failure = Unavailable("gone", reason="connect-failed")
    app.script = [failure]
    work = start(telemetry(series, clock)(app))
    assert work.error is failure
    assert series.failures == {"connect-failed": 1}
    assert (series.count, series.in_flight, series.statuses) == (1, 0, {})


def test_a_cancelled_call_is_counted_as_such(clock, app, start):
    """It is neither a success nor a failure of the target."""
    series = Series()
    work = start(telemetry(series, clock)(app))
    work.run.cancel()
    assert isinstance(work.error, asyncio.CancelledError)
    assert series.failures == {"cancelled": 1}
    assert series.in_flight == 0


def test_a_defect_leaves_nothing_in_flight(clock, app, start):
    """Gauges stay right whatever is raised."""
    series = Series()
    app.script = [ValueError("a defect")]
    assert isinstance(start(telemetry(series, clock)(app)).error, ValueError)
    assert (series.count, series.in_flight) == (1, 0)


@pytest.mark.parametrize("index", range(len(BUCKETS)))
def test_a_bound_belongs_to_its_bucket(index):
    """As Prometheus has it: ``le`` includes the bound."""
    series = Series()
    series.observe(BUCKETS[index])
    assert series.buckets[index] == 1
    series.observe(BUCKETS[index] * 1.000001)
    assert series.buckets[index + 1] == 1
