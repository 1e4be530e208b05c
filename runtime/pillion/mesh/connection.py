"""One TLS connection between two runtimes: bytes to the session and back, in as few writes as
possible, with turns for senders and pings for silence.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

from pillion.call import Identity
from pillion.errors import Failure, NotAllowed, Unavailable
from pillion.mesh.settings import Settings
from pillion.mesh.stream import MeshStream
from pillion.mesh.turns import Turns
from pillion.wheel import Timer, Wheel
from pillion.wire.frames import PROTOCOL, Data, Frame, GoAway, Hello, Ping, Pong, Reset, Window
from pillion.wire.mesh_session import Session

log = logging.getLogger("pillion.mesh")

Identify: TypeAlias = Callable[[ssl.SSLObject], Identity]
"""Reads whose certificate the peer showed; raises NotAllowed when it is nobody we know."""

M = TypeVar("M", bound=MeshStream)

BATCH = 64 * 1024
"""Bytes of frames joined into one write; more go out at once."""


class Connection(asyncio.Protocol, Generic[M]):
    """What both sides have in common.

    Attributes:
        session: the protocol's state.
        identity: whose certificate the peer showed.
        address: where the peer is, for people.
        ready: True once the peer's Hello is here.
        closed: True once the transport is gone.
        cause: why the connection ends, for people; empty while it is well.
        orderly: True when either side has said that the connection ends.
        on_wire: the highest stream whose Request may have left this process.
        gone: done when the transport is gone.
        chunk: bytes of body in one Data frame.
        inline: bytes of body that travel in the frame of their head.
    """

    __slots__ = (
        "_asked",
        "_delay",
        "_dispatch",
        "_heard",
        "_identify",
        "_loop",
        "_receiving",
        "_scheduled",
        "_timer",
        "_transport",
        "_turns",
        "address",
        "cause",
        "chunk",
        "closed",
        "gone",
        "identity",
        "inline",
        "on_wire",
        "orderly",
        "ready",
        "session",
        "settings",
        "wheel",
    )

    def __init__(
        self, session: Session[M], identify: Identify, wheel: Wheel, settings: Settings
    ) -> None:
        self.session = session
        self.settings = settings
        self.wheel = wheel
        self.identity: Identity | None = None
        self.address = ""
        self.ready = False
        self.closed = False
        self.cause = ""
        self.orderly = False
        self.on_wire = 0
        self.chunk = settings.chunk
        self.inline = settings.inline
        self._identify = identify
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._turns = Turns(wheel)
        self._scheduled = False
        self._receiving = False
        self._heard = True
        self._asked = False
        self._delay = settings.ping_interval
        self._timer: Timer | None = None
        self._dispatch: dict[type[Any], Callable[[Any, Any], None]] = {
            Data: self._on_data,
            Window: self._on_window,
            Reset: self._on_reset,
            Hello: self._on_hello,
            GoAway: self._on_goaway,
            Ping: self._on_answer,
            Pong: self._on_answer,
        }

    # For the side that builds on this.

    def _admit(self, identity: Identity) -> None:
        """Check whose certificate it is; raise NotAllowed when it is not welcome."""

    def _refused(self, failure: Failure) -> None:
        """Note that the peer was turned away."""

    def _opened(self) -> None:
        """Note that the connection is ready."""

    def _broke_rules(self, reason: str) -> None:
        """Note that the peer broke the protocol."""

    def _lost(self) -> None:
        """End every stream: the transport is gone."""

    def _quiet(self, seconds: float) -> None:
        """Note that ``seconds`` more have passed."""

    def _on_reset(self, stream: M, frame: Reset) -> None:
        raise NotImplementedError

    def _on_goaway(self, _: None, frame: GoAway) -> None:
        """Note that the peer takes no more streams."""

    # asyncio.Protocol.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check who the peer is and greet it."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self.settings.write_high)
        self.address = _address(transport)
        try:
            self._check_peer(transport.get_extra_info("ssl_object"))
        except Failure as failure:
            self.cause = failure.message
            self._refused(failure)
            self._transport.abort()
            return
        self._timer = self.wheel.after(self.settings.handshake_timeout, self._no_hello)
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Take bytes from the peer and act on the frames that are complete."""
        self._heard = True
        session = self.session
        session.feed(data)
        dispatch = self._dispatch
        self._receiving = True
        try:
            while (event := session.next_event()) is not None:
                stream, frame = event
                dispatch[type(frame)](stream, frame)
        finally:
            self._receiving = False
        if session.failure and not self.cause:
            self._broke_rules(session.failure)
            self.close(session.failure)
        elif session.out:
            self.flush()

    def pause_writing(self) -> None:
        """Let senders wait: the transport holds enough."""
        self._turns.paused = True

    def resume_writing(self) -> None:
        """Let senders go on, one frame each in turn."""
        self._turns.resume()

    def connection_lost(self, error: Exception | None) -> None:
        """End what is left."""
        self.closed = True
        if not self.cause:
            self.cause = str(error) if error is not None else "closed by the peer"
        self.session.fail(self.cause)
        self.session.take()
        if self._timer is not None:
            self._timer.cancel()
        self._lost()
        self._turns.fail(lambda: self.broken(reached=False))
        self._dispatch.clear()
        if not self.gone.done():
            self.gone.set_result(None)

    @property
    def connected(self) -> bool:
        """True once there was a transport, which :attr:`gone` tells the end of."""
        return self._transport is not None

    # Writing.

    @property
    def congested(self) -> bool:
        """True when a sender must wait for its :meth:`turn`."""
        return self._turns.taken

    async def turn(self, deadline: float = math.inf) -> None:
        """Wait, first come first served, until one frame may be written.

        Raises:
            Unavailable: the connection is gone.
            TimedOut: the deadline has passed.
        """
        if self.closed:
            raise self.broken(reached=False)
        await self._turns.wait(deadline)

    def wrote(self) -> None:
        """See to it that what the session queued is written, joined with what follows."""
        if len(self.session.out) >= BATCH:
            self.flush()
        elif not self._scheduled and not self._receiving:
            self._scheduled = True
            self._loop.call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        self._scheduled = False
        if self.session.out:
            self.flush()

    def flush(self) -> None:
        """Write what the session has queued."""
        transport = self._transport
        session = self.session
        if transport is None or transport.is_closing():
            session.take()
            return
        self.on_wire = session.last
        transport.write(session.take())
        if self._turns.paused and transport.get_write_buffer_size() > self.settings.write_limit:
            self.abort("the peer does not read what it asks for")

    def send_data(self, stream: MeshStream, payload: bytes, *, end: bool) -> None:
        """Write a Data frame."""
        self.session.send_data(stream, payload, end=end)
        self.wrote()

    def consumed(self, stream: MeshStream, size: int) -> None:
        """Grant what the reader has taken."""
        if self.session.consumed(stream, size):
            self.wrote()

    # Ending.

    def leave(self, reason: str) -> None:
        """Tell the peer that no new streams are opened or taken; those in flight go on."""
        self.session.go_away(reason)
        self.wrote()

    def close(self, cause: str) -> None:
        """Say why, write what is queued and close."""
        if not self.cause:
            self.cause = cause
        if not self.session.failure:
            self.orderly = True
        self.session.go_away(cause)
        if self._transport is not None:
            self.flush()
            self._transport.close()

    def abort(self, cause: str) -> None:
        """Close at once."""
        if not self.cause:
            self.cause = cause
        self.session.fail(cause)
        if self._transport is not None:
            self._transport.abort()

    def broken(self, *, reached: bool) -> Unavailable:
        """Return what a call ends with when its connection is gone."""
        return Unavailable(
            f"the connection to {self.address} broke: {self.cause}",
            reason="connection-broken",
            reached=reached,
        )

    # Frames.

    def _on_hello(self, _: None, _frame: Hello) -> None:
        peer = self.session.peer
        if peer is not None:
            self.chunk = min(self.settings.chunk, peer.max_payload)
            self.inline = min(self.settings.inline, peer.max_payload)
        self.ready = True
        if self._timer is not None:
            self._timer.cancel()
        self._heard = True
        self._timer = self.wheel.after(self.settings.ping_interval, self._tick)
        self._opened()

    def _on_answer(self, _: None, _frame: Frame) -> None:
        """Nothing more to do: that something came is the answer."""

    def _on_data(self, stream: M, frame: Data) -> None:
        stream.take(frame)

    def _on_window(self, stream: M, _frame: Window) -> None:
        stream.granted()

    # Silence.

    def _no_hello(self) -> None:
        self.abort(f"no Hello came within {self.settings.handshake_timeout:g} seconds")

    def _tick(self) -> None:
        self._quiet(self._delay)
        if self.cause:
            return
        if self._heard:
            self._heard = self._asked = False
            self._delay = self.settings.ping_interval
        elif self._asked:
            self.abort(f"no answer to a ping within {self.settings.ping_timeout:g} seconds")
            return
        else:
            self._asked = True
            self._delay = self.settings.ping_timeout
            self.session.send(Ping(0))
            self.wrote()
        self._timer = self.wheel.after(self._delay, self._tick)

    def _check_peer(self, tls: ssl.SSLObject) -> None:
        if tls.selected_alpn_protocol() != PROTOCOL or tls.version() != "TLSv1.3":
            raise NotAllowed(
                f"{self.address} does not speak {PROTOCOL} over TLS 1.3", reason="peer-protocol"
            )
        try:
            self.identity = self._identify(tls)
        except Failure:
            raise
        except Exception as error:
            raise NotAllowed(
                f"{self.address} cannot be identified: {describe(error)}", reason="peer-identity"
            ) from error
        self._admit(self.identity)


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "an unknown address"


async def close_all(connections: Sequence[Connection[Any]], grace: float) -> None:
    """Close ``connections``, those that do not within ``grace`` seconds the hard way."""
    for connection in connections:
        connection.close("shutting down")
    gone = [connection.gone for connection in connections if connection.connected]
    if not gone:
        return
    _, late = await asyncio.wait(gone, timeout=grace)
    if late:
        for connection in connections:
            connection.abort("shutting down")
        await asyncio.wait(gone, timeout=grace)


def describe(error: BaseException) -> str:
    """Return the kind of an unexpected error and where it was raised, without its values."""
    where = ""
    for frame, line in traceback.walk_tb(error.__traceback__):  # reads no source files
        where = f" at {frame.f_code.co_filename}:{line}"
    return f"{type(error).__name__}{where}"
