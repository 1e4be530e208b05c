"""Tell a client that has hung up from one that has only finished sending.

Both look the same to ``read()``: end of file. The difference matters, since a hang-up cancels the
work behind the request and a half-close waits for the answer. For a peer on this machine the
kernel knows: the other end's socket still has an owner, or it does not (Linux ``sock_diag(7)``).
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys

_LINUX: bool = sys.platform.startswith("linux")
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI2s2s16s16sI8s")
_INODE_OFFSET = _HEADER.size + 4 + 48 + 16
_ANY_COOKIE = b"\xff" * 8


def hung_up(connection: socket.socket) -> bool:
    """Tell whether the peer of a connection at end of file is gone.

    Where that cannot be known (a remote peer, another system than Linux) the answer is False: an
    answer that nobody reads is better than one that is missing.
    """
    try:
        if connection.family == socket.AF_UNIX:
            return _poll_says_closed(connection)
        return _LINUX and _peer_inode(connection) == 0
    except (OSError, ValueError, struct.error):
        return False


def _poll_says_closed(connection: socket.socket) -> bool:
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return any(event & (select.POLLHUP | select.POLLERR) for _fd, event in poller.poll(0))


def _peer_inode(connection: socket.socket) -> int | None:
    """Return the inode of the peer's socket, 0 if it has no owner, None if that is not known."""
    peer, own = connection.getpeername()[:2], connection.getsockname()[:2]
    if peer[0] != own[0]:
        return None
    inode = _inode(connection.family, peer, own)
    if inode is None and _inode(connection.family, own, peer) is not None:
        # The kernel finds our side and not the other: its owner closed it, and it is let go of.
        return 0
    return inode


def _inode(family: int, local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """Return the inode of a TCP socket of this machine, None if the kernel shows none."""
    request = _REQUEST.pack(
        family,
        socket.IPPROTO_TCP,
        0,
        0xFFFFFFFF,
        local[1].to_bytes(2, "big"),
        remote[1].to_bytes(2, "big"),
        socket.inet_pton(family, local[0]).ljust(16, b"\0"),
        socket.inet_pton(family, remote[0]).ljust(16, b"\0"),
        0,
        _ANY_COOKIE,
    )
    size = _HEADER.size + len(request)
    with contextlib.closing(
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    ) as netlink:
        # The kernel has answered when sendto returns, so there is nothing to wait for.
        netlink.settimeout(0)
        header = _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
        netlink.sendto(header + request, (0, 0))
        answer = netlink.recv(4096)
    if _HEADER.unpack_from(answer)[1] == _NLMSG_ERROR:
        return None
    inode: int = struct.unpack_from("=I", answer, _INODE_OFFSET)[0]
    return inode
