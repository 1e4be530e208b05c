"""The lock API of real runtimes: one holder among several processes."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.support.runtimes import Machine, Runtime, error_of, poll

pytestmark = pytest.mark.anyio


async def send(runtime: Runtime, path: str, owner: str, expiry: int = 60) -> dict[str, object]:
    body = {"resourceId": "file", "lockOwner": owner, "expiryInSeconds": expiry}
    reply = await runtime.ask("POST", f"/v1.0-alpha1/{path}", body=json.dumps(body).encode())
    assert reply.status == 200, reply
    answer: dict[str, object] = json.loads(reply.body)
    return answer


async def test_one_holder_among_runtimes(machine: Machine) -> None:
    """Of many who try at once one gets it; what it does not own it does not give up."""
    runtimes = [await machine.runtime("orders") for _ in range(2)]
    answers = await asyncio.gather(
        *(send(runtimes[n % 2], "lock/lockstore", f"owner{n}") for n in range(10))
    )
    winners = [n for n, answer in enumerate(answers) if answer["success"]]
    assert len(winners) == 1
    winner = winners[0]
    loser = f"owner{winner + 1}"
    assert await send(runtimes[0], "unlock/lockstore", loser) == {"status": 2}
    assert await send(runtimes[1], "unlock/lockstore", f"owner{winner}") == {"status": 0}
    assert await send(runtimes[0], "unlock/lockstore", f"owner{winner}") == {"status": 1}


async def test_expiry_and_fencing(machine: Machine) -> None:
    """A lock that ran out goes to the next owner, with a greater token; the old one is out."""
    runtime = await machine.runtime("orders")
    first = await send(runtime, "lock/lockstore", "a", expiry=1)
    taken: list[dict[str, object]] = []

    async def take() -> bool:
        taken[:] = [await send(runtime, "lock/lockstore", "b")]
        return bool(taken[0]["success"])

    await poll(take, "the lock runs out", 5.0)
    assert taken[0]["fencingToken"] > first["fencingToken"]
    assert await send(runtime, "lock/lockstore/renew", "a") == {"success": False}
    assert await send(runtime, "lock/lockstore/renew", "b") == {"success": True}


async def test_errors(machine: Machine) -> None:
    """A store that is not there, and a body that says nothing."""
    runtime = await machine.runtime("orders")
    body = b'{"resource_id":"r","lock_owner":"a","expiry_in_seconds":"5"}'
    reply = await runtime.ask("POST", "/v1.0-alpha1/lock/nope", body=body)
    assert error_of(reply) == (400, "ERR_LOCK_STORE_NOT_FOUND", "lock store nope not found")
    reply = await runtime.ask("POST", "/v1.0-alpha1/lock/lockstore")
    assert error_of(reply)[:2] == (400, "ERR_MALFORMED_REQUEST")
