"""Failed calls are tried again where that is safe, in time, and within the budget."""

from __future__ import annotations

import asyncio

import pytest

from pillion.body import BodyStream
from pillion.call import Reply
from pillion.errors import NotFound, Unavailable
from pillion.layers.retry import RetryCounters, retry
from pillion.policy.retry import RetryBudget, RetryPolicy


class Retrying:
    """A retry layer over a scripted app."""

    def __init__(self, clock, app, policy=None, budget=None):
        self.counters = RetryCounters()
        self.handler = retry(
            policy or RetryPolicy(retries=3, base=1.0, cap=10.0),
            budget or RetryBudget(),
            self.counters,
            clock.wheel,
            clock,
            draw=lambda: 0.5,
        )(app)


def test_a_success_is_left_alone(clock, app, start):
    """One try, and no counter moves."""
    retrying = Retrying(clock, app)
    work = start(retrying.handler)
    app.answer(Reply(503))
    assert work.reply.status == 503
    assert len(app.calls) == 1
    assert retrying.counters.retries == 0


def test_the_first_retry_is_at_once_and_the_next_wait_longer(clock, app, start):
    """Each try knows its number; waits are drawn from a growing range."""
    app.script = [Unavailable("a"), Unavailable("b"), Unavailable("c"), Reply(200)]
    retrying = Retrying(clock, app)
    work = start(retrying.handler)
    assert len(app.calls) == 2
    clock.advance(0.9)
    assert len(app.calls) == 2
    clock.advance(0.2)
    assert len(app.calls) == 3
    clock.advance(1.9)
    assert work.waits
    clock.advance(0.2)
    assert work.reply.status == 200
    assert app.calls[-1].attempt == 3
    assert retrying.counters.retries == 3


def test_the_last_failure_is_raised(clock, app, start):
    """After as many tries as the policy has."""
    failures = [Unavailable(str(number)) for number in range(5)]
    app.script = list(failures)
    retrying = Retrying(clock, app, RetryPolicy(retries=3, base=0.0))
    work = start(retrying.handler)
    clock.advance(60)
    assert work.error is failures[3]
    assert len(app.calls) == 4
    assert retrying.counters.exhausted == 1


@pytest.mark.parametrize(
    ("method", "failure", "tries"),
    [
        (b"GET", NotFound("x"), 1),
        (b"POST", Unavailable("x", reached=True), 1),
        (b"POST", Unavailable("x", reached=False), 2),
    ],
)
def test_only_what_is_safe_is_tried_again(clock, app, start, method, failure, tries):
    """An app that may have been reached is not asked twice to do something twice."""
    app.script = [failure, Reply(200)]
    start(Retrying(clock, app).handler, method)
    assert len(app.calls) == tries


def test_a_body_that_was_read_is_not_sent_again(clock, app, start):
    """A stream whose first chunk is gone cannot be replayed."""
    body = BodyStream()
    body.started = True
    app.script = [Unavailable("x", reached=False), Reply(200)]
    work = start(Retrying(clock, app).handler, b"PUT", body=body)
    assert isinstance(work.error, Unavailable)


def test_no_try_starts_behind_the_deadline(clock, app, start):
    """A wait that would end after it is not begun."""
    app.script = [Unavailable("x")] * 3
    retrying = Retrying(clock, app)
    work = start(retrying.handler, deadline=clock.now + 0.5)
    assert isinstance(work.error, Unavailable)
    assert len(app.calls) == 2
    assert retrying.counters.retries == 1


def test_an_empty_budget_ends_it(clock, app, start):
    """Then the failure is raised, and counted apart."""
    budget = RetryBudget(ratio=0.0, floor=0.1, window=10)
    retrying = Retrying(clock, app, RetryPolicy(retries=9, base=0.0), budget)
    app.script = [Unavailable("x")] * 20
    works = [start(retrying.handler) for _ in range(3)]
    clock.advance(1)
    assert all(isinstance(work.error, Unavailable) for work in works)
    assert len(app.calls) == 4
    assert (retrying.counters.retries, retrying.counters.over_budget) == (1, 3)


def test_a_call_pays_in_once_however_often_it_is_tried(clock, app, start):
    """Otherwise retries would pay for retries."""
    budget = RetryBudget(ratio=1.0, floor=0.0, window=10)
    app.script = [Unavailable("x")] * 20
    retrying = Retrying(clock, app, RetryPolicy(retries=9, base=0.0), budget)
    start(retrying.handler)
    clock.advance(1)
    assert len(app.calls) == 2


def test_a_hang_up_ends_the_wait(clock, app, start):
    """Nothing is tried for a caller that is gone."""
    app.script = [Unavailable("x"), Unavailable("x"), Reply(200)]
    work = start(Retrying(clock, app).handler)
    assert work.waits
    work.run.cancel()
    assert isinstance(work.error, asyncio.CancelledError)
    clock.advance(60)
    assert len(app.calls) == 2
