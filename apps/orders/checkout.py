"""Places orders without end: plain HTTP to localhost with the standard library.

``GET /stats`` answers with what became of them since it was asked last.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORKERS = 8
PAUSE = 0.02
"""Seconds between two orders of one worker."""
RUNTIME = int(os.environ.get("PILLION_HTTP_PORT") or os.environ.get("DAPR_HTTP_PORT") or 3500)
MAX_SAMPLES = 100_000


class Stats:
    """What became of the orders since they were last asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self.milliseconds: list[float] = []
        self.instances: Counter[str] = Counter()
        self.stock: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def placed(self, milliseconds: float, instance: str, stock: str) -> None:
        """Count an order."""
        with self._lock:
            if len(self.milliseconds) < MAX_SAMPLES:
                self.milliseconds.append(milliseconds)
            self.instances[instance] += 1
            self.stock[stock] += 1

    def failed(self, why: str) -> None:
        """Count a failure."""
        with self._lock:
            self.errors[why[:200]] += 1

    def take(self) -> dict[str, object]:
        """Return everything and begin anew."""
        with self._lock:
            taken: dict[str, object] = {
                "milliseconds": self.milliseconds,
                "instances": self.instances,
                "stock": self.stock,
                "errors": self.errors,
            }
            self._clear()
            return taken


stats = Stats()
numbers = itertools.count(1)


def place_orders() -> None:
    """Place one order after the other over one kept connection."""
    connection = HTTPConnection("127.0.0.1", RUNTIME, timeout=10)
    while True:
        order = f"{os.getpid()}-{next(numbers)}"
        began = time.perf_counter()
        try:
            connection.request("PUT", f"/v1.0/invoke/orders/method/orders/{order}?item=saddle")
            reply = connection.getresponse()
            body = reply.read()
        except (OSError, HTTPException) as error:
            connection.close()
            stats.failed(f"{type(error).__name__}: {error}")
            time.sleep(PAUSE)
            continue
        took = (time.perf_counter() - began) * 1000
        if reply.status == 200:
            taken = json.loads(body)
            stats.placed(took, str(taken["instance"]), taken["stock"])
        else:
            stats.failed(f"{reply.status} {body.decode('utf-8', 'replace')}")
        time.sleep(PAUSE)


class Page(BaseHTTPRequestHandler):
    """Answers ``GET /stats``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Give the numbers out."""
        body = json.dumps(stats.take() if self.path == "/stats" else {"ok": True}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Stay quiet."""


def wait_for(app: str) -> None:
    """Return when ``app`` answers; before that orders would only fail."""
    while True:
        connection = HTTPConnection("127.0.0.1", RUNTIME, timeout=5)
        try:
            connection.request("GET", f"/v1.0/invoke/{app}/method/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)


def main() -> None:
    """Serve the numbers and place orders."""
    page = ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    wait_for("orders")
    workers = [threading.Thread(target=place_orders, daemon=True) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main()
