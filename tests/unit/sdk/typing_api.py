"""How user code looks to a type checker; checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, assert_type

from pillion_sdk import (
    App,
    Body,
    Client,
    Event,
    Header,
    HeldLock,
    IncomingReply,
    InvokeError,
    NotFound,
    Query,
    Request,
    Response,
    Save,
    StateStore,
    Stored,
    SyncClient,
    events,
)
from pillion_sdk.testing import AsyncTestClient, Invocation, SyncTestClient, TestClient

app = App("orders", max_body=-1)


@dataclass
class Order:
    number: int


class OutOfStock(Exception):
    sku: str


# Decorators keep the type of what they decorate.


@app.call("orders/{number}", methods=["GET"])
async def read(number: int, tag: Annotated[list[str], Query("t")]) -> Order:
    raise NotFound(f"no order {number}")


@app.call("orders")
def create(order: Order, x_user: Annotated[str, Header()] = "") -> Response:
    return Response(201, order, {"x-user": x_user})


@app.call("text")
async def text(body: Annotated[str, Body()]) -> None: ...


@app.call("ticks", methods=["GET"])
async def ticks() -> AsyncIterator[bytes]:
    yield b"tick"


@app.on_start
async def start() -> None: ...


@app.on_stop
def stop() -> None: ...


async def decorated() -> None:
    assert_type(await read(1, []), Order)
    assert_type(create(Order(1)), Response)
    assert_type(await text("x"), None)
    assert_type(ticks(), AsyncIterator[bytes])
    assert_type(await start(), None)
    await read("1", [])  # type: ignore[arg-type] # the point: a wrong argument is an error
    app.call("x", methods=["GET"])(1)  # type: ignore[type-var] # as is no function


# Errors.

app.error(OutOfStock, status=409, message=lambda error: error.sku)
app.error(OutOfStock, status=409, message=lambda error: error.nothing)  # type: ignore[attr-defined]
app.error(int, status=409)  # type: ignore[type-var] # no exception


# Requests.


async def requests(request: Request) -> None:
    assert_type(await request.body(), bytes)
    assert_type(await request.json(), Any)
    assert_type(await request.json(Order), Order)
    assert_type(await request.json(list[Order]), list[Order])
    assert_type(request.caller, str | None)
    assert_type(request.remaining, float | None)
    assert_type(request.headers.get("x"), str | None)
    assert_type(request.headers.get("x", ""), str)
    assert_type(request.headers["x"], str)
    async for chunk in request.stream():
        assert_type(chunk, bytes)


# Calls.


async def calls(client: Client) -> None:
    assert_type(app.client, Client)
    assert_type(await client.invoke("stock", "items/7"), Response)
    assert_type(await client.invoke("stock", "items/7", method="GET", type=Order), Order)
    assert_type(await client.invoke("stock", "items", json={}, type=list[Order]), list[Order])
    assert_type(await client.invoke("stock", "items", data="x", timeout=1, type=str), str)
    assert_type(await client.invoke("stock", "items", query={"a": 1}, type=bytes), bytes)
    assert_type(await client.invoke("stock", "items", type=dict[str, int]), dict[str, int])
    assert_type((await client.invoke("stock", "items")).json(Order), Order)
    await client.invoke("stock", "items", metod="GET")  # type: ignore[call-overload] # a slip
    await client.invoke("stock", "items", method=1)  # type: ignore[call-overload] # no method
    async with client.stream("stock", "feed", data=ticks()) as reply:
        assert_type(reply, IncomingReply)
        async for chunk in reply:
            assert_type(chunk, bytes)
    try:
        await client.wait_ready(1)
    except InvokeError as error:
        assert_type(error.status, int)
        assert_type(error.error_code, str)
        assert_type(error.response, Response | None)


def plain_calls() -> None:
    assert_type(app.sync_client, SyncClient)
    assert_type(app.sync_client.invoke("stock", "items/7", type=Order), Order)
    assert_type(app.sync_client.invoke("stock", "items/7"), Response)
    with SyncClient() as client:
        assert_type(client, SyncClient)


# State and locks.


async def state() -> None:
    store = app.state("statestore")
    assert_type(store, StateStore)
    assert_type(await store.get("k"), Stored[Any] | None)
    assert_type(await store.get("k", type=Order), Stored[Order] | None)
    assert_type(await store.get_many(["k"], type=Order), dict[str, Stored[Order]])
    assert_type(await store.update("k", advance, type=Order, default=Order(0)), Order)
    assert_type(await store.update("k", advance_soon, type=Order), Order)
    await store.update("k", len, type=Order)  # type: ignore[arg-type] # makes no order
    await store.save_many([Save("k", Order(1), ttl=3)])
    await store.get("k", consistency="maybe")  # type: ignore[call-overload] # a slip
    async for key in store.keys("order-"):
        assert_type(key, str)
    async for change in store.watch("k", type=Order):
        assert_type(change, Stored[Order] | None)
    async with app.lock("lockstore", "file", ttl=30, wait=1) as lock:
        assert_type(lock, HeldLock)
        assert_type(lock.fencing_token, int)


def advance(order: Order) -> Order:
    return Order(order.number + 1)


async def advance_soon(order: Order) -> Order:
    return advance(order)


async def streams() -> None:
    assert_type(events(ticks()), Response)
    assert_type(Event({"a": 1}, event="x").encode(), bytes)


# Tests.


async def async_tests() -> None:
    async with TestClient(app) as client:
        assert_type(client, AsyncTestClient)
        assert_type(await client.get("orders/7", query={"t": ["a"]}, caller="x"), Response)
        client.on_invoke("stock", "items/{sku}", reply=lambda call: call)
        assert_type(client.invocations, list[Invocation])
        assert_type(client.invocations[0].json(Order), Order)


def plain_tests() -> None:
    with TestClient(app) as client:
        assert_type(client, SyncTestClient)
        assert_type(client.post("orders", json=Order(1)), Response)
        client.post("orders", jsn=Order(1))  # type: ignore[call-arg] # a slip
