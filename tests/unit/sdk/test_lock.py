"""Locks as an app uses them."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator

import anyio
import pytest
from tests.unit.sdk.servers import Wire, reply, scripted, until

from pillion_sdk import App, Client, LockError, LockHeld, LockLost
from pillion_sdk.testing import AsyncTestClient, TestClient

pytestmark = pytest.mark.anyio


class Runtime:
    """Answers by path, and keeps what it was asked."""

    def __init__(self, **answers: bytes) -> None:
        self.answers = {
            "lock": reply(b'{"success":true,"fencingToken":41}'),
            "renew": reply(b'{"success":true}'),
            "unlock": reply(b'{"status":0}'),
            **answers,
        }
        self.asked: list[tuple[str, dict]] = []

    async def __call__(self, wire: Wire) -> None:
        while True:
            head = (await wire.read_until(b"\r\n\r\n")).decode()
            length = head.partition("content-length: ")[2].partition("\r\n")[0]
            body = json.loads(await wire.read_exactly(int(length)))
            path = head.split()[1]
            name = "renew" if path.endswith("/renew") else path.split("/")[2]
            self.asked.append((path, body))
            await wire.send(self.answers[name])

    def count(self, end: str) -> int:
        return sum(path.endswith(end) for path, _ in self.asked)


def at(port: int) -> Client:
    return Client(f"http://127.0.0.1:{port}")


async def test_a_lock_on_the_wire():
    """It is taken, renewed while it is held, and given up by the same owner."""
    runtime = Runtime()
    async with (
        scripted(runtime) as port,
        at(port) as client,
        client.lock("l s", "file", ttl=1) as lock,
    ):
        assert (lock.fencing_token, lock.lost, lock.resource) == (41, False, "file")
        await until(lambda: runtime.count("/renew") >= 2)
    body = {"resourceId": "file", "lockOwner": lock.owner, "expiryInSeconds": 1}
    assert runtime.asked[0] == ("/v1.0-alpha1/lock/l%20s", body)
    assert runtime.asked[1] == ("/v1.0-alpha1/lock/l%20s/renew", body)
    assert runtime.asked[-1] == ("/v1.0-alpha1/unlock/l%20s", body)


@pytest.mark.parametrize(
    "renewal", [b'{"success":false}', b'{"errorCode":"ERR_TRY_LOCK","message":"down"}']
)
async def test_a_lock_that_is_lost_cancels_its_body(renewal: bytes):
    """It is lost when the store says so, and when it could not be renewed until its end."""
    status = "200 OK" if b"success" in renewal else "500 Internal Server Error"
    runtime = Runtime(renew=reply(renewal, status))
    async with scripted(runtime) as port, at(port) as client:
        with anyio.fail_after(5), pytest.raises(LockLost, match="lock 'file' of lockstore"):
            async with client.lock("lockstore", "file", ttl=1) as lock:
                await anyio.sleep_forever()
    assert lock.lost
    assert runtime.count("unlock/lockstore") == 1


async def test_an_attempt_of_unknown_outcome_is_taken_back():
    """A lock that may have been taken without an answer is given up."""
    runtime = Runtime(lock=reply(b'{"errorCode":"ERR_TRY_LOCK","message":"down"}', "500 Oops"))
    async with scripted(runtime) as port, at(port) as client:
        with pytest.raises(LockError, match="'file' of lockstore: 500 ERR_TRY_LOCK: down"):
            async with client.lock("lockstore", "file"):
                pytest.fail("it was not taken")
    assert [path for path, _ in runtime.asked] == [
        "/v1.0-alpha1/lock/lockstore",
        "/v1.0-alpha1/unlock/lockstore",
    ]


async def test_a_lock_that_cannot_be_given_up_is_logged(caplog):
    """What the body did counts; the lock ends by itself."""
    runtime = Runtime(unlock=reply(b"{}", "500 Oops"))
    async with (
        scripted(runtime) as port,
        at(port) as client,
        client.lock("lockstore", "file", ttl=7),
    ):
        pass
    assert "it ends by itself within 7 s" in caplog.text


async def test_a_runtime_without_fencing_tokens():
    """Asking for a token that there is not is an error, not a number that protects nothing."""
    runtime = Runtime(lock=reply(b'{"success":true}'))
    async with (
        scripted(runtime) as port,
        at(port) as client,
        client.lock("lockstore", "file") as lock,
    ):
        with pytest.raises(LockError, match="no fencing tokens"):
            _ = lock.fencing_token


# With the stand-in.


@pytest.fixture
async def world() -> AsyncIterator[tuple[App, AsyncTestClient]]:
    """An app that is tested, and its test's client."""
    app = App("orders")
    async with TestClient(app) as client:
        yield app, client


async def test_one_holder_at_a_time(world):
    """Who does not wait is refused; who waits gets it, with a greater token."""
    app, client = world
    tokens = []

    async def wait_for_it() -> None:
        async with app.lock("lockstore", "file", wait=5) as lock:
            tokens.append(lock.fencing_token)

    async with anyio.create_task_group() as tasks, app.lock("lockstore", "file") as lock:
        tokens.append(lock.fencing_token)
        assert client.locks("lockstore").holder("file") == lock.owner
        with pytest.raises(LockHeld, match=r"409 ERR_LOCK_HELD: somebody else holds it$"):
            async with app.lock("lockstore", "file"):
                pytest.fail("it was taken twice")
        with pytest.raises(LockHeld, match=r"within 0\.01 s"):
            async with app.lock("lockstore", "file", wait=0.01):
                pytest.fail("it was taken twice")
        tasks.start_soon(wait_for_it)
        async with app.lock("lockstore", "another"):
            pass
    assert tokens == sorted(tokens)
    assert len(set(tokens)) == 2
    assert client.locks("lockstore").holder("file") is None


async def test_a_body_that_raises_gives_the_lock_up(world):
    """The exception comes out as it was raised, and the lock is free."""
    app, client = world
    with pytest.raises(ZeroDivisionError):
        async with app.lock("lockstore", "file"):
            _ = 1 / 0
    assert client.locks("lockstore").holder("file") is None


async def test_a_body_that_is_cancelled_gives_the_lock_up(world):
    """A cancellation from outside stays one, and the lock is free."""
    app, client = world
    with anyio.move_on_after(5) as scope:
        async with app.lock("lockstore", "file"):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert client.locks("lockstore").holder("file") is None


async def test_a_lock_that_was_gone_at_the_end_is_told(world):
    """A body that ended before the loss was noticed was not protected, and says so."""
    app, client = world
    with pytest.raises(LockLost):
        async with app.lock("lockstore", "file"):
            client.locks("lockstore").take("file")
    assert client.locks("lockstore").holder("file") == "somebody else"
    client.locks("lockstore").release("file")
    assert client.locks("lockstore").holder("file") is None


async def test_a_lost_lock_in_spite_of_an_exception(world):
    """An exception that the cancelled body turned into is the cause of the loss that is raised."""
    app, client = world

    async def half_write() -> None:
        async with app.lock("lockstore", "file", ttl=1):
            client.locks("lockstore").take("file")
            try:
                await anyio.sleep_forever()
            finally:
                raise OSError("the file is half written")

    with anyio.fail_after(5), pytest.raises(LockLost) as caught:
        await half_write()
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_process_that_stood_still_knows_that_it_lost(world):
    """A loop that was blocked past the end of the lock cancels the body as soon as it runs."""
    app, _ = world
    reached = False

    async def stand_still() -> None:
        nonlocal reached
        async with app.lock("lockstore", "file", ttl=1):
            threading.Event().wait(1.1)
            await anyio.sleep(0.5)
            reached = True

    with anyio.fail_after(5), pytest.raises(LockLost):
        await stand_still()
    assert not reached


@pytest.mark.parametrize(
    "bad", [{"resource": ""}, {"ttl": 0}, {"ttl": -1}, {"wait": -1}, {"wait": float("nan")}]
)
def test_locks_that_mean_nothing(bad):
    """Mistakes are found where the lock is asked for."""
    with pytest.raises(ValueError, match=r"resource|ttl|wait"):
        App("orders").lock("lockstore", **{"resource": "file", **bad})
