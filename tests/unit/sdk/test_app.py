"""Apps, through the test client: what is registered is what is answered."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Annotated

import anyio
import pytest

from pillion_sdk import (
    App,
    BadRequest,
    Header,
    NotFound,
    RegistrationError,
    Request,
    Response,
    current_request,
    events,
)
from pillion_sdk.testing import TestClient
from pillion_sdk.testing.exchange import Exchange, build_request

pytestmark = pytest.mark.anyio


@dataclass
class Order:
    id: int
    name: str = "x"


class OutOfStock(Exception):
    pass


def small_app() -> App:
    app = App("orders")

    @app.call("orders/{number}", methods=["GET"])
    async def read(number: int) -> Order:
        if number == 0:
            raise NotFound("no order 0")
        return Order(number)

    @app.call("orders")
    def create(order: Order, x_user: Annotated[str, Header()] = "nobody") -> Response:
        return Response(201, order, {"location": f"/orders/{order.id}", "x-user": x_user})

    return app


async def test_handlers_answer():
    """Path, body and header parameters reach async and sync handlers, and results come back."""
    async with TestClient(small_app()) as client:
        response = await client.get("orders/7")
        assert (response.status, response.json(Order)) == (200, Order(7))

        response = await client.post("/orders", json={"id": 8}, headers={"X-User": "ann"})
        assert response.status == 201
        assert response.headers["location"] == "/orders/8"
        assert response.headers["x-user"] == "ann"


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "orders/x", {}, 400, "ERR_BAD_REQUEST"),
        ("POST", "orders", {"json": {"id": "x"}}, 400, "ERR_BAD_REQUEST"),
        ("POST", "orders", {"data": b"{"}, 400, "ERR_BAD_REQUEST"),
        ("POST", "orders", {}, 400, "ERR_BAD_REQUEST"),
        ("GET", "orders/0", {}, 404, "ERR_NOT_FOUND"),
        ("GET", "nothing", {}, 404, "ERR_NOT_FOUND"),
        ("PUT", "orders", {"json": {}}, 405, "ERR_METHOD_NOT_ALLOWED"),
        ("POST", "orders", {"data": b"x" * (4 * 1024 * 1024 + 1)}, 413, "ERR_BODY_TOO_LARGE"),
    ],
)
async def test_what_goes_wrong_has_a_status_and_a_code(method, path, options, status, code):
    """Errors of the caller are answered as JSON with a code and a message."""
    async with TestClient(small_app()) as client:
        response = await client.request(method, path, **options)

    assert response.status == status
    assert response.json().keys() == {"errorCode", "message"}
    assert response.json()["errorCode"] == code
    assert response.headers["content-type"] == "application/json"
    if status == 405:
        assert response.headers["allow"] == "POST"


async def test_the_runtimes_questions_are_answered():
    """Health, configuration and subscriptions have an answer without any handler."""
    async with TestClient(App("empty")) as client:
        assert (await client.get("healthz")).status == 200
        assert (await client.get("dapr/config")).json() == {}
        assert (await client.get("dapr/subscribe")).json() == []


async def test_own_handlers_win_over_the_built_in_ones():
    """A handler for healthz replaces ours, and one for everything does not."""
    app = App("own")

    @app.call("healthz", methods=["GET"])
    async def health() -> Response:
        return Response(503, "warming up")

    @app.call("{path:path}", methods=["GET"])
    async def everything(path: str) -> str:
        return path

    async with TestClient(app) as client:
        assert (await client.get("healthz")).status == 503
        assert (await client.get("dapr/config")).json() == {}
        assert (await client.get("a/b")).text == "a/b"


async def test_head_has_the_head_of_get():
    """HEAD is answered by the GET handler, without its body."""
    async with TestClient(small_app()) as client:
        response = await client.request("HEAD", "orders/7")

    assert (response.status, response.body) == (200, b"")
    assert response.headers["content-length"] == "19"


async def test_own_exceptions_have_their_status():
    """A mapped exception answers with its status, code and message."""
    app = App("stock")
    app.error(OutOfStock, status=409)
    app.error(LookupError, status=404, code="ERR_MISSING", message=lambda error: "not here")

    @app.call("{what}", methods=["GET"])
    async def fail(what: str) -> None:
        if what == "item":
            raise OutOfStock("none left")
        raise KeyError(what)

    async with TestClient(app) as client:
        response = await client.get("item")
        assert response.status == 409
        assert response.json() == {"errorCode": "ERR_OUT_OF_STOCK", "message": "none left"}
        response = await client.get("other")
        assert response.json() == {"errorCode": "ERR_MISSING", "message": "not here"}


@pytest.mark.parametrize("on_loop", [True, False])
async def test_the_unexpected_is_500_and_in_the_log(on_loop, caplog):
    """The caller learns nothing about an unexpected exception, the log everything."""
    app = App("broken")

    if on_loop:

        @app.call("x")
        async def fail() -> None:
            raise ValueError("secret detail")
    else:

        @app.call("x")
        def fail_in_thread() -> None:
            raise ValueError("secret detail")

    with caplog.at_level(logging.ERROR, "pillion_sdk"):
        async with TestClient(app, raise_unexpected=False) as client:
            response = await client.post("x")

    assert response.status == 500
    assert response.json()["errorCode"] == "ERR_INTERNAL"
    assert b"secret" not in response.body
    assert "POST /x failed" in caplog.text
    assert "ValueError: secret detail" in caplog.text


async def test_a_result_without_a_json_form_is_500():
    """A handler that returns what cannot be sent fails like any other."""
    app = App("broken")

    @app.call("x")
    async def fail() -> object:
        return object()

    async with TestClient(app) as client:
        with pytest.raises(TypeError, match="object has no JSON form"):
            await client.post("x")


async def test_sync_handlers_run_in_bounded_threads():
    """As many as the app allows run at once, none of them on the event loop."""
    app = App("threads", threads=2)
    gate = threading.Event()
    lock = threading.Lock()
    running: list[str] = []
    most = 0

    @app.call("work")
    def work() -> str:
        nonlocal most
        with lock:
            running.append(threading.current_thread().name)
            most = max(most, len(running))
        gate.wait(5)
        with lock:
            running.pop()
        return threading.current_thread().name

    names: list[str] = []
    async with TestClient(app) as client, anyio.create_task_group() as tasks:

        async def call() -> None:
            names.append((await client.post("work")).text)

        for _ in range(5):
            tasks.start_soon(call)
        with anyio.fail_after(5):
            while len(running) < 2:
                await anyio.sleep(0.005)
        await anyio.wait_all_tasks_blocked()
        gate.set()

    assert most == 2
    assert len(names) == 5
    assert threading.main_thread().name not in names


async def test_async_generators_stream():
    """A handler that yields is streamed, and one that fails before its first item has a status."""
    app = App("stream")

    @app.call("numbers", methods=["GET"])
    async def numbers(n: int):
        if n < 0:
            raise BadRequest("n is negative")
        for number in range(n):
            yield f"{number}\n"

    async with TestClient(app) as client:
        response = await client.get("numbers", query={"n": 3})
        assert response.text == "0\n1\n2\n"
        assert "content-length" not in response.headers
        assert (await client.get("numbers", query={"n": 0})).body == b""
        assert (await client.get("numbers", query={"n": -1})).status == 400


async def test_a_stream_that_fails_breaks_off():
    """After the head only breaking off is left; the exception reaches the server."""
    app = App("stream")

    @app.call("x", methods=["GET"])
    async def x():
        yield "a"
        raise ValueError("late")

    async with TestClient(app) as client, client.stream("GET", "x") as reply:
        assert reply.status == 200
        assert await anext(reply) == b"a"
        with pytest.raises(ValueError, match="late"):
            await anext(reply)


async def test_events_arrive_one_by_one():
    """The head of an event stream is there before the first event, each event when it happens."""
    app = App("events")
    send, receive = anyio.create_memory_object_stream[str](0)

    @app.call("ticks", methods=["GET"])
    async def ticks() -> Response:
        return events(receive)

    async with TestClient(app) as client, client.stream("GET", "ticks") as reply:
        assert reply.headers["content-type"] == "text/event-stream"
        await send.send("one")
        assert await anext(reply) == b"data: one\n\n"
        await send.send("two")
        assert await anext(reply) == b"data: two\n\n"
    send.close()
    receive.close()


async def test_a_stream_is_closed_when_the_caller_hangs_up():
    """An endless stream ends with its reader, for async and sync handlers, and cleans up."""
    app = App("endless")
    closed: list[str] = []

    async def forever(name: str):
        try:
            while True:
                yield "x"
                await anyio.sleep(0)
        finally:
            closed.append(name)

    @app.call("async", methods=["GET"])
    async def on_loop() -> Response:
        return Response(200, forever("async"))

    @app.call("sync", methods=["GET"])
    def in_thread() -> Response:
        return Response(200, forever("sync"))

    async with TestClient(app) as client:
        for path in ("async", "sync"):
            with anyio.fail_after(5):
                async with client.stream("GET", path) as reply:
                    await anext(reply)
    assert closed == ["async", "sync"]


async def test_an_async_handler_is_cancelled_when_the_caller_hangs_up():
    """Work nobody waits for is given up, whether or not the request had a body."""
    app = App("slow")
    started = anyio.Event()
    ended: list[str] = []

    async def wait(name: str) -> None:
        try:
            started.set()
            await anyio.sleep_forever()
        finally:
            ended.append(name)

    @app.call("get", methods=["GET"])
    async def get() -> None:
        await wait("get")

    @app.call("typed")
    async def typed(order: Order) -> None:
        await wait("typed")

    @app.call("ignored")
    async def ignored() -> None:
        await wait("ignored")

    @app.call("raw")
    async def raw(request: Request) -> None:
        assert await request.body() == b'{"id":1}'
        await wait("raw")

    for method, path in (("GET", "get"), *(("POST", p) for p in ("typed", "ignored", "raw"))):
        started = anyio.Event()
        scope, body = build_request(method, path, {"json": {"id": 1}} if method == "POST" else {})
        exchange = Exchange(body)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(exchange.run, app, scope)
                await started.wait()
                await anyio.wait_all_tasks_blocked()
                assert path not in ended
                exchange.hang_up()
    assert ended == ["get", "typed", "ignored", "raw"]


async def test_a_handler_may_set_its_own_time_limit():
    """Cancel scopes of the handler work as anywhere, before and after its first wait."""
    app = App("scopes")

    @app.call("x", methods=["GET"])
    async def x() -> list[bool]:
        with anyio.move_on_after(0) as first:
            await anyio.sleep_forever()
        with anyio.move_on_after(0.01) as second:
            await anyio.sleep_forever()
        await anyio.sleep(0)
        return [first.cancelled_caught, second.cancelled_caught]

    async with TestClient(app) as client:
        assert (await client.get("x")).json() == [True, True]


async def test_bodies_stream_in_at_the_handlers_pace():
    """The sender is asked for the next chunk only when the handler wants it."""
    app = App("upload", max_body=-1)
    sent = 0
    seen: list[tuple[int, int]] = []

    async def chunks():
        nonlocal sent
        for _ in range(5):
            sent += 1
            yield b"x" * 1000

    @app.call("upload")
    async def upload(request: Request) -> int:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            seen.append((size // 1000, sent))
        return size

    async with TestClient(app) as client:
        response = await client.post("upload", data=chunks())
    assert response.json() == 5000
    assert seen == [(n, n) for n in range(1, 6)]


async def test_limits_of_app_and_route():
    """A route's limit replaces the app's, -1 lifts it, and a stream is stopped when it is over."""
    app = App("limits", max_body=3)

    @app.call("small")
    async def small(body: bytes) -> int:
        return len(body)

    @app.call("large", max_body=-1)
    async def large(body: bytes) -> int:
        return len(body)

    @app.call("raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    async def five():
        for _ in range(5):
            yield b"x"

    async with TestClient(app) as client:
        assert (await client.post("small", data=b"abc")).json() == 3
        response = await client.post("small", data=b"abcd")
        assert response.status == 413
        assert response.headers["connection"] == "close"
        assert (await client.post("small", data=five())).status == 413
        assert (await client.post("raw", data=five())).status == 413
        assert (await client.post("large", data=b"x" * 5_000_000)).json() == 5_000_000


async def test_a_handler_sees_its_request():
    """Caller, deadline and the current request are there, in the thread of a sync one too."""
    app = App("who")

    @app.call("async", methods=["GET"])
    async def on_loop(request: Request) -> list[object]:
        assert current_request() is request
        return [request.caller, request.remaining is not None]

    @app.call("sync", methods=["GET"])
    def in_thread(request: Request) -> list[object]:
        assert current_request() is request
        return [request.caller, request.remaining is not None]

    async with TestClient(app) as client:
        for path in ("async", "sync"):
            response = await client.get(path, caller="checkout", remaining=2.0)
            assert response.json() == ["checkout", True]
            assert (await client.get(path)).json() == [None, False]
    assert current_request() is None


def test_registration_errors_name_the_function():
    """A handler that cannot be bound, or yields without async, fails where it is registered."""
    app = App("bad")

    with pytest.raises(RegistrationError, match=r"<locals>\.f\(\): parameter 'x' has no type"):

        @app.call("a")
        async def f(x) -> None: ...

    with pytest.raises(RegistrationError, match=r"g\(\): a function that yields has to be async"):

        @app.call("a")
        def g():
            yield 1

    with pytest.raises(RegistrationError, match="has a handler already"):

        @app.call("b")
        @app.call("/b/")
        async def h() -> None: ...


def test_local_types_resolve_at_registration():
    """An app built inside a function may use types of that function by name."""

    @dataclass
    class Local:
        a: int

    app = App("local")

    @app.call("x")
    async def x(value: Local) -> int:
        return value.a

    with TestClient(app) as client:
        assert client.post("x", json={"a": 3}).json() == 3


@pytest.mark.parametrize("options", [{"max_body": -2}, {"threads": 0}])
def test_limits_make_sense(options):
    """A limit that means nothing is refused."""
    with pytest.raises(RegistrationError):
        App("x", **options)


@pytest.mark.parametrize("name", ["", "a.b", "a/b"])
def test_an_app_id_has_no_dots(name):
    """A name the runtime would refuse is refused here."""
    with pytest.raises(RegistrationError, match="app id"):
        App(name)


def test_a_decorated_function_stays_callable():
    """Registering a function changes nothing about it."""
    app = App("x")

    @app.call("double")
    def double(n: int) -> int:
        return 2 * n

    assert double(2) == 4
    assert repr(app) == "<App x>"


async def test_web_sockets_are_turned_away():
    """A web socket is closed instead of ending in an exception."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    await App("x")({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1000, "reason": ""}]
    with pytest.raises(RuntimeError, match="'other'"):
        await App("x")({"type": "other"}, receive, send)
