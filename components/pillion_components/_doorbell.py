"""Wake-ups between the processes of one user: a bell that everyone in a folder hears.

Each listener binds a datagram socket (unix(7)) in a private folder; whoever has news sends one
byte to every socket there. A ring says *look*, never *what*: rings may be merged, and a listener
whose buffer is full has one pending anyway, so nothing ever waits. A listener that must not miss
news also looks on its own from time to time, because a process can die between its commit and
its ring.

Binding, ringing and closing make a few file-system calls, each some microseconds long, and may be
done in a loop or in a thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from pillion.errors import Unavailable
from pillion_components._folders import make_private, require_private

_PATH_LIMIT = 103
"""Bytes that fit ``sockaddr_un`` everywhere: macOS has 104 with the final zero, Linux 108."""

_NAME_LENGTH = 32
"""Room for ``<pid>-<16 hex digits>``."""

_FD_LINKS = Path("/proc/self/fd")
"""Where Linux lets a socket address name a folder by its descriptor, however long its path is."""

_TRIES = 3

_DRAIN = 64
"""Rings read in one turn; the rest keeps the socket readable."""


class Doorbell:
    """The bell of one folder.

    Where the folder's path is too long for a socket address, Linux reaches it through a descriptor.
    Elsewhere its sockets live in ``/tmp/pillion-<uid>/<hash of the path>``; ``TMPDIR`` is not
    asked, because processes that set it differently must still meet.
    """

    def __init__(self, folder: Path) -> None:
        self._borrowed: Path | None = None
        self._long = len(os.fsencode(folder)) + 1 + _NAME_LENGTH > _PATH_LIMIT
        if self._long and not _FD_LINKS.exists():
            digest = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:24]
            self._borrowed = Path(f"/tmp/pillion-{os.geteuid()}")  # noqa: S108 - checked in prepare
            folder = self._borrowed / digest
            self._long = False
        self.folder = folder
        # Writers ring from their threads, also while another thread rings first or closes.
        self._sending = threading.Lock()
        self._closed = False
        self._sender: socket.socket | None = None

    @contextmanager
    def reach(self) -> Iterator[bytes]:
        """Give the folder, with a final slash, as a socket address can name it.

        Raises:
            OSError: there is no such folder.
        """
        if not self._long:
            yield os.fsencode(self.folder) + b"/"
            return
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield b"%s/%d/" % (os.fsencode(_FD_LINKS), descriptor)
        finally:
            os.close(descriptor)

    def ring(self) -> None:
        """Wake every listener; never waits and never fails.

        Sockets that their process left behind when it was killed are removed on the way.
        """
        with suppress(OSError), self.reach() as prefix:
            names = os.listdir(prefix)  # noqa: PTH208 - bytes, and a third of the time
            sender = self._sender or self._open_sender()
            if sender is not None:
                for name in names:
                    _send(sender, prefix + name)

    def listen(self, heard: Callable[[], None]) -> Listener:
        """Call ``heard`` in the running loop after every ring, once for rings that came together.

        Raises:
            Unavailable: the folder cannot be made or is open to other users.
        """
        return Listener(self, heard)

    def close(self) -> None:
        """Close the sending side; later rings do nothing."""
        with self._sending:
            self._closed = True
            if self._sender is not None:
                self._sender.close()
                self._sender = None

    def _open_sender(self) -> socket.socket | None:
        with self._sending:
            if self._sender is None and not self._closed:
                self._sender = _datagram_socket()
            return self._sender

    def prepare(self) -> None:
        """Make the folder."""
        if self._borrowed is not None:
            make_private(self._borrowed)
            require_private(self._borrowed)
        make_private(self.folder)

    def tidy(self) -> None:
        """Remove a folder outside the home once its last listener left."""
        if self._borrowed is not None:
            with suppress(OSError):
                self.folder.rmdir()


class Listener:
    """One process' ear; a context manager that closes it."""

    def __init__(self, bell: Doorbell, heard: Callable[[], None]) -> None:
        self._bell = bell
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._socket, self._path = _bind(bell)
        self._loop.add_reader(self._socket.fileno(), self._read)

    def mend(self) -> None:
        """Bind again when somebody deleted the socket's file.

        Raises:
            Unavailable: the folder cannot be made or is open to other users.
        """
        if not self._path.exists():
            fresh, path = _bind(self._bell)
            self._detach()
            self._socket, self._path = fresh, path
            self._loop.add_reader(fresh.fileno(), self._read)

    def close(self) -> None:
        """Hear nothing more; idempotent."""
        if self._socket.fileno() >= 0:
            self._detach()
            with suppress(OSError):
                self._path.unlink()
            self._bell.tidy()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _detach(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _read(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(_DRAIN):
                self._socket.recv(16)
        self._heard()


def _send(sender: socket.socket, address: bytes) -> None:
    try:
        sender.sendto(b"\0", address)
    except ConnectionRefusedError:
        with suppress(OSError):
            os.unlink(address)  # noqa: PTH108 - a bytes path
    except OSError:
        pass  # full, so a ring is pending; or just closed


def _bind(bell: Doorbell) -> tuple[socket.socket, Path]:
    for _ in range(_TRIES):
        bell.prepare()
        path = bell.folder / f"{os.getpid()}-{os.urandom(8).hex()}"
        listener = _datagram_socket()
        try:
            with bell.reach() as prefix:
                listener.bind(prefix + os.fsencode(path.name))
            path.chmod(0o600)
        except FileNotFoundError:
            listener.close()  # another listener tidied the folder away just now
        except OSError as error:
            listener.close()
            raise Unavailable(
                f"cannot bind a socket in {bell.folder}: {error.strerror}", reason="no-doorbell"
            ) from error
        else:
            return listener, path
    raise Unavailable(f"the folder {bell.folder} keeps vanishing", reason="no-doorbell")


def _datagram_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.settimeout(0)
    return made


__all__ = ["Doorbell", "Listener"]
