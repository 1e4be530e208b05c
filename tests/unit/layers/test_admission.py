"""So many calls at a time, so many wait, in order; every place that is taken is given back."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.unit.layers.conftest import App, Clock, Work

from pillion.body import BodyStream
from pillion.call import Call, Reply, Target
from pillion.errors import Overloaded, TimedOut, Unavailable
from pillion.layers import admission as admission_module
from pillion.layers.admission import QUEUE, Admission


def test_no_limit_costs_nothing(clock, app):
    """The handler itself is returned."""
    assert Admission(-1, clock.wheel)(app) is app


def test_the_queue_is_bounded(clock, app, start):
    """One call more is shed at once, its body let go, and may be tried elsewhere."""
    admission = Admission(2, clock.wheel)
    handler = admission(app)
    for _ in range(2 + QUEUE):
        start(handler)
    assert (admission.running, admission.waiting) == (2, QUEUE)
    abandoned: list[bool] = []
    shed = start(handler, body=BodyStream(on_abandoned=lambda: abandoned.append(True)))
    assert isinstance(shed.error, Overloaded)
    assert shed.error.retryable
    assert not shed.error.reached
    assert (admission.shed, abandoned) == (1, [True])
    assert (admission.running, admission.waiting) == (2, QUEUE)


def test_places_are_handed_over_in_order(clock, app, start):
    """First come, first served, and never more at a time than the limit."""
    admission = Admission(1, clock.wheel)
    handler = admission(app)
    works = [start(handler, path=b"/%d" % number) for number in range(5)]
    for number, work in enumerate(works):
        assert [call.path for call in app.calls] == [b"/%d" % one for one in range(number + 1)]
        assert admission.running == 1
        app.answer()
        assert not work.waits
    assert admission.running == 0


@pytest.mark.parametrize("error", [Unavailable("x"), ValueError("a defect")])
def test_a_failed_call_gives_its_place_back(clock, app, start, error):
    """Whatever it raised."""
    admission = Admission(1, clock.wheel)
    handler = admission(app)
    first, second = start(handler), start(handler)
    app.fail(error)
    assert first.error is error
    assert len(app.calls) == 2
    app.answer()
    assert second.reply is not None
    assert admission.running == 0


def test_a_streaming_reply_holds_its_place_until_it_is_through(clock, app, start):
    """The app works on it as long."""
    admission = Admission(1, clock.wheel)
    handler = admission(app)
    start(handler)
    stream = BodyStream()
    app.answer(Reply(200, body=stream))
    start(handler)
    stream.feed(b"some")
    assert (admission.running, admission.waiting) == (1, 1)
    stream.finish()
    assert (admission.running, admission.waiting) == (1, 0)


@pytest.mark.parametrize("end", ["fail", "close"])
def test_a_streaming_reply_that_breaks_off_gives_its_place_back(clock, app, start, end):
    """On either side of it, once."""
    admission = Admission(1, clock.wheel)
    start(admission(app))
    stream = BodyStream()
    app.answer(Reply(200, body=stream))
    for ending in (end, "close"):
        stream.fail(Unavailable("x")) if ending == "fail" else stream.close()
    assert admission.running == 0


def test_a_caller_that_hangs_up_before_the_gate_leaves_the_queue(clock, app, start):
    """It takes no place and its body is let go."""
    admission = Admission(1, clock.wheel)
    handler = admission(app)
    abandoned: list[bool] = []
    start(handler)
    gone = start(handler, body=BodyStream(on_abandoned=lambda: abandoned.append(True)))
    last = start(handler)
    gone.run.cancel()
    assert isinstance(gone.error, asyncio.CancelledError)
    assert (admission.waiting, abandoned) == (1, [True])
    app.answer()
    app.answer()
    assert last.reply is not None
    assert admission.running == 0


def test_a_caller_that_hangs_up_behind_the_gate_gives_its_place_back(clock, app, start):
    """To the one who waits."""
    admission = Admission(1, clock.wheel)
    handler = admission(app)
    gone, last = start(handler), start(handler)
    gone.run.cancel()
    assert len(app.calls) == 2
    app.waiting[-1].set(Reply(200))
    assert last.reply is not None
    assert admission.running == 0


def test_a_deadline_ends_the_wait(clock, app, start):
    """In the queue, a call is told when its time is over, and was not reached."""
    admission = Admission(1, clock.wheel)
    handler = admission(app)
    start(handler)
    late = start(handler, deadline=clock.now + 1.0)
    clock.advance(0.9)
    assert late.waits
    clock.advance(0.2)
    assert isinstance(late.error, TimedOut)
    assert not late.error.reached
    assert admission.waiting == 0
    app.answer()
    assert admission.running == 0


def test_a_long_queue_that_fails_at_once_does_not_grow_the_stack(clock, app, start):
    """An app that turns unhealthy ends every call that waits, one after the other."""
    admission = Admission(1, clock.wheel)
    handler = admission(app)
    assert sys.getrecursionlimit() < 4 * QUEUE
    works = [start(handler) for _ in range(1 + QUEUE)]
    app.script = [Unavailable("app is not in a healthy state") for _ in range(QUEUE)]
    app.fail(Unavailable("the connection broke"))
    assert all(isinstance(work.error, Unavailable) for work in works)
    assert (admission.running, admission.waiting) == (0, 0)


@pytest.mark.anyio
async def test_a_task_cancelled_with_its_place_in_hand_passes_it_on(clock, app):
    """In a task, the place and the cancellation can come in the same turn of the loop."""
    admission = Admission(1, clock.wheel)
    handler = admission(app)

    async def one() -> Reply:
        return await handler(Call("x", Target("app", "a")))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(one())
        await asyncio.sleep(0)
        second, third = tasks.create_task(one()), tasks.create_task(one())
        await asyncio.sleep(0)
        assert admission.waiting == 2
        app.answer()
        await asyncio.sleep(0)
        second.cancel()
        while not app.waiting:
            await asyncio.sleep(0)
        app.answer()
        assert (await third).status == 200
    assert second.cancelled()
    assert (admission.running, admission.waiting) == (0, 0)


class Gate(RuleBasedStateMachine):
    """Any order of arrivals, answers, failures and hang-ups keeps the books right."""

    LIMIT, WAITING = 3, 4

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.app = Clock(), App()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(admission_module, "QUEUE", self.WAITING)
        self.admission = Admission(self.LIMIT, self.clock.wheel)
        self.handler = self.admission(self.app)
        self.works: list[Work] = []
        self.streams: list[BodyStream] = []

    def teardown(self) -> None:
        self.patch.undo()

    @property
    def held(self) -> int:
        waiting = sum(not waiter.done() for waiter in self.app.waiting)
        return waiting + len(self.streams)

    @rule(seconds=st.sampled_from([1.0, 5.0, 1e9]))
    def arrive(self, seconds: float) -> None:
        call = Call("x", Target("app", "a"), deadline=self.clock.now + seconds)
        self.works.append(Work(self.handler(call)))  # type: ignore[arg-type]

    @precondition(lambda self: self.works)
    @rule(data=st.data())
    def hang_up(self, data: Any) -> None:
        data.draw(st.sampled_from(self.works)).run.cancel()
        # A call cancelled inside the app leaves a waiter there that nobody awaits.
        self.app.waiting = [waiter for waiter in self.app.waiting if waiter._resume is not None]

    @precondition(lambda self: self.app.waiting)
    @rule(how=st.sampled_from(["answer", "stream", "fail"]))
    def end(self, how: str) -> None:
        if how == "fail":
            self.app.fail(Unavailable("x"))
        elif how == "stream":
            stream = BodyStream()
            self.streams.append(stream)
            self.app.answer(Reply(200, body=stream))
        else:
            self.app.answer()

    @precondition(lambda self: self.streams)
    @rule(close=st.booleans())
    def end_stream(self, close: bool) -> None:
        stream = self.streams.pop(0)
        stream.close() if close else stream.finish()

    @rule(seconds=st.sampled_from([0.5, 2.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def books_are_right(self) -> None:
        assert self.admission.running == self.held <= self.LIMIT
        assert self.admission.waiting <= self.WAITING
        assert self.admission.waiting == 0 or self.admission.running == self.LIMIT
        assert sum(work.waits for work in self.works) == (
            len(self.app.waiting) + self.admission.waiting
        )


Gate.TestCase.settings = settings(stateful_step_count=30)
TestGate = Gate.TestCase
