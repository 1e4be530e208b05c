"""Retries are safe, wait a bounded time, and never multiply an overload."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pillion.body import BodyStream
from pillion.call import Call, Target
from pillion.errors import Failure, NotFound, Overloaded, TimedOut, TooLarge, Unavailable
from pillion.policy.retry import RetryBudget, RetryPolicy, may_retry, replayable

# Backoff.


@given(
    st.integers(0, 3000),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 10),
    st.floats(0, 60),
)
def test_waits_are_bounded(attempt: int, draw: float, base: float, cap: float) -> None:
    """Between nothing and the cap, at any attempt."""
    delay = RetryPolicy(base=base, cap=cap).delay(attempt, draw)
    assert 0 <= delay <= cap


def test_waits_grow() -> None:
    """The first retry goes elsewhere at once; then the range doubles up to the cap."""
    policy = RetryPolicy(base=0.1, cap=0.5)
    most = [policy.delay(attempt, 1.0) for attempt in range(1, 6)]
    assert most == pytest.approx([0.0, 0.2, 0.4, 0.5, 0.5])
    assert policy.delay(3, 0.0) == 0.0
    assert policy.delay(3, 0.5) == pytest.approx(0.2)


# Budget.

STEPS = st.lists(
    st.tuples(
        st.floats(0, 3) | st.sampled_from([0.0, 1e-6, 0.999999, 1.0, 9.0, 10.0, 10.5, 100.0]),
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    max_size=40,
)


@given(
    STEPS,
    st.floats(0, 1e6),
    st.sampled_from([0.0, 0.1, 0.2, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0, 10.0]),
    st.sampled_from([1, 2, 10]),
)
@example([(0.99, 0, 30), (9.02, 0, 30)], 0.0, 0.0, 1.0, 10)
def test_no_window_has_more_retries_than_the_budget(
    steps: list[tuple[float, int, int]], start: float, ratio: float, floor: float, window: int
) -> None:
    """The window that ends at a retry holds no more than its calls and the floor allow."""
    budget = RetryBudget(ratio, floor, window)
    calls: list[float] = []
    retries: list[float] = []
    now = start
    for step, deposits, wishes in steps:
        now += step
        for _ in range(deposits):
            budget.deposit(now)
        granted = sum(budget.withdraw(now) for _ in range(wishes))
        calls += [now] * deposits
        retries += [now] * granted
        if granted:
            in_window = sum(now - window < when for when in retries)
            allowed = ratio * sum(now - window < when for when in calls) + floor * window
            assert in_window <= allowed + 1e-9


@given(st.integers(0, 200), st.floats(0, 1e6))
def test_a_budget_is_used_to_the_full(calls: int, now: float) -> None:
    """All that is allowed is given, and then nothing."""
    budget = RetryBudget(ratio=0.5, floor=1.0, window=10)
    for _ in range(calls):
        budget.deposit(now)
    given_out = sum(itertools.takewhile(bool, (budget.withdraw(now) for _ in range(1000))))
    assert given_out == calls // 2 + 10
    assert not budget.withdraw(now)


@pytest.mark.parametrize("later", [11.0, 12.5, 1000.0, 1e9])
def test_a_spent_budget_comes_back(later: float) -> None:
    """Once the window has passed, the floor is there again and old calls count no more."""
    budget = RetryBudget(ratio=1.0, floor=1.0, window=10)
    budget.deposit(5.0)
    while budget.withdraw(5.0):
        pass
    assert not budget.withdraw(6.0)
    assert sum(budget.withdraw(5.0 + later) for _ in range(100)) == 10


# Whether.


def call(method: bytes, body: bytes | BodyStream = b"") -> Call:
    return Call("invocation.call", Target("app", "a", "default"), method, body=body)


def read_stream() -> BodyStream:
    stream = BodyStream()
    stream.started = True
    return stream


@pytest.mark.parametrize(
    ("tried", "failure", "again"),
    [
        (call(b"GET"), Unavailable("x"), True),
        (call(b"GET"), Unavailable("x", reached=False), True),
        (call(b"POST"), Unavailable("x"), False),
        (call(b"POST"), Unavailable("x", reached=False), True),
        (call(b"PATCH"), Unavailable("x"), False),
        (call(b"DELETE", b"body"), Unavailable("x"), True),
        (call(b"PUT", BodyStream()), Unavailable("x"), True),
        (call(b"PUT", read_stream()), Unavailable("x"), False),
        (call(b"POST", read_stream()), Unavailable("x", reached=False), False),
        (call(b"POST"), Overloaded("x"), True),
        (call(b"GET"), TimedOut("x"), False),
        (call(b"GET"), NotFound("x"), False),
        (call(b"GET"), TooLarge("x"), False),
        (call(b"GET"), Failure("x"), False),
    ],
)
def test_what_may_be_tried_again(tried: Call, failure: Failure, again: bool) -> None:
    """What another try may help, and cannot do twice."""
    assert may_retry(tried, failure) == again


def test_a_body_can_be_sent_again_until_it_is_read() -> None:
    """Bytes always, a stream before its first chunk was asked for."""
    assert replayable(b"")
    assert replayable(BodyStream())
    assert not replayable(read_stream())
