"""One call to another app: how it is addressed, what goes along, and how it fails."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, TypedDict
from urllib.parse import quote, urlencode

from pillion_sdk import values
from pillion_sdk.headers import HOP_BY_HOP, HeaderSource, RawHeaders, encode
from pillion_sdk.request import DEADLINE_HEADER, current_request
from pillion_sdk.response import BYTES, JSON, TEXT, Response

QuerySource: TypeAlias = Mapping[str, Any] | Iterable[tuple[str, Any]]
Data: TypeAlias = bytes | str | AsyncIterable[bytes]

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""Methods that may be repeated (RFC 9110 section 9.2.2)."""

_BARE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_NOT_SENT = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_PASSED_ON = (b"traceparent", b"tracestate", b"baggage")


class CallOptions(TypedDict, total=False):
    """The options of a call.

    Attributes:
        method: the HTTP method; POST without it.
        query: names and values; a list gives a name several times, None leaves it out.
        json: the body, sent as JSON.
        data: the body as it is: bytes, text, or an async iterator of bytes to send as they come.
        headers: sent along; they win over the ones set here.
        timeout: seconds; ``math.inf`` for no limit. Without it, the client's.
    """

    method: str
    query: QuerySource | None
    json: Any
    data: Data | None
    headers: HeaderSource | None
    timeout: float


@dataclass(slots=True)
class OutgoingCall:
    """A call as a transport gets it.

    Attributes:
        app: who is called.
        path: what is called there, as the caller wrote it, without a query.
        method: the HTTP method.
        target: path and query of the request to the runtime, escaped.
        headers: all but the ones that belong to the connection.
        body: complete, or a stream that can be read once.
        timeout: seconds; ``math.inf`` for none.
        once: True for what must not be sent twice, whatever its method.
    """

    app: str
    path: str
    method: str
    target: str
    headers: RawHeaders
    body: bytes | AsyncIterable[bytes]
    timeout: float
    once: bool = False

    @property
    def repeatable(self) -> bool:
        """True when sending it twice does no harm and its body is still there."""
        return not self.once and self.method in IDEMPOTENT and isinstance(self.body, bytes)


class InvokeError(Exception):
    """A call that did not bring a good answer.

    Attributes:
        app: who was called.
        method: the HTTP method.
        path: what was called there.
        status: of the answer; without one 503 (no connection to the runtime), 504 (too late) or
            502 (the answer broke off or was not as expected).
        error_code: the ``errorCode`` of the answer, or ours; empty when the answer had none.
        message: what the answer says, or what happened.
        reason: a short word when the error comes from a runtime and not from the app, else None.
        response: the answer, or None when there was none.
    """

    def __init__(
        self,
        call: OutgoingCall,
        status: int,
        error_code: str,
        message: str,
        response: Response | None = None,
    ) -> None:
        self.app = call.app
        self.method = call.method
        self.path = call.path
        self.status = status
        self.error_code = error_code
        self.message = message
        self.response = response
        self.reason = None if response is None else response.headers.get("x-pillion-reason")
        code = f" {error_code}" if error_code else ""
        super().__init__(f"{call.method} {call.app}/{call.path}: {status}{code}: {message}")

    @classmethod
    def from_response(cls, call: OutgoingCall, response: Response) -> Self:
        """Read ``errorCode`` and ``message`` from an answer; one without them is quoted."""
        code, message = "", ""
        try:
            found = response.json()
        except ValueError:
            found = None
        if isinstance(found, dict):
            code, message = str(found.get("errorCode", "")), str(found.get("message", ""))
        return cls(call, response.status, code, message or response.text[:200], response)


def timed_out(call: OutgoingCall) -> InvokeError:
    """Return the error of a call whose time is over."""
    return InvokeError(call, 504, "ERR_TIMED_OUT", f"no answer within {call.timeout:.3g} s")


def prepare(
    app: str, path: str, options: CallOptions, timeout: float, *, streamed: bool = False
) -> OutgoingCall:
    """Make a call from what the user gave and from the request being handled.

    Args:
        app: who is called.
        path: what is called there, with or without a query.
        options: of the call.
        timeout: seconds, for a call that does not say.
        streamed: the timeout is for the head of the reply, so that it is not the whole call's
            deadline.

    Raises:
        TypeError: both ``json`` and ``data`` are given, or a value has no text or JSON form.
        InvokeError: the request being handled has no time left.
    """
    timeout = options.get("timeout", timeout)
    path, mark, given = path.lstrip("/").partition("?")
    method = options.get("method", "POST").upper()
    headers: RawHeaders = []
    body = encode_body(options, headers)
    # Somebody may pass on all headers of a request; those about its connection stay behind.
    given_headers = encode(options.get("headers"))
    join(headers, [pair for pair in given_headers if pair[0] not in _NOT_SENT])
    remaining = inherit(headers)
    timeout = min(timeout, remaining)
    query = "&".join(part for part in (given, encode_query(options.get("query"))) if part)
    target = f"/v1.0/invoke/{quote(app, safe='')}/method/{escape_path(path)}"
    call = OutgoingCall(
        app, path, method, f"{target}?{query}" if query or mark else target, headers, body, timeout
    )
    if timeout <= 0:
        raise InvokeError(call, 504, "ERR_TIMED_OUT", "there is no time left for it")
    deadline = remaining if streamed else timeout
    if deadline != math.inf:
        join(headers, [(DEADLINE_HEADER, b"%d" % math.ceil(deadline * 1000))], keep=True)
    return call


def inherit(headers: RawHeaders) -> float:
    """Add the trace context of the request being handled; return the seconds it has left."""
    request = current_request()
    if request is None:
        return math.inf
    join(headers, [pair for pair in request.headers.raw if pair[0] in _PASSED_ON], keep=True)
    remaining = request.remaining
    return math.inf if remaining is None else remaining


def join(headers: RawHeaders, more: RawHeaders, *, keep: bool = False) -> None:
    """Add headers; one that is there already is kept or gives way."""
    if keep:
        present = {name for name, _ in headers}
        headers += [pair for pair in more if pair[0] not in present]
    elif more:
        replaced = {name for name, _ in more}
        headers[:] = [pair for pair in headers if pair[0] not in replaced] + more


def encode_body(options: CallOptions, headers: RawHeaders) -> bytes | AsyncIterable[bytes]:
    """Return the body that ``json`` or ``data`` stand for, and add its content type."""
    data = options.get("data")
    if "json" in options:
        if data is not None:
            raise TypeError("give json or data, not both")
        headers.append((b"content-type", JSON))
        return values.encode_json(options["json"])
    if data is None:
        return b""
    headers.append((b"content-type", TEXT if isinstance(data, str) else BYTES))
    return data.encode() if isinstance(data, str) else data


def encode_query(source: QuerySource | None) -> str:
    """Return names and values as a query string."""
    if source is None:
        return ""
    pairs = source.items() if isinstance(source, Mapping) else source
    flat: list[tuple[str, str]] = []
    for name, value in pairs:
        if isinstance(value, list | tuple | set | frozenset):
            flat += [(name, values.to_text(item)) for item in value]
        elif value is not None:
            flat.append((name, values.to_text(value)))
    return urlencode(flat)


def escape_path(path: str) -> str:
    """Escape what a request line cannot hold; escapes that are there stay."""
    return quote(_BARE_PERCENT.sub("%25", path), safe="/%:@!$&'()*+,;=~-._")
