"""The nginx pair is what the document says it is."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bench.errors import MissingProgramError
from tests.bench.nginx import Hop, find_nginx, proxy_config, version
from tests.bench.systems import App, System, check, direct, nginx_app, nginx_pair


def installed() -> bool:
    """Whether there is an nginx to test."""
    try:
        find_nginx()
    except MissingProgramError:
        return False
    return True


pytestmark = pytest.mark.skipif(not installed(), reason="nginx is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this module's nginx live."""
    return tmp_path_factory.mktemp("nginx")


@pytest.fixture(scope="module")
def backend(place: Path) -> Iterator[App]:
    """nginx as the app."""
    with nginx_app(place) as app:
        yield app


@pytest.fixture(scope="module")
def pair(place: Path, backend: App) -> Iterator[System]:
    """Two nginx with mutual TLS between them."""
    with nginx_pair(place / "pair", backend, mutual_tls=True) as system:
        yield system


def exchange(port: int, *pieces: bytes) -> bytes:
    """Send pieces one by one on one connection, and read until it closes."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        data = b""
        while more := connection.recv(65536):
            data += more
    return data


def callee_port(place: Path) -> int:
    """Find where the pair's second nginx listens."""
    config = (place / "pair" / "callee" / "nginx.conf").read_text()
    return int(config.partition("listen 127.0.0.1:")[2].partition(" ssl")[0])


def test_the_app_reads_bodies_before_the_next_request(backend: App) -> None:
    """Bodies in several pieces leave a keep-alive connection in step: three answers, all 200."""
    head = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1024\r\n\r\n"
    last = b"GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    data = exchange(backend.port, head, b"x" * 500, b"x" * 524, head + b"x" * 1024, last)
    assert data.count(b"HTTP/1.1 200 OK\r\n") == data.count(b"HTTP/1.1 ") == 3
    assert data.count(b"x" * 1024) == 3


def test_pairs_answer_as_the_app_does(place: Path, backend: App, pair: System) -> None:
    """The 1 KiB answer comes through one nginx, two in a row, and two with mutual TLS."""
    check(direct(backend))
    check(pair)
    with nginx_pair(place / "plain", backend, mutual_tls=False) as plain:
        check(plain)


def test_each_nginx_is_a_master_with_one_worker(pair: System) -> None:
    """The CPU of a role is that of two processes, and the roles share none."""
    assert [len(pids) for pids in pair.roles.values()] == [2, 2]
    assert len(set(pair.pids)) == 4


def test_the_hop_between_refuses_plain_http(place: Path, pair: System) -> None:
    """The second nginx speaks TLS only."""
    request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert b" 400 " in exchange(callee_port(place), request).splitlines()[0]


def test_the_hop_between_refuses_strangers(place: Path, pair: System) -> None:
    """The second nginx speaks TLS 1.3 and refuses a caller without a certificate."""
    context = ssl.create_default_context(cafile=place / "pair" / "authority.pem")
    address = ("127.0.0.1", callee_port(place))
    with (
        socket.create_connection(address, 10) as plain,
        context.wrap_socket(plain, server_hostname="callee") as connection,
    ):
        assert connection.version() == "TLSv1.3"
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b" 400 " in connection.recv(65536).splitlines()[0]


def test_large_bodies_stream(place: Path, backend: App) -> None:
    """Only the streaming pair turns off buffering to disk."""
    stock = proxy_config(place, Hop(1, 2))
    streaming = proxy_config(place, Hop(1, 2, streaming=True))
    assert "proxy_request_buffering" not in stock
    assert "proxy_request_buffering off" in streaming


def test_version_names_the_tls_library() -> None:
    """The version line names nginx and OpenSSL once each."""
    assert version().startswith("nginx/")
    assert version().count("nginx") == 1
    assert version().count("OpenSSL") <= 1
