"""Calls whose time is over start nothing."""

from __future__ import annotations

import math

import pytest

from pillion.body import BodyStream
from pillion.errors import TimedOut
from pillion.layers.deadline import deadline


@pytest.mark.parametrize("left", [0.0, -1.0, -1e9])
def test_a_spent_deadline_is_refused(clock, app, start, left):
    """The handler never sees the call, its body is let go, and it counts as not reached."""
    abandoned = []
    body = BodyStream(on_abandoned=lambda: abandoned.append(True))
    work = start(deadline(clock)(app), deadline=clock.now + left, body=body)
    assert isinstance(work.error, TimedOut)
    assert not work.error.reached
    assert app.calls == []
    assert abandoned == [True]


@pytest.mark.parametrize("left", [0.001, 5.0, math.inf])
def test_a_call_with_time_passes(clock, app, start, left):
    """As it came."""
    work = start(deadline(clock)(app), deadline=clock.now + left)
    app.answer()
    assert work.reply.status == 200
