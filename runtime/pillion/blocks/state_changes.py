"""The rows of the state API that change something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pillion.blocks import state_failures as failures
from pillion.blocks.state_stores import Store, Stores
from pillion.body import read_all
from pillion.call import Reply, find
from pillion.errors import Conflict, Failure, Invalid, Unsupported
from pillion.kinds.state import Expiring, Put, Transactional, Write
from pillion.operation import Operation, Request
from pillion.policy.state_write import is_first_write, is_projection, to_put, to_remove
from pillion.wire.query_string import metadata_of, parameters
from pillion.wire.state_json import (
    StateItem,
    StateOperation,
    read_items,
    read_transaction,
)

_WRITES = ("POST", "PUT")


class StateChanges:
    """The rows.

    Args:
        stores: finds stores.
        max_body: bytes of a request's body.
    """

    __slots__ = ("_max_body", "_stores")

    def __init__(self, stores: Stores, max_body: int) -> None:
        self._stores = stores
        self._max_body = max_body

    def operations(self) -> list[Operation]:
        """Return the rows."""
        return [
            Operation(
                "state.save",
                _WRITES,
                "state/{store}",
                self.save,
                group="state",
                summary="save values, each on its own",
            ),
            Operation(
                "state.transaction",
                _WRITES,
                "state/{store}/transaction",
                self.transaction,
                group="state",
                summary="save and delete several keys as one",
            ),
            Operation(
                "state.delete",
                ("DELETE",),
                "state/{store}/{key}",
                self.delete,
                group="state",
                summary="delete a key",
            ),
        ]

    async def save(self, request: Request) -> Reply:
        """Save every item, or as many as can be; 204 when all are."""
        store = self._stores.find(request.params["store"])
        items = read_items(await read_all(request.body, self._max_body))
        over = metadata_of(parameters(request.query))
        for item in items:
            store.stored(item.key or "")  # a key that is wrong goes before options that are
        try:
            await _save(store, [_put(store, item, over) for item in items])
        except Failure as failure:
            raise failures.save_failed(store.name, failure) from None
        return Reply(204)

    async def delete(self, request: Request) -> Reply:
        """Delete a key; 204 also when it is missing already."""
        store = self._stores.find(request.params["store"])
        key = request.params["key"]
        stored = store.stored(key)
        asked = parameters(request.query)
        tag = find(request.headers, b"if-match")
        etag = tag.decode("utf-8", "replace") if tag else None
        try:
            first = is_first_write(asked.get("concurrency"), asked.get("consistency"))
            if first and etag is None:
                await _require_missing(store, stored, key)
            else:
                await store.component.write(to_remove(stored, etag))
        except Failure as failure:
            raise failures.delete_failed(key, failure) from None
        return Reply(204)

    async def transaction(self, request: Request) -> Reply:
        """Make all changes or none."""
        store = self._stores.find(request.params["store"])
        component = store.component
        if not isinstance(component, Transactional):
            raise failures.no_transactions(store.name)
        operations = read_transaction(await read_all(request.body, self._max_body))
        for operation in operations:
            if operation.operation not in ("upsert", "delete"):
                raise failures.unknown_operation(operation.operation or "")
            if operation.request is not None:
                store.stored(operation.request.key or "")
        most = component.max_operations
        if most is not None and len(operations) > most:
            raise failures.too_many(store.name, len(operations), most)
        over = metadata_of(parameters(request.query))
        try:
            changes = _changes(store, operations, over)
            if changes:
                await component.transact(changes)
        except Failure as failure:
            raise failures.transaction_failed(failure) from None
        return Reply(204)


async def _save(store: Store, changes: Sequence[Put]) -> None:
    if len(changes) == 1:
        await store.component.write(changes[0])
        return
    results = await store.component.write_many(changes) if changes else []
    errors: list[tuple[str, Failure]] = []
    for change, error in zip(changes, results, strict=True):
        if isinstance(error, Failure):
            errors.append((store.prefix.bare(change.key), error))
        elif error is not None:
            raise error
    if errors:
        raise failures.worst(errors)


async def _require_missing(store: Store, stored: str, key: str) -> None:
    # A first write without a tag is for missing keys, and of those nothing is left to delete.
    if await store.component.get(stored) is not None:
        raise Conflict(f"the key {key} is there, and the request has no etag")


def _changes(
    store: Store, operations: Sequence[StateOperation], over: Mapping[str, str]
) -> list[Write]:
    changes: list[Write] = []
    for operation in operations:
        item = operation.request or StateItem()
        if operation.operation == "delete":
            first = is_first_write(*_options(item))
            if first and not item.etag:
                raise Invalid(
                    f"the transaction deletes {item.key} with first-write and has no etag for it"
                )
            changes.append(to_remove(store.stored(item.key or ""), item.etag))
        elif not (store.has_outbox and is_projection(item.merged(over))):
            changes.append(_put(store, item, over))
    return changes


def _put(store: Store, item: StateItem, over: Mapping[str, str]) -> Put:
    put = to_put(
        store.stored(item.key or ""),
        store.sealed(bytes(item.value)),
        item.etag,
        item.merged(over),
        first_write=is_first_write(*_options(item)),
    )
    if put.ttl is not None and not isinstance(store.component, Expiring):
        raise Unsupported(
            f"values of this store cannot expire, and {item.key} has the metadata ttlInSeconds"
        )
    return put


def _options(item: StateItem) -> tuple[str | None, str | None]:
    options = item.options
    return (None, None) if options is None else (options.concurrency, options.consistency)


__all__ = ["StateChanges"]
