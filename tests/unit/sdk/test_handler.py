"""Calling handlers."""

import types

import anyio
import pytest

from pillion_sdk.handler import noticing_wait
from pillion_sdk.response import Response

pytestmark = pytest.mark.anyio


@types.coroutine
def pause(value):
    """Wait once; return what the waiter is sent."""
    return (yield value)


async def test_a_wait_is_noticed_once_and_only_if_there_is_one():
    """The callback comes at the first wait, before it, and never again."""
    waits: list[int] = []

    async def answer(times: int) -> Response:
        for _ in range(times):
            await anyio.sleep(0)
        return Response(200 + times)

    for times, noticed in ((0, 0), (1, 1), (3, 1)):
        waits.clear()
        response = await noticing_wait(answer(times), lambda: waits.append(1))
        assert response.status == 200 + times
        assert len(waits) == noticed


def test_values_and_errors_pass_both_ways():
    """What is sent or thrown into the wait arrives in the coroutine, and its outcome comes out."""
    seen: list[object] = []

    async def answer() -> Response:
        seen.append(await pause("first"))
        try:
            await pause("second")
        except KeyError as error:
            seen.append(error)
        seen.append(await pause("third"))
        return Response(207)

    run = noticing_wait(answer(), lambda: seen.append("waiting"))
    error = KeyError("x")
    assert run.send(None) == "first"
    assert run.send(1) == "second"
    assert run.throw(error) == "third"
    with pytest.raises(StopIteration) as stop:
        run.send(2)
    assert stop.value.value.status == 207
    assert seen == ["waiting", 1, error, 2]


def test_closing_closes_the_coroutine():
    """A run given up for good runs the coroutine's finally."""
    closed: list[bool] = []

    async def answer() -> Response:
        try:
            await pause(None)
        finally:
            closed.append(True)
        return Response()

    run = noticing_wait(answer(), lambda: None)
    run.send(None)
    run.close()
    assert closed == [True]
