"""Calls to a cluster: channels, failover, deadlines and the authentication token."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from typing import Any

import grpc
import grpc.aio

from pillion.errors import Failure, Unavailable
from pillion_components._etcd import messages
from pillion_components._etcd.failures import Trouble, too_late, trouble
from pillion_components._etcd.messages import Method
from pillion_components._etcd.settings import ConnectionSettings

_LARGEST = 256 << 20
"""Bytes of one answer; 128 values of the largest size etcd takes by default fit."""

_OPTIONS: Mapping[str, int] = {
    "grpc.enable_http_proxy": 0,  # a proxy for the web does not lead to the cluster
    "grpc.service_config_disable_resolution": 1,
    "grpc.enable_retries": 0,
    "grpc.use_local_subchannel_pool": 1,  # else components share one another's back-off
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 1000,
    # etcd refuses pings that come faster than every five seconds.
    "grpc.keepalive_time_ms": 10_000,
    "grpc.keepalive_timeout_ms": 5_000,
    "grpc.http2.ping_timeout_ms": 5_000,
    "grpc.http2.max_pings_without_data": 0,
    "grpc.max_send_message_length": -1,  # the server knows its limit, and says so
    "grpc.max_receive_message_length": _LARGEST,
}


@cache
def stay() -> None:
    """Keep gRPC's thread and sockets for the life of the process; call it in a running loop.

    Otherwise the last channel to be freed joins the thread, and blocks the event loop meanwhile.
    """
    grpc.aio.init_grpc_aio()


def cancelling() -> bool:
    """Tell whether the running task was asked to stop."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Endpoint:
    """One member and the channel to it."""

    __slots__ = ("_channel", "_stubs", "address")

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.address = address
        options = list(_OPTIONS.items())
        self._channel: Any = (
            grpc.aio.insecure_channel(address, options=options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options=options)
        )
        self._stubs: dict[str, Any] = {}

    def unary(self, method: Method) -> Any:
        """Return the callable of a method with one request and one answer."""
        return self._stubs.get(method.path) or self._made(method, self._channel.unary_unary)

    def stream(self, method: Method) -> Any:
        """Return the callable of a method with streams both ways."""
        return self._stubs.get(method.path) or self._made(method, self._channel.stream_stream)

    def _made(self, method: Method, kind: Any) -> Any:
        stub = kind(method.path, request_serializer=method.write, response_deserializer=method.read)
        self._stubs[method.path] = stub
        return stub

    async def close(self) -> None:
        """Break off what is under way."""
        self._stubs.clear()
        await self._channel.close()


class Connection:
    """All members of one cluster, of which one is used until it fails.

    Attributes:
        timeout: seconds for an operation that says nothing else.
        place: the cluster, for messages.
    """

    def __init__(self, settings: ConnectionSettings, name: str) -> None:
        stay()
        self.timeout = settings.timeout
        self.place = f"component {name}: etcd"
        credentials = None
        if settings.tls_enable:
            credentials = grpc.ssl_channel_credentials(
                settings.ca or None, settings.key or None, settings.cert or None
            )
        self._endpoints = [Endpoint(address, credentials) for address in settings.endpoints]
        self._current = 0
        self._login = (settings.user, settings.password) if settings.user else None
        self._token = ""
        self._wants_token = self._login is not None
        self._asking: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()

    def until(self) -> float:
        """Return the loop's time at which an operation that begins now must be over."""
        return self._loop.time() + self.timeout

    async def call(
        self, method: Method, request: Any, *, again: bool, until: float | None = None
    ) -> Any:
        """Send a request and return the answer.

        Args:
            method, request: what to send.
            again: True when the request may be carried out twice, so that another endpoint may be
                asked although this one may have carried it out.
            until: the loop's time at which to give up; None for the default timeout from now.

        Raises:
            Failure: see :func:`~pillion_components._etcd.failures.trouble`.
        """
        until = self.until() if until is None else until
        left, renewed = len(self._endpoints), False
        while True:
            endpoint = self._endpoint()
            try:
                return await self._once(endpoint, method, request, until, left if again else 1)
            except grpc.aio.AioRpcError as error:
                found = self._trouble(endpoint, error)
                if found.token and self._login is not None and not renewed:
                    renewed = True
                    continue
                left -= 1
                retriable = found.endpoint and (again or found.unsent)
                if left <= 0 or not retriable or self._loop.time() >= until:
                    raise found.failure() from error

    async def open(self, method: Method) -> tuple[Endpoint, Any]:
        """Begin a stream; it has no deadline, so whoever reads it sets one where it needs it.

        The server ends it when it loses its leader.
        """
        endpoint = self._endpoint()
        metadata = [("hasleader", "true"), *await self._metadata(self.until())]
        return endpoint, endpoint.stream(method)(metadata=metadata)

    def failed(self, endpoint: Endpoint, error: Exception) -> Failure:
        """Return what the failure of a stream means; the next call goes elsewhere."""
        if isinstance(error, grpc.aio.AioRpcError):
            found = self._trouble(endpoint, error)
            # A stream that was refused for its token is begun again with a new one.
            known = found.token and self._login is not None
            return Unavailable(found.message) if known else found.failure()
        self._leave(endpoint)
        return too_late(f"{self.place} at {endpoint.address}")

    def refused(self, words: str) -> Failure:
        """Return what the server's words in a message mean."""
        found = trouble(self.place, "UNAVAILABLE", words)
        if found.token and self._login is not None:
            self._forget_token()
            return Unavailable(found.message)
        return found.failure()

    async def close(self) -> None:
        """Close every channel."""
        endpoints, self._endpoints = self._endpoints, []
        for endpoint in endpoints:
            await endpoint.close()

    def _endpoint(self) -> Endpoint:
        if not self._endpoints:
            raise self._closed()
        return self._endpoints[self._current]

    def _closed(self) -> Unavailable:
        return Unavailable(f"{self.place} is closed", reason="closed")

    def _leave(self, endpoint: Endpoint) -> None:
        if self._endpoints and self._endpoints[self._current] is endpoint:
            self._current = (self._current + 1) % len(self._endpoints)

    def _trouble(self, endpoint: Endpoint, error: grpc.aio.AioRpcError) -> Trouble:
        # The frames of gRPC would keep the call, and the call its connection, as long as whoever
        # caught our failure keeps it.
        error.__traceback__ = None
        place = f"{self.place} at {endpoint.address}"
        found = trouble(place, error.code().name, error.details() or "no reason given")
        if found.endpoint:
            self._leave(endpoint)
        if found.token:
            self._forget_token()
        return found

    async def _once(
        self, endpoint: Endpoint, method: Method, request: Any, until: float, tries: int
    ) -> Any:
        metadata = await self._metadata(until)
        left = until - self._loop.time()
        if left <= 0:
            raise too_late(self.place)
        try:
            return await endpoint.unary(method)(request, timeout=left / tries, metadata=metadata)
        except asyncio.CancelledError:
            # Closing a channel cancels its calls, but not the tasks that wait for them.
            if self._endpoints or cancelling():
                raise
            raise self._closed() from None

    async def _metadata(self, until: float) -> tuple[tuple[str, str], ...]:
        if not self._wants_token:
            return ()
        if not self._token:
            await self._log_in(until)
        return (("token", self._token),) if self._token else ()

    def _forget_token(self) -> None:
        self._token = ""
        self._wants_token = self._login is not None

    async def _log_in(self, until: float) -> None:
        """Get a token; callers that need one at the same time share the request."""
        while (asking := self._asking) is not None:
            await asyncio.wait({asking}, timeout=until - self._loop.time())
            if self._token:
                return
            if not asking.done():
                raise too_late(self.place)
        asking = self._asking = self._loop.create_future()
        try:
            await self._authenticate(until)
        finally:
            self._asking = None
            asking.set_result(None)

    async def _authenticate(self, until: float) -> None:
        assert self._login is not None  # noqa: S101 - for the type checker
        user, password = self._login
        request = messages.AuthenticateRequest(name=user, password=password)
        left = len(self._endpoints)
        while True:
            endpoint = self._endpoint()
            try:
                share = (until - self._loop.time()) / left
                stub = endpoint.unary(messages.AUTHENTICATE)
                answer = await stub(request, timeout=max(share, 0.001))
            except grpc.aio.AioRpcError as error:
                if "authentication is not enabled" in (error.details() or ""):
                    self._wants_token = False
                    return
                found = self._trouble(endpoint, error)
                left -= 1
                if not found.endpoint or left <= 0 or self._loop.time() >= until:
                    raise found.failure() from error
            else:
                self._token = answer.token
                return


__all__ = ["Connection", "Endpoint", "stay"]
