"""Balancing against a simulated system: virtual time, seeded choice, every property by numbers."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillion.kinds.registry import Gone, Instance, Put, Snapshot
from pillion.policy.balance import (
    PENALTY,
    PICKERS,
    PROBE_AFTER,
    TAU,
    Endpoint,
    EndpointSet,
    PeakEwma,
    Random,
    RoundRobin,
)

pickers = pytest.mark.parametrize("name", sorted(PICKERS))


def instance(identifier: str, *, healthy: bool = True, protocol: str = "http") -> Instance:
    return Instance(
        id=identifier,
        app_id="orders",
        namespace="default",
        host="127.0.0.1",
        port=1,
        healthy=healthy,
        protocol=protocol,
    )


def endpoints(name: str, count: int, seed: int = 1) -> EndpointSet:
    made = EndpointSet(PICKERS[name](random.Random(seed)))
    made.apply(Snapshot(tuple(instance(str(number)) for number in range(count))))
    return made


class Outcome:
    """What one simulated call met."""

    def __init__(self, at: float, host: str, rtt: float, failed: bool) -> None:
        self.at = at
        self.host = host
        self.rtt = rtt
        self.failed = failed


def simulate(
    name: str,
    answer: Callable[[str, float, random.Random], tuple[float, bool]],
    *,
    hosts: int = 10,
    rate: float = 1000.0,
    seconds: float = 20.0,
    seed: int = 7,
) -> list[Outcome]:
    """Send calls at random times; ``answer(host, now, source)`` gives seconds and failure."""
    source = random.Random(seed)
    chosen_from = endpoints(name, hosts, seed)
    running: list[tuple[float, int, Endpoint, float, bool]] = []
    outcomes: list[Outcome] = []
    now = 0.0
    while now < seconds:
        now += source.expovariate(rate)
        while running and running[0][0] <= now:
            ends, _, endpoint, rtt, failed = heapq.heappop(running)
            endpoint.finished(ends, rtt, failed=failed)
        picked = chosen_from.pick((), now)
        assert picked is not None
        rtt, failed = answer(picked.instance.id, now, source)
        picked.started(now)
        heapq.heappush(running, (now + rtt, len(outcomes), picked, rtt, failed))
        outcomes.append(Outcome(now, picked.instance.id, rtt, failed))
    return outcomes


def share(outcomes: Iterable[Outcome], host: str) -> float:
    hosts = Counter(outcome.host for outcome in outcomes)
    return hosts[host] / hosts.total()


def usual(source: random.Random) -> float:
    return source.expovariate(1 / 0.02)


# Peak EWMA.


def test_host_that_fails_fast_gets_almost_nothing() -> None:
    """A host that answers errors in 1 ms gets under 0.2 % of the calls, not a tenth or more."""

    def answer(host: str, _now: float, source: random.Random) -> tuple[float, bool]:
        return (0.001, True) if host == "0" else (usual(source), False)

    assert share(simulate("peak-ewma", answer), "0") < 0.002
    assert share(simulate("random", answer), "0") > 0.08


def test_slow_host_is_avoided() -> None:
    """With one host at 2 s among nine at 20 ms, the 99.5th percentile stays under half a second."""

    def answer(host: str, _now: float, source: random.Random) -> tuple[float, bool]:
        return (2.0 if host == "0" else usual(source)), False

    def tail(name: str) -> float:
        times = sorted(outcome.rtt for outcome in simulate(name, answer))
        return times[int(len(times) * 0.995)]

    assert tail("peak-ewma") < 0.5
    assert tail("round-robin") == 2.0


@pytest.mark.parametrize(
    ("latency", "least", "most"),
    [
        (lambda source: source.uniform(0.015, 0.025), 0.08, 0.12),
        (usual, 0.04, 0.16),  # a long tail makes peaks, and peaks are what this policy minds
    ],
    ids=["steady", "long-tailed"],
)
def test_equal_hosts_share_fairly(
    latency: Callable[[random.Random], float], least: float, most: float
) -> None:
    """Ten equal hosts each get about a tenth of the calls."""

    def answer(_host: str, _now: float, source: random.Random) -> tuple[float, bool]:
        return latency(source), False

    outcomes = simulate("peak-ewma", answer)
    shares = [share(outcomes, str(host)) for host in range(10)]
    assert min(shares) > least
    assert max(shares) < most


def test_traffic_comes_back_after_recovery() -> None:
    """A host that failed for 20 s has its part of the calls again within 25 s."""

    def answer(host: str, now: float, source: random.Random) -> tuple[float, bool]:
        broken = host == "0" and now < 20.0
        return (0.001 if broken else usual(source)), broken

    outcomes = simulate("peak-ewma", answer, rate=500.0, seconds=55.0)
    broken = [outcome for outcome in outcomes if outcome.at < 20.0]
    regained = [outcome for outcome in outcomes if outcome.at >= 45.0]
    assert sum(outcome.failed for outcome in broken) / len(broken) < 0.002
    assert share(regained, "0") > 0.07


def test_unknown_endpoint_is_probed_by_one_call_at_a_time() -> None:
    """While the first call to a new instance is out, the known ones take the rest."""
    known, new = Endpoint(instance("known")), Endpoint(instance("new"))
    known.started(0.0)
    known.finished(0.02, 0.02, failed=False)
    assert new.score(0.03) < known.score(0.03)
    new.started(0.03)
    for _ in range(1000):
        known.started(0.03)
    assert new.score(0.03) > known.score(0.03)


def test_idle_fleet_is_not_swamped_one_by_one() -> None:
    """After a long silence a burst spreads evenly, though all latencies have been forgotten."""
    chosen_from = endpoints("peak-ewma", 4)
    for endpoint in chosen_from:
        endpoint.started(0.0)
        endpoint.finished(0.02, 0.02, failed=False)
    for _ in range(400):
        picked = chosen_from.pick((), 1000.0)
        assert picked is not None
        picked.started(1000.0)
    assert all(80 <= endpoint.pending <= 120 for endpoint in chosen_from)


def test_cancelled_call_leaves_the_latency_alone() -> None:
    """A caller that hangs up is no evidence for or against the endpoint."""
    endpoint = Endpoint(instance("0"))
    endpoint.started(0.0)
    endpoint.finished(0.02, 0.02, failed=False)
    endpoint.started(0.02)
    before = endpoint.cost
    endpoint.cancelled()
    assert (endpoint.cost, endpoint.pending) == (before, 0)


def test_weight_divides_the_score() -> None:
    """Of two equally fast endpoints, one with weight 3 may have three times the calls out."""
    light, heavy = Endpoint(instance("light")), Endpoint(instance("heavy"), weight=3.0)
    for endpoint in (light, heavy):
        endpoint.started(0.0)
        endpoint.finished(0.02, 0.02, failed=False)
    for _ in range(2):
        heavy.started(0.02)
    assert heavy.score(0.02) == pytest.approx(light.score(0.02))


@given(
    st.lists(
        st.tuples(st.floats(0.0, 60.0), st.floats(0.0, 30.0), st.booleans()),
        min_size=1,
        max_size=50,
    )
)
def test_cost_stays_between_zero_and_the_worst(calls: list[tuple[float, float, bool]]) -> None:
    """Whatever the history, the latency is within what was seen and the count comes back to 0."""
    endpoint = Endpoint(instance("0"))
    now, worst = 0.0, 0.0
    for pause, rtt, failed in calls:
        now += pause
        endpoint.started(now)
        now += rtt
        endpoint.finished(now, rtt, failed=failed)
        worst = max(worst, rtt, PENALTY if failed else 0.0)
        assert 0.0 <= endpoint.cost <= worst * (1 + 1e-9)
        assert endpoint.score(now + TAU) <= endpoint.score(now)
    assert endpoint.pending == 0


# The other pickers.


def test_round_robin_takes_turns() -> None:
    """Each of five gets exactly a fifth, in the same order every time."""
    chosen_from = endpoints("round-robin", 5)
    picked = [chosen_from.pick((), 0.0) for _ in range(15)]
    assert picked[:5] == picked[5:10] == picked[10:]
    assert len(set(picked[:5])) == 5


def test_random_reaches_everyone() -> None:
    """Random picks are spread over all endpoints."""
    chosen_from = endpoints("random", 5)
    counts = Counter(chosen_from.pick((), 0.0) for _ in range(5000))
    assert len(counts) == 5
    assert min(counts.values()) > 850


def test_every_option_has_a_picker() -> None:
    """The three names of the option give the three pickers."""
    made = {name: type(PICKERS[name](random.Random(0))) for name in PICKERS}
    assert made == {"peak-ewma": PeakEwma, "round-robin": RoundRobin, "random": Random}


# The set.


@pickers
def test_excluded_instances_are_not_picked(name: str) -> None:
    """A retry goes to another instance, and to none when all were tried."""
    chosen_from = endpoints(name, 5)
    for number in range(5):
        exclude = {str(other) for other in range(number)}
        for _ in range(50):
            picked = chosen_from.pick(exclude, 0.0)
            assert picked is not None
            assert picked.instance.id not in exclude
    assert chosen_from.pick({str(number) for number in range(5)}, 0.0) is None


@pickers
def test_empty_set_gives_none(name: str) -> None:
    """Nothing to pick is None, not an error."""
    assert endpoints(name, 0).pick((), 0.0) is None


@pickers
def test_instances_that_take_no_calls_are_kept_and_not_picked(name: str) -> None:
    """Unhealthy ones and those without a server wait until a Put says otherwise."""
    chosen_from = endpoints(name, 3)
    chosen_from.apply(Put(instance("0", healthy=False)))
    chosen_from.apply(Put(instance("1", protocol="")))
    assert {chosen_from.pick((), 0.0) for _ in range(30)} == {chosen_from.get("2")}
    assert len(chosen_from) == 3
    chosen_from.apply(Put(instance("0")))
    assert chosen_from.get("0") in {chosen_from.pick((), 0.0) for _ in range(60)}


def test_survivors_keep_what_is_known_of_them() -> None:
    """Health changes and new snapshots do not reset latencies or calls in flight."""
    chosen_from = endpoints("peak-ewma", 3)
    kept = chosen_from.get("1")
    assert kept is not None
    kept.started(0.0)
    kept.finished(0.5, 0.5, failed=False)
    kept.started(0.5)
    chosen_from.apply(Put(instance("1", healthy=False)))
    chosen_from.apply(Snapshot((instance("1"), instance("9"))))
    assert chosen_from.get("1") is kept
    assert kept.cost == pytest.approx(0.5)
    assert kept.pending == 1
    assert kept.instance == instance("1")
    assert {endpoint.instance.id for endpoint in chosen_from} == {"1", "9"}


def test_call_in_flight_may_end_after_its_instance_left() -> None:
    """An endpoint that is gone still takes the end of its calls."""
    chosen_from = endpoints("peak-ewma", 1)
    endpoint = chosen_from.pick((), 0.0)
    assert endpoint is not None
    endpoint.started(0.0)
    chosen_from.apply(Gone("0"))
    endpoint.finished(1.0, 1.0, failed=True)
    assert endpoint.pending == 0
    assert chosen_from.pick((), 1.0) is None


@pickers
def test_suspect_is_the_last_resort(name: str) -> None:
    """A suspect is passed over while others exist, and better than nothing when none does."""
    chosen_from = endpoints(name, 3)
    chosen_from.suspect("0", 0.0)
    assert chosen_from.get("0") not in {chosen_from.pick((), 0.1) for _ in range(60)}
    assert chosen_from.pick({"1", "2"}, 0.1) is chosen_from.get("0")
    assert chosen_from.pick({"0", "1", "2"}, 0.1) is None


@pickers
def test_suspicion_ends(name: str) -> None:
    """A suspect is picked again once it is Put, trusted, or the time to probe has come."""
    for clear in (
        lambda chosen_from: chosen_from.apply(Put(replace(instance("0"), labels={"v": "2"}))),
        lambda chosen_from: chosen_from.trust("0"),
        lambda _: None,
    ):
        chosen_from = endpoints(name, 2)
        chosen_from.suspect("0", 0.0)
        clear(chosen_from)
        assert chosen_from.get("0") in {chosen_from.pick((), PROBE_AFTER) for _ in range(40)}


def test_earlier_suspicion_does_not_shorten_a_later_one() -> None:
    """The time to probe counts from the newest broken connection."""
    chosen_from = endpoints("random", 2)
    chosen_from.suspect("0", 0.0)
    chosen_from.trust("0")
    chosen_from.suspect("0", 0.9)
    picked = {chosen_from.pick((), PROBE_AFTER) for _ in range(40)}
    assert chosen_from.get("0") not in picked
    assert chosen_from.get("0") in {chosen_from.pick((), 0.9 + PROBE_AFTER) for _ in range(40)}


identifiers = st.sampled_from([str(number) for number in range(6)])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), identifiers, st.booleans()),
        st.tuples(st.just("gone"), identifiers, st.none()),
        st.tuples(st.just("suspect"), identifiers, st.none()),
        st.tuples(st.just("trust"), identifiers, st.none()),
        st.tuples(st.just("snapshot"), st.frozensets(identifiers), st.none()),
        st.tuples(st.just("wait"), st.floats(0.0, 2.0), st.none()),
    ),
    max_size=40,
)


@pickers
@given(steps=steps, exclude=st.frozensets(identifiers), seed=st.integers(0, 2**16))
@settings(deadline=None)
def test_set_agrees_with_a_plain_model(
    name: str, steps: list[tuple[str, object, bool | None]], exclude: frozenset[str], seed: int
) -> None:
    """After any history, picks are exactly among what a plain dictionary says may be picked."""
    chosen_from = EndpointSet(PICKERS[name](random.Random(seed)))
    healthy: dict[str, bool] = {}
    suspects: dict[str, float] = {}
    now = 0.0
    for action, value, flag in steps:
        if action == "wait":
            now += float(str(value))
        elif action == "snapshot":
            assert isinstance(value, frozenset)
            chosen_from.apply(Snapshot(tuple(instance(one) for one in sorted(value))))
            healthy = dict.fromkeys(value, True)
            suspects = {}
        else:
            one = str(value)
            if action == "put":
                chosen_from.apply(Put(instance(one, healthy=bool(flag))))
                healthy[one] = bool(flag)
                suspects.pop(one, None)
            elif action == "gone":
                chosen_from.apply(Gone(one))
                healthy.pop(one, None)
                suspects.pop(one, None)
            elif action == "suspect":
                chosen_from.suspect(one, now)
                if healthy.get(one) and one not in suspects:
                    suspects[one] = now + PROBE_AFTER
            else:
                chosen_from.trust(one)
                suspects.pop(one, None)
        # The set notices that a suspicion has run out when it is asked.
        chosen_from.pick((), now)
        suspects = {one: until for one, until in suspects.items() if until > now}
    able = {one for one, well in healthy.items() if well} - exclude
    allowed = (able - suspects.keys()) or able
    for _ in range(40):
        picked = chosen_from.pick(exclude, now)
        assert picked.instance.id in allowed if picked else not allowed
    assert len(chosen_from) == len(healthy)
