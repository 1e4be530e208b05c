"""Coroutines that are stepped inline: they resume where their wait ends, and always end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.conditions import eventually

from pillion.inline import Run, Waiter, in_task

pytestmark = pytest.mark.anyio


class Owner:
    """Collects how runs end."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[Any, BaseException | None]] = []

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Run[Any]:
        return Run(coroutine, lambda value, error: self.outcomes.append((value, error)))

    @property
    def outcome(self) -> tuple[Any, BaseException | None]:
        assert len(self.outcomes) == 1, self.outcomes
        return self.outcomes[0]


@pytest.fixture
def owner() -> Owner:
    return Owner()


async def returning(value: Any) -> Any:
    return value


# Stepping.


def test_a_coroutine_without_waits_ends_in_the_constructor(owner: Owner) -> None:
    """No loop is needed for work that is ready."""
    run = owner.run(returning(7))
    assert run.finished
    assert owner.outcome == (7, None)


def test_an_exception_goes_to_the_owner(owner: Owner) -> None:
    """Nothing escapes the constructor."""

    async def failing() -> None:
        raise ValueError("no")

    assert owner.run(failing()).finished
    value, error = owner.outcome
    assert value is None
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_wish_to_stop_the_program_is_not_caught(owner: Owner, stop: type[BaseException]) -> None:
    """Ctrl-C inside a run ends the program, not the run."""

    async def stopping() -> None:
        raise stop

    with pytest.raises(stop):
        owner.run(stopping())
    assert owner.outcomes == []


def test_setting_a_waiter_resumes_within_the_call(owner: Owner) -> None:
    """The answer is there when ``set`` returns, without a turn of the loop."""
    waiter: Waiter[int] = Waiter()
    run = owner.run(waiter_value(waiter))
    assert not run.finished
    waiter.set(3)
    assert run.finished
    assert owner.outcome == (3, None)


async def waiter_value(waiter: Waiter[Any]) -> Any:
    return await waiter


def test_a_waiter_set_before_is_not_waited_for(owner: Owner) -> None:
    """An outcome that is there is taken at once."""
    waiter: Waiter[int] = Waiter()
    waiter.set(1)
    owner.run(waiter_value(waiter))
    assert owner.outcome == (1, None)


def test_a_failed_waiter_raises_where_it_is_awaited(owner: Owner) -> None:
    """The coroutine can catch the error and go on."""
    waiter: Waiter[int] = Waiter()

    async def catching() -> str:
        try:
            await waiter
        except LookupError as error:
            return str(error)
        return "nothing"

    owner.run(catching())
    waiter.fail(LookupError("gone"))
    assert owner.outcome == ("gone", None)


@given(st.lists(st.sampled_from(["set", "fail", "cancel"]), min_size=1, max_size=5))
def test_the_first_outcome_of_a_waiter_stands(acts: list[str]) -> None:
    """Later ones change nothing and resume nobody."""
    owner = Owner()
    waiter: Waiter[int] = Waiter()
    owner.run(waiter_value(waiter))
    for number, act in enumerate(acts):
        if act == "set":
            waiter.set(number)
        elif act == "fail":
            waiter.fail(KeyError(number))
        else:
            waiter.cancel()
    value, error = owner.outcome
    assert waiter.done()
    assert waiter.given == (acts[0] == "set")
    if acts[0] == "set":
        assert (value, error) == (0, None)
    elif acts[0] == "fail":
        assert isinstance(error, KeyError)
        assert error.args == (0,)
    else:
        assert isinstance(error, asyncio.CancelledError)


def test_many_waits_in_a_row_do_not_grow_the_stack(owner: Owner) -> None:
    """Each resumption starts from its own setter."""
    waiters: list[Waiter[int]] = []

    async def summing() -> int:
        total = 0
        for _ in range(3 * sys.getrecursionlimit()):
            waiter: Waiter[int] = Waiter()
            waiters.append(waiter)
            total += await waiter
        return total

    run = owner.run(summing())
    while not run.finished:
        waiters[-1].set(1)
    assert owner.outcome == (3 * sys.getrecursionlimit(), None)


async def test_an_asyncio_future_resumes_through_the_loop(owner: Owner) -> None:
    """Futures, sleeps and tasks work as in a task."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()

    async def mixed() -> list[Any]:
        first = await future
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        return [first, await in_task(returning("from a task"))]

    run = owner.run(mixed())
    future.set_result(5)
    assert not run.finished
    await eventually(lambda: run.finished)
    assert owner.outcome == ([5, "from a task"], None)


async def test_an_asyncio_futures_error_is_raised_where_it_is_awaited(owner: Owner) -> None:
    """Its exception passes through the run to the owner."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def waiting() -> int:
        return await future

    run = owner.run(waiting())
    future.set_exception(OSError("broken"))
    await eventually(lambda: run.finished)
    assert isinstance(owner.outcome[1], OSError)


async def test_a_future_that_is_done_is_not_waited_for(owner: Owner) -> None:
    """Done futures do not cost a turn of the loop."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_result(2)

    async def waiting() -> int:
        return await future

    assert owner.run(waiting()).finished


# Cancellation, at each kind of wait.


async def at_waiter() -> None:
    await Waiter[None]()


async def at_future() -> None:
    await asyncio.get_running_loop().create_future()


async def at_sleep() -> None:
    await asyncio.sleep(60)


async def at_bare_yield() -> None:
    await asyncio.sleep(0)


async def at_task() -> None:
    await in_task(asyncio.sleep(60))


@pytest.mark.parametrize("wait", [at_waiter, at_future, at_sleep, at_bare_yield, at_task])
async def test_cancellation_ends_every_kind_of_wait(
    owner: Owner, wait: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """The coroutine sees CancelledError where it waits, cleans up, and the owner is told once."""
    cleaned = []

    async def cleaning() -> None:
        try:
            await wait()
        finally:
            cleaned.append(True)

    run = owner.run(cleaning())
    run.cancel()
    run.cancel()
    await eventually(lambda: run.finished)
    assert isinstance(owner.outcome[1], asyncio.CancelledError)
    assert cleaned == [True]


def test_cancelling_at_a_waiter_is_synchronous(owner: Owner) -> None:
    """A hang-up has undone everything when ``cancel`` returns."""
    run = owner.run(at_waiter())
    run.cancel()
    assert run.finished


def test_a_waiter_that_lost_its_run_can_still_be_set(owner: Owner) -> None:
    """The other side of the race need not know."""
    waiter: Waiter[int] = Waiter()
    owner.run(waiter_value(waiter)).cancel()
    waiter.set(1)
    assert isinstance(owner.outcome[1], asyncio.CancelledError)


async def test_a_cancellation_that_meets_a_finished_future_is_not_lost(owner: Owner) -> None:
    """The value is on its way when the cancellation comes; the coroutine still ends cancelled."""
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    went_on = []

    async def waiting() -> None:
        await future
        went_on.append(True)
        await Waiter[None]()

    run = owner.run(waiting())
    future.set_result(1)
    run.cancel()
    await eventually(lambda: run.finished)
    assert isinstance(owner.outcome[1], asyncio.CancelledError)
    assert went_on == []


async def test_a_cancellation_from_inside_a_step_is_not_lost(owner: Owner) -> None:
    """What the coroutine does may get its own run cancelled: it ends at its next wait."""
    first: Waiter[None] = Waiter()
    runs: list[Run[Any]] = []

    async def suicidal() -> None:
        await first
        runs[0].cancel()
        await Waiter[None]()

    runs.append(owner.run(suicidal()))
    first.set(None)
    await eventually(lambda: runs[0].finished)
    assert isinstance(owner.outcome[1], asyncio.CancelledError)


async def test_a_run_may_survive_its_cancellation(owner: Owner) -> None:
    """A coroutine that catches CancelledError goes on, as in a task, and can wait again."""
    second: Waiter[str] = Waiter()

    async def stubborn() -> str:
        try:
            await Waiter[None]()
        except asyncio.CancelledError:
            return await second
        return "not cancelled"

    run = owner.run(stubborn())
    run.cancel()
    assert not run.finished
    second.set("survived")
    assert owner.outcome == ("survived", None)


def test_cancelling_a_finished_run_does_nothing(owner: Owner) -> None:
    """The outcome stands."""
    run = owner.run(returning(1))
    run.cancel()
    assert owner.outcome == (1, None)


async def test_cancelling_a_run_cancels_its_task(owner: Owner) -> None:
    """What runs in a task for a run has an owner: it does not outlive it."""
    seen: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def outer() -> None:
        await in_task(inner())

    run = owner.run(outer())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    run.cancel()
    await eventually(lambda: run.finished)
    assert seen == ["cancelled"]


async def test_a_task_inside_a_run_has_timeouts(owner: Owner) -> None:
    """``in_task`` gives what needs a current task one."""

    async def patient() -> str:
        try:
            async with asyncio.timeout(0.005):
                await asyncio.sleep(60)
        except TimeoutError:
            return "in time"
        return "never"

    async def outer() -> str:
        return await in_task(patient())

    run = owner.run(outer())
    await eventually(lambda: run.finished)
    assert owner.outcome == ("in time", None)


async def test_an_error_inside_a_task_reaches_the_run(owner: Owner) -> None:
    """``in_task`` raises what its awaitable raised."""

    async def failing() -> None:
        raise LookupError("inside")

    async def outer() -> None:
        await in_task(failing())

    run = owner.run(outer())
    await eventually(lambda: run.finished)
    assert isinstance(owner.outcome[1], LookupError)


# Waiters in tasks.


async def test_a_task_may_await_a_waiter() -> None:
    """Value and error arrive as from an asyncio future."""
    good: Waiter[int] = Waiter()
    bad: Waiter[int] = Waiter()
    asyncio.get_running_loop().call_later(0.001, good.set, 4)
    asyncio.get_running_loop().call_later(0.001, bad.fail, LookupError("no"))
    assert await good == 4
    with pytest.raises(LookupError):
        await bad


async def test_a_task_that_awaits_a_waiter_can_be_cancelled() -> None:
    """A timeout around a waiter works, and the waiter counts as done."""
    waiter: Waiter[int] = Waiter()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await waiter
    assert waiter.done()
    assert not waiter.given
    waiter.set(1)
    assert not waiter.given


async def test_a_task_cancelled_after_the_value_came_is_cancelled() -> None:
    """The cancellation is not swallowed by a value that is already there."""
    waiter: Waiter[int] = Waiter()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(waiter_value(waiter))
        await asyncio.sleep(0)
        waiter.set(1)
        task.cancel()
    assert task.cancelled()
    assert waiter.given
