"""The client for code that blocks."""

import threading

import anyio
import pytest
from tests.unit.sdk.servers import Wire, reply, scripted

from pillion_sdk import App, Conflict, InvokeError, SyncClient
from pillion_sdk.client import Client
from pillion_sdk.testing import TestClient

pytestmark = pytest.mark.anyio


async def test_sync_handlers_call():
    """A handler that is not async calls others, with the trace context of its request."""
    app = App("x")

    @app.call("x", methods=["GET"])
    def ask() -> list[object]:
        on_loop = threading.current_thread() is threading.main_thread()
        return [app.sync_client.invoke("other", "y", method="GET", type=int), on_loop]

    async with TestClient(app) as client:
        client.on_invoke("other", "y", reply=7)
        response = await client.get("x", headers={"traceparent": "t"})
    assert response.json() == [7, False]
    assert client.invocations[0].headers["traceparent"] == "t"


async def test_errors_reach_sync_handlers():
    """An InvokeError is raised where the handler called."""
    app = App("x")

    @app.call("x", methods=["GET"])
    def ask() -> str:
        try:
            app.sync_client.invoke("other", "y")
        except InvokeError as error:
            return f"{error.status} {error.error_code}"
        return "no error"

    async with TestClient(app) as client:
        client.on_invoke("other", "y", reply=Conflict("taken"))
        assert (await client.get("x")).text == "409 ERR_CONFLICT"


async def test_scripts_call():
    """With 'with', a script calls over real connections from any thread, and closes them."""

    async def answer(wire: Wire) -> None:
        while True:
            await wire.read_until(b"\r\n\r\n")
            await wire.send(reply(b"1"))

    def script(port: int) -> list[int]:
        with SyncClient(Client(f"http://127.0.0.1:{port}")) as client:
            client.wait_ready(5)
            return [client.invoke("s", "x", type=int) for _ in range(3)]

    async with scripted(answer) as port:
        assert await anyio.to_thread.run_sync(script, port) == [1, 1, 1]


def test_elsewhere_it_says_where_it_works():
    """Outside a sync handler and without 'with' the error says what to do."""
    with pytest.raises(RuntimeError, match="inside 'with SyncClient"):
        SyncClient().invoke("s", "x")
