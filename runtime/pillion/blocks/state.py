"""State: values by key, under ``/v1.0/state/{store}``.

The rows are Dapr's, and two of our own: a GET of the store itself lists keys, and
``{key}/watch`` follows one. A key with ``/`` in it is written with ``%2F``.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from pillion.blocks import state_failures as failures
from pillion.blocks.event_streams import EventStreams
from pillion.blocks.state_changes import StateChanges
from pillion.blocks.state_stores import Store, Stores
from pillion.body import read_all
from pillion.call import Headers, Reply
from pillion.errors import Failure, Invalid
from pillion.kinds.opened import Components
from pillion.kinds.state import Item, Listable, Queryable, Watchable
from pillion.operation import Operation, Request
from pillion.wire.errors_json import JSON_TYPE
from pillion.wire.query_string import parameters
from pillion.wire.state_json import (
    MALFORMED,
    Found,
    bulk_body,
    event,
    expiry_of,
    found,
    page_body,
    query_body,
    read_bulk_get,
    read_query,
)

PAGE = 100
"""Keys in one page when nobody says how many."""
LONGEST_PAGE = 1000


class State:
    """The block.

    Args:
        components: what is open.
        app_id, namespace: the runtime's app.
        max_body: bytes of a request's body; -1 for no limit.
    """

    __slots__ = ("_changes", "_max_body", "_stores", "_streams")

    def __init__(
        self, components: Components, *, app_id: str, namespace: str, max_body: int
    ) -> None:
        self._stores = Stores(components, app_id, namespace)
        self._max_body = max_body if max_body >= 0 else sys.maxsize
        self._changes = StateChanges(self._stores, self._max_body)
        self._streams = EventStreams()

    async def aclose(self) -> None:
        """End the watches; they would hold a drain up."""
        await self._streams.aclose()

    def operations(self) -> list[Operation]:
        """Return the block's rows."""
        rows = (
            ("bulk_get", "POST PUT", "/bulk", self.bulk_get, "values of several keys"),
            ("get", "GET", "/{key}", self.get, "the value of a key"),
            ("list", "GET", "", self.list_keys, "keys, page by page"),
            ("watch", "GET", "/{key}/watch", self.watch, "the changes of a key, as events"),
        )
        query = Operation(
            "state.query",
            ("POST", "PUT"),
            "state/{store}/query",
            self.query,
            group="state",
            versions=("v1.0-alpha1",),
            summary="values that a filter finds",
        )
        return [
            *(
                Operation(
                    f"state.{name}",
                    tuple(methods.split()),
                    f"state/{{store}}{path}",
                    endpoint,
                    group="state",
                    summary=summary,
                )
                for name, methods, path, endpoint, summary in rows
            ),
            *self._changes.operations(),
            query,
        ]

    async def get(self, request: Request) -> Reply:
        """Answer with the stored bytes, or 204 when the key is missing."""
        store = self._stores.find(request.params["store"])
        key = request.params["key"]
        stored = store.stored(key)
        try:
            item = await store.component.get(stored, strong=_is_strong(parameters(request.query)))
            value = b"" if item is None else store.plain(item.value)
        except Failure as failure:
            raise failures.get_failed(store.name, key, failure) from None
        if item is None:
            return Reply(204)
        headers: Headers = [JSON_TYPE]
        if item.etag:
            headers.append((b"ETag", item.etag.encode()))
        expires = expiry_of(item)
        if expires is not None:
            headers.append((b"metadata.ttlExpireTime", expires.encode()))
        return Reply(200, headers, value)

    async def bulk_get(self, request: Request) -> Reply:
        """Answer with one item for each key, in their order."""
        store = self._stores.find(request.params["store"])
        keys = read_bulk_get(await read_all(request.body, self._max_body))
        stored = [store.stored(key) for key in keys]
        strong = _is_strong(parameters(request.query))
        try:
            items = await store.component.get_many(stored, strong=strong) if stored else []
        except Failure as failure:
            raise failures.bulk_get_failed(failure) from None
        answer = [_found(store, key, item) for key, item in zip(keys, items, strict=True)]
        return Reply(200, [JSON_TYPE], bulk_body(answer))

    async def query(self, request: Request) -> Reply:
        """Answer with what the store finds, whatever prefix its keys have; 204 for nothing."""
        store = self._stores.find(request.params["store"])
        component = store.component
        if not isinstance(component, Queryable):
            raise failures.no_query(store.name)
        if store.cipher is not None:
            raise failures.no_encrypted_query(store.name)
        body = await read_all(request.body, self._max_body)
        try:
            answer = await component.query(read_query(body))
        except Failure as failure:
            raise failures.query_failed(store.name, failure) from None
        if not answer.items:
            return Reply(204)
        items = [_found(store, store.prefix.bare(item.key), item) for item in answer.items]
        return Reply(200, [JSON_TYPE], query_body(items, answer.token))

    async def list_keys(self, request: Request) -> Reply:
        """Answer with one page of the app's keys, and the token of the next."""
        store = self._stores.find(request.params["store"])
        component = store.component
        if not isinstance(component, Listable):
            raise failures.no_listing(store.name)
        asked = parameters(request.query)
        prefix = store.stored(asked.get("prefix", ""))
        limit = _limit(asked)
        try:
            page = await component.list(prefix, limit, asked.get("token") or None)
        except Failure as failure:
            raise failures.list_failed(store.name, failure) from None
        # Without a prefix of its own an app sees those of others, and could not name their keys.
        keys = [store.prefix.bare(key) for key in page.keys if store.prefix.owns(key)]
        return Reply(200, [JSON_TYPE], page_body(keys, page.token))

    async def watch(self, request: Request) -> Reply:
        """Answer with the present state of a key and then every newer one, as events."""
        store = self._stores.find(request.params["store"])
        if not isinstance(store.component, Watchable):
            raise failures.no_watch(store.name)
        key = request.params["key"]
        return self._streams.reply(_events(store, store.component, key, store.stored(key)))


async def _events(
    store: Store, component: Watchable, key: str, stored: str
) -> AsyncGenerator[bytes, None]:
    async with aclosing(component.watch(stored)) as changes:
        async for change in changes:
            yield event(_found(store, key, change.item))


def _found(store: Store, key: str, item: Item | None) -> Found:
    if item is None:
        return Found(key)
    try:
        return found(key, item, store.plain(item.value))
    except Failure as failure:
        return Found(key, error=failure.message)


def _is_strong(asked: Mapping[str, str]) -> bool:
    return asked.get("consistency") != "eventual"


def _limit(asked: Mapping[str, str]) -> int:
    text = asked.get("limit", "")
    if not text:
        return PAGE
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:5]) <= LONGEST_PAGE):
        raise Invalid(f"limit must be a whole number from 1 to {LONGEST_PAGE}", code=MALFORMED)
    return int(text)


__all__ = ["LONGEST_PAGE", "PAGE", "State"]
