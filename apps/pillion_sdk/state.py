"""Values by key, in a state store of the runtime."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload
from urllib.parse import urlencode

from pillion_sdk import values
from pillion_sdk.invocation import InvokeError
from pillion_sdk.response import Response
from pillion_sdk.runtime_api import RuntimeApi, segment
from pillion_sdk.state_changes import (
    Change,
    Found,
    Page,
    Save,
    StateError,
    Stored,
    checked_key,
    failure_of,
    is_conditional,
    read_expiry,
    read_found,
    read_value,
    save_body,
    transaction_body,
)
from pillion_sdk.state_update import ATTEMPTS, NOTHING, update
from pillion_sdk.state_watch import changes_of
from pillion_sdk.transaction import Transaction

if TYPE_CHECKING:
    from pillion_sdk.client import Client

T = TypeVar("T")
Consistency: TypeAlias = Literal["strong", "eventual"]


class StateStore:
    """One state store; made by :meth:`App.state` and :meth:`Client.state`.

    Values are JSON: what :meth:`save` takes, :meth:`get` reads back as the type it is given.
    Every method raises StateError when the store is unknown or cannot be reached, ValueError for
    an empty key, and TypeError for a value without a JSON form.

    Args:
        client: how requests leave.
        name: the store's.
    """

    __slots__ = ("_api", "_path", "name")

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._api = RuntimeApi(client)
        self._path = f"/v1.0/state/{segment(name)}"

    @overload
    async def get(self, key: str, *, consistency: Consistency = ...) -> Stored[Any] | None: ...
    @overload
    async def get(
        self, key: str, *, type: type[T], consistency: Consistency = ...
    ) -> Stored[T] | None: ...
    @overload
    async def get(
        self, key: str, *, type: Any, consistency: Consistency = ...
    ) -> Stored[Any] | None: ...
    async def get(
        self,
        key: str,
        *,
        type: Any = Any,  # noqa: A002 - the word users read in every call
        consistency: Consistency = "strong",
    ) -> Stored[Any] | None:
        """Return a value, None when the key is missing.

        Args:
            key: which.
            type: what to read the value as.
            consistency: ``eventual`` allows a store with replicas to answer from one that lags.

        Raises:
            StateError: the value is not of the type (502, ``ERR_MALFORMED_VALUE``).
        """
        query = _query(consistency=consistency)
        response = await self._ask("GET", self._key_path(key) + query, keys=(key,))
        if response.status == 204:
            return None
        value = read_value(self.name, key, response.body, type)
        expires = read_expiry(response.headers.get("metadata.ttlexpiretime"))
        return Stored(key, value, response.headers.get("etag", ""), expires)

    @overload
    async def get_many(
        self, keys: Iterable[str], *, consistency: Consistency = ...
    ) -> dict[str, Stored[Any]]: ...
    @overload
    async def get_many(
        self, keys: Iterable[str], *, type: type[T], consistency: Consistency = ...
    ) -> dict[str, Stored[T]]: ...
    @overload
    async def get_many(
        self, keys: Iterable[str], *, type: Any, consistency: Consistency = ...
    ) -> dict[str, Stored[Any]]: ...
    async def get_many(
        self,
        keys: Iterable[str],
        *,
        type: Any = Any,  # noqa: A002 - as above
        consistency: Consistency = "strong",
    ) -> dict[str, Stored[Any]]:
        """Return the values that are there, by key, in one request; see :meth:`get`."""
        wanted = [checked_key(key) for key in keys]
        if not wanted:
            return {}
        body = values.encode_json({"keys": wanted})
        target = f"{self._path}/bulk{_query(consistency=consistency)}"
        response = await self._ask("PUT", target, body, keys=wanted)
        found = (read_found(self.name, one, type) for one in self._read(response, list[Found]))
        return {stored.key: stored for stored in found if stored is not None}

    async def save(
        self,
        key: str,
        value: Any,
        *,
        ttl: float | None = None,
        etag: str | None = None,
        create_only: bool = False,
    ) -> None:
        """Save a value.

        Args:
            key: under which.
            value: anything with a JSON form.
            ttl: seconds until it disappears, rounded up; without it the value stays, even if the
                one before had an end.
            etag: save only over this version.
            create_only: save only if the key is missing.

        Raises:
            StateConflict: ``etag`` or ``create_only`` did not hold.
        """
        await self.save_many([Save(key, value, ttl, etag, create_only)])

    async def save_many(self, items: Mapping[str, Any] | Iterable[Save]) -> None:
        """Save several values in one request, each on its own: some may be saved and others not.

        Args:
            items: values by key, or :class:`Save` for those with conditions.

        Raises:
            StateConflict: a condition did not hold.
        """
        if isinstance(items, Mapping):
            items = (Save(key, value) for key, value in items.items())
        changes = list(items)
        if changes:
            await self._change("PUT", self._path, save_body(changes), changes)

    async def delete(self, key: str, *, etag: str | None = None) -> None:
        """Delete a key; a missing one is deleted already.

        Args:
            key: which.
            etag: delete only this version.

        Raises:
            StateConflict: the key has another version, or is missing.
        """
        headers = [] if etag is None else [(b"if-match", etag.encode())]
        try:
            await self._api.ask(
                "DELETE", self._key_path(key), headers=headers, once=etag is not None
            )
        except InvokeError as error:
            raise failure_of(self.name, (key,), error) from None

    async def transact(self, changes: Iterable[Change]) -> None:
        """Make all changes or none, in their order.

        Args:
            changes: :class:`Save` and :class:`Delete`.

        Raises:
            StateConflict: a condition did not hold.
            StateError: the store has no transactions, or not such long ones.
        """
        listed = list(changes)
        if listed:
            target = f"{self._path}/transaction"
            await self._change("PUT", target, transaction_body(listed), listed)

    def transaction(self) -> Transaction:
        """Collect changes in an ``async with``; they are made at its end, all or none."""
        return Transaction(self)

    async def keys(self, prefix: str = "", *, page_size: int = 100) -> AsyncGenerator[str, None]:
        """Yield the keys of this app that begin with a prefix, in the store's order.

        They are asked for page by page, as they are used.

        Args:
            prefix: empty for all.
            page_size: keys in one request, 1 to 1000.

        Raises:
            StateError: the store does not list keys.
        """
        token = ""
        while True:
            query = _query(prefix=prefix, limit=str(page_size), token=token)
            page = self._read(await self._ask("GET", self._path + query), Page)
            for key in page.keys:
                yield key
            token = page.token
            if not token:
                return

    @overload
    def watch(self, key: str) -> AsyncGenerator[Stored[Any] | None, None]: ...
    @overload
    def watch(self, key: str, *, type: type[T]) -> AsyncGenerator[Stored[T] | None, None]: ...
    @overload
    def watch(self, key: str, *, type: Any) -> AsyncGenerator[Stored[Any] | None, None]: ...
    async def watch(
        self,
        key: str,
        *,
        type: Any = Any,  # noqa: A002 - as above
    ) -> AsyncGenerator[Stored[Any] | None, None]:
        """Yield the present value, then every newer one; None when the key is missing.

        Changes that follow fast may be joined; the last one is always yielded. A connection that
        breaks is made again, for 30 seconds at most; what had been yielded is not yielded again.
        A watch has one of the client's connections to itself until it is closed: leave the loop
        inside ``contextlib.aclosing``.

        Raises:
            StateError: the store cannot watch, or the runtime stays away.
        """
        target = f"{self._key_path(key)}/watch"
        async with aclosing(changes_of(self._api, self.name, key, target)) as changes:
            async for found in changes:
                yield read_found(self.name, found, type)

    @overload
    async def update(
        self,
        key: str,
        function: Callable[[T], T | Awaitable[T]],
        *,
        type: type[T],
        default: T = ...,
        ttl: float | None = ...,
        attempts: int = ...,
    ) -> T: ...
    @overload
    async def update(
        self,
        key: str,
        function: Callable[[Any], Any],
        *,
        type: Any = ...,
        default: Any = ...,
        ttl: float | None = ...,
        attempts: int = ...,
    ) -> Any: ...
    async def update(
        self,
        key: str,
        function: Callable[[Any], Any],
        *,
        type: Any = Any,  # noqa: A002 - as above
        default: Any = NOTHING,
        ttl: float | None = None,
        attempts: int = ATTEMPTS,
    ) -> Any:
        """Change a value without losing anybody else's change, and return the new one.

        The function is given the value and returns the new one. When somebody else has changed
        the key meanwhile, it is called again with what is there then, so it must have no effects
        of its own.

        Args:
            key: which.
            function: async or not; one that is not runs on the event loop and must be quick.
            type: what to read the value as.
            default: what the function gets, as a copy, when the key is missing.
            ttl: as for :meth:`save`; without it, an expiry that is there stays.
            attempts: tries in all.

        Raises:
            StateConflict: every try met another change.
            StateError: the key is missing and there is no default (404, ``ERR_STATE_MISSING``).
            TypeError: the function returned None, which is rarely what was meant.
        """
        return await update(self, key, function, type, default=default, ttl=ttl, attempts=attempts)

    def _key_path(self, key: str) -> str:
        return f"{self._path}/{segment(checked_key(key))}"

    async def _ask(
        self, method: str, target: str, body: bytes = b"", *, keys: Iterable[str] = ()
    ) -> Response:
        try:
            return await self._api.ask(method, target, body=body)
        except InvokeError as error:
            raise failure_of(self.name, keys, error) from None

    async def _change(
        self, method: str, target: str, body: bytes, changes: list[Save] | list[Change]
    ) -> None:
        once = any(map(is_conditional, changes))
        try:
            await self._api.ask(method, target, body=body, once=once)
        except InvokeError as error:
            raise failure_of(self.name, (one.key for one in changes), error) from None

    def _read(self, response: Response, wanted: type[T]) -> T:
        try:
            return response.json(wanted)
        except values.BadValue as error:
            text = f"the answer is not as expected: {error}"
            raise StateError(self.name, (), 502, "ERR_MALFORMED_RESPONSE", text) from None

    def __repr__(self) -> str:
        return f"<StateStore {self.name}>"


def _query(**parameters: str) -> str:
    given = {name: text for name, text in parameters.items() if text}
    return f"?{urlencode(given)}" if given else ""
