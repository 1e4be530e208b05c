"""The state of one mesh connection, without I/O: bytes in, events out; calls in, bytes out.

See docs/mesh-protocol.md. A session never raises for what the peer sends: it sets ``failure``,
queues a GoAway that names the reason and takes nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from pillion.errors import Invalid, TooLarge
from pillion.wire.frames import (
    MAX_CREDIT,
    REVISION,
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
    Window,
    append,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one side takes; announced in its Hello.

    Attributes:
        window: bytes of body buffered for one stream.
        max_streams: streams open at one time; the callee's word.
        max_payload: bytes of body in one frame.
        max_head: bytes of a frame beside its body.
    """

    window: int = 256 * 1024
    max_streams: int = 512
    max_payload: int = 64 * 1024
    max_head: int = 64 * 1024


class Stream:
    """One call on a connection, as the session sees it; the I/O layer adds its own part.

    Attributes:
        id: its number, 0 before it is opened.
        credit: bytes of body we may still send.
        room: bytes of body the peer may still send.
        taken: bytes consumed here and not yet granted again.
        owed: bytes the peer has announced and not sent, -1 when it did not say how many.
        sending: True while our body has no end yet.
        receiving: True while the peer's body has no end yet.
        deaf: True when we told the peer to send no more, and what still comes is dropped.
    """

    __slots__ = ("credit", "deaf", "id", "owed", "receiving", "room", "sending", "taken")

    def __init__(self) -> None:
        self.id = 0
        self.credit = 0
        self.room = 0
        self.taken = 0
        self.owed = -1
        self.sending = False
        self.receiving = False
        self.deaf = False


S = TypeVar("S", bound=Stream)
Event: TypeAlias = tuple[S | None, Frame]
"""A frame that passed every check, with its stream; None for frames about the connection."""


class Session(Generic[S]):
    """What caller and callee have in common.

    Attributes:
        peer: the other side's Hello, None before it came.
        streams: the open ones by id.
        last: the highest stream id seen on this connection.
        out: bytes to send, see :meth:`take`.
        failure: why the connection is over; empty while it is well.
        capacity: streams that may be open now; 0 before the peer's Hello and when leaving.
        leaving: True when either side has said that it goes away.
        gone: True when we have said so.
    """

    __slots__ = (
        "_half",
        "_handlers",
        "_reader",
        "capacity",
        "failure",
        "gone",
        "last",
        "leaving",
        "limits",
        "out",
        "peer",
        "streams",
    )

    def __init__(self, limits: Limits, max_streams: int) -> None:
        self.limits = limits
        self.peer: Hello | None = None
        self.streams: dict[int, S] = {}
        self.last = 0
        self.out = bytearray()
        self.failure = ""
        self.capacity = 0
        self.leaving = False
        self.gone = False
        self._half = limits.window // 2
        self._reader = FrameReader(limits.max_payload + limits.max_head)
        self._handlers: dict[type[Any], Callable[[Any], Event[S] | None]] = {
            Hello: self._hello,
            Data: self._data,
            Window: self._window,
            Reset: self._reset,
            Ping: self._ping,
            Pong: self._connection_event,
            GoAway: self._goaway,
        }
        append(
            Hello(
                REVISION,
                limits.window,
                max_streams,
                limits.max_payload,
                limits.max_head,
            ),
            self.out,
        )

    # Receiving.

    def feed(self, data: bytes) -> None:
        """Take received bytes; read events until there are none before the next ones."""
        if not self.failure:
            self._reader.feed(data)

    def next_event(self) -> Event[S] | None:
        """Return the next event; None when more bytes are needed or the session is over."""
        while not self.failure:
            try:
                frame = self._reader.next()
            except Invalid as error:
                self.fail(error.message)
                return None
            if frame is None:
                return None
            handler = self._handlers.get(type(frame))
            if handler is None:
                self.fail(f"a {type(frame).__name__} frame from the wrong side")
            elif self.peer is None and type(frame) is not Hello:
                self.fail("the first frame is not a Hello")
            else:
                event = handler(frame)
                if event is not None:
                    return event
        return None

    def take(self) -> bytearray:
        """Return the bytes to send and forget them."""
        out = self.out
        self.out = bytearray()
        return out

    def fail(self, reason: str) -> None:
        """End the session: tell the peer why and take nothing more."""
        if not self.failure:
            self.failure = reason
            self.gone = False  # a reason is worth a second GoAway
            self.go_away(reason)

    # Sending.

    def send(self, frame: Frame) -> None:
        """Queue a frame that changes no stream's state."""
        append(frame, self.out)

    def send_data(self, stream: Stream, payload: bytes, *, end: bool) -> None:
        """Queue more of our body, at most ``stream.credit`` bytes of it."""
        stream.credit -= len(payload)
        append(Data(stream.id, payload, end), self.out)
        if end:
            self._sent_all(stream)

    def consumed(self, stream: Stream, size: int) -> bool:
        """Note that the reader took ``size`` bytes; True when a grant was queued for it."""
        if not stream.receiving:
            return False
        stream.taken += size
        if stream.taken < self._half:
            return False
        credit = stream.taken
        stream.taken = 0
        stream.room += credit
        append(Window(stream.id, credit), self.out)
        return True

    def reset(self, stream: Stream, frame: Reset) -> bool:
        """Queue a Reset and forget the stream; False when it was over already."""
        if self.streams.pop(stream.id, None) is None:
            return False
        stream.sending = stream.receiving = False
        append(frame, self.out)
        return True

    def go_away(self, reason: str) -> None:
        """Say that we open and take no new streams; the open ones go on."""
        if not self.gone:
            self.gone = self.leaving = True
            self.capacity = 0
            append(GoAway(self._bound(), reason[:256]), self.out)

    def _append_head(self, stream: Stream, frame: Request | Response) -> None:
        peer = self.peer
        assert peer is not None  # noqa: S101 - no stream is opened before the peer's Hello
        start = len(self.out)
        size = append(frame, self.out)
        if size - len(frame.body) > peer.max_head:
            del self.out[start:]
            raise TooLarge(
                f"the head of the message has {size - len(frame.body)} bytes "
                f"and the other runtime takes {peer.max_head}",
                reason="headers-too-large",
                reached=False,
            )
        stream.sending = not frame.end

    def _sent_all(self, stream: Stream) -> None:
        stream.sending = False

    def _bound(self) -> int:
        """The last stream of the peer that we handle."""
        return 0

    # What the peer sent.

    def _broken(self, reason: str) -> Event[S] | None:
        self.fail(reason)
        return None

    def _connection_event(self, frame: Frame) -> Event[S] | None:
        return None, frame

    def _hello(self, frame: Hello) -> Event[S] | None:
        if self.peer is not None:
            return self._broken("a second Hello")
        self.peer = frame
        if not self.leaving:
            self.capacity = frame.max_streams
        return None, frame

    def _ping(self, frame: Ping) -> Event[S] | None:
        append(Pong(frame.number), self.out)
        return None, frame

    def _goaway(self, frame: GoAway) -> Event[S] | None:
        self.leaving = True
        self.capacity = 0
        return None, frame

    def _late(self, stream: int, name: str) -> Event[S] | None:
        # Ids only grow: one up to the last is of a stream that is over, and its frames were on
        # the way when it ended.
        if stream > self.last:
            self.fail(f"a {name} frame for stream {stream}, which was never opened")
        return None

    def _window(self, frame: Window) -> Event[S] | None:
        stream = self.streams.get(frame.stream)
        if stream is None:
            return self._late(frame.stream, "Window")
        stream.credit += frame.credit
        if stream.credit > MAX_CREDIT:
            return self._broken(f"the window of stream {frame.stream} is over its limit")
        return stream, frame

    def _reset(self, frame: Reset) -> Event[S] | None:
        stream = self.streams.pop(frame.stream, None)
        if stream is None:
            return self._late(frame.stream, "Reset")
        stream.sending = stream.receiving = False
        return stream, frame

    def _data(self, frame: Data) -> Event[S] | None:
        stream = self.streams.get(frame.stream)
        if stream is None:
            return self._late(frame.stream, "Data")
        if not stream.receiving:
            if stream.deaf:
                return None
            return self._broken(f"a Data frame outside the body of stream {frame.stream}")
        if not self._account(stream, len(frame.payload), end=frame.end):
            return None
        if frame.end:
            self._received_all(stream)
        return stream, frame

    def _begin_body(self, stream: Stream, frame: Request | Response) -> bool:
        """Check the first bytes of a body, in the frame that announces it."""
        payload = len(frame.body)
        if self._reader.size - payload > self.limits.max_head:
            self.fail(f"the head of stream {frame.stream} is over {self.limits.max_head} bytes")
            return False
        stream.owed = frame.length
        if frame.end:
            # One frame is bounded by itself and is not counted against the window.
            stream.room = payload
        stream.receiving = True
        return self._account(stream, payload, end=frame.end)

    def _account(self, stream: Stream, size: int, *, end: bool) -> bool:
        if size > self.limits.max_payload:
            self.fail(f"a frame with {size} bytes of body on stream {stream.id}")
            return False
        stream.room -= size
        if stream.room < 0:
            self.fail(f"stream {stream.id} was sent {-stream.room} bytes beyond its window")
            return False
        if stream.owed >= 0:
            stream.owed -= size
            if stream.owed < 0 or (end and stream.owed):
                self.fail(f"the body of stream {stream.id} is not as long as announced")
                return False
        return True

    def _received_all(self, stream: Stream) -> None:
        stream.receiving = False
