"""The calling side of a mesh connection: calls out, replies in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Protocol

from pillion.call import Call, Identity, Reply
from pillion.errors import Failure, NotAllowed, TimedOut, Unavailable
from pillion.inline import Waiter
from pillion.kinds.registry import Instance
from pillion.mesh.connection import Connection, Identify, describe, log
from pillion.mesh.settings import RECEIVE, Settings
from pillion.mesh.stream import MeshStream
from pillion.wheel import Timer, Wheel
from pillion.wire.frames import (
    Data,
    GoAway,
    Request,
    Reset,
    Response,
    Stop,
    frames_itself,
    safe_headers,
)
from pillion.wire.mesh_failures import cancelled, to_failure, to_reset
from pillion.wire.mesh_sides import CallerSession


class Owner(Protocol):
    """Who keeps a calling connection, and is told what becomes of it."""

    def ready(self, connection: CallerConnection) -> None:
        """Calls may be made on it."""

    def refused(self, connection: CallerConnection, failure: Failure) -> None:
        """The peer is not who it should be."""

    def leaving(self, connection: CallerConnection) -> None:
        """The peer takes no more calls on it; those it has go on."""

    def lost(self, connection: CallerConnection) -> None:
        """It is gone; its streams fail next."""

    def freed(self, connection: CallerConnection) -> None:
        """A stream has ended; told only while the connection is ``watched``."""

    def broke_rules(self, connection: CallerConnection, reason: str) -> None:
        """The peer broke the protocol."""


class Exchange(MeshStream):
    """One call as the caller sees it.

    Attributes:
        head: what the caller waits for.
        call: what was asked.
        timer: its deadline.
    """

    __slots__ = ("_connection", "call", "head", "timer")

    def __init__(self, connection: CallerConnection, call: Call) -> None:
        super().__init__(connection)
        self._connection = connection
        self.call = call
        self.head: Waiter[Reply] = Waiter()
        self.timer: Timer | None = None

    def over(self, failure: Failure | None = None) -> None:
        """Let go of everything; ``failure`` goes to whoever waits for the reply or its body."""
        if self.timer is not None:
            self.timer.cancel()
        if self.sender is not None or self.outgoing is not None:
            self.unsent()
        if failure is not None:
            self.head.fail(failure)
            self.break_off(failure)
        self._connection.freed()

    def unsent(self) -> None:
        """Send no more of the request body and let go of it."""
        body = self.stop_sending()
        if body is not None:
            body.close()

    def sent(self, _value: object, error: BaseException | None) -> None:
        """Note how sending the request body ended."""
        self.sender = None
        if error is None:
            self.outgoing = None
        elif not self.sending:
            return  # it was stopped
        elif isinstance(error, Failure):
            self._connection.drop(self, error)
        else:
            log.error("sending a request body failed: %s", describe(error))
            self._connection.drop(
                self, Failure("sending the request body failed unexpectedly", reason="internal")
            )

    def expired(self) -> None:
        """End the call: its deadline has passed."""
        call = self.call
        self._connection.drop(
            self,
            TimedOut(f"the call to app {call.target.name!r} took longer than its deadline"),
        )

    def abandoned(self) -> None:
        """End the call: nobody reads the rest of the reply."""
        self._connection.drop(self, None)


class CallerConnection(Connection[Exchange]):
    """A connection we opened, to one instance.

    Attributes:
        calls: the session.
        opened_at: when it became ready, on the monotonic clock.
        watched: True while the owner wants to know when a stream ends.
    """

    __slots__ = (
        "_clock",
        "_idle",
        "_instance",
        "_last",
        "_owner",
        "_trust_domain",
        "calls",
        "opened_at",
        "watched",
    )

    def __init__(
        self,
        owner: Owner,
        instance: Instance,
        *,
        identify: Identify,
        trust_domain: str,
        wheel: Wheel,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.calls: CallerSession[Exchange] = CallerSession(settings.limits)
        super().__init__(self.calls, identify, wheel, settings)
        self._owner = owner
        self._instance = instance
        self._trust_domain = trust_domain
        self._clock = clock
        self._idle = 0.0
        self._last = 0
        self.opened_at = 0.0
        self.watched = False
        self._dispatch[Response] = self._on_response
        self._dispatch[Stop] = self._on_stop

    # Calling.

    def open(self, call: Call) -> Exchange:
        """Send ``call``; its reply comes through ``Exchange.head``.

        ``calls.open_to_calls`` was true just before, and the connection not congested.

        Raises:
            TimedOut: the deadline has passed.
            TooLarge: the head does not fit one frame.
        """
        remaining = -1
        deadline = call.deadline
        if deadline != math.inf:
            # One millisecond for the way: the callee gives up before we do.
            remaining = int((deadline - self._clock()) * 1000.0) - 1
            if remaining <= 0:
                raise TimedOut(
                    f"no time was left for the call to app {call.target.name!r}", reached=False
                )
        exchange = Exchange(self, call)
        session = self.calls
        body = call.body
        target = call.target
        if isinstance(body, bytes):
            length = len(body)
            whole = length <= self.inline
        else:
            length = -1 if body.length is None else body.length
            whole = False
        session.send_request(
            exchange,
            Request(
                session.open(exchange),
                RECEIVE,
                target.namespace,
                target.name,
                call.method,
                call.path,
                call.query,
                call.headers,
                remaining,
                call.attempt,
                length,
                body if whole else b"",  # type: ignore[arg-type] # whole means bytes
                whole,
            ),
        )
        self.wrote()
        if remaining >= 0:
            exchange.timer = self.wheel.at(deadline, exchange.expired)
        if not whole:
            exchange.start_sending(body, exchange.sent)
        return exchange

    def drop(self, exchange: Exchange, failure: Failure | None) -> None:
        """End a call from this side; None when nobody waits for it any more."""
        frame = cancelled(exchange.id) if failure is None else to_reset(exchange.id, failure)
        if self.calls.reset(exchange, frame):
            self.wrote()
            exchange.over(failure)

    def freed(self) -> None:
        """Act on the end of a stream."""
        if self.watched:
            self._close_when_empty()
            self._owner.freed(self)

    def finish(self, reason: str) -> None:
        """Open no more streams and close once those in flight have ended."""
        self.watched = True
        self.leave(reason)
        self._close_when_empty()

    def _close_when_empty(self) -> None:
        if self.calls.leaving and not self.calls.streams:
            self.close("no call was left after a GoAway")

    # What the peer sent.

    def _on_response(self, exchange: Exchange, frame: Response) -> None:
        if not safe_headers(frame.headers) or frames_itself(
            frame.headers, bodiless=frame.status == 304 or exchange.call.method == b"HEAD"
        ):
            self._bad_reply(exchange, frame)
        elif frame.end:
            exchange.over()
            exchange.head.set(Reply(frame.status, frame.headers, frame.body))
        else:
            body = exchange.expect(frame.length, frame.body, exchange.abandoned)
            exchange.head.set(Reply(frame.status, frame.headers, body))

    def _bad_reply(self, exchange: Exchange, frame: Response) -> None:
        failure = Unavailable(
            f"the reply of app {exchange.call.target.name!r} has headers that are not allowed "
            "in HTTP",
            reason="bad-reply",
        )
        if frame.end:
            exchange.over(failure)
        else:
            self.drop(exchange, failure)

    def _on_data(self, exchange: Exchange, frame: Data) -> None:
        exchange.take(frame)
        if frame.end:
            exchange.over()

    def _on_stop(self, exchange: Exchange, _frame: Stop) -> None:
        exchange.unsent()

    def _on_reset(self, exchange: Exchange, frame: Reset) -> None:
        exchange.over(to_failure(frame))

    def _on_goaway(self, _: None, frame: GoAway) -> None:
        self.watched = self.orderly = True
        self._owner.leaving(self)
        for exchange in self.calls.refused(frame.last):
            exchange.over(
                Unavailable(
                    f"the runtime at {self.address} is going away: {frame.reason}",
                    reason="going-away",
                    reached=False,
                )
            )
        self._close_when_empty()

    # What becomes of the connection.

    def _admit(self, identity: Identity) -> None:
        instance = self._instance
        expected = Identity(self._trust_domain, instance.namespace, instance.app_id)
        if identity != expected:
            raise NotAllowed(
                f"{self.address} is {identity.uri} and should be {expected.uri}",
                reason="peer-identity",
                reached=False,
            )

    def _refused(self, failure: Failure) -> None:
        self._owner.refused(self, failure)

    def _opened(self) -> None:
        self.opened_at = self._clock()
        self._owner.ready(self)

    def _broke_rules(self, reason: str) -> None:
        self._owner.broke_rules(self, reason)

    def _lost(self) -> None:
        try:
            self._owner.lost(self)
        finally:
            streams, self.calls.streams = self.calls.streams, {}
            for exchange in streams.values():
                exchange.sending = exchange.receiving = False
                exchange.over(self.broken(reached=exchange.id <= self.on_wire))

    def _quiet(self, seconds: float) -> None:
        calls = self.calls
        if calls.streams or calls.last != self._last:
            self._last = calls.last
            self._idle = 0.0
            return
        self._idle += seconds
        if self._idle >= self.settings.idle_timeout:
            self._owner.leaving(self)
            self.close("idle")
