"""The bodies of one stream: what is sent waits for credit and its turn, what comes is granted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pillion.body import Body, BodyStream
from pillion.errors import Failure, Unavailable
from pillion.inline import Run, Waiter
from pillion.wire.frames import Data
from pillion.wire.mesh_session import Stream


class Carrier(Protocol):
    """What a stream asks of the connection it is on."""

    chunk: int

    @property
    def congested(self) -> bool:
        """True when a sender must wait for its :meth:`turn`."""

    async def turn(self) -> None:
        """Wait, first come first served, until one frame may be written."""

    def send_data(self, stream: MeshStream, payload: bytes, *, end: bool) -> None:
        """Write a Data frame."""

    def consumed(self, stream: MeshStream, size: int) -> None:
        """Grant what the reader has taken."""


class MeshStream(Stream):
    """One call, with the machinery for bodies that do not fit one frame.

    Attributes:
        carrier: its connection.
        incoming: the peer's body while it comes as a stream.
        outgoing: our body while it is sent as a stream.
        sender: what sends it.
    """

    __slots__ = ("_credit", "carrier", "incoming", "outgoing", "sender")

    def __init__(self, carrier: Carrier) -> None:
        super().__init__()
        self.carrier = carrier
        self.incoming: BodyStream | None = None
        self.outgoing: BodyStream | None = None
        self.sender: Run[None] | None = None
        self._credit: Waiter[None] | None = None

    # What comes.

    def expect(self, length: int, first: bytes, abandoned: Callable[[], None]) -> BodyStream:
        """Return the body that the following Data frames fill."""
        body = BodyStream(None if length < 0 else length, self._consumed, abandoned)
        self.incoming = body
        body.feed(first)
        return body

    def take(self, frame: Data) -> None:
        """Hand a Data frame to the reader."""
        body = self.incoming
        if body is not None:
            body.feed(frame.payload)
            if frame.end:
                self.incoming = None
                body.finish()

    def break_off(self, failure: Failure) -> None:
        """Let the reader of what comes see ``failure``."""
        incoming, self.incoming = self.incoming, None
        if incoming is not None:
            incoming.fail(failure)

    def _consumed(self, size: int) -> None:
        self.carrier.consumed(self, size)

    # What is sent.

    def start_sending(
        self, body: Body, done: Callable[[object, BaseException | None], None]
    ) -> None:
        """Send ``body`` as Data frames; ``done`` is told how it ended, unless it is stopped."""
        if isinstance(body, BodyStream):
            self.outgoing = body
        run = Run(self._send(body), done)
        if not run.finished:
            self.sender = run

    def stop_sending(self) -> BodyStream | None:
        """Send no more; return the body that was being sent, for its owner to let go of."""
        self.sending = False
        run, self.sender = self.sender, None
        body, self.outgoing = self.outgoing, None
        if run is not None:
            run.cancel()
        return body

    def granted(self) -> None:
        """Go on sending: the peer has granted credit."""
        waiter = self._credit
        if waiter is not None:
            self._credit = None
            waiter.set(None)

    async def _send(self, body: Body) -> None:
        if isinstance(body, bytes):
            await self._send_part(body, end=True)
            return
        owed = body.length
        while self.sending:
            part = await body.read()
            end = not part or body.at_end
            if owed is not None:
                owed -= len(part)
                if owed < 0 or (end and owed):
                    raise Unavailable(
                        "the body is not as long as its announced length", reason="body-length"
                    )
            await self._send_part(part, end=end)
            if end:
                return

    async def _send_part(self, part: bytes, *, end: bool) -> None:
        carrier = self.carrier
        size = len(part)
        at = 0
        ours = False
        while self.sending:
            if not ours and carrier.congested:
                await carrier.turn()
                ours = True
                continue
            ours = False
            if self.credit <= 0 and size:
                self._credit = Waiter()
                await self._credit
                continue
            step = min(carrier.chunk, self.credit, size - at)
            last = at + step == size
            carrier.send_data(
                self, part if step == size else part[at : at + step], end=end and last
            )
            at += step
            if last:
                return
