"""At end of file, the kernel knows whether the other end is gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.support.conditions import eventually

from pillion.net import hangup
from pillion.net.hangup import hung_up

pytestmark = pytest.mark.anyio

FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


def tcp_pair(family: int, host: str) -> tuple[socket.socket, socket.socket]:
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        client = socket.socket(family)
        client.connect(listener.getsockname())
        server, _address = listener.accept()
    return server, client


@pytest.fixture(params=["tcp", "tcp6", "mapped", "unix"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A server's end and a client's."""
    if request.param == "unix":
        server, client = socket.socketpair()
    elif request.param == "mapped":
        with socket.socket(socket.AF_INET6) as listener:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(("::", 0))
            listener.listen()
            client = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
            server, _address = listener.accept()
    else:
        server, client = tcp_pair(*FAMILIES[request.param == "tcp6"])
    with server, client:
        yield server, client


def test_a_peer_that_is_there(pair):
    """Open, or done with sending: it may still wait for an answer."""
    server, client = pair
    assert not hung_up(server)
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    assert not hung_up(server)


async def test_a_peer_that_is_gone(pair):
    """It has let go of its socket; nothing blocks the loop to find out."""
    server, client = pair
    client.close()
    assert server.recv(1) == b""
    await eventually(lambda: hung_up(server), seconds=1.0)


@pytest.mark.parametrize(("family", "host"), FAMILIES)
def test_a_peer_elsewhere_is_never_called_gone(monkeypatch, family, host):
    """Of a remote peer this kernel knows nothing."""
    server, client = tcp_pair(family, host)
    remote = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}[family]

    class Remote:
        """The server's end as if its peer were on another machine."""

        def __init__(self) -> None:
            self.family = family

        def getpeername(self):
            return (remote, *client.getsockname()[1:])

        def getsockname(self):
            return server.getsockname()

    with server, client:
        assert not hung_up(Remote())


def test_a_kernel_that_shows_nothing_is_no_hang_up(monkeypatch):
    """Where sockets cannot be looked up, a half-closed client still gets its answer."""
    server, client = tcp_pair(*FAMILIES[0])
    monkeypatch.setattr(hangup, "_inode", lambda *_: None)
    with server:
        client.close()
        assert not hung_up(server)


def test_elsewhere_than_linux_nothing_is_claimed(monkeypatch):
    """Other systems have no such question."""
    monkeypatch.setattr(hangup, "_LINUX", False)
    server, client = tcp_pair(*FAMILIES[0])
    with server:
        client.close()
        assert not hung_up(server)


def test_a_closed_socket_is_no_error():
    """The question may come too late."""
    server, client = socket.socketpair()
    server.close()
    client.close()
    assert not hung_up(server)
