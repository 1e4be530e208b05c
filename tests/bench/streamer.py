"""Send or fetch one large body: ``python -m tests.bench.streamer upload|download --url URL``.

A process of its own with a blocking socket, so that it costs as little as it can. The result is
one line of JSON with ``bytes`` and ``seconds``.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from urllib.parse import urlsplit

BLOCK_BYTES = 256 * 1024
TIMEOUT_SECONDS = 60.0
MAX_HEAD_BYTES = 64 * 1024


class StreamError(Exception):
    """The transfer did not end as it should; the message says how."""


def upload(host: str, port: int, path: str, length: int) -> tuple[int, float]:
    """Send ``length`` bytes to an app that answers how many it got; return that and the seconds.

    Raises:
        StreamError: the answer is not 200.
        OSError: the connection broke or stalled for a minute.
    """
    block = memoryview(b"x" * BLOCK_BYTES)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
    )
    with socket.create_connection((host, port), TIMEOUT_SECONDS) as connection:
        began = time.perf_counter()
        connection.sendall(head.encode("ascii"))
        left = length
        while left:
            connection.sendall(block[: min(left, BLOCK_BYTES)])
            left -= min(left, BLOCK_BYTES)
        body, expected = _read_head(connection)
        while len(body) < expected:
            more = connection.recv(BLOCK_BYTES)
            if not more:
                raise StreamError("the connection closed in the middle of the answer")
            body += more
        return int(body), time.perf_counter() - began


def download(host: str, port: int, path: str) -> tuple[int, float]:
    """Fetch a body, throw it away, and return its length and the seconds.

    Raises:
        StreamError: the answer is not 200, or it is cut short.
        OSError: the connection broke or stalled for a minute.
    """
    buffer = bytearray(BLOCK_BYTES)
    head = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    with socket.create_connection((host, port), TIMEOUT_SECONDS) as connection:
        began = time.perf_counter()
        connection.sendall(head.encode("ascii"))
        body, expected = _read_head(connection)
        received = len(body)
        while received < expected:
            count = connection.recv_into(buffer)
            if not count:
                raise StreamError(f"the answer ended after {received} of {expected} bytes")
            received += count
        return received, time.perf_counter() - began


def _read_head(connection: socket.socket) -> tuple[bytes, int]:
    """Read an answer's head; return what came of its body, and the body's declared length."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(BLOCK_BYTES)
        if not more or len(data) > MAX_HEAD_BYTES:
            raise StreamError(f"no complete answer: {data[:200]!r}")
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    if not lines[0].startswith(b"HTTP/1.1 200"):
        raise StreamError(f"{lines[0].decode('latin-1')}: {body[:200]!r}")
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return body, int(value)
    raise StreamError("the answer has no Content-Length")


def main() -> None:
    """Do the transfer that the command line describes and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("direction", choices=("upload", "download"))
    parser.add_argument("--url", required=True)
    parser.add_argument("--bytes", type=int, default=0)
    args = parser.parse_args()
    parts = urlsplit(args.url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    if args.direction == "upload":
        count, seconds = upload(host, port, path, args.bytes)
    else:
        count, seconds = download(host, port, path)
    print(json.dumps({"bytes": count, "seconds": seconds}))


if __name__ == "__main__":
    main()
