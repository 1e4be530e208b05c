"""Whether to try again, and when: a verdict, a backoff and a budget."""

from __future__ import annotations

from dataclasses import dataclass

from pillion.body import Body
from pillion.call import Call
from pillion.errors import Failure


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how fast.

    Attributes:
        retries: tries after the first.
        base: seconds; the n-th wait is drawn from 0 to ``base * 2**n`` (full jitter).
        cap: the longest wait, in seconds.
    """

    retries: int = 3
    base: float = 0.025
    cap: float = 0.25

    def delay(self, attempt: int, draw: float) -> float:
        """Return seconds to wait before try ``attempt`` (1 is the first retry).

        ``draw`` is uniform in [0, 1). The first retry of a call goes elsewhere at once.
        """
        if attempt <= 1:
            return 0.0
        return draw * min(self.cap, self.base * 2.0 ** min(attempt - 1, 64))


class RetryBudget:
    """Bounds retries to a share of calls, so that they cannot multiply an overload.

    In the ``window`` seconds before any retry there were at most ``ratio`` retries a call, and
    ``floor`` retries a second besides, so that a service with few calls can retry at all (Finagle's
    RetryBudget, with counts in one-second slots).
    """

    __slots__ = ("_calls", "_retries", "_second", "floor", "ratio", "window")

    def __init__(self, ratio: float = 0.2, floor: float = 10.0, window: int = 10) -> None:
        self.ratio = ratio
        self.floor = floor
        self.window = window
        # A window ends inside a slot, so it also holds a part of the slot before its first whole
        # one: retries there still count, calls there no more.
        self._calls = [0] * window
        self._retries = [0] * (window + 1)
        self._second = 0

    def deposit(self, now: float) -> None:
        """Count a call at ``now`` seconds."""
        second = int(now)
        if second != self._second:
            self._advance(second)
        self._calls[second % self.window] += 1

    def withdraw(self, now: float) -> bool:
        """Take one retry at ``now`` seconds; False when there is none left."""
        second = int(now)
        if second != self._second:
            self._advance(second)
        allowed = self.ratio * sum(self._calls) + self.floor * self.window
        if sum(self._retries) + 1 > allowed:
            return False
        self._retries[second % (self.window + 1)] += 1
        return True

    def _advance(self, second: int) -> None:
        for passed in range(self._second + 1, min(second, self._second + self.window + 1) + 1):
            self._calls[passed % self.window] = 0
            self._retries[passed % (self.window + 1)] = 0
        self._second = second


def may_retry(call: Call, failure: Failure) -> bool:
    """Tell whether repeating ``call`` after ``failure`` is safe and can help.

    Safe means: the call never reached its target, or repeating it cannot do its work twice, and
    its body is still whole.
    """
    if not failure.retryable or not replayable(call.body):
        return False
    return not failure.reached or call.idempotent


def replayable(body: Body) -> bool:
    """Tell whether a body can be sent once more."""
    return isinstance(body, bytes) or not body.started
