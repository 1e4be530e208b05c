"""Tries a failed call again, on another instance where there is one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from pillion.call import Call, Handler, Layer, Reply
from pillion.errors import Failure
from pillion.inline import Waiter
from pillion.policy.retry import RetryBudget, RetryPolicy, may_retry
from pillion.wheel import Wheel


class RetryCounters:
    """What the retries of one target came to."""

    __slots__ = ("exhausted", "over_budget", "retries")

    def __init__(self) -> None:
        self.retries = 0
        self.exhausted = 0
        self.over_budget = 0


def retry(
    policy: RetryPolicy,
    budget: RetryBudget,
    counters: RetryCounters,
    wheel: Wheel,
    clock: Callable[[], float] = time.monotonic,
    draw: Callable[[], float] = random.random,
) -> Layer:
    """Return the layer."""

    def layer(inner: Handler) -> Handler:
        async def handler(call: Call) -> Reply:
            budget.deposit(clock())
            while True:
                try:
                    return await inner(call)
                except Failure as failure:
                    if not may_retry(call, failure):
                        raise
                    if call.attempt >= policy.retries:
                        counters.exhausted += 1
                        raise
                    now = clock()
                    delay = policy.delay(call.attempt + 1, draw())
                    if now + delay >= call.deadline:
                        raise
                    if not budget.withdraw(now):
                        counters.over_budget += 1
                        raise
                counters.retries += 1
                call.attempt += 1
                if delay > 0.0:
                    await _sleep(wheel, delay)

        return handler

    return layer


async def _sleep(wheel: Wheel, delay: float) -> None:
    waiter: Waiter[None] = Waiter()
    timer = wheel.after(delay, lambda: waiter.set(None))
    try:
        await waiter
    finally:
        timer.cancel()
