"""State stores as an app uses them: on the wire, and against the test client's stand-in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

import anyio
import pytest
from tests.unit.sdk.servers import Wire, reply, scripted

from pillion_sdk import App, Client, Delete, Save, StateConflict, StateError, StateStore, Stored
from pillion_sdk.testing import AsyncTestClient, TestClient

pytestmark = pytest.mark.anyio


@dataclass
class Order:
    id: int
    item: str = "lamp"


class Runtime:
    """Gives one answer after the other, the last one again, and keeps what it was asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, bytes, str]] = []

    async def __call__(self, wire: Wire) -> None:
        while True:
            head = (await wire.read_until(b"\r\n\r\n")).decode()
            length = head.partition("content-length: ")[2].partition("\r\n")[0]
            body = await wire.read_exactly(int(length or "0"))
            self.asked.append((head.partition(" HTTP/1.1")[0], body, head))
            await wire.send(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])


def at(port: int) -> Client:
    return Client(f"http://127.0.0.1:{port}")


DONE = b"HTTP/1.1 204 No Content\r\n\r\n"
CONFLICT = reply(
    b'{"errorCode":"ERR_STATE_SAVE","message":"possible etag mismatch"}', "409 Conflict"
)


# On the wire.


async def test_a_get_on_the_wire():
    """Name and key are one segment each; value, tag and expiry are read from the answer."""
    found = reply(
        b'{"id":7,"item":"desk"}',
        "200 OK",
        "ETag: a1",
        "metadata.ttlExpireTime: 2026-01-31T08:00:00Z",
    )
    runtime = Runtime(found)
    async with scripted(runtime) as port, at(port) as client:
        stored = await client.state("my store").get("a/b c", type=Order, consistency="eventual")

    expires = datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert stored == Stored("a/b c", Order(7, "desk"), "a1", expires)
    assert runtime.asked[0][0] == "GET /v1.0/state/my%20store/a%2Fb%20c?consistency=eventual"


async def test_saves_on_the_wire():
    """Tags, creation and expiry become options and metadata; values become JSON."""
    runtime = Runtime(DONE)
    async with scripted(runtime) as port, at(port) as client:
        store = client.state("s")
        await store.save("a", Order(1))
        await store.save_many(
            [Save("b", 1, ttl=1.5), Save("c", None, etag="7"), Save("d", [], create_only=True)]
        )
        await store.delete("e", etag="9")

    assert [line for line, _, _ in runtime.asked] == [
        "PUT /v1.0/state/s",
        "PUT /v1.0/state/s",
        "DELETE /v1.0/state/s/e",
    ]
    assert json.loads(runtime.asked[0][1]) == [{"key": "a", "value": {"id": 1, "item": "lamp"}}]
    first_write = {"concurrency": "first-write"}
    assert json.loads(runtime.asked[1][1]) == [
        {"key": "b", "value": 1, "metadata": {"ttlInSeconds": "2"}},
        {"key": "c", "value": None, "etag": "7", "options": first_write},
        {"key": "d", "value": [], "options": first_write},
    ]
    assert "if-match: 9\r\n" in runtime.asked[2][2]


async def test_a_transaction_on_the_wire():
    """Saves are upserts, and everything is one request; an empty one is none."""
    runtime = Runtime(DONE)
    async with scripted(runtime) as port, at(port) as client:
        async with client.state("s").transaction() as changes:
            changes.save("a", 1)
            changes.delete("b", etag="2")
        await client.state("s").transact([])

    assert len(runtime.asked) == 1
    assert json.loads(runtime.asked[0][1]) == {
        "operations": [
            {"operation": "upsert", "request": {"key": "a", "value": 1}},
            {
                "operation": "delete",
                "request": {"key": "b", "etag": "2", "options": {"concurrency": "first-write"}},
            },
        ]
    }


async def test_many_are_read_in_whatever_order_they_come():
    """A store may order its answer as it likes, and leave missing keys out."""
    answer = b'[{"key":"b","data":{"id":2},"etag":"5"},{"key":"c"},{"key":""}]'
    runtime = Runtime(reply(answer))
    async with scripted(runtime) as port, at(port) as client:
        found = await client.state("s").get_many(["a", "b", "c"], type=Order)
    assert found == {"b": Stored("b", Order(2), "5")}


async def test_a_key_that_cannot_be_read_is_named():
    """One key's error in a bulk answer is raised with its name."""
    runtime = Runtime(reply(b'[{"key":"b","error":"the key is unknown"}]'))
    async with scripted(runtime) as port, at(port) as client:
        with pytest.raises(StateError, match=r"state store s, key 'b': .*the key is unknown"):
            await client.state("s").get_many(["a", "b"])


@pytest.mark.parametrize(
    ("answer", "kind", "status", "code"),
    [
        (CONFLICT, StateConflict, 409, "ERR_STATE_SAVE"),
        (
            reply(
                b'{"errorCode":"ERR_STATE_TRANSACTION","message":"x: possible etag mismatch. y"}',
                "500 Internal Server Error",
            ),
            StateConflict,
            500,
            "ERR_STATE_TRANSACTION",
        ),
        (
            reply(b'{"errorCode":"ERR_STATE_STORE_NOT_FOUND","message":"no"}', "400 Bad Request"),
            StateError,
            400,
            "ERR_STATE_STORE_NOT_FOUND",
        ),
        (reply(b"broken", "503 Service Unavailable"), StateError, 503, ""),
    ],
)
async def test_errors(answer: bytes, kind: type, status: int, code: str):
    """An error has the answer's status, code and message, and names store and key."""
    async with scripted(Runtime(answer)) as port, at(port) as client:
        with pytest.raises(StateError, match="state store s, key 'k'") as caught:
            await client.state("s").save("k", 1)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.error_code) == (status, code)
    assert (caught.value.store, caught.value.keys) == ("s", ("k",))


async def test_no_runtime_is_an_error_that_says_so():
    """Without anybody listening the status is 503, and the message says what to do."""
    async with at(1) as client:
        with pytest.raises(StateError, match="pillion run") as caught:
            await client.state("s").get("k")
    assert caught.value.status == 503


@pytest.mark.parametrize("conditional", [False, True])
async def test_only_a_save_without_condition_is_sent_twice(conditional: bool):
    """On a connection that was closed while idle, a save with a tag might meet its own success."""
    asked = 0

    async def closes_when_asked_again(wire: Wire) -> None:
        nonlocal asked
        for answer in (DONE, b""):
            head = (await wire.read_until(b"\r\n\r\n")).decode()
            await wire.read_exactly(int(head.partition("content-length: ")[2].split()[0]))
            asked += 1
            await wire.send(answer)

    async with scripted(closes_when_asked_again, Runtime(DONE)) as port, at(port) as client:
        store = client.state("s")
        await store.save("k", 1)
        if conditional:
            with pytest.raises(StateError) as caught:
                await store.save("k", 2, create_only=True)
            assert caught.value.status == 502
        else:
            await store.save("k", 2)
    assert asked == 2


# Watches.


def stream(*events: bytes) -> bytes:
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


ONE = b'data: {"key":"k","data":1,"etag":"1"}\n\n'
TWO = b'data: {"key":"k",\ndata: "data":2,"etag":"2"}\r\n\r\n'
GONE = b'data: {"key":"k"}\n\n'


async def test_a_watch_goes_on_when_its_connection_breaks():
    """Events that break anywhere are put together; what is known is not told again."""

    def sends(*parts: bytes):
        async def script(wire: Wire) -> None:
            await wire.read_until(b"\r\n\r\n")
            await wire.send(stream(*parts))

        return script

    first = sends(b":\n\n", ONE[:9], ONE[9:])
    async with scripted(first, sends(ONE, TWO), sends(TWO, GONE)) as port, at(port) as client:
        seen = []
        async with aclosing(client.state("s").watch("k", type=int)) as changes:
            with anyio.fail_after(5):
                async for stored in changes:
                    seen.append(stored)
                    if stored is None:
                        break
    assert seen == [Stored("k", 1, "1"), Stored("k", 2, "2"), None]


async def test_a_watch_that_is_refused_fails():
    """An answer that another try would not change ends the watch, at first or later."""
    refusal = reply(b'{"errorCode":"ERR_X","message":"no watching"}', "501 Not Implemented")
    async with scripted(Runtime(refusal)) as port, at(port) as client:
        with pytest.raises(StateError, match="key 'k': 501 ERR_X: no watching"):
            await anext(client.state("s").watch("k"))

    async def breaks_off(wire: Wire) -> None:
        await wire.read_until(b"\r\n\r\n")
        await wire.send(stream(ONE))

    async with scripted(breaks_off, Runtime(refusal)) as port, at(port) as client:
        watch = client.state("s").watch("k")
        assert await anext(watch) == Stored("k", 1, "1")
        with pytest.raises(StateError, match="no watching"):
            await anext(watch)


# With the stand-in.


@pytest.fixture
async def world() -> AsyncIterator[tuple[StateStore, AsyncTestClient]]:
    """A store of an app that is tested, and its test's client."""
    app = App("orders")
    async with TestClient(app) as client:
        yield app.state("statestore"), client


async def test_get_save_delete(world):
    """What was saved is read back as its type; a tag protects against a second writer."""
    store, client = world
    assert await store.get("o", type=Order) is None
    await store.save("o", Order(1))
    first = await store.get("o", type=Order)
    assert first.value == Order(1)
    assert client.state("statestore")["o"] == {"id": 1, "item": "lamp"}
    await store.save("o", Order(2), etag=first.etag)
    for attempt in (
        store.save("o", Order(3), etag=first.etag),
        store.save("o", Order(3), create_only=True),
        store.delete("o", etag=first.etag),
        store.transact([Save("p", 1), Delete("o", etag=first.etag)]),
    ):
        with pytest.raises(StateConflict):
            await attempt
    assert client.state("statestore").read("o", Order) == Order(2)
    assert list(client.state("statestore")) == ["o"]
    await store.delete("o")
    assert await store.get("o") is None


async def test_values_of_any_json_form(world):
    """Bytes, text and null come back as what they were."""
    store, _ = world
    await store.save_many({"bytes": b"\xff", "text": "x", "null": None})
    assert (await store.get("bytes", type=bytes)).value == b"\xff"
    assert (await store.get("text", type=str)).value == "x"
    assert (await store.get("null")).value is None
    with pytest.raises(StateError, match="key 'text': 502 ERR_MALFORMED_VALUE") as caught:
        await store.get("text", type=Order)
    assert caught.value.keys == ("text",)


async def test_keys_are_listed_page_by_page(world):
    """Every key with the prefix is yielded once, over several pages."""
    store, _ = world
    await store.save_many({f"order-{n}": n for n in range(5)} | {"other": 0})
    expected = [f"order-{n}" for n in range(5)]
    assert [key async for key in store.keys("order-", page_size=2)] == expected
    assert len([key async for key in store.keys("")]) == 6


async def test_a_watch_sees_the_test_change_a_value(world):
    """A watch of the stand-in yields the present state and every later one."""
    store, client = world
    async with aclosing(store.watch("k", type=int)) as changes:
        with anyio.fail_after(5):
            assert await anext(changes) is None
            client.state("statestore")["k"] = 5
            assert (await anext(changes)).value == 5
            del client.state("statestore")["k"]
            assert await anext(changes) is None


async def test_a_transaction_that_raises_changes_nothing(world):
    """What was collected before an exception is dropped."""
    store, client = world

    async def fail() -> None:
        async with store.transaction() as changes:
            changes.save("a", 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    assert not client.state("statestore")


async def test_updates_that_race_are_all_there(world):
    """Each of many concurrent updates counts, also the one that creates the key."""
    store, _ = world

    async def add_one(value: int) -> int:
        await anyio.sleep(0)
        return value + 1

    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(lambda: store.update("n", add_one, type=int, default=0, attempts=50))
    assert (await store.get("n")).value == 10


async def test_an_update_begins_again_with_what_is_there(world):
    """After a conflict the function gets the newer value, and never a default it has changed."""
    store, client = world
    given = []

    def append(items: list[str]) -> list[str]:
        given.append(list(items))
        if len(given) == 1:
            client.state("statestore")["other"] = []
            client.state("statestore")["list"] = ["theirs"]
        if len(given) == 2:
            del client.state("statestore")["list"]
        items.append("ours")
        return items

    assert await store.update("list", append, default=[]) == ["ours"]
    assert given == [[], ["theirs"], []]


async def test_an_update_that_never_wins_gives_up(world):
    """After its attempts it raises a conflict that names the key."""
    store, client = world
    client.state("statestore")["k"] = 0

    def meddle(value: int) -> int:
        client.state("statestore")["k"] = value
        return value + 1

    with pytest.raises(StateConflict, match=r"key 'k': 409 ERR_STATE_SAVE: .*3 attempts"):
        await store.update("k", meddle, type=int, attempts=3)


async def test_an_update_keeps_the_expiry(world):
    """A value that was to disappear still is, unless the update says otherwise."""
    store, client = world
    await store.save("k", 1, ttl=100)
    await store.update("k", lambda value: value + 1)
    left = client.state("statestore").ttl("k")
    assert left is not None
    assert 90 < left <= 100
    await store.update("k", lambda value: value + 1, ttl=0)
    assert client.state("statestore").ttl("k") is None


async def test_updates_that_mean_nothing(world):
    """A missing key without a default, and a function that returns nothing, are errors."""
    store, client = world
    with pytest.raises(StateError, match="'k': 404 ERR_STATE_MISSING"):
        await store.update("k", lambda value: value)
    client.state("statestore")["k"] = []
    with pytest.raises(TypeError, match="'k' must return"):
        await store.update("k", lambda value: value.append(1))


async def test_what_a_store_cannot_mean(world):
    """Mistakes that the runtime would take for something else are refused before."""
    store, _ = world
    for attempt in (
        store.get(""),
        store.delete(""),
        store.save("", 1),
        store.get_many([""]),
        store.save("k", 1, etag=""),
        store.save("k", 1, etag="1", create_only=True),
        store.save("k", 1, ttl=-1),
    ):
        with pytest.raises(ValueError, match=r"key|ttl"):
            await attempt
    with pytest.raises(TypeError):
        await store.save("k", object())


def test_the_stand_in_in_a_plain_test():
    """A test without async sees what handlers stored, and prepares what they read."""
    app = App("orders")

    @app.call("count")
    async def count() -> int:
        return await app.state("statestore").update("n", lambda n: n + 1, type=int, default=0)

    with TestClient(app) as client:
        client.state("statestore")["n"] = 4
        assert client.post("count").json() == 5
        assert client.state("statestore")["n"] == 5


async def test_a_request_bounds_what_it_asks(world):
    """Inside a handler, nothing is asked when the caller has no time left."""
    app = App("orders")

    @app.call("read")
    async def read() -> str:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
        try:
            await app.state("s").get("k")
        except StateError as error:
            return error.error_code
        return "asked"

    async with TestClient(app) as client:
        assert (await client.post("read", remaining=0.001)).text == "ERR_TIMED_OUT"
