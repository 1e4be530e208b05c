"""A small HTTP load generator: ``python -m tests.bench.generator --url URL``.

A closed loop as wrk's by default; an open loop at a fixed pace with ``--rate``. The result is one
line of JSON with the fields of :class:`tests.bench.traffic.Outcome`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import selectors
import time
from dataclasses import asdict

import uvloop

from tests.bench.traffic import GRACE_SECONDS, ClientProtocol, Load, Outcome, Target


async def run(target: Target, *, connections: int, seconds: float, rate: float | None) -> Outcome:
    """Load ``target`` and return what was seen.

    Args:
        target: what to ask for.
        connections: keep-alive connections; one that closes is opened again.
        seconds: how long requests are sent; answers are awaited a little longer.
        rate: requests per second in all, or None for a closed loop.
    """
    load = Load(target, seconds=seconds, rate=rate)

    async def keep_one_connection() -> None:
        loop = asyncio.get_running_loop()
        while not load.finished.is_set():
            try:
                _, protocol = await loop.create_connection(
                    lambda: ClientProtocol(load), target.host, target.port
                )
            except OSError as error:
                load.failed(f"cannot connect: {error}", outstanding=False)
                continue
            open_connections.add(protocol)
            if load.finished.is_set():
                protocol.close()
            await protocol.closed.wait()
            open_connections.discard(protocol)

    open_connections: set[ClientProtocol] = set()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(keep_one_connection())
        deadline = time.monotonic() + GRACE_SECONDS
        while len(open_connections) < connections and not load.finished.is_set():
            if time.monotonic() > deadline:
                load.failed(f"only {len(open_connections)} connections opened", outstanding=False)
                break
            await asyncio.sleep(0.005)
        load.begin()
        await load.finished.wait()
        for protocol in open_connections:
            protocol.close()
    return load.outcome()


def precise_loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers are good to the kernel's 50 µs: epoll's and libuv's round to 1 ms."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    """Run the load that the command line describes and print its outcome as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", required=True)
    parser.add_argument("--method", default="GET")
    parser.add_argument("--body-bytes", type=int, default=0)
    parser.add_argument("--expected-bytes", type=int, default=1024)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rate", type=float)
    args = parser.parse_args()
    target = Target.parse(
        args.url,
        method=args.method,
        body_bytes=args.body_bytes,
        expected_bytes=args.expected_bytes,
    )
    gc.disable()  # nothing here makes cycles, and a collection would be charged to the target
    factory = uvloop.new_event_loop if args.rate is None else precise_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        outcome = runner.run(
            run(target, connections=args.connections, seconds=args.seconds, rate=args.rate)
        )
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
