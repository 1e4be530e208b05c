"""The bodies of the lock API, read by the rules of protobuf's JSON mapping.

Names in lowerCamelCase or snake_case, unknown fields ignored, whole numbers also as text, and an
empty body for all defaults.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pillion.errors import Invalid

_MALFORMED = "ERR_MALFORMED_REQUEST"
_WHOLE = re.compile(r"-?[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class LockRequest:
    """Who wants a lock, or gives it up.

    Attributes:
        resource: what is locked.
        owner: by whom.
        expiry: seconds; 0 when it is not said.
    """

    resource: str
    owner: str
    expiry: int


def read_lock(body: bytes) -> LockRequest:
    """Read a body.

    Raises:
        Invalid: it is none.
    """
    fields = _object(body)
    return LockRequest(
        _text(fields, "resourceId", "resource_id"),
        _text(fields, "lockOwner", "lock_owner"),
        _int32(fields, "expiryInSeconds", "expiry_in_seconds"),
    )


def _object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _malformed(str(error) or "it is nested too deeply") from None
    if not isinstance(fields, dict):
        raise _malformed("it is not an object")
    return fields


def _text(fields: dict[str, Any], camel: str, snake: str) -> str:
    value = _either(fields, camel, snake)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _malformed(f"{camel} is not a text")
    return value


def _int32(fields: dict[str, Any], camel: str, snake: str) -> int:
    value = _either(fields, camel, snake)
    if value is None:
        return 0
    number = int(value) if _is_whole(value) else 2**31
    if not -(2**31) <= number < 2**31:
        raise _malformed(f"{camel} is not a whole number of 32 bits")
    return number


def _is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return _WHOLE.fullmatch(value) is not None
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _either(fields: dict[str, Any], camel: str, snake: str) -> Any:
    if camel in fields and snake in fields:
        raise _malformed(f"{camel} is there twice")
    return fields.get(camel, fields.get(snake))


def _malformed(why: str) -> Invalid:
    return Invalid(f"failed deserializing HTTP body: {why}", code=_MALFORMED)


__all__ = ["LockRequest", "read_lock"]
