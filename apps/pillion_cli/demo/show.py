"""The demo itself: start, watch, kill, sum up."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pillion.errors import Failure
from pillion_cli.demo.numbers import HEADER, Numbers
from pillion_cli.demo.system import System

KILL_AFTER = 5.0
"""Seconds to the kill when the demo has no end."""


def show(seconds: float | None) -> int:
    """Run for ``seconds``, or until Ctrl-C, and return the exit status."""
    numbers = Numbers()
    _say("starting checkout, two instances of orders, and stock, each with a runtime beside it …")
    try:
        with System() as system, _until_stopped() as stopped:
            system.wait_until_up()
            before, after, elapsed = _watch(system, numbers, seconds, stopped)
            retries = system.retries()
    except Failure as failure:
        sys.stderr.write(f"pillion demo: {failure.message}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    _say("")
    for line in numbers.summary(elapsed):
        _say(line)
    if numbers.failed:
        _say("FAILED: orders failed")
        return 1
    if not before or not after:
        _say("FAILED: no orders were placed before, or after, an instance was killed")
        return 1
    _say(
        f"no order failed: {before} before the kill, {after} after it; "
        f"{retries} calls in flight were tried again on the other instance"
    )
    return 0


def _watch(
    system: System, numbers: Numbers, seconds: float | None, stopped: list[int]
) -> tuple[int, int, float]:
    """Print a line a second; return orders before the kill, orders after it, and the time."""
    began = time.monotonic()
    kill_at = began + (seconds / 2 if seconds else KILL_AFTER)
    end = began + seconds if seconds else float("inf")
    before = 0
    killed = False
    _say(HEADER)
    last = began
    while not stopped and time.monotonic() < end:
        _sleep_until(min(last + 1.0, end if killed else min(kill_at, end)), stopped)
        now = time.monotonic()
        stats = system.stats()
        numbers.add(stats)
        _say(numbers.line(stats, now - began, max(now - last, 0.001)))
        last = now
        if not killed and now >= kill_at:
            before = numbers.calls
            killed = _kill(system)
    elapsed = time.monotonic() - began
    return before, numbers.calls - before if killed else 0, elapsed


def _kill(system: System) -> bool:
    instances = system.instances("orders")
    if not instances:
        return False
    victim = instances[0]
    system.kill(victim)
    _say(
        f"       >>> SIGKILL to one instance of orders: app {victim.app_pid}, "
        f"runtime {victim.pid} <<<"
    )
    return True


@contextmanager
def _until_stopped() -> Iterator[list[int]]:
    """Give a list that a first SIGINT or SIGTERM adds to."""
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _sleep_until(when: float, stopped: list[int]) -> None:
    while not stopped and (left := when - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
