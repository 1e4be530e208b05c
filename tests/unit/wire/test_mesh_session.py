"""The state of a mesh connection: streams, windows, rules and their breaches."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pillion.errors import Failure, NotFound, Overloaded, TooLarge
from pillion.wire.frames import (
    Data,
    Frame,
    FrameReader,
    GoAway,
    Hello,
    Ping,
    Pong,
    Request,
    Reset,
    Response,
    Stop,
    Window,
    append,
)
from pillion.wire.mesh_failures import cancelled, to_failure, to_reset
from pillion.wire.mesh_session import Event, Limits, Session, Stream
from pillion.wire.mesh_sides import CalleeSession, CallerSession

SMALL = Limits(window=2048, max_streams=4, max_payload=1024, max_head=1024)
HELLO = Hello(1, 2048, 4, 1024, 1024)


def request(stream: int, body: bytes = b"", *, length: int = -1, end: bool = True) -> Request:
    return Request(
        stream,
        "invocation.receive",
        "default",
        "orders",
        b"POST",
        b"/x",
        b"",
        [(b"a", b"b")],
        -1,
        0,
        length,
        body,
        end,
    )


def large_request(stream: int) -> Request:
    headers = [(b"name", b"x" * 1100)]
    return msgspec.structs.replace(request(stream), headers=headers)


def response(stream: int, body: bytes = b"", *, length: int = -1, end: bool = True) -> Response:
    return Response(stream, 200, [], length, body, end)


def wire(*frames: Frame) -> bytes:
    out = bytearray()
    for frame in frames:
        append(frame, out)
    return bytes(out)


def events(session: Session[Stream], data: bytes) -> list[Event[Stream]]:
    session.feed(data)
    found = []
    while (event := session.next_event()) is not None:
        found.append(event)
    return found


def written(session: Session[Stream]) -> list[Frame]:
    reader = FrameReader(1 << 20)
    reader.feed(bytes(session.take()))
    found = []
    while (frame := reader.next()) is not None:
        found.append(frame)
    return found


def callee(limits: Limits = SMALL) -> CalleeSession[Stream]:
    session: CalleeSession[Stream] = CalleeSession(limits, Stream)
    session.take()
    events(session, wire(HELLO))
    return session


def caller(limits: Limits = SMALL, opened: int = 0) -> CallerSession[Stream]:
    session: CallerSession[Stream] = CallerSession(limits)
    session.take()
    events(session, wire(HELLO))
    for _ in range(opened):
        stream = Stream()
        session.send_request(stream, request(session.open(stream), end=False))
    session.take()
    return session


# Rules.


def test_both_sides_greet_with_what_they_take() -> None:
    """The first bytes of a session are its Hello, with its limits; a caller takes no streams."""
    session: CallerSession[Stream] = CallerSession(SMALL)
    assert not session.open_to_calls
    assert written(session) == [Hello(1, 2048, 0, 1024, 1024)]
    assert written(CalleeSession(SMALL, Stream)) == [HELLO]
    assert events(session, wire(HELLO)) == [(None, HELLO)]
    assert session.open_to_calls


def test_one_call_and_its_reply() -> None:
    """A call opens a stream on both sides; the end of the reply closes it on both."""
    ours, theirs = caller(), callee()
    stream = Stream()
    ours.send_request(stream, request(ours.open(stream), b"ask", length=3))
    ((accepted, frame),) = events(theirs, bytes(ours.take()))
    assert accepted is not None
    assert frame == request(1, b"ask", length=3)
    theirs.respond(accepted, 200, [], 6, b"answer", end=True)
    assert not theirs.streams
    assert events(ours, bytes(theirs.take())) == [(stream, response(1, b"answer", length=6))]
    assert not ours.streams


Breach = tuple[str, list[Frame], str]

CALLEE_BREACHES: list[Breach] = [
    ("a second Hello", [HELLO], "second Hello"),
    ("an id again", [request(1), request(1)], "not above"),
    ("a smaller id", [request(5), request(4)], "not above"),
    ("too many streams", [request(n) for n in range(1, 6)], "more than 4 streams"),
    ("data before the request", [Data(1, b"x", end=False)], "never opened"),
    ("data after the end", [request(1), Data(1, b"x", end=True)], "outside the body"),
    ("a window never opened", [Window(9, 1)], "never opened"),
    ("a reset never opened", [cancelled(9)], "never opened"),
    (
        "more than the window",
        [request(1, end=False), *[Data(1, b"x" * 1024, end=False)] * 3],
        "beyond its window",
    ),
    ("more than a frame holds", [request(1, end=False), Data(1, b"x" * 1025, end=False)], "1025"),
    ("a body too large for its frame", [request(1, b"x" * 1500)], "1500 bytes of body"),
    ("a head too large", [large_request(1)], "over 1024 bytes"),
    (
        "a body longer than announced",
        [request(1, length=3, end=False), Data(1, b"four", end=False)],
        "not as long",
    ),
    (
        "a body shorter than announced",
        [request(1, length=3, end=False), Data(1, b"ab", end=True)],
        "not as long",
    ),
    ("an inline body of another length", [request(1, b"abc", length=2)], "not as long"),
    (
        "too much credit",
        [request(1), Window(1, 2**31 - 1)],
        "over its limit",
    ),
    ("a response", [request(1), response(1)], "wrong side"),
    ("a stop", [request(1), Stop(1)], "wrong side"),
]

CALLER_BREACHES: list[Breach] = [
    ("a second Hello", [HELLO], "second Hello"),
    ("a request", [request(1)], "wrong side"),
    ("a response never asked for", [response(3)], "never opened"),
    ("a stop never asked for", [Stop(3)], "never opened"),
    ("data before the response", [Data(1, b"x", end=False)], "outside the body"),
    ("two responses", [response(1, end=False), response(1)], "second Response"),
    (
        "more than the window",
        [response(1, end=False), *[Data(1, b"x" * 1024, end=False)] * 3],
        "beyond its window",
    ),
    ("a first part beyond the window", [response(1, b"x" * 1100, end=False)], "1100 bytes"),
    (
        "a body shorter than announced",
        [response(1, length=3, end=False), Data(1, b"ab", end=True)],
        "not as long",
    ),
]


@pytest.mark.parametrize(("frames", "reason"), [b[1:] for b in CALLEE_BREACHES], ids=lambda v: "")
def test_a_caller_that_breaks_the_rules_is_told_and_closed(
    frames: list[Frame], reason: str
) -> None:
    """Each breach ends the session with a GoAway that says what it was."""
    _closed_for(callee(), frames, reason)


@pytest.mark.parametrize(("frames", "reason"), [b[1:] for b in CALLER_BREACHES], ids=lambda v: "")
def test_a_callee_that_breaks_the_rules_is_told_and_closed(
    frames: list[Frame], reason: str
) -> None:
    """Each breach ends the session with a GoAway that says what it was."""
    _closed_for(caller(opened=1), frames, reason)


def _closed_for(session: Session[Stream], frames: list[Frame], reason: str) -> None:
    events(session, wire(*frames))
    assert reason in session.failure
    *_, last = written(session)
    assert isinstance(last, GoAway)
    assert reason in last.reason
    assert events(session, wire(Ping(1))) == []
    assert written(session) == []


@pytest.mark.parametrize("session", [callee, caller], ids=["callee", "caller"])
def test_the_first_frame_must_be_a_hello(session: Callable[[], Session[Stream]]) -> None:
    """Anything before the Hello ends the session."""
    fresh = type(session())(SMALL, *([Stream] if session is callee else []))
    events(fresh, wire(Ping(1)))
    assert "not a Hello" in fresh.failure


def test_frames_of_streams_that_are_over_are_ignored() -> None:
    """What was on its way when a stream ended is no breach, on either side."""
    theirs = callee()
    ((stream, _),) = events(theirs, wire(request(1, end=False)))
    assert stream is not None
    theirs.respond(stream, 200, [], 0, b"", end=True)
    late: list[Frame] = [Data(1, b"x", end=True), Window(1, 5), cancelled(1)]
    assert events(theirs, wire(*late)) == []
    assert not theirs.failure

    ours = caller(opened=1)
    assert ours.reset(ours.streams[1], cancelled(1))
    late = [response(1, end=False), Data(1, b"x", end=True), Window(1, 5), Stop(1), cancelled(1)]
    assert events(ours, wire(*late)) == []
    assert not ours.failure


def test_a_reset_ends_both_directions() -> None:
    """After a Reset the stream is forgotten and nothing more is sent for it."""
    theirs = callee()
    ((stream, _),) = events(theirs, wire(request(1, end=False)))
    assert stream is not None
    ((same, frame),) = events(theirs, wire(cancelled(1)))
    assert same is stream
    assert isinstance(frame, Reset)
    assert not stream.sending
    assert not stream.receiving
    assert not theirs.reset(stream, cancelled(1))


def test_stop_lets_the_reply_go_on() -> None:
    """A callee that reads no more of the request still answers; late data is dropped."""
    theirs, ours = callee(), caller(opened=1)
    ((stream, _),) = events(theirs, wire(request(1, end=False)))
    assert stream is not None
    theirs.stop(stream)
    ((mine, frame),) = events(ours, bytes(theirs.take()))
    assert frame == Stop(1)
    assert mine is not None
    assert not mine.sending
    assert events(theirs, wire(*[Data(1, b"x" * 1024, end=False)] * 5)) == []
    theirs.respond(stream, 200, [], -1, b"", end=True)
    assert events(ours, bytes(theirs.take()))[0][1] == response(1)
    assert not theirs.failure
    assert not ours.failure


def test_a_ping_is_answered_with_its_number() -> None:
    """Each Ping is followed by a Pong."""
    session = callee()
    events(session, wire(Ping(7)))
    assert written(session) == [Pong(7)]


def test_goaway_of_the_callee_refuses_what_it_has_not_seen() -> None:
    """Streams above the last one are given back to the caller as never handled."""
    ours, theirs = caller(opened=2), callee()
    events(theirs, wire(request(1)))
    theirs.go_away("drain")
    assert events(theirs, wire(request(2))) == []
    assert list(theirs.streams) == [1]
    ((_, frame),) = events(ours, bytes(theirs.take()))
    assert frame == GoAway(1, "drain")
    assert not ours.open_to_calls
    assert [stream.id for stream in ours.refused(1)] == [2]
    assert list(ours.streams) == [1]
    assert not ours.failure


def test_goaway_is_said_once() -> None:
    """A second reason changes nothing, but a breach after it is still told."""
    session = callee()
    session.go_away("drain")
    session.go_away("again")
    session.fail("breach")
    assert written(session) == [GoAway(0, "drain"), GoAway(0, "breach")]


def test_streams_are_bounded_by_the_callees_word() -> None:
    """A caller opens no more streams than the Hello of the callee allows."""
    session = caller(opened=4)
    assert not session.open_to_calls
    events(session, wire(response(2)))
    assert session.open_to_calls


def test_a_head_too_large_for_the_peer_is_not_sent() -> None:
    """The call fails with TooLarge, was not reached, and leaves nothing behind."""
    session = caller()
    stream = Stream()
    number = session.open(stream)
    with pytest.raises(TooLarge) as caught:
        session.send_request(stream, large_request(number))
    assert not caught.value.reached
    assert not session.streams
    assert written(session) == []


def test_credit_is_given_back_in_batches() -> None:
    """A grant is sent when half a window was consumed, for all of it."""
    theirs = callee()
    ((stream, _),) = events(theirs, wire(request(1, end=False)))
    assert stream is not None
    events(theirs, wire(*[Data(1, b"x" * 1000, end=False)] * 2))
    assert not theirs.consumed(stream, 1000)
    assert theirs.consumed(stream, 1000)
    assert written(theirs) == [Window(1, 2000)]
    events(theirs, wire(Data(1, b"", end=True)))
    assert not theirs.consumed(stream, 2000)


# Failures on the way.


@given(
    st.sampled_from([Failure, NotFound, Overloaded, TooLarge]),
    st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True),
    st.booleans(),
    st.none() | st.floats(0, 1e6),
)
def test_failures_survive_the_way(
    kind: type[Failure], reason: str, reached: bool, retry_after: float | None
) -> None:
    """Class, code, reason, message, reached and retry_after come out as they went in."""
    sent = kind("text", code="ERR_X", reason=reason, reached=reached, retry_after=retry_after)
    got = to_failure(to_reset(1, sent))
    assert type(got) is kind
    assert (got.message, got.code, got.reason) == ("text", "ERR_X", reason)
    assert (got.reached, got.retry_after) == (reached, retry_after)


def test_a_subclass_travels_as_the_class_it_extends() -> None:
    """A component's own failure class is known by its nearest name on the other side."""

    class Special(NotFound):
        pass

    assert type(to_failure(to_reset(1, Special("gone")))) is NotFound


def test_words_of_a_stranger_are_made_safe() -> None:
    """Unknown kinds and words that break the rules become the defaults; controls go."""
    got = to_failure(
        Reset(1, "Weird", "a\r\nb: c", "line\r\nline" + "x" * 5000, "no spaces", True, 2.0)
    )
    assert type(got) is Failure
    assert got.reason == "error"
    assert got.code == "ERROR"
    assert got.message.startswith("line  line")
    assert len(got.message) == 1024


def test_a_cancellation_is_nobodys_failure() -> None:
    """A cancelled call comes out as Unavailable with a reason of its own."""
    got = to_failure(cancelled(1))
    assert got.reason == "cancelled"


# Any bytes, any order.


@given(st.binary(max_size=400), st.booleans())
def test_garbage_never_raises(data: bytes, after_hello: bool) -> None:
    """Random bytes give no exception: the session goes on or ends with a reason and a GoAway."""
    session: CalleeSession[Stream] = CalleeSession(SMALL, Stream)
    session.take()
    if after_hello:
        events(session, wire(HELLO))
    events(session, data)
    if session.failure:
        assert isinstance(written(session)[-1], GoAway)


some_frames = st.lists(
    st.one_of(
        st.builds(request, st.integers(1, 6), st.binary(max_size=40), end=st.booleans()),
        st.builds(Data, st.integers(1, 6), st.binary(max_size=1100), st.booleans()),
        st.builds(Window, st.integers(1, 6), st.integers(1, 2**31 - 1)),
        st.builds(cancelled, st.integers(1, 6)),
        st.builds(Ping, st.integers(0, 5)),
        st.builds(GoAway, st.integers(0, 6), st.just("x")),
        st.builds(response, st.integers(1, 6), st.binary(max_size=40), end=st.booleans()),
        st.builds(Stop, st.integers(1, 6)),
    ),
    max_size=20,
)


@given(some_frames, st.lists(st.integers(0, 5000), max_size=10), st.booleans())
def test_any_split_gives_the_same_events(
    frames: list[Frame], cuts: list[int], called: bool
) -> None:
    """However valid and invalid frames are cut into pieces, events and outcome are the same."""
    data = wire(*frames)
    whole = caller(opened=3) if called else callee()
    split = caller(opened=3) if called else callee()
    expected = [frame for _, frame in events(whole, data)]
    marks = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    found: list[Frame] = []
    for start, stop in itertools.pairwise(marks):
        found += [frame for _, frame in events(split, data[start:stop])]
    assert found == expected
    assert split.failure == whole.failure
    assert split.take() == whole.take()
    assert set(split.streams) == set(whole.streams)


@given(some_frames, st.data(), st.booleans())
def test_mutated_bytes_never_raise(frames: list[Frame], data: st.DataObject, called: bool) -> None:
    """Valid traffic with changed bytes gives no exception, and no stream beyond its window."""
    bytes_ = bytearray(wire(*frames))
    for _ in range(data.draw(st.integers(0, 4)) if bytes_ else 0):
        bytes_[data.draw(st.integers(0, len(bytes_) - 1))] = data.draw(st.integers(0, 255))
    session = caller(opened=3) if called else callee()
    events(session, bytes(bytes_))
    if not session.failure:
        assert all(stream.room >= 0 for stream in session.streams.values())
        assert len(session.streams) <= SMALL.max_streams


class Link:
    """Two sessions with the bytes between them, and the bodies that should arrive."""

    def __init__(self, bodies: list[tuple[bytes, bytes]]) -> None:
        self.ours: CallerSession[Stream] = CallerSession(SMALL)
        self.theirs: CalleeSession[Stream] = CalleeSession(SMALL, Stream)
        self.forth = bytearray()
        self.back = bytearray()
        self.bodies = bodies
        self.mine: dict[int, Stream] = {}
        self.sent: dict[tuple[Stream, int], int] = {}
        self.got_request = {n: bytearray() for n in range(1, len(bodies) + 1)}
        self.got_reply = {n: bytearray() for n in range(1, len(bodies) + 1)}
        self.unread: dict[Stream, int] = {}
        self.finished: set[int] = set()
        self.settle(1 << 20)

    def collect(self) -> None:
        self.forth += self.ours.take()
        self.back += self.theirs.take()

    def settle(self, size: int) -> None:
        """Let up to ``size`` bytes arrive each way."""
        self.collect()
        for session, pipe in ((self.theirs, self.forth), (self.ours, self.back)):
            data = bytes(pipe[:size])
            del pipe[:size]
            for stream, frame in events(session, data):
                self.arrived(session, stream, frame)
            assert not session.failure
        self.collect()

    def arrived(self, session: Session[Stream], stream: Stream | None, frame: Frame) -> None:
        if stream is None or not isinstance(frame, (Request, Response, Data)):
            return
        payload = frame.payload if isinstance(frame, Data) else frame.body
        got = self.got_request if session is self.theirs else self.got_reply
        got[stream.id] += payload
        self.unread[stream] = self.unread.get(stream, 0) + len(payload)
        assert self.unread[stream] <= SMALL.window
        if isinstance(frame, Request):
            self.theirs.respond(stream, 200, [], -1, b"", end=False)
        if frame.end and session is self.ours:
            self.finished.add(stream.id)

    def open(self) -> None:
        if len(self.mine) < len(self.bodies) and self.ours.open_to_calls:
            stream = Stream()
            number = self.ours.open(stream)
            self.ours.send_request(stream, request(number, end=False))
            self.mine[number] = stream

    def send(self, session: Session[Stream], pick: int, size: int) -> None:
        streams = [stream for stream in session.streams.values() if stream.sending]
        if not streams:
            return
        stream = streams[pick % len(streams)]
        body = self.bodies[stream.id - 1][0 if session is self.ours else 1]
        at = self.sent.get((stream, 0), 0)
        step = max(0, min(size, stream.credit, len(body) - at, SMALL.max_payload))
        last = at + step == len(body)
        if session is self.theirs and last and stream.receiving:
            return  # the end of the reply would end the request too
        self.sent[stream, 0] = at + step
        session.send_data(stream, body[at : at + step], end=last)  # type: ignore[arg-type]

    def read(self, session: Session[Stream], pick: int, size: int) -> None:
        streams = [s for s in session.streams.values() if self.unread.get(s)]
        if streams:
            stream = streams[pick % len(streams)]
            taken = min(size, self.unread[stream])
            self.unread[stream] -= taken
            session.consumed(stream, taken)

    def step(self, action: int, pick: int, size: int) -> None:
        match action:
            case 0:
                self.open()
            case 1:
                self.send(self.ours, pick, size)
            case 2:
                self.send(self.theirs, pick, size)
            case 3:
                self.read(self.ours, pick, size)
            case 4:
                self.read(self.theirs, pick, size)
            case _:
                self.settle(size)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 9000)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3000)), max_size=120),
)
def test_random_interleavings_deliver_everything_within_the_windows(
    sizes: list[tuple[int, int]], steps: list[tuple[int, int, int]]
) -> None:
    """In any order of sending, arriving and reading, bodies arrive whole and windows hold."""
    bodies = [(_pattern(n, up), _pattern(n + 100, down)) for n, (up, down) in enumerate(sizes)]
    link = Link(bodies)
    for action, pick, size in steps:
        link.step(action, pick, size)
    for turn in range(10_000):
        if len(link.finished) == len(bodies):
            break
        for action in range(6):
            link.step(action, turn, 3000)
    for number, (up, down) in enumerate(bodies, 1):
        assert bytes(link.got_request[number]) == up
        assert bytes(link.got_reply[number]) == down
    assert not link.ours.streams
    assert not link.theirs.streams


def _pattern(seed: int, size: int) -> bytes:
    return bytes((seed * 31 + n * 7) % 256 for n in range(size))
