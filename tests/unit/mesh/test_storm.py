"""Many calls of every kind at once, with cancellations and broken connections among them."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.unit.mesh.harness import Mesh, call, until

from pillion.body import BodyStream, read_all
from pillion.call import Call, Reply
from pillion.errors import Failure, NotFound, Unavailable
from pillion.mesh.settings import Settings
from pillion.wire.mesh_session import Limits

pytestmark = pytest.mark.anyio

SETTINGS = Settings(
    limits=Limits(window=20_000, max_streams=20),
    chunk=3000,
    inline=5000,
    write_high=16 * 1024,
    connections_per_peer=3,
    grow_at=5,
    backoff=0.001,
    max_backoff=0.002,
)
LIMIT = 1 << 20


class Storm:
    """Calls with random bodies and manners; everything is drawn from one seed."""

    def __init__(self, mesh: Mesh, seed: int) -> None:
        self.mesh = mesh
        self.random = random.Random(seed)
        self.served: list[BodyStream] = []
        self.succeeded = 0
        self.failed = 0

    def payload(self) -> bytes:
        size = self.random.choice([0, 10, 1000, 4999, 5001, 30_000, 100_000])
        return self.random.randbytes(size)

    async def feed(self, body: BodyStream, payload: bytes) -> None:
        """Produce a body bit by bit, now and then with a pause."""
        at = 0
        while at < len(payload):
            step = self.random.randint(1, 9000)
            body.feed(payload[at : at + step])
            at += step
            await until(lambda: body.buffered < 50_000 or body.ended, 20)
            if self.random.random() < 0.3:
                await asyncio.sleep(0)
        body.finish()

    async def handler(self, received: Call) -> Reply:
        """Echo, echo late, refuse or answer early, as the path says."""
        match received.path:
            case b"/refuse":
                raise NotFound("none here", reason="storm")
            case b"/early":
                return Reply(200, [], b"early")
            case b"/echo-late":
                return Reply(200, [], await read_all(received.body, LIMIT))
            case _:
                return Reply(200, [], received.body)

    async def one(self, peers: object, orders: object) -> None:
        payload = self.payload()
        path = self.random.choice([b"/echo", b"/echo", b"/echo-late", b"/refuse", b"/early"])
        streamed = self.random.random() < 0.5
        body = BodyStream() if streamed else payload
        manner = self.random.choice(["patient"] * 6 + ["cancel", "deadline", "abandon"])
        made = call(body, path=path, seconds=0.01 if manner == "deadline" else 30.0)
        async with asyncio.TaskGroup() as group:
            feeder = None
            if isinstance(body, BodyStream):
                feeder = group.create_task(self.feed(body, payload))
            try:
                async with asyncio.timeout(0.01 if manner == "cancel" else 30.0):
                    reply = await peers.call(orders, made)  # type: ignore[attr-defined]
                    if manner == "abandon" and isinstance(reply.body, BodyStream):
                        await reply.body.read()
                        reply.body.close()
                    else:
                        got = await read_all(reply.body, LIMIT)
                        assert got == (b"early" if path == b"/early" else payload)
                        self.succeeded += 1
            except (Failure, TimeoutError):
                self.failed += 1
            finally:
                if feeder is not None:
                    feeder.cancel()

    async def saboteur(self, listener: object) -> None:
        """Break connections off."""
        while True:
            await asyncio.sleep(0.05)
            connections = list(listener._connections)  # type: ignore[attr-defined]
            if connections:
                self.random.choice(connections).abort("sabotage")


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm_leaves_nothing_behind(mesh: Mesh, seed: int) -> None:
    """Whatever happens, replies that come are right, and no stream, task or wait is left."""
    storm = Storm(mesh, seed)
    listener, orders = await mesh.listen(storm.handler, settings=SETTINGS)
    peers = mesh.peers(settings=SETTINGS)
    room = asyncio.Semaphore(40)

    async def bounded() -> None:
        async with room:
            await storm.one(peers, orders)

    async with asyncio.TaskGroup() as group:
        breaking = group.create_task(storm.saboteur(listener))
        async with asyncio.TaskGroup() as calls:
            for _ in range(300):
                calls.create_task(bounded())
        breaking.cancel()
    assert storm.succeeded > 30
    assert storm.failed > 0
    assert listener.counters.protocol_errors == 0
    assert peers.counters.protocol_errors == 0
    assert peers.streams_open == 0
    await until(lambda: listener.streams_open == 0)
    for _ in range(50):
        try:
            reply = await peers.call(orders, call(b"after the storm"))
        except Unavailable as failure:
            if failure.reached:
                raise
            await asyncio.sleep(0.005)
        else:
            assert reply.body == b"after the storm"
            break
    else:
        raise AssertionError("no call succeeds after the storm")
