"""A relay that makes a server seem far away: ``python -m tests.bench.state_relay``.

Every byte arrives ``--delay`` seconds later than it was sent, in either direction, however many
are under way; so an operation takes longer by twice the delay for each of its round trips.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib

_CHUNK = 64 * 1024
_CHUNKS = 4096
_ALLOWED = (ConnectionError, asyncio.IncompleteReadError)

Chunk = tuple[float, bytes]


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Copy one direction, late, until it ends."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[Chunk] = asyncio.Queue(_CHUNKS)

    async def receive() -> None:
        data = b"-"
        while data:
            data = b""
            with contextlib.suppress(*_ALLOWED):
                data = await reader.read(_CHUNK)
            await chunks.put((loop.time() + delay, data))

    async def send() -> None:
        with contextlib.suppress(*_ALLOWED):
            while True:
                due, data = await chunks.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        writer.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(receive())
        group.create_task(send())


async def serve(listen: int, port: int, delay: float) -> None:
    """Relay connections to ``port`` of 127.0.0.1 for ever."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.TaskGroup() as group:
            group.create_task(pass_on(reader, back, delay))
            group.create_task(pass_on(there, writer, delay))

    async with await asyncio.start_server(relay, "127.0.0.1", listen) as server:
        await server.serve_forever()


def main() -> None:
    """Relay as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay", type=float, required=True)
    args = parser.parse_args()
    asyncio.run(serve(args.listen, args.port, args.delay))


if __name__ == "__main__":
    main()
