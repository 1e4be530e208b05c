"""Measuring one system in one round, and comparing rounds."""

from __future__ import annotations

import pytest
from tests.bench.errors import VoidRunError
from tests.bench.load import Case, OwnGenerator, Result
from tests.bench.rounds import APP, GENERATOR, Record, Sample, measure
from tests.bench.stats import Spread
from tests.bench.systems import App, direct

CASE = Case("POST", 2)


def sample(system: str, *, pair: float = 0.0, p99: float = 0.001, requests: int = 100) -> Sample:
    """A sample with the figures that matter to a test."""
    cpu = {APP: 1e-6, GENERATOR: 2e-6}
    if pair:
        cpu |= {"caller": pair / 2, "callee": pair / 2}
    return Sample(system, CASE, 1000.0, 0.0005, p99, 0.0, cpu, 0.1, requests)


class Broken:
    """A generator that reports failures."""

    name = "broken"

    def __init__(self, result: Result) -> None:
        self._result = result

    def run(self, url: str, case: Case, seconds: float) -> Result:
        """Report what it was made with."""
        return self._result


def test_the_pair_is_without_app_and_generator() -> None:
    """The CPU of a pair is its two proxies'; the app alone has none."""
    assert sample("nginx", pair=30e-6).pair == pytest.approx(30e-6)
    assert sample("app").pair == 0


def test_a_round_is_measured(app: App) -> None:
    """Rates, latencies and the CPU of the app and the generator come out of one real round."""
    system = direct(app)
    found = measure(system, [system], app, CASE, OwnGenerator(), 0.5)
    assert found.rate > 0
    assert 0 < found.p50 <= found.p99
    assert found.cpu[APP] > 0
    assert found.cpu[GENERATOR] > 0
    assert 0 <= found.foreign <= 1


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (Result(99, 1.0, 0.1, 0.1, 1, "status 503"), r"1 of 100 requests failed \(status 503\)"),
        (Result(0, 1.0, 0.0, 0.0, 0), "there was no answer"),
    ],
)
def test_a_failure_makes_the_run_void(app: App, result: Result, message: str) -> None:
    """One failed request, or none that succeeded, ends the run and says why."""
    system = direct(app)
    with pytest.raises(VoidRunError, match=message):
        measure(system, [system], app, CASE, Broken(result), 0.1)


def test_ratios_pair_the_rounds() -> None:
    """Each round is compared with its own partner."""
    record = Record(
        [
            sample("nginx", pair=1.0),
            sample("pillion", pair=2.0),
            sample("nginx", pair=8.0),
            sample("pillion", pair=24.0),
        ]
    )
    assert record.ratio("pillion", "nginx", CASE, "pair") == Spread(2.5, 2.0, 3.0)
    assert record.requests("pillion") == 200
    assert record.cases() == [CASE]


def test_no_ratio_without_both() -> None:
    """What was not measured, or has no proxies, has no ratio."""
    record = Record([sample("app"), sample("pillion", pair=20e-6)])
    assert record.ratio("pillion", "nginx", CASE, "pair") is None
    assert record.ratio("pillion", "app", CASE, "pair") is None
    assert record.ratio("pillion", "app", CASE, "p99") == Spread(1.0, 1.0, 1.0)
