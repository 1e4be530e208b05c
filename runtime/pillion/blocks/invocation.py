"""Service invocation: from a request in any target form to a call, and from a reply back.

Whatever no other block's row matches ends here as well: with a ``dapr-app-id`` header or the
Basic form it is an invocation, without one it is a wrong path.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from pillion.body import discard
from pillion.call import Call, Handler, Reply, Target
from pillion.errors import Failure, Invalid, NotFound
from pillion.operation import Request
from pillion.policy.method_path import (
    CODE,
    Address,
    from_basic,
    from_path,
    normalise,
    split_app_id,
)

PREFIX = b"/v1.0/invoke/"


@dataclass(frozen=True, slots=True)
class Host:
    """Who this runtime is, for the forwarding headers.

    Attributes:
        app_id, namespace: its app.
        address: the IP address other runtimes know it by.
        name: its host name.
    """

    app_id: str
    namespace: str
    address: str
    name: str


class Invocation:
    """The block.

    Args:
        host: this runtime.
        plan: gives the plan of a target.
        endpoints: names of the HTTPEndpoints.
        enabled: False when the API rules deny invocation.
    """

    __slots__ = (
        "_by",
        "_endpoints",
        "_for",
        "_forwarding",
        "_host",
        "_hostname",
        "_plan",
        "enabled",
    )

    def __init__(
        self,
        host: Host,
        plan: Callable[[Target], Handler],
        endpoints: Collection[str],
        *,
        enabled: bool = True,
    ) -> None:
        self._host = host
        self._plan = plan
        self._endpoints = endpoints
        self.enabled = enabled
        quoted = f'"[{host.address}]"' if ":" in host.address else host.address
        self._by = f"for={quoted};by={quoted};host={host.name}".encode()
        self._for = host.address.encode()
        self._hostname = host.name.encode()
        self._forwarding = (
            (b"X-Forwarded-For", self._for),
            (b"X-Forwarded-Host", self._hostname),
            (b"Forwarded", self._by),
        )

    async def serve(self, request: Request) -> Reply:
        """Invoke what the request names.

        Raises:
            NotFound: it names nothing (404).
            Failure: with the code ``ERR_DIRECT_INVOKE``.
        """
        name = ""
        try:
            address = self._address(request)
            if address is None or not self.enabled:
                raise _no_target()
            name = address.name
            call = self._call(request, address)
            reply = await self._plan(call.target)(call)
        except Failure as failure:
            discard(request.body)
            raise _as_invocation(failure, name) from None
        if request.accept == b"text/event-stream":
            _as_event_stream(reply)
        return reply

    def _address(self, request: Request) -> Address | None:
        if request.app_id:
            return Address(request.app_id.decode("latin-1"), request.path)
        if request.authorization:
            app_id = from_basic(request.authorization)
            if app_id is not None:
                return Address(app_id, request.path)
        path = request.path
        if path.startswith(PREFIX):
            return from_path(path[len(PREFIX) :])
        while b"//" in path:
            path = path.replace(b"//", b"/")
        return from_path(path[len(PREFIX) :]) if path.startswith(PREFIX) else None

    def _call(self, request: Request, address: Address) -> Call:
        if address.is_url or address.name in self._endpoints:
            target = Target("endpoint", address.name)
            _keep_forwarding(request)
        else:
            host = self._host
            app_id, namespace = split_app_id(address.name)
            target = Target("app", app_id, namespace or host.namespace)
            if app_id == host.app_id and target.namespace == host.namespace:
                _keep_forwarding(request)
            else:
                self._add_forwarding(request)
        return Call(
            "invocation.call",
            target,
            request.method,
            normalise(address.method, address.name),
            request.query,
            request.headers,
            request.body,
            _deadline(request.deadline_ms),
        )

    def _add_forwarding(self, request: Request) -> None:
        # Appended to what earlier proxies said, never replacing it (RFC 7239 section 4).
        headers = request.headers
        if not (request.forwarded_for or request.forwarded_host or request.forwarded):
            headers += self._forwarding
            return
        before = request.forwarded_for
        headers.append((b"X-Forwarded-For", before + b", " + self._for if before else self._for))
        before = request.forwarded_host
        headers.append(
            (b"X-Forwarded-Host", before + b", " + self._hostname if before else self._hostname)
        )
        before = request.forwarded
        headers.append((b"Forwarded", before + b", " + self._by if before else self._by))


def _keep_forwarding(request: Request) -> None:
    """Pass on what earlier proxies said: there is no hop between runtimes to add."""
    if request.forwarded_for:
        request.headers.append((b"X-Forwarded-For", request.forwarded_for))
    if request.forwarded_host:
        request.headers.append((b"X-Forwarded-Host", request.forwarded_host))
    if request.forwarded:
        request.headers.append((b"Forwarded", request.forwarded))


def _deadline(remaining_ms: bytes) -> float:
    if not remaining_ms:
        return math.inf
    if not remaining_ms.isdigit() or len(remaining_ms) > 12:
        raise Invalid(
            "x-pillion-deadline-ms must be a whole number of milliseconds", code=CODE, reached=False
        )
    return time.monotonic() + int(remaining_ms) / 1000.0


def _no_target() -> NotFound:
    return NotFound(
        "failed getting app id either from the URL path or the header dapr-app-id",
        code=CODE,
        reason="no-target",
        reached=False,
    )


def _as_invocation(failure: Failure, name: str) -> Failure:
    if failure.code == CODE:
        return failure
    return type(failure)(
        f"failed to invoke, id: {name}, err: {failure.message}",
        code=CODE,
        reason=failure.reason,
        reached=failure.reached,
        retry_after=failure.retry_after,
    )


def _as_event_stream(reply: Reply) -> None:
    if reply.header(b"content-type") is None:
        reply.headers.append((b"Content-Type", b"text/event-stream"))
    if reply.header(b"cache-control") is None:
        reply.headers.append((b"Cache-Control", b"no-cache"))
