"""Components and requests for the tests of blocks: the real blocks, behind a router."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pillion import registry
from pillion.body import Body, read_all
from pillion.call import Reply
from pillion.errors import Failure, Invalid, Unavailable
from pillion.kinds.component import Component, Context
from pillion.kinds.lock import LockStore, Unlocked
from pillion.kinds.opened import Opened
from pillion.kinds.secretstores import SecretStore
from pillion.kinds.state import Item, Remove, StateStore, Transactional, Write
from pillion.net.router import Router
from pillion.operation import Operation, Request
from pillion.wire.errors_json import error_reply, text_reply


class Declared:
    """Components that a test has opened."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._found: dict[tuple[type[Component], str], Opened[Any]] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def open(
        self,
        kind: type[Component],
        type_name: str,
        name: str,
        settings: Mapping[str, str] | None = None,
        **runtime_metadata: str,
    ) -> Any:
        """Open a component that YAML could declare."""
        context = Context(name=name, home=self._home, app_id="orders", settings=settings or {})
        component = await self._stack.enter_async_context(registry.find(type_name).open(context))
        self.add(kind, component, name, **runtime_metadata)
        return component

    def add(
        self, kind: type[Component], component: Component, name: str, **runtime_metadata: str
    ) -> None:
        """Take a component that is open already."""
        self._found[kind, name] = Opened(component, name, "test", "v1", runtime_metadata)

    def find(self, kind: type[Any], name: str) -> Opened[Any] | None:
        """See ``Components``."""
        return self._found.get((kind, name))

    def names(self, kind: type[Component]) -> Sequence[str]:
        """See ``Components``."""
        return [name for promise, name in self._found if promise is kind]


@dataclass
class Answer:
    """A reply with its body read."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((v.decode() for n, v in self.headers if n.decode() == name), None)

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, code and message."""
        error = self.json
        return self.status, error["errorCode"], error["message"]

    @property
    def info(self) -> dict[str, Any]:
        """The first detail, which is the ErrorInfo."""
        detail = self.json["details"][0]
        assert detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
        assert detail["domain"] == "dapr.io"
        return detail


class Api:
    """Asks the rows of a block as the local API does."""

    def __init__(self, rows: Sequence[Operation]) -> None:
        self._router = Router(rows, _no_row, lambda _group, _version: True)

    async def ask(
        self, method: str, target: str, body: Body | object = b"", *headers: tuple[str, str]
    ) -> Answer:
        """Ask and read the whole answer; a body that is no bytes is sent as JSON."""
        reply = await self.open(method, target, body, *headers)
        return Answer(reply.status, reply.headers, await read_all(reply.body, 1 << 26))

    async def open(
        self, method: str, target: str, body: Body | object = b"", *headers: tuple[str, str]
    ) -> Reply:
        """Ask and leave the body where it is."""
        path, _, query = target.partition("?")
        data = body if isinstance(body, Body) else json.dumps(body).encode()
        request = Request(
            method.encode(),
            path.encode(),
            query.encode(),
            [(name.encode(), value.encode()) for name, value in headers],
            data,
        )
        endpoint, _row = self._router.find(request)
        try:
            return await endpoint(request)
        except Failure as failure:
            return error_reply(failure)


async def _no_row(_request: Request) -> Reply:
    return text_reply(404, "no row")


class _Opens:
    @classmethod
    @asynccontextmanager
    async def open(cls, context: Context) -> AsyncIterator[Self]:
        yield cls()

    async def ping(self) -> None:
        return


class PlainState(_Opens, StateStore):
    """A store with no ability; its tags are ``1``."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def get(self, key: str, *, strong: bool = True) -> Item | None:
        return Item(key, self.values[key], "1") if key in self.values else None

    async def get_many(self, keys: Sequence[str], *, strong: bool = True) -> list[Item | None]:
        return [await self.get(key) for key in keys]

    async def write(self, change: Write) -> None:
        if change.etag is not None and not change.etag.isdigit():
            raise Invalid("it is no number", reason="etag-invalid")
        if isinstance(change, Remove):
            self.values.pop(change.key, None)
        else:
            self.values[change.key] = change.value


class BrokenState(_Opens, Transactional):
    """A store whose server is gone; it takes two changes in one transaction."""

    max_operations = 2

    async def get(self, key: str, *, strong: bool = True) -> Item | None:
        raise Unavailable("the server is gone")

    async def get_many(self, keys: Sequence[str], *, strong: bool = True) -> list[Item | None]:
        raise Unavailable("the server is gone")

    async def write(self, change: Write) -> None:
        raise Unavailable("the server is gone")

    async def transact(self, changes: Sequence[Write]) -> None:
        raise Unavailable("the server is gone")


class BrokenLock(_Opens, LockStore):
    """A lock store whose server is gone."""

    async def lock(self, resource: str, owner: str, expiry: float) -> int | None:
        raise Unavailable("the server is gone")

    async def renew(self, resource: str, owner: str, expiry: float) -> bool:
        raise Unavailable("the server is gone")

    async def unlock(self, resource: str, owner: str) -> Unlocked:
        raise Unavailable("the server is gone")


class BrokenSecrets(_Opens, SecretStore):
    """A secret store whose server is gone."""

    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        raise Unavailable("the server is gone")

    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        raise Unavailable("the server is gone")


class EmptySecrets(_Opens, SecretStore):
    """A secret store whose secrets have no values; it tells what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, str]] = []

    async def get(self, name: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        self.asked.append(metadata)
        return {}

    async def bulk(self, metadata: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
        self.asked.append(metadata)
        return {}
