"""The answering side of a mesh connection: requests in, replies out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from pillion.body import BodyStream, discard
from pillion.call import Call, Identity, Reply, Target
from pillion.errors import Failure, Invalid, NotFound, TimedOut, TooLarge, Unavailable, Unsupported
from pillion.inline import Run
from pillion.mesh.connection import Connection, Identify, describe, log
from pillion.mesh.settings import RECEIVE, Settings
from pillion.mesh.stream import MeshStream
from pillion.wheel import Wheel
from pillion.wire.frames import Request, Reset, safe_headers, safe_target
from pillion.wire.mesh_failures import cancelled, to_failure, to_reset
from pillion.wire.mesh_sides import CalleeSession


class Owner(Protocol):
    """Who keeps the answering connections."""

    def admitted(self, connection: CalleeConnection) -> None:
        """A runtime with a certificate we trust is connected."""

    def opened(self, connection: CalleeConnection) -> None:
        """It speaks the protocol."""

    def refused(self, connection: CalleeConnection, failure: Failure) -> None:
        """Nobody we know tried to connect."""

    def lost(self, connection: CalleeConnection) -> None:
        """It is gone."""

    def broke_rules(self, connection: CalleeConnection, reason: str) -> None:
        """The peer broke the protocol."""


class Service:
    """What the connections of one listener answer with.

    Attributes:
        handler: what answers a call.
        target: whom calls must be for.
        clock: seconds; the clock of ``Call.deadline``.
    """

    __slots__ = ("clock", "handler", "target")

    def __init__(
        self,
        handler: Callable[[Call], Coroutine[Any, Any, Reply]],
        target: Target,
        clock: Callable[[], float],
    ) -> None:
        self.handler = handler
        self.target = target
        self.clock = clock


class Serving(MeshStream):
    """One call as the callee sees it.

    Attributes:
        run: the handler at work.
    """

    __slots__ = ("_connection", "run")

    def __init__(self, connection: CalleeConnection) -> None:
        super().__init__(connection)
        self._connection = connection
        self.run: Run[Reply] | None = None

    def handle(self, work: Coroutine[Any, Any, Reply]) -> None:
        """Run the handler until it waits or is done."""
        run = Run(work, self.answered)
        if not run.finished:
            self.run = run

    def answered(self, reply: Reply | None, error: BaseException | None) -> None:
        """Send what the handler gave."""
        self.run = None
        if not self.sending:  # the caller has given up
            if reply is not None:
                discard(reply.body)
        elif reply is None or not 200 <= reply.status <= 999:
            self._connection.fail(self, error or ValueError())
        elif self._connection.fits(reply) and not self._connection.congested:
            self._connection.respond(self, reply)
        else:
            self._send_reply(reply)

    def over(self, failure: Failure) -> None:
        """Stop all work: the caller has given up, or is gone."""
        run, self.run = self.run, None
        body = self.stop_sending()
        if body is not None:
            body.close()
        self.break_off(failure)
        if run is not None:
            run.cancel()

    def unread(self) -> None:
        """Tell the caller that nobody reads the rest of its body."""
        self.incoming = None
        self._connection.stop(self)

    def _send_reply(self, reply: Reply) -> None:
        run = Run(self._reply(reply), self._replied)
        if not run.finished:
            self.sender = run
            if isinstance(reply.body, BodyStream):
                self.outgoing = reply.body

    async def _reply(self, reply: Reply) -> None:
        connection = self._connection
        if connection.congested:
            await connection.turn()
        if not self.sending:
            discard(reply.body)
        elif connection.fits(reply):
            connection.respond(self, reply)
        elif connection.announce(self, reply):
            await self._send(reply.body)

    def _replied(self, _value: object, error: BaseException | None) -> None:
        self.sender = None
        if error is not None and self.sending:
            self._connection.fail(self, error)
        self.outgoing = None


class CalleeConnection(Connection[Serving]):
    """A connection that another runtime opened to us.

    Attributes:
        served: the session.
    """

    __slots__ = ("_owner", "_service", "served")

    def __init__(
        self,
        owner: Owner,
        service: Service,
        *,
        identify: Identify,
        wheel: Wheel,
        settings: Settings,
    ) -> None:
        self.served: CalleeSession[Serving] = CalleeSession(settings.limits, lambda: Serving(self))
        super().__init__(self.served, identify, wheel, settings)
        self._owner = owner
        self._service = service
        self._dispatch[Request] = self._on_request

    # Answering.

    def fits(self, reply: Reply) -> bool:
        """Tell whether ``reply`` goes out in one frame."""
        body = reply.body
        return isinstance(body, bytes) and len(body) <= self.inline

    def respond(self, serving: Serving, reply: Reply) -> None:
        """Send a whole reply; it ends the stream."""
        body = reply.body
        assert isinstance(body, bytes)  # noqa: S101 - `fits` has said so
        sent = self._send_head(serving, reply, len(body), body, end=True)
        if sent and serving.incoming is not None:
            serving.break_off(_answered_early())

    def announce(self, serving: Serving, reply: Reply) -> bool:
        """Send the head of a reply; False when that failed and the call with it."""
        body = reply.body
        length = len(body) if isinstance(body, bytes) else body.length
        if self._send_head(serving, reply, -1 if length is None else length, b"", end=False):
            return True
        discard(body)
        return False

    def _send_head(
        self, serving: Serving, reply: Reply, length: int, body: bytes, *, end: bool
    ) -> bool:
        try:
            self.served.respond(serving, reply.status, reply.headers, length, body, end=end)
        except TooLarge as failure:
            failure.reached = True
            self.fail(serving, failure)
            return False
        except Invalid as failure:
            self.fail(serving, failure.__cause__ or failure)
            return False
        self.wrote()
        return True

    def send_data(self, stream: MeshStream, payload: bytes, *, end: bool) -> None:
        """Write a Data frame; the last one ends the stream."""
        super().send_data(stream, payload, end=end)
        if end and stream.incoming is not None:
            stream.break_off(_answered_early())

    def fail(self, serving: Serving, error: BaseException) -> None:
        """End a call with what went wrong."""
        if isinstance(error, Failure):
            failure = error
        elif isinstance(error, asyncio.CancelledError):
            failure = None
        else:
            log.error("answering a call failed: %s", describe(error))
            failure = Failure(
                f"app {self._service.target.name!r} was called and its runtime failed; "
                "its log says more",
                reason="internal",
            )
        frame = cancelled(serving.id) if failure is None else to_reset(serving.id, failure)
        if self.served.reset(serving, frame):
            self.wrote()
            serving.over(failure or _given_up())

    def stop(self, serving: Serving) -> None:
        """Tell the caller to send no more of its body."""
        self.served.stop(serving)
        self.wrote()

    # What the peer sent.

    def _on_request(self, serving: Serving, frame: Request) -> None:
        refusal = self._refusal(frame)
        if refusal is not None:
            self.fail(serving, refusal)
            return
        service = self._service
        call = Call(
            RECEIVE,
            service.target,
            frame.method,
            frame.path,
            frame.query,
            frame.headers,
            frame.body if frame.end else serving.expect(frame.length, frame.body, serving.unread),
            math.inf if frame.remaining < 0 else service.clock() + frame.remaining / 1000.0,
            self.identity,
        )
        call.attempt = frame.attempt
        serving.handle(service.handler(call))

    def _refusal(self, frame: Request) -> Failure | None:
        target = self._service.target
        if frame.app_id != target.name or frame.namespace != target.namespace:
            return NotFound(
                f"app {target.name!r} in namespace {target.namespace!r} was called by another name",
                reason="wrong-target",
                reached=False,
            )
        if frame.operation != RECEIVE:
            return Unsupported(
                f"the runtime of app {target.name!r} does not know the operation asked for",
                reason="unknown-operation",
                reached=False,
            )
        if frame.remaining == 0:
            return TimedOut(
                f"no time was left when the call came to app {target.name!r}", reached=False
            )
        if not (safe_target(frame.method, frame.path, frame.query) and safe_headers(frame.headers)):
            return Invalid(
                "the method, path, query or headers hold characters that are not allowed in HTTP",
                reason="bad-head",
                reached=False,
            )
        return None

    def _on_reset(self, serving: Serving, frame: Reset) -> None:
        serving.over(to_failure(frame))

    # What becomes of the connection.

    def _admit(self, identity: Identity) -> None:
        self._owner.admitted(self)

    def _refused(self, failure: Failure) -> None:
        self._owner.refused(self, failure)

    def _opened(self) -> None:
        self._owner.opened(self)

    def _broke_rules(self, reason: str) -> None:
        self._owner.broke_rules(self, reason)

    def _lost(self) -> None:
        self._owner.lost(self)
        streams, self.served.streams = self.served.streams, {}
        for serving in streams.values():
            serving.sending = serving.receiving = False
            serving.over(self.broken(reached=True))


def _answered_early() -> Failure:
    return Unavailable("the reply was complete before the request", reason="answered-early")


def _given_up() -> Failure:
    return Unavailable("the call was given up", reason="cancelled")
