"""What runs before the first request and after the last."""

from contextlib import asynccontextmanager

import anyio
import pytest

from pillion_sdk import App
from pillion_sdk.testing import TestClient

pytestmark = pytest.mark.anyio


def recording_app(steps: list[str], failing: str = "") -> App:
    def step(name: str) -> None:
        steps.append(name)
        if name == failing:
            raise ValueError(f"{name} failed")

    @asynccontextmanager
    async def around():
        step("enter")
        try:
            yield
        finally:
            step("exit")

    app = App("x", lifespan=around)

    @app.on_start
    async def first() -> None:
        step("start 1")

    @app.on_start
    def second() -> None:
        step("start 2")

    @app.on_stop
    async def undo_first() -> None:
        step("stop 1")

    @app.on_stop
    def undo_second() -> None:
        step("stop 2")

    return app


class Server:
    """Plays the server's side of the lifespan protocol."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.sent: list[dict] = []
        self.to_app, self.from_server = anyio.create_memory_object_stream[dict](2)

    async def run(self, *messages: str) -> list[str]:
        for message in messages:
            await self.to_app.send({"type": message})
        with anyio.fail_after(5):
            await self.app({"type": "lifespan"}, self.from_server.receive, self._send)
        self.to_app.close()
        self.from_server.close()
        return [message["type"] for message in self.sent]

    async def _send(self, message) -> None:
        self.sent.append(message)


async def test_order():
    """The context manager is outside, start hooks run in order and stop hooks in reverse."""
    steps: list[str] = []
    server = Server(recording_app(steps))

    assert await server.run("lifespan.startup", "lifespan.shutdown") == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert steps == ["enter", "start 1", "start 2", "stop 2", "stop 1", "exit"]


@pytest.mark.parametrize(
    ("failing", "steps"),
    [
        ("enter", ["enter"]),
        ("start 1", ["enter", "start 1", "exit"]),
        ("start 2", ["enter", "start 1", "start 2", "exit"]),
    ],
)
async def test_a_failing_start_is_told(failing, steps):
    """The server learns why, nothing else starts, and what was entered is left."""
    taken: list[str] = []
    server = Server(recording_app(taken, failing))

    assert await server.run("lifespan.startup") == ["lifespan.startup.failed"]
    assert f"ValueError: {failing} failed" in server.sent[0]["message"]
    assert taken == steps


async def test_a_failing_stop_does_not_stop_the_others(caplog):
    """Every stop hook gets its turn, and the server learns of the failure."""
    steps: list[str] = []
    server = Server(recording_app(steps, "stop 2"))

    assert await server.run("lifespan.startup", "lifespan.shutdown") == [
        "lifespan.startup.complete",
        "lifespan.shutdown.failed",
    ]
    assert steps[-3:] == ["stop 2", "stop 1", "exit"]
    assert "undo_second failed" in caplog.text


def test_the_test_client_runs_it():
    """The hooks run around the test, and a start that fails fails the test."""
    steps: list[str] = []
    with TestClient(recording_app(steps)) as client:
        assert client.get("healthz").status == 200
        assert steps == ["enter", "start 1", "start 2"]
    assert steps[-1] == "exit"

    with (
        pytest.raises(ValueError, match="start 1 failed"),
        TestClient(recording_app([], "start 1")),
    ):
        raise AssertionError("the app runs")


def test_a_hook_stays_callable():
    """The decorators return the function they were given."""
    app = App("x")

    @app.on_start
    def hook() -> int:
        return 7

    assert hook() == 7
