"""The bodies of the state API.

Field names match without case, as Go's decoder has it. Values are JSON texts that nobody looks
into: what is saved is what comes back, byte for byte but for the space around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from pillion.errors import Invalid
from pillion.kinds.state import Item

T = TypeVar("T")
MALFORMED = "ERR_MALFORMED_REQUEST"
NULL = Raw(b"null")


class WriteOptions(msgspec.Struct, forbid_unknown_fields=True):
    """How an item is written; None is the default."""

    concurrency: str | None = None
    consistency: str | None = None


class StateItem(msgspec.Struct, forbid_unknown_fields=True):
    """One item of a request that writes."""

    key: str | None = None
    value: Raw = NULL
    etag: str | None = None
    metadata: dict[str, str | None] | None = None
    options: WriteOptions | None = None

    def merged(self, over: Mapping[str, str]) -> Mapping[str, str]:
        """Return the item's metadata with ``over`` going over it."""
        if not self.metadata:
            return over
        return {**{name: text or "" for name, text in self.metadata.items()}, **over}


class StateOperation(msgspec.Struct, forbid_unknown_fields=True):
    """One operation of a transaction."""

    operation: str | None = None
    request: StateItem | None = None


class Transaction(msgspec.Struct, forbid_unknown_fields=True):
    """Several operations as one."""

    operations: list[StateOperation] | None = None
    metadata: dict[str, str | None] | None = None


class BulkGet(msgspec.Struct, forbid_unknown_fields=True):
    """The keys to get; the rest is taken and not needed."""

    keys: list[str] | None = None
    parallelism: int | None = None
    metadata: dict[str, str | None] | None = None


class Found(msgspec.Struct):
    """What became of one key; with nothing but the key it is missing."""

    key: str
    data: Raw | UnsetType = UNSET
    etag: str | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET
    error: str | UnsetType = UNSET


_ITEMS = msgspec.json.Decoder(list[StateItem])
_TRANSACTION = msgspec.json.Decoder(Transaction)
_BULK = msgspec.json.Decoder(BulkGet)
_ANYTHING = msgspec.json.Decoder(Raw)
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
_QUERY = msgspec.json.Decoder(dict[str, Any])
_ENCODER = msgspec.json.Encoder()


def read_items(body: bytes) -> list[StateItem]:
    """Read the body of a save: a list of items, each with its key.

    Raises:
        Invalid: it is not.
    """
    items = _read(body, _ITEMS, _folded_items)
    for index, item in enumerate(items):
        if not item.key:
            raise _no_key(f"item {index}")
    return items


def read_transaction(body: bytes) -> Sequence[StateOperation]:
    """Read the operations of a transaction.

    Raises:
        Invalid: it is none.
    """
    operations = _read(body, _TRANSACTION, _folded_transaction).operations or ()
    for index, operation in enumerate(operations):
        if operation.operation in ("upsert", "delete") and not (
            operation.request and operation.request.key
        ):
            raise _no_key(f"operation {index}")
    return operations


def read_bulk_get(body: bytes) -> Sequence[str]:
    """Read the keys of a bulk get.

    Raises:
        Invalid: the body is none.
    """
    return _read(body, _BULK, _fields_of(BulkGet)).keys or ()


def read_query(body: bytes) -> dict[str, Any]:
    """Read a query: an object that the store looks into.

    Raises:
        Invalid: it is none.
    """
    try:
        return _QUERY.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        why = str(error) or "it is nested too deeply"
        raise Invalid(f"failed to parse JSON query body: {why}") from None


def expiry_of(item: Item) -> str | None:
    """Return when the item expires (RFC 3339, UTC, whole seconds), None when it does not."""
    if item.expires is None:
        return None
    moment = datetime.fromtimestamp(int(item.expires), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def found(key: str, item: Item | None, value: bytes) -> Found:
    """Return what is told of ``key``, ``value`` being the item's in plain text."""
    if item is None:
        return Found(key)
    data = _as_json(value)
    if data is None:
        return Found(key, error="the value is not JSON; get it by its key")
    expires = expiry_of(item)
    metadata = {"ttlExpireTime": expires} if expires is not None else UNSET
    return Found(key, data, item.etag or UNSET, metadata)


def bulk_body(items: Sequence[Found]) -> bytes:
    """Return the answer to a bulk get."""
    return _ENCODER.encode(items)


def query_body(items: Sequence[Found], token: str | None) -> bytes:
    """Return the answer to a query."""
    answer: dict[str, object] = {"results": items}
    if token:
        answer["token"] = token
    return _ENCODER.encode(answer)


def page_body(keys: Iterable[str], token: str | None) -> bytes:
    """Return one page of keys."""
    page: dict[str, object] = {"keys": list(keys)}
    if token:
        page["token"] = token
    return _ENCODER.encode(page)


def event(item: Found) -> bytes:
    """Return a change as a server-sent event (WHATWG HTML, section 9.2)."""
    # A line break in JSON is space between its parts: it may stand anywhere between them.
    lines = _ENCODER.encode(item).replace(b"\r", b"\n").split(b"\n")
    return b"".join(b"data: %b\n" % line for line in lines if line) + b"\n"


def _as_json(value: bytes) -> Raw | None:
    try:
        raw = _ANYTHING.decode(value)
        value.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return raw


# Reading: strictly first, and with folded names only if that fails.


def _read(body: bytes, decoder: msgspec.json.Decoder[T], folded: Callable[[Raw | bytes], Any]) -> T:
    try:
        body.decode()  # texts that stay raw are not looked into
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            return decoder.decode(_ENCODER.encode(folded(body)))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"failed deserializing HTTP body: {error}", code=MALFORMED) from None
    except RecursionError:
        why = "failed deserializing HTTP body: the JSON is nested too deeply"
        raise Invalid(why, code=MALFORMED) from None


def _fold(raw: Raw | bytes, names: frozenset[str]) -> dict[str, Any] | Raw | bytes:
    """Return the fields of an object under their documented names, without unknown ones."""
    try:
        fields = _OBJECT.decode(raw)
    except msgspec.ValidationError:
        return raw  # of another type: the typed decoder says so
    return {name.lower(): value for name, value in fields.items() if name.lower() in names}


def _fields_of(struct: type[msgspec.Struct]) -> Callable[[Raw | bytes], Any]:
    names = frozenset(struct.__struct_fields__)

    def folded(raw: Raw | bytes) -> Any:
        found = _fold(raw, names)
        return Raw(found) if isinstance(found, bytes) else found

    return folded


_item = _fields_of(StateItem)
_options = _fields_of(WriteOptions)
_operation = _fields_of(StateOperation)
_whole = _fields_of(Transaction)


def _folded_item(raw: Raw | bytes) -> Any:
    return _inside(_item(raw), "options", _options)


def _folded_items(raw: Raw | bytes) -> Any:
    return [_folded_item(one) for one in _LIST.decode(raw)]


def _folded_operation(raw: Raw | bytes) -> Any:
    return _inside(_operation(raw), "request", _folded_item)


def _folded_operations(raw: Raw | bytes) -> Any:
    try:
        return [_folded_operation(one) for one in _LIST.decode(raw)]
    except msgspec.ValidationError:
        return raw


def _folded_transaction(raw: Raw | bytes) -> Any:
    return _inside(_whole(raw), "operations", _folded_operations)


def _inside(fields: Any, name: str, fold: Callable[[Raw | bytes], Any]) -> Any:
    if isinstance(fields, dict) and name in fields:
        fields[name] = fold(fields[name])
    return fields


def _no_key(where: str) -> Invalid:
    return Invalid(
        f'failed deserializing HTTP body: {where}: "key" is a required field', code=MALFORMED
    )


__all__ = [
    "MALFORMED",
    "Found",
    "StateItem",
    "StateOperation",
    "bulk_body",
    "event",
    "expiry_of",
    "found",
    "page_body",
    "query_body",
    "read_bulk_get",
    "read_items",
    "read_query",
    "read_transaction",
]
