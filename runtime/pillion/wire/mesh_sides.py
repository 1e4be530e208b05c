"""The two sides of a mesh connection: the one that calls and the one that answers."""

from __future__ import annotations

from collections.abc import Callable

from pillion.call import Headers
from pillion.errors import Failure
from pillion.wire.frames import MAX_STREAM, Request, Response, Stop, append
from pillion.wire.mesh_session import Event, Limits, S, Session, Stream


class CallerSession(Session[S]):
    """The side that opened the connection, and opens the streams."""

    __slots__ = ()

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits, 0)
        self._handlers[Response] = self._response
        self._handlers[Stop] = self._stop

    @property
    def open_to_calls(self) -> bool:
        """True when a stream may be opened now."""
        return len(self.streams) < self.capacity

    def open(self, stream: S) -> int:
        """Give ``stream`` its id and windows; its Request follows at once."""
        peer = self.peer
        assert peer is not None  # noqa: S101 - `open_to_calls` is asked first
        self.last += 1
        stream.id = self.last
        stream.credit = peer.window
        stream.room = self.limits.window
        self.streams[stream.id] = stream
        if stream.id == MAX_STREAM:
            self.capacity = 0
        return stream.id

    def send_request(self, stream: S, frame: Request) -> None:
        """Queue the head of a call.

        Raises:
            TooLarge: the peer does not take a head of that size; the stream is over.
            Invalid: the head has no encoding; the stream is over.
        """
        try:
            self._append_head(stream, frame)
        except Failure:
            self.streams.pop(stream.id, None)
            raise

    def refused(self, last: int) -> list[S]:
        """Forget the streams above ``last``, which a GoAway refused, and return them."""
        return [self.streams.pop(number) for number in list(self.streams) if number > last]

    def _response(self, frame: Response) -> Event[S] | None:
        stream = self.streams.get(frame.stream)
        if stream is None:
            return self._late(frame.stream, "Response")
        if stream.receiving:
            return self._broken(f"a second Response on stream {frame.stream}")
        if not self._begin_body(stream, frame):
            return None
        if frame.end:
            self._received_all(stream)
        return stream, frame

    def _stop(self, frame: Stop) -> Event[S] | None:
        stream = self.streams.get(frame.stream)
        if stream is None:
            return self._late(frame.stream, "Stop")
        stream.sending = False
        return stream, frame

    def _received_all(self, stream: Stream) -> None:
        # The end of the reply is the end of the stream, whatever is left of our body.
        stream.sending = stream.receiving = False
        del self.streams[stream.id]


class CalleeSession(Session[S]):
    """The side that accepted the connection, and answers."""

    __slots__ = ("_accept", "_taken")

    def __init__(self, limits: Limits, accept: Callable[[], S]) -> None:
        super().__init__(limits, limits.max_streams)
        self._accept = accept
        self._taken = 0
        self._handlers[Request] = self._request

    def respond(
        self, stream: Stream, status: int, headers: Headers, length: int, body: bytes, *, end: bool
    ) -> None:
        """Queue the head of a reply.

        Raises:
            TooLarge: the peer does not take a head of that size; nothing was queued.
            Invalid: the head has no encoding; nothing was queued.
        """
        self._append_head(stream, Response(stream.id, status, headers, length, body, end))
        if end:
            self._sent_all(stream)

    def stop(self, stream: Stream) -> None:
        """Tell the caller to send no more of its body."""
        if stream.receiving:
            stream.receiving = False
            stream.deaf = True
            append(Stop(stream.id), self.out)

    def _bound(self) -> int:
        return self._taken

    def _sent_all(self, stream: Stream) -> None:
        stream.sending = stream.receiving = False
        del self.streams[stream.id]

    def _request(self, frame: Request) -> Event[S] | None:
        number = frame.stream
        if number <= self.last:
            return self._broken(f"stream {number} is not above the last one, {self.last}")
        self.last = number
        if self.gone:
            return None  # the caller learns from our GoAway that nobody handled it
        if len(self.streams) >= self.limits.max_streams:
            return self._broken(f"more than {self.limits.max_streams} streams at one time")
        stream = self._accept()
        stream.id = number
        stream.sending = True
        stream.room = self.limits.window
        stream.credit = self.peer.window if self.peer is not None else 0
        if not self._begin_body(stream, frame):
            return None
        stream.receiving = not frame.end
        self._taken = number
        self.streams[number] = stream
        return stream, frame
