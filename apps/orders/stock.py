"""The twin of ``stock.js`` for machines without Node.js; standard library only."""

from __future__ import annotations

import json
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CAPACITY = 100_000
RESERVATION = re.compile(r"/items/([^/]+)/reservations/([^/]+)")
reserved: dict[str, str] = {}


class Stock(BaseHTTPRequestHandler):
    """Answers ``PUT /items/{item}/reservations/{id}``; reserving twice reserves once."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_PUT(self) -> None:
        """Reserve."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match = RESERVATION.fullmatch(self.path)
        if match is None:
            self._answer(404, {"error": "not found"})
            return
        item, order = match.groups()
        if len(reserved) >= CAPACITY:
            del reserved[next(iter(reserved))]
        reserved[order] = item
        version = ".".join(map(str, sys.version_info[:3]))
        self._answer(
            200, {"item": item, "id": order, "by": f"python {version}", "pid": os.getpid()}
        )

    def do_GET(self) -> None:
        """Say that all is well."""
        self._answer(200 if self.path == "/healthz" else 404, {"ok": self.path == "/healthz"})

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Stay quiet."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["APP_PORT"])), Stock).serve_forever()
