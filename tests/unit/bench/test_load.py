"""Running load generators as processes and reading what they say."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import threading
from collections.abc import Iterator

import pytest
from tests.bench.errors import BenchError
from tests.bench.load import Case, OwnGenerator, Wrk, closed_loop_generator, parse_wrk
from tests.bench.systems import App

WRK = (
    "Running 1s test @ http://127.0.0.1:1/\n  1 threads and 16 connections\n"
    '\n{"requests": 1000, "microseconds": 2000000, "p50": 1500, "p99": 9000, '
    '"connect": 0, "read": 2, "write": 0, "status": 30, "timeout": 1}\n'
)
NEEDS_WRK = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def test_wrk_counts_in_microseconds_and_counts_errors() -> None:
    """Times become seconds; answers with a bad status are failures and not requests."""
    result = parse_wrk(WRK, 0.5)
    assert (result.requests, result.seconds, result.p50, result.p99) == (970, 2.0, 0.0015, 0.009)
    assert result.failures == 33
    assert result.reason == "2 read errors, 30 status errors, 1 timeout errors"
    assert result.cpu == 0.5


def test_no_result_is_an_error() -> None:
    """A generator that printed no result is not read as zero requests."""
    with pytest.raises(BenchError, match="no result"):
        parse_wrk("unable to connect", 0.0)


@contextlib.contextmanager
def recording_server(status: int = 200) -> Iterator[tuple[int, list[tuple[str, int]]]]:
    """Serve ``status`` on a port; also gives the methods and body lengths of the requests."""
    requests: list[tuple[str, int]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            requests.append((self.command, len(body)))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - the name that http.server looks up

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its signature
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port, requests
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("case", [Case("POST", 2), Case("GET", 1), Case("POST", 2, 100.0)])
def test_own_generator(app: App, case: Case) -> None:
    """Our generator loads the app, open loop and closed, and its CPU time is known."""
    result = OwnGenerator().run(f"http://127.0.0.1:{app.port}/echo", case, 0.3)
    assert result.failures == 0
    assert result.requests >= 30
    assert result.cpu > 0


@NEEDS_WRK
def test_wrk(app: App) -> None:
    """wrk loads the app through our script."""
    result = Wrk().run(f"http://127.0.0.1:{app.port}/echo", Case("POST", 2), 1.0)
    assert result.failures == 0
    assert result.requests > 10
    assert 0 < result.p50 <= result.p99
    assert result.cpu > 0


@NEEDS_WRK
@pytest.mark.parametrize(("method", "length"), [("POST", 1024), ("GET", 0)])
def test_wrk_sends_what_was_asked_for(method: str, length: int) -> None:
    """Each request has the method and a body of the length that the load names."""
    with recording_server() as (port, requests):
        result = Wrk().run(f"http://127.0.0.1:{port}/a", Case(method, 1), 1.0)
    assert result.failures == 0
    assert set(requests) == {(method, length)}


@NEEDS_WRK
def test_wrk_counts_bad_statuses() -> None:
    """Answers of 503 are failures and not requests."""
    with recording_server(status=503) as (port, _):
        result = Wrk().run(f"http://127.0.0.1:{port}/a", Case("GET", 1), 1.0)
    assert result.requests == 0
    assert result.failures > 0
    assert "status errors" in result.reason


@NEEDS_WRK
def test_wrk_counts_failures() -> None:
    """A port without a server makes wrk fail or count errors, never succeed."""
    with pytest.raises(BenchError, match="wrk ended with"):
        Wrk().run("http://127.0.0.1:1/", Case("GET", 1), 1.0)


def test_choice_of_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without wrk our generator takes its place, unless wrk was asked for by name."""
    monkeypatch.setenv("PATH", "")
    assert isinstance(closed_loop_generator("auto"), OwnGenerator)
    assert isinstance(closed_loop_generator("own"), OwnGenerator)
    with pytest.raises(BenchError, match="install"):
        closed_loop_generator("wrk")


def test_titles() -> None:
    """A load is called by its method, its connections and its pace."""
    assert Case("POST", 1).title == "POST, 1 connection"
    assert Case("GET", 16, 1000.0).title == "GET, 16 connections, 1,000 requests/s paced"
