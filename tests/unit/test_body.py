"""A body reaches its reader whole and in order, or fails; its producer learns what was taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pillion.body import BodyStream, discard, read_all
from pillion.errors import TooLarge, Unavailable
from pillion.inline import Run

pytestmark = pytest.mark.anyio


class Reader:
    """Reads a stream in a run, as far as it gets."""

    def __init__(self, stream: BodyStream) -> None:
        self.chunks: list[bytes] = []
        self.error: BaseException | None = None
        self.ended = False
        self.run = Run(self._read(stream), self._done)

    async def _read(self, stream: BodyStream) -> None:
        async for chunk in stream:
            self.chunks.append(chunk)

    def _done(self, _value: None, error: BaseException | None) -> None:
        self.ended = True
        self.error = error


def test_what_is_fed_is_read_in_order() -> None:
    """A reader that waits is resumed by each feed, and ends with the stream."""
    stream = BodyStream()
    reader = Reader(stream)
    for chunk in (b"a", b"bc", b"d"):
        stream.feed(chunk)
    assert reader.chunks == [b"a", b"bc", b"d"]
    stream.finish()
    assert reader.ended
    assert reader.error is None


def test_a_failure_comes_after_what_is_buffered() -> None:
    """The reader gets all that arrived before the break."""
    stream = BodyStream()
    stream.feed(b"all")
    stream.feed(b"that came")
    stream.fail(Unavailable("broken"))
    reader = Reader(stream)
    assert reader.chunks == [b"all", b"that came"]
    assert isinstance(reader.error, Unavailable)


def test_a_failure_stays() -> None:
    """Whoever asks again is told again: a broken body never looks complete."""
    stream = BodyStream()
    stream.fail(Unavailable("broken"))
    assert not stream.at_end
    for _ in range(2):
        assert isinstance(Reader(stream).error, Unavailable)


def test_the_end_stands() -> None:
    """After the end nothing can be added, and no failure can be raised."""
    stream = BodyStream()
    stream.finish()
    stream.feed(b"late")
    stream.fail(Unavailable("late"))
    reader = Reader(stream)
    assert (reader.chunks, reader.error, stream.buffered) == ([], None, 0)


def test_an_abandoned_stream_tells_its_producer_once() -> None:
    """Closing twice tells once, and what comes later is dropped."""
    told: list[bool] = []
    stream = BodyStream(on_abandoned=lambda: told.append(True))
    stream.feed(b"unread")
    stream.close()
    stream.close()
    stream.feed(b"late")
    stream.finish()
    assert told == [True]
    assert stream.buffered == 0


@pytest.mark.parametrize("end", [BodyStream.finish, lambda s: s.fail(Unavailable("x"))])
def test_closing_at_the_end_abandons_nothing(end: Callable[[BodyStream], None]) -> None:
    """A producer that has ended is not told to stop."""
    told: list[bool] = []
    stream = BodyStream(on_abandoned=lambda: told.append(True))
    end(stream)
    stream.close()
    assert told == []


def test_closing_ends_a_read_under_way() -> None:
    """A reader that waits is not left waiting."""
    stream = BodyStream()
    reader = Reader(stream)
    stream.close()
    assert reader.ended


@pytest.mark.parametrize("ending", ["finish", "fail", "close"])
@pytest.mark.parametrize("early", [True, False])
def test_everyone_is_told_once_that_it_is_done(ending: str, early: bool) -> None:
    """Whether they ask before or after, and whatever happens to the stream later."""
    stream = BodyStream()
    told: list[int] = []
    if early:
        stream.when_done(lambda: told.append(1))
        stream.when_done(lambda: told.append(2))
        assert told == []
    ends: dict[str, Callable[[], None]] = {
        "finish": stream.finish,
        "fail": lambda: stream.fail(Unavailable("x")),
        "close": stream.close,
    }
    ends[ending]()
    if not early:
        stream.when_done(lambda: told.append(1))
        stream.when_done(lambda: told.append(2))
    for end in ends.values():
        end()
    assert told == [1, 2]


def test_a_read_under_way_can_be_given_up() -> None:
    """The next reader gets what the first one did not."""
    stream = BodyStream()
    first = Reader(stream)
    first.run.cancel()
    stream.feed(b"kept")
    stream.finish()
    second = Reader(stream)
    assert (first.chunks, second.chunks) == ([], [b"kept"])


def test_only_a_stream_that_was_asked_is_started() -> None:
    """What nobody has read can still be sent elsewhere."""
    stream = BodyStream()
    stream.feed(b"x")
    assert not stream.started
    Reader(stream)
    assert stream.started


@given(st.lists(st.binary(max_size=20)), st.integers(0, 100))
async def test_read_all_keeps_to_its_limit(chunks: list[bytes], limit: int) -> None:
    """A body at the limit is returned whole, one byte more is refused and abandoned."""
    whole = b"".join(chunks)
    told: list[bool] = []
    stream = BodyStream(on_abandoned=lambda: told.append(True))
    bodies: list[Any] = [whole, stream]

    def produce() -> None:
        for chunk in chunks:
            stream.feed(chunk)
        stream.finish()

    asyncio.get_running_loop().call_soon(produce)
    for body in bodies:
        if len(whole) <= limit:
            assert await read_all(body, limit) == whole
        else:
            with pytest.raises(TooLarge):
                await read_all(body, limit)


async def test_read_all_closes_what_it_gives_up() -> None:
    """A cancelled reader leaves no producer that waits for it."""
    told: list[bool] = []
    stream = BodyStream(on_abandoned=lambda: told.append(True))
    stream.feed(b"x")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await read_all(stream, 10)
    assert told == [True]


def test_discard_takes_any_body() -> None:
    """Bytes need nothing, a stream is closed."""
    told: list[bool] = []
    discard(b"bytes")
    discard(BodyStream(on_abandoned=lambda: told.append(True)))
    assert told == [True]


class Transfer(RuleBasedStateMachine):
    """Any interleaving of producer and reader keeps the books right."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = BodyStream(on_consumed=self._consumed, on_abandoned=self._abandoned)
        self.fed = b""
        self.read = b""
        self.consumed = 0
        self.abandoned = 0
        self.ended = False
        self.failed = False
        self.closed = False

    def _consumed(self, size: int) -> None:
        self.consumed += size

    def _abandoned(self) -> None:
        self.abandoned += 1

    @rule(chunk=st.binary(max_size=8))
    def feed(self, chunk: bytes) -> None:
        if not (self.ended or self.closed):
            self.fed += chunk
        self.stream.feed(chunk)

    @rule()
    def finish(self) -> None:
        self.ended = True
        self.stream.finish()

    @rule()
    def fail(self) -> None:
        self.failed |= not self.ended
        self.ended = True
        self.stream.fail(Unavailable("x"))

    @rule()
    def close(self) -> None:
        self.closed = True
        self.stream.close()

    @precondition(lambda self: self.stream.buffered or self.ended or self.closed)
    @rule()
    def take(self) -> None:
        outcome: list[tuple[Any, BaseException | None]] = []
        Run(self.stream.read(), lambda value, error: outcome.append((value, error)))
        ((value, error),) = outcome
        if error is None:
            self.read += value
            assert value or self.closed or (self.ended and self.read == self.fed)
        else:
            assert self.failed

    @invariant()
    def books_are_right(self) -> None:
        assert self.consumed == len(self.read)
        assert self.fed.startswith(self.read)
        assert self.abandoned <= 1
        if self.closed:
            assert self.stream.buffered == 0
        else:
            assert self.abandoned == 0
            assert self.stream.buffered == len(self.fed) - len(self.read)
        assert self.stream.at_end == (
            self.ended and not self.failed and (self.closed or self.read == self.fed)
        )


TestTransfer = Transfer.TestCase
