"""What a bulk get of a thousand keys costs: its time, and how often it crosses the network."""

from __future__ import annotations

import contextlib
import http.client
import json
import statistics
import time
from dataclasses import dataclass

from tests.bench.errors import VoidRunError
from tests.bench.rounds import say
from tests.bench.state_clients import KEYS, VALUE
from tests.bench.state_stores import DELAY_SECONDS, FAR, Runtime, Store

WARM_UPS = 3
TIMES = 15
FAR_TIMES = 5


@dataclass(frozen=True, slots=True)
class Bulk:
    """A bulk get of one store; times in seconds.

    Attributes:
        store: its name.
        median, worst: from the request to the last byte of the answer.
        round_trips: between the runtime and the server, by how much longer it takes when each is
            longer by a known time; None without a server.
    """

    store: str
    median: float
    worst: float
    round_trips: float | None


def bulk(store: Store, runtime: Runtime) -> Bulk:
    """Get all keys of a store at once, near by and far away.

    Raises:
        VoidRunError: an answer was not right.
    """
    near = _times(store.name, runtime, TIMES)
    median = statistics.median(near)
    trips = None
    if store.far is not None:
        far = statistics.median(_times(store.name + FAR, runtime, FAR_TIMES))
        trips = (far - median) / (2 * DELAY_SECONDS)
    say(f"{store.title}: {KEYS} keys in {median * 1e3:.1f} ms, {trips} round trips")
    return Bulk(store.name, median, max(near), trips)


def _times(name: str, runtime: Runtime, times: int) -> list[float]:
    asked = json.dumps({"keys": [f"key-{number}" for number in range(KEYS)]})
    connection = http.client.HTTPConnection("127.0.0.1", runtime.port, timeout=30)
    with contextlib.closing(connection):
        return [_once(name, runtime, connection, asked) for _ in range(WARM_UPS + times)][WARM_UPS:]


def _once(name: str, runtime: Runtime, connection: http.client.HTTPConnection, asked: str) -> float:
    began = time.perf_counter()
    head = {"Content-Type": "application/json"}
    connection.request("POST", f"{runtime.path(name)}/bulk", asked, head)
    response = connection.getresponse()
    body = response.read()
    elapsed = time.perf_counter() - began
    if response.status != 200:
        raise VoidRunError(f"{name}: bulk get answered {response.status}: {body[:200]!r}")
    value = json.loads(VALUE)
    right = [one.get("data") for one in json.loads(body)].count(value)
    if right != KEYS:
        raise VoidRunError(f"{name}: bulk get answered {right} of {KEYS} keys; the run is void")
    return elapsed
