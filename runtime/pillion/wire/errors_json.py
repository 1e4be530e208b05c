"""Failures as the API's statuses and JSON: the only place where one becomes the other.

Shapes, codes and statuses are those of Dapr's HTTP API; ``x-pillion-reason`` is our addition.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from pillion.call import Headers, Reply
from pillion.errors import (
    Conflict,
    Failure,
    Invalid,
    NotAllowed,
    NotFound,
    Overloaded,
    TimedOut,
    TooLarge,
    Unavailable,
    Unsupported,
)

JSON_TYPE = (b"Content-Type", b"application/json")
TEXT_TYPE = (b"Content-Type", b"text/plain; charset=utf-8")

STATUS_BY_KIND: dict[type[Failure], int] = {
    Invalid: 400,
    NotAllowed: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    Overloaded: 503,
    Unsupported: 501,
    TimedOut: 504,
    Unavailable: 503,
    Failure: 500,
}
"""What a failure's class means where its code does not say otherwise."""

STATUS_BY_CODE: dict[str, int] = {
    "ERR_HEALTH_NOT_READY": 500,
    "ERR_HEALTH_APPID_NOT_MATCH": 500,
    "ERR_OUTBOUND_HEALTH_NOT_READY": 500,
    "ERR_MALFORMED_REQUEST": 400,
    "ERR_BODY_READ": 400,
    "ERROR": 500,
    "ERR_STATE_STORE_NOT_FOUND": 400,
    "ERR_STATE_STORE_NOT_CONFIGURED": 500,
    "ERR_STATE_STORE_NOT_SUPPORTED": 500,
    "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS": 400,
    "ERR_NOT_SUPPORTED_STATE_OPERATION": 400,
    "ERR_STATE_GET": 500,
    "ERR_STATE_BULK_GET": 500,
    "ERR_STATE_TRANSACTION": 500,
    "ERR_STATE_QUERY": 500,
    "ERR_STATE_LIST": 500,
    "ERR_STATE_WATCH": 500,
    "ERR_SECRET_STORES_NOT_CONFIGURED": 500,
    "ERR_SECRET_STORE_NOT_FOUND": 401,
    "ERR_SECRET_GET": 500,
    "ERR_LOCK_STORE_NOT_CONFIGURED": 500,
    "ERR_LOCK_STORE_NOT_FOUND": 400,
    "ERR_TRY_LOCK": 500,
    "ERR_UNLOCK": 500,
}
"""Codes whose status the API fixes."""

CONDITIONAL_WRITES = frozenset({"ERR_STATE_SAVE", "ERR_STATE_DELETE"})
"""Codes whose status says whether the entity tag was the trouble."""
ETAG_STATUS: dict[type[Failure], int] = {Conflict: 409, Invalid: 400}

DIRECT_INVOKE = "ERR_DIRECT_INVOKE"
INVOKE_STATUS: dict[type[Failure], int] = {
    NotAllowed: 403,
    Overloaded: 503,
    TooLarge: 413,
    TimedOut: 504,
}
"""Service invocation answers 500 but for these.

503 (the callee sheds load), 413 (a body over the limit) and 504 (the caller's own deadline is
spent) have no counterpart in Dapr, where each would wait or be a 500.
"""


def status_of(failure: Failure) -> int:
    """Return the HTTP status of a failure."""
    if failure.code == DIRECT_INVOKE:
        if failure.reason == "no-target":
            return 404
        return INVOKE_STATUS.get(type(failure), 500)
    if failure.code in CONDITIONAL_WRITES:
        return ETAG_STATUS.get(type(failure), 500)
    known = STATUS_BY_CODE.get(failure.code)
    return STATUS_BY_KIND.get(type(failure), 500) if known is None else known


def error_reply(failure: Failure) -> Reply:
    """Return a failure as the API's answer: shape A, or shape B when it has details."""
    headers: Headers = [JSON_TYPE, (b"x-pillion-reason", failure.reason.encode())]
    status = status_of(failure)
    if failure.retry_after is not None and status in (429, 503):
        headers.append((b"Retry-After", b"%d" % max(1, math.ceil(failure.retry_after))))
    return Reply(status, headers, error_body(failure.code, failure.message, failure.details))


def error_body(code: str, message: str, details: Sequence[Mapping[str, object]] = ()) -> bytes:
    """Return ``{"errorCode": …, "message": …}``, with ``details`` where there are some."""
    error: dict[str, object] = {"errorCode": code, "message": message}
    if details:
        error["details"] = details
    return json.dumps(error, separators=(",", ":")).encode()


def text_reply(status: int, text: str) -> Reply:
    """Return a plain text answer, for the few errors the API does not give as JSON."""
    return Reply(status, [TEXT_TYPE], text.encode())


def json_reply(value: object, status: int = 200) -> Reply:
    """Return a value as JSON."""
    return Reply(status, [JSON_TYPE], json.dumps(value, separators=(",", ":")).encode() + b"\n")
