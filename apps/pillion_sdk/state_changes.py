"""What a state store is told and tells: changes, values and errors, and their JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from pillion_sdk import values
from pillion_sdk.invocation import InvokeError
from pillion_sdk.runtime_api import ApiError, whole_seconds

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A value that is there.

    Attributes:
        key: as it was asked for.
        value: of the type that was asked for.
        etag: changes with every write of the key; empty when the store has none.
        expires: when the value disappears, or None.
    """

    key: str
    value: T
    etag: str
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Save:
    """Save a value, among other changes.

    Attributes:
        key: not empty.
        value: anything with a JSON form.
        ttl: seconds until it disappears, rounded up; None and 0 keep it.
        etag: the change counts only for this version; None for any.
        create_only: the change counts only if the key is missing.
    """

    key: str
    value: Any
    ttl: float | None = None
    etag: str | None = None
    create_only: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key, among other changes; a missing one is deleted already.

    Attributes:
        key: not empty.
        etag: the change counts only for this version; None for any.
    """

    key: str
    etag: str | None = None


Change: TypeAlias = Save | Delete


class StateError(ApiError):
    """A state store did not do what it was asked for; see :class:`ApiError`.

    Attributes:
        store: its name.
        keys: which ones it was about.
    """

    def __init__(
        self, store: str, keys: Iterable[str], status: int, error_code: str, message: str
    ) -> None:
        self.store = store
        self.keys = tuple(keys)
        shown = ", ".join(repr(key) for key in self.keys[:5])
        more = f" and {len(self.keys) - 5} more" if len(self.keys) > 5 else ""
        about = f", key {shown}{more}" if shown else ""
        super().__init__(f"state store {store}{about}", status, error_code, message)


class StateConflict(StateError):
    """An etag did not match, or a key that was to be created is there; nothing was changed.

    Of ``save_many`` some other values may have been saved.
    """


class Found(msgspec.Struct):
    """One key in an answer of the runtime; with nothing but the key it is missing."""

    key: str = ""
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    etag: str = ""
    metadata: dict[str, str] = {}
    error: str = ""


class Page(msgspec.Struct):
    """Some keys, and where the next page begins."""

    keys: list[str] = []
    token: str = ""


def failure_of(store: str, keys: Iterable[str], error: InvokeError) -> StateError:
    """Return what a request's failure means."""
    # A transaction answers 500 for a tag that does not hold, as Dapr's does.
    conflict = error.status == 409 or "possible etag mismatch" in error.message
    kind = StateConflict if conflict else StateError
    return kind(store, keys, error.status, error.error_code, error.message)


def save_body(items: Iterable[Save]) -> bytes:
    """Return the body that saves items.

    Raises:
        ValueError: one of them is no good.
        TypeError: a value has no JSON form.
    """
    return msgspec.json.encode([_request(item) for item in items])


def transaction_body(changes: Iterable[Change]) -> bytes:
    """Return the body of a transaction; raises like :func:`save_body`."""
    operations = [
        {
            "operation": "upsert" if isinstance(change, Save) else "delete",
            "request": _request(change),
        }
        for change in changes
    ]
    return msgspec.json.encode({"operations": operations})


def is_conditional(change: Change) -> bool:
    """Tell whether making a change twice differs from making it once."""
    return bool(change.etag) or (isinstance(change, Save) and change.create_only)


def checked_key(key: str) -> str:
    """Return the key.

    Raises:
        ValueError: it is empty, which would mean the store itself.
    """
    if not key:
        raise ValueError("a key must not be empty")
    return key


def read_value(store: str, key: str, body: bytes, wanted: Any) -> Any:
    """Return a value as the type that was asked for.

    Raises:
        StateError: it is something else (502, ``ERR_MALFORMED_VALUE``).
    """
    try:
        return values.cached_json_reader(wanted)(body or b"null")
    except values.BadValue as error:
        text = f"the value is not as expected: {error}"
        raise StateError(store, (key,), 502, "ERR_MALFORMED_VALUE", text) from None


def read_expiry(text: str | None) -> datetime | None:
    """Return a time of RFC 3339, None for none."""
    return None if not text else datetime.fromisoformat(text)


def read_found(store: str, found: Found, wanted: Any) -> Stored[Any] | None:
    """Return one key of an answer, None when it is missing.

    Raises:
        StateError: the runtime could not read it, or the value is of another type.
    """
    if found.error:
        raise StateError(store, (found.key,), 500, "ERR_STATE_GET", found.error)
    if isinstance(found.data, msgspec.UnsetType):
        return None
    value = read_value(store, found.key, bytes(found.data), wanted)
    expires = read_expiry(found.metadata.get("ttlExpireTime"))
    return Stored(found.key, value, found.etag, expires)


def _request(change: Change) -> dict[str, Any]:
    request: dict[str, Any] = {"key": checked_key(change.key)}
    if change.etag == "":
        raise ValueError(f"key {change.key!r}: an empty etag names no version; give None for any")
    if change.etag is not None:
        request["etag"] = change.etag
    if isinstance(change, Delete):
        if change.etag is not None:
            request["options"] = {"concurrency": "first-write"}
        return request
    request["value"] = msgspec.Raw(values.encode_json(change.value))
    if change.etag is not None and change.create_only:
        raise ValueError(f"key {change.key!r}: give etag or create_only, not both")
    if change.etag is not None or change.create_only:
        request["options"] = {"concurrency": "first-write"}
    if change.ttl is not None:
        request["metadata"] = {"ttlInSeconds": str(whole_seconds(change.ttl))}
    return request
