"""Timers fire once, never early and at most a tick late, and one that fails harms no other."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.conditions import eventually

from pillion.wheel import TICK, Timer, Wheel

EPSILON = 1e-6
"""Rounding of sums of clock readings, far below a tick."""


class Clock:
    """A clock that a test turns."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


SECONDS = st.floats(0, 120) | st.integers(0, 12_000).map(lambda ticks: ticks * TICK)


@given(
    start=st.floats(0, 1e7),
    delays=st.lists(SECONDS, max_size=30),
    steps=st.lists(st.floats(TICK, 20), max_size=30),
)
def test_timers_fire_once_never_early_and_in_time(
    start: float, delays: list[float], steps: list[float]
) -> None:
    """At every turn, what is due a tick ago has fired and what is not due has not."""
    clock = Clock(start)
    wheel = Wheel(None, clock)
    fired: dict[int, float] = {}

    def fire(number: int) -> Callable[[], None]:
        def callback() -> None:
            assert number not in fired
            fired[number] = clock.now

        return callback

    due = [start + delay for delay in delays]
    for number, delay in enumerate(delays):
        wheel.after(delay, fire(number))
    for step in [*steps, 200.0]:
        clock.now += step
        wheel.turn()
        for number, when in enumerate(due):
            if when + TICK + EPSILON < clock.now:
                assert number in fired
            if number in fired:
                assert fired[number] >= when - EPSILON


@given(st.lists(st.tuples(SECONDS, st.booleans()), max_size=30))
def test_cancelled_timers_never_fire(timers: list[tuple[float, bool]]) -> None:
    """Whatever is cancelled stays silent; the rest fires."""
    clock = Clock()
    wheel = Wheel(None, clock)
    fired: list[int] = []
    made = [
        wheel.after(delay, lambda number=number: fired.append(number))  # type: ignore[misc]
        for number, (delay, _cancelled) in enumerate(timers)
    ]
    for timer, (_delay, cancelled) in zip(made, timers, strict=True):
        if cancelled:
            timer.cancel()
            timer.cancel()
    clock.now = 200.0
    wheel.turn()
    assert sorted(fired) == [
        number for number, (_delay, cancelled) in enumerate(timers) if not cancelled
    ]


def test_an_infinite_deadline_costs_nothing() -> None:
    """A timer for never is accepted, can be cancelled, and is not kept."""
    wheel = Wheel(None, Clock())
    timer = wheel.at(math.inf, pytest.fail)
    wheel.turn()
    timer.cancel()


def test_a_time_in_the_past_fires_at_the_next_turn() -> None:
    """A deadline that has passed already is noticed without delay."""
    clock = Clock(100.0)
    wheel = Wheel(None, clock)
    fired: list[bool] = []
    wheel.at(1.0, lambda: fired.append(True))
    wheel.turn()
    assert fired == [True]


def test_a_callback_may_set_and_cancel_timers() -> None:
    """What one timer does to others takes effect, also within the same turn."""
    clock = Clock()
    wheel = Wheel(None, clock)
    fired: list[str] = []
    victims: list[Timer] = []

    def first() -> None:
        fired.append("first")
        for victim in victims:
            victim.cancel()
        wheel.after(0.5, lambda: fired.append("second"))

    wheel.after(1.0, first)
    victims.append(wheel.after(1.5, lambda: fired.append("victim")))
    clock.now = 1.2
    wheel.turn()
    clock.now = 2.0
    wheel.turn()
    assert fired == ["first", "second"]


def test_a_timer_that_sets_itself_again_does_not_hold_the_turn() -> None:
    """A callback that is always due runs once a turn."""
    clock = Clock(5.0)
    wheel = Wheel(None, clock)
    fired: list[float] = []

    def again() -> None:
        fired.append(clock.now)
        wheel.at(0.0, again)

    again()
    wheel.turn()
    wheel.turn()
    assert len(fired) == 3


def test_a_failing_timer_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Its error is logged; timers of the same turn and later ones still fire."""
    clock = Clock()
    wheel = Wheel(None, clock)
    fired: list[int] = []

    def failing() -> None:
        raise ValueError("a defect")

    for number in range(3):
        wheel.after(1.0, lambda number=number: fired.append(number))  # type: ignore[misc]
        wheel.after(1.0, failing)
    wheel.after(2.0, lambda: fired.append(99))
    clock.now = 1.5
    with caplog.at_level(logging.CRITICAL + 1, "pillion.wheel"):
        wheel.turn()
    clock.now = 3.0
    wheel.turn()
    assert fired == [0, 1, 2, 99]


def test_closing_drops_every_timer() -> None:
    """A callback may close the wheel; what was due later never fires."""
    clock = Clock()
    wheel = Wheel(None, clock)
    wheel.after(1.0, wheel.close)
    wheel.after(2.0, pytest.fail)
    clock.now = 1.5
    wheel.turn()
    clock.now = 3.0
    wheel.turn()


# On a loop.


@pytest.mark.anyio
async def test_the_loop_turns_the_wheel() -> None:
    """Timers fire by themselves: not early, soon after, in their order."""
    wheel = Wheel(asyncio.get_running_loop())
    fired: list[tuple[float, float]] = []
    began = time.monotonic()
    # The later one is set first, so the wheel has to be armed anew for the earlier one.
    for delay in (0.06, 0.02, 0.04):
        wheel.after(delay, lambda d=delay: fired.append((d, time.monotonic() - began)))  # type: ignore[misc]
    await eventually(lambda: len(fired) == 3)
    assert [delay for delay, _after in fired] == [0.02, 0.04, 0.06]
    assert all(after >= delay for delay, after in fired)
    wheel.close()


@pytest.mark.anyio
async def test_a_failing_timer_does_not_stop_the_wheel(caplog: pytest.LogCaptureFixture) -> None:
    """Timers set before and after the failure still fire."""
    wheel = Wheel(asyncio.get_running_loop())
    fired: list[str] = []

    def failing() -> None:
        raise ValueError("a defect")

    wheel.after(0.0, failing)
    wheel.after(0.03, lambda: fired.append("before"))
    with caplog.at_level(logging.ERROR, "pillion.wheel"):
        await eventually(lambda: caplog.records)
    wheel.after(0.0, lambda: fired.append("after"))
    await eventually(lambda: len(fired) == 2)
    wheel.close()


@pytest.mark.anyio
async def test_a_wheel_without_timers_leaves_the_loop_alone() -> None:
    """Once everything has fired, nothing is scheduled: an idle runtime sleeps."""
    wheel = Wheel(asyncio.get_running_loop())
    fired: list[bool] = []
    wheel.after(0.0, lambda: fired.append(True))
    await eventually(lambda: fired)
    assert wheel._handle is None
    wheel.close()
