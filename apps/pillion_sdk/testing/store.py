"""A state store for tests: the runtime's state API, kept in this process."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, overload

import anyio
import msgspec

from pillion_sdk import values
from pillion_sdk.headers import Headers
from pillion_sdk.problems import BadRequest, Conflict, MethodNotAllowed, Problem
from pillion_sdk.response import Event, Response, events

T = TypeVar("T")

LOOK_EVERY = 0.005
"""Seconds between two looks of a watch, which a test may wake from any thread this way."""


@dataclass(frozen=True, slots=True)
class _Entry:
    value: bytes
    etag: str
    expires: float | None

    @property
    def expiry(self) -> str | None:
        if self.expires is None:
            return None
        return datetime.fromtimestamp(int(self.expires), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Options(msgspec.Struct):
    concurrency: str = "last-write"


class _Item(msgspec.Struct):
    key: str
    value: msgspec.Raw = msgspec.Raw(b"null")
    etag: str = ""
    metadata: dict[str, str] = {}
    options: _Options = msgspec.field(default_factory=_Options)


class _Operation(msgspec.Struct):
    operation: str
    request: _Item


class _Transaction(msgspec.Struct):
    operations: list[_Operation] = []


class _Keys(msgspec.Struct):
    keys: list[str] = []


class StateDouble(MutableMapping[str, Any]):
    """A state store that a test looks into and changes: a mapping from keys to values as JSON.

    What the app stores is seen here as dicts, lists, text and numbers, or with :meth:`get` as a
    type; what the test stores may be anything with a JSON form.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._entries: dict[str, _Entry] = {}
        self._writes = 0

    # What a test does.

    def __getitem__(self, key: str) -> Any:
        return msgspec.json.decode(self._live(key).value)

    def __setitem__(self, key: str, value: object) -> None:
        self._put(key, values.encode_json(value), None)

    def __delitem__(self, key: str) -> None:
        self._live(key)
        del self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter([key for key in list(self._entries) if self._find(key) is not None])

    def __len__(self) -> int:
        return len(list(iter(self)))

    @overload
    def read(self, key: str, type: type[T]) -> T: ...
    @overload
    def read(self, key: str, type: Any) -> Any: ...
    def read(self, key: str, type: Any) -> Any:  # noqa: A002 - as above
        """Return a value as a type; KeyError when the key is missing."""
        return values.cached_json_reader(type)(self._live(key).value)

    def etag(self, key: str) -> str:
        """Return the present version of a key; KeyError when it is missing."""
        return self._live(key).etag

    def ttl(self, key: str) -> float | None:
        """Return the seconds a value has left, None for one that stays; KeyError if missing."""
        expires = self._live(key).expires
        return None if expires is None else expires - time.time()

    def __repr__(self) -> str:
        return f"<StateDouble {self.name}, {len(self)} keys>"

    # What the runtime's API does.

    async def answer(
        self, method: str, path: list[str], query: dict[str, str], body: bytes, headers: Headers
    ) -> Response:
        """Answer one request.

        Args:
            method: the HTTP method.
            path: the segments after the store's name, decoded.
            query: names and values.
            body: the whole body.
            headers: of the request.

        Raises:
            Problem: it is refused, as the runtime would refuse it.
        """
        match method, path:
            case "GET", []:
                return self._list(query)
            case "GET", [key]:
                return self._get(key)
            case "GET", [key, "watch"]:
                return events(self._watch(key))
            case "PUT" | "POST", []:
                return self._save(msgspec.json.decode(body, type=list[_Item]))
            case "PUT" | "POST", ["bulk"]:
                keys = msgspec.json.decode(body, type=_Keys).keys
                return Response(200, [self._found(key) for key in keys])
            case "PUT" | "POST", ["transaction"]:
                return self._transact(msgspec.json.decode(body, type=_Transaction).operations)
            case "DELETE", [key]:
                self._check(key, headers.get("if-match", ""), "ERR_STATE_DELETE")
                self._entries.pop(key, None)
                return Response(204)
        raise MethodNotAllowed(f"{method} is not supported there")

    def _get(self, key: str) -> Response:
        entry = self._find(key)
        if entry is None:
            return Response(204)
        headers = {"content-type": "application/json", "etag": entry.etag}
        if entry.expiry is not None:
            headers["metadata.ttlExpireTime"] = entry.expiry
        return Response(200, entry.value, headers)

    def _found(self, key: str) -> dict[str, Any]:
        entry = self._find(key)
        if entry is None:
            return {"key": key}
        found: dict[str, Any] = {"key": key, "data": msgspec.Raw(entry.value), "etag": entry.etag}
        if entry.expiry is not None:
            found["metadata"] = {"ttlExpireTime": entry.expiry}
        return found

    def _list(self, query: dict[str, str]) -> Response:
        after, limit = query.get("token", ""), int(query.get("limit", "100"))
        keys = sorted(
            key for key in self if key.startswith(query.get("prefix", "")) and key > after
        )
        page: dict[str, object] = {"keys": keys[:limit]}
        if len(keys) > limit:
            page["token"] = keys[limit - 1]
        return Response(200, page)

    async def _watch(self, key: str) -> AsyncIterator[Event]:
        seen: object = self
        while True:
            entry = self._find(key)
            if entry is not seen:
                seen = entry
                yield Event(self._found(key))
            await anyio.sleep(LOOK_EVERY)

    def _save(self, items: list[_Item]) -> Response:
        refused: Problem | None = None
        for item in items:
            try:
                self._check_item(item, "ERR_STATE_SAVE")
            except Problem as problem:
                refused = refused or problem
            else:
                self._put(item.key, bytes(item.value), _ttl(item))
        if refused is not None:
            raise refused
        return Response(204)

    def _transact(self, operations: list[_Operation]) -> Response:
        before = dict(self._entries)
        try:
            for operation in operations:
                item = operation.request
                self._check_item(item, "ERR_STATE_TRANSACTION", of_upsert=_is_upsert(operation))
                if _is_upsert(operation):
                    self._put(item.key, bytes(item.value), _ttl(item))
                else:
                    self._entries.pop(item.key, None)
        except Problem as problem:
            self._entries = before
            # Dapr's API has no 409 here.
            raise Problem(problem.message, status=500, error_code=problem.error_code) from None
        return Response(204)

    def _check_item(self, item: _Item, code: str, *, of_upsert: bool = True) -> None:
        first = item.options.concurrency == "first-write"
        if of_upsert and first and not item.etag and self._find(item.key) is not None:
            raise _mismatch(item.key, "the key is there already", code)
        self._check(item.key, item.etag, code)

    def _check(self, key: str, etag: str, code: str) -> None:
        if "||" in key:
            raise BadRequest(
                f"input key/keyPrefix '{key}' can't contain '||'",
                error_code="ERR_MALFORMED_REQUEST",
            )
        entry = self._find(key)
        if etag and (entry is None or entry.etag != etag):
            raise _mismatch(key, "the key has another version", code)

    def _put(self, key: str, value: bytes, ttl: int | None) -> None:
        self._writes += 1
        expires = None if ttl is None else time.time() + ttl
        self._entries[key] = _Entry(value, str(self._writes), expires)

    def _find(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None or (entry.expires is not None and entry.expires <= time.time()):
            return None
        return entry

    def _live(self, key: str) -> _Entry:
        entry = self._find(key)
        if entry is None:
            raise KeyError(key)
        return entry


def _is_upsert(operation: _Operation) -> bool:
    return operation.operation == "upsert"


def _ttl(item: _Item) -> int | None:
    seconds = int(item.metadata.get("ttlInSeconds", "-1"))
    return seconds if seconds > 0 else None


def _mismatch(key: str, why: str, code: str) -> Problem:
    return Conflict(
        f"possible etag mismatch. error from state store: {key}: {why}", error_code=code
    )
