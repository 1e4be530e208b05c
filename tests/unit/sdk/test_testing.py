"""The test client: an app in this process, and a stand-in for its runtime."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import pytest

from pillion_sdk import App, InvokeError, NotFound, Request, Response, Unavailable
from pillion_sdk.testing import Invocation, TestClient, UnexpectedInvoke

pytestmark = pytest.mark.anyio


@dataclass
class Item:
    sku: str
    left: int = 0


def shop() -> App:
    app = App("shop")

    @app.call("items/{sku}", methods=["GET"])
    async def look(sku: str) -> Item:
        return await app.client.invoke("stock", f"items/{sku}", method="GET", type=Item)

    @app.call("orders")
    async def order(item: Item) -> Response:
        try:
            return await app.client.invoke("stock", "take", json=item, query={"n": [1, 2]})
        except InvokeError as error:
            return Response(502, f"{error.status} {error.error_code} {error.message}")

    return app


async def test_calls_are_answered_and_recorded():
    """A value answers with JSON, and the call is there to be looked at."""
    async with TestClient(shop()) as client:
        client.on_invoke("stock", "items/{sku}", reply=Item("a", 3))
        response = await client.get("items/a b")

        assert response.json(Item) == Item("a", 3)
        assert [str(call) for call in client.invocations] == ["GET stock/items/a b"]
        assert client.invocations[0].params == {"sku": "a b"}


async def test_a_recorded_call_shows_everything():
    """Query, headers and body of a call are recorded as they would leave."""
    async with TestClient(shop()) as client:
        client.on_invoke("stock", "take", method="post", reply=Response(202, "taken"))
        headers = {"traceparent": "00-1-2-01"}
        response = await client.post("orders", json=Item("a"), headers=headers)

    assert (response.status, response.text) == (202, "taken")
    call = client.invocations[0]
    assert call.json(Item) == Item("a")
    assert call.query == {"n": ["1", "2"]}
    assert call.headers["traceparent"] == "00-1-2-01"
    assert call.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (NotFound("no item"), "404 ERR_NOT_FOUND no item"),
        (Unavailable("later", retry_after=1), "503 ERR_UNAVAILABLE later"),
        (Response(500, "plain"), "500  plain"),
        (lambda call: Response(409, call.path), "409  take"),
    ],
)
async def test_errors_of_others_look_as_in_production(reply, said):
    """A Problem or an error status reaches the app as the InvokeError it would get."""
    async with TestClient(shop()) as client:
        client.on_invoke("stock", "take", reply=reply)
        assert (await client.post("orders", json=Item("a"))).text == said


async def test_functions_answer():
    """A function, async or not, sees the call; an exception it raises is raised at the call."""
    app = App("x")

    @app.call("{what}", methods=["GET"])
    async def ask(what: str) -> str:
        return await app.client.invoke("other", what, method="GET", type=str)

    async def later(call: Invocation) -> str:
        await anyio.sleep(0)
        return call.path.upper()

    def broken(call: Invocation) -> str:
        raise OSError("no network")

    async with TestClient(app) as client:
        client.on_invoke("other", "later", reply=later)
        client.on_invoke("other", "now", reply=lambda call: call.method)
        client.on_invoke("other", "broken", reply=broken)
        client.on_invoke("other", "error", reply=OSError("none either"))
        assert (await client.get("later")).text == "LATER"
        assert (await client.get("now")).text == "GET"
        with pytest.raises(OSError, match="no network"):
            await client.get("broken")
        with pytest.raises(OSError, match="none either"):
            await client.get("error")


async def test_the_newest_answer_counts():
    """A test may replace an answer, for all methods or for one."""
    async with TestClient(shop()) as client:
        client.on_invoke("stock", "items/{sku}", reply=Item("old"))
        client.on_invoke("stock", "items/{sku}", reply=Item("new"))
        client.on_invoke("stock", "items/{sku}", method="DELETE", reply=Item("deleted"))
        assert (await client.get("items/a")).json(Item) == Item("new")


async def test_an_unexpected_call_fails_the_test():
    """A call without an answer is an AssertionError that names it, even if the app catches it."""
    app = App("x")

    @app.call("x", methods=["GET"])
    async def careless() -> str:
        try:
            await app.client.invoke("stock", "items/7", method="GET")
        except Exception:  # noqa: BLE001 - the point: a handler that hides everything
            return "never mind"
        return "fine"

    for options in ({}, {"raise_unexpected": False}):
        async with TestClient(app, **options) as client:
            client.on_invoke("stock", "items/{sku}", method="PUT", reply=None)
            with pytest.raises(UnexpectedInvoke, match="called GET stock/items/7") as caught:
                await client.get("x")
            assert "the test answers PUT stock/items/{sku}" in str(caught.value)


async def test_streams_between_apps():
    """Replies and bodies that stream go through the stand-in too."""
    app = App("x")

    async def parts():
        yield b"a"
        yield "b"

    @app.call("x", methods=["GET"])
    async def relay() -> str:
        async with app.client.stream("other", "feed", data=parts_of_bytes()) as reply:
            return "|".join([chunk.decode() async for chunk in reply])

    async def parts_of_bytes():
        yield b"1"
        yield b"2"

    async with TestClient(app) as client:
        client.on_invoke("other", "feed", reply=lambda call: Response(200, parts()))
        assert (await client.get("x")).text == "a|b"
        assert client.invocations[0].body == b"12"


async def test_the_caller_and_its_deadline():
    """A test says who calls and how long it waits, and calls of the app inherit the deadline."""
    app = App("x")

    @app.call("x", methods=["GET"])
    async def who(request: Request) -> str | None:
        await app.client.invoke("other", "x")
        return request.caller

    async with TestClient(app) as client:
        client.on_invoke("other", "x", reply=None)
        assert (await client.get("x", caller="checkout", remaining=2)).text == "checkout"
    assert int(client.invocations[0].headers["x-pillion-deadline-ms"]) <= 2000


def test_plain_tests():
    """The same client works without async, with the app's lifespan around it."""
    app = shop()
    steps: list[str] = []
    app.on_start(lambda: steps.append("start"))
    app.on_stop(lambda: steps.append("stop"))

    with TestClient(app) as client:
        client.on_invoke("stock", "items/{sku}", reply=Item("a", 3))
        assert client.get("items/a").json(Item) == Item("a", 3)
        assert client.request("PATCH", "items/a").status == 405
        assert client.put("items/a").status == client.delete("items/a").status == 405
        assert client.patch("nothing", data="x").status == 404
        assert len(client.invocations) == 1
        assert steps == ["start"]
    assert steps == ["start", "stop"]


async def test_start_hooks_may_call():
    """Answers given before entering are there for start hooks, and so is a ready runtime."""
    app = App("x")
    prices: list[int] = []

    @app.on_start
    async def load() -> None:
        await app.client.wait_ready(1)
        prices.append(await app.client.invoke("prices", "all", type=int))

    test = TestClient(app)
    test.on_invoke("prices", "all", reply=7)
    async with test as client:
        assert prices == [7]
        assert client.invocations == test.invocations
        assert len(client.invocations) == 1


async def test_the_apps_own_transport_comes_back():
    """After the test the app's client is as before, also when a start hook fails."""
    app = App("x")
    before = app.client.transport
    async with TestClient(app):
        assert app.client.transport is not before
    assert app.client.transport is before

    @app.on_start
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        async with TestClient(app):
            raise AssertionError("the app runs")
    assert app.client.transport is before
