"""The load generator against small servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop
from tests.bench.generator import precise_loop, run
from tests.bench.systems import App
from tests.bench.traffic import Outcome, Target

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each request with what ``answer`` gives for its number; None hangs up."""

    def __init__(
        self, answer: Callable[[int], bytes | None], pause: Callable[[int], float]
    ) -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._pause = pause

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Serve on a free port for the length of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0] or 0)
                body = await reader.readexactly(length)
                number = len(self.requests)
                self.requests.append(head + body)
                await asyncio.sleep(self._pause(number))
                answer = self._answer(number)
                if answer is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def drive(
    answer: Callable[[int], bytes | None],
    *,
    pause: Callable[[int], float] = lambda _: 0.0,
    connections: int = 2,
    seconds: float = 0.2,
    rate: float | None = None,
    method: str = "GET",
    body_bytes: int = 0,
) -> tuple[Outcome, list[bytes]]:
    """Load a server of our own and return the outcome with the requests that it got."""

    async def go() -> tuple[Outcome, list[bytes]]:
        server = Server(answer, pause)
        async with server.listening() as port:
            target = Target.parse(
                f"http://127.0.0.1:{port}/a?b=c",
                method=method,
                body_bytes=body_bytes,
                expected_bytes=2,
            )
            outcome = await run(target, connections=connections, seconds=seconds, rate=rate)
        return outcome, server.requests

    factory = precise_loop if rate else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(go())


def test_closed_loop_counts_every_answer() -> None:
    """Each request is counted once, none fails, and p99 is no less than p50."""
    outcome, requests = drive(lambda _: OK)
    assert outcome.requests == len(requests) > 10
    assert (outcome.failures, outcome.reason, outcome.late) == (0, "", 0.0)
    assert 0 < outcome.p50 <= outcome.p99 < outcome.seconds


def test_the_request_is_what_was_asked_for() -> None:
    """Method, path, query, host and body go out as given."""
    _, requests = drive(lambda _: OK, method="POST", body_bytes=5)
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
    assert body == b"xxxxx"


def test_open_loop_keeps_its_pace() -> None:
    """As many requests as are due are sent, however fast the answers come."""
    outcome, _ = drive(lambda _: OK, rate=200, seconds=0.5)
    assert outcome.requests == 100
    assert outcome.failures == 0
    assert outcome.seconds >= 0.49


def test_open_loop_charges_for_waiting() -> None:
    """One pause of 300 ms on the only connection delays all that were due meanwhile."""
    outcome, _ = drive(
        lambda _: OK,
        pause=lambda number: 0.3 if number == 10 else 0.0,
        connections=1,
        rate=100,
        seconds=0.5,
    )
    # Thirty of fifty fell due during the pause; a generator that counts from the sending would
    # see a single slow request.
    assert outcome.requests == 50
    assert outcome.p99 >= 0.29
    assert outcome.p50 >= 0.005


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno", "status 503"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 2\r\n\r\nno", "status 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad", "3 bytes in the answer"),
        (b"nonsense\r\n\r\n", "not HTTP"),
        (None, "closed before the answer was complete"),
    ],
    ids=["busy", "redirect", "length", "nonsense", "hang-up"],
)
def test_a_wrong_answer_is_a_failure(bad: bytes | None, reason: str) -> None:
    """One wrong answer among many is counted and its reason is kept."""
    outcome, _ = drive(lambda number: bad if number == 3 else OK)
    assert outcome.failures == 1
    assert reason in outcome.reason
    assert outcome.requests > 3


def test_a_connection_that_the_server_closes_is_opened_again() -> None:
    """An answer with ``Connection: close`` is no failure and the load goes on."""
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    outcome, _ = drive(lambda _: closing)
    assert outcome.failures == 0
    assert outcome.requests > 4


def test_many_failures_end_the_run_early() -> None:
    """A dead target ends a run of a minute at once."""
    outcome, _ = drive(lambda _: None, seconds=60)
    assert outcome.requests == 0
    assert outcome.failures >= 100


def test_nobody_listens() -> None:
    """A port without a server is a failed run, not a hang."""
    target = Target.parse("http://127.0.0.1:1/", method="GET", body_bytes=0, expected_bytes=2)
    outcome = asyncio.run(run(target, connections=2, seconds=60, rate=None))
    assert outcome.requests == 0
    assert "cannot connect" in outcome.reason


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/", "http://127.0.0.1/", "127.0.0.1:80"])
def test_a_url_it_cannot_load(url: str) -> None:
    """Only plain HTTP with a port is taken."""
    with pytest.raises(ValueError, match="is not http"):
        Target.parse(url, method="GET", body_bytes=0, expected_bytes=0)


def test_the_app_answers_1_kib(app: App) -> None:
    """The Python app answers a POST and a GET of the benchmark rightly."""
    for method, body_bytes in (("POST", 1024), ("GET", 0)):
        target = Target.parse(
            f"http://127.0.0.1:{app.port}/any/echo",
            method=method,
            body_bytes=body_bytes,
            expected_bytes=1024,
        )
        outcome = asyncio.run(run(target, connections=3, seconds=0.1, rate=None))
        assert outcome.failures == 0
        assert outcome.requests > 3
