"""Measuring large bodies, and what is made of the figures."""

from __future__ import annotations

import pytest
from tests.bench.errors import VoidRunError
from tests.bench.streaming import Transfer, render, transfer
from tests.bench.systems import App, System, direct

MiB = 1024 * 1024
SYSTEMS = [
    System("nginx-mtls", "nginx pair, mutual TLS", ""),
    System("pillion", "Pillion pair", ""),
]


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_body_is_streamed_and_timed(app: App, direction: str) -> None:
    """A real body through a real process gives a rate and the role's memory and CPU."""
    system = System("direct", "direct", direct(app).base, {"app": app.pids})
    found = transfer(system, direction, 4 * MiB, {"app": 0})
    assert found.rate > MiB
    assert found.extra["app"] > MiB
    assert 0 <= found.cpu["app"] < 5


def test_a_broken_transfer_makes_the_run_void() -> None:
    """A system that is not there ends the run and says why."""
    with pytest.raises(VoidRunError, match=r"the upload failed \(.*refused"):
        transfer(System("gone", "Gone", "http://127.0.0.1:1"), "upload", MiB, {})


def moved(system: str, direction: str, rate: float, extra: float) -> Transfer:
    """A transfer at ``rate`` MiB/s with ``extra`` MiB of memory in the callee."""
    roles = {"caller": MiB, "callee": int(extra * MiB)}
    return Transfer(system, direction, rate * MiB, roles, {"caller": 1.0, "callee": 2.0})


@pytest.mark.parametrize(("extra", "verdict"), [(39.0, "met"), (41.0, "**not met**")])
def test_the_worst_memory_is_judged(extra: float, verdict: str) -> None:
    """One transfer over the limit is enough to miss it, and ratios are of throughput and CPU."""
    transfers = [
        *(moved("nginx-mtls", "upload", 400, 1), moved("pillion", "upload", 100, 2)),
        *(moved("nginx-mtls", "download", 400, 1), moved("pillion", "download", 200, extra)),
    ]
    text = "\n".join(render(SYSTEMS, transfers))
    worst = next(line for line in text.splitlines() if "worst" in line)
    assert worst.split("|")[-2].strip() == verdict
    assert f"{extra:.1f} MiB" in worst
    assert "0.25x (0.25-0.25)" in text
    assert "0.50x (0.50-0.50)" in text
    assert "1.00x (1.00-1.00)" in text


def test_without_the_peer_there_are_no_ratios() -> None:
    """Pillion's figures stand alone where nginx is missing."""
    transfers = [moved("pillion", "upload", 100, 2), moved("pillion", "download", 100, 2)]
    assert "Ratios" not in "\n".join(render(SYSTEMS[1:], transfers))
