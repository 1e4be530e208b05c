"""Files and directories that one user keeps to itself, whatever the umask.

Directories are 0700, files 0600; a write is whole or did not happen. Everything here blocks for
the disk: call it before the event loop starts, or in a thread. Messages talk about
``$PILLION_HOME`` because all of it lies there.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pillion.errors import Invalid, NotFound, Unavailable

LOCK_TIMEOUT = 10.0
"""Seconds to wait for another process to give up a lock."""

ABANDONED = 60.0
"""Seconds after which a temporary file is taken as left behind by a killed process."""

_POLL = 0.01


def make_private(path: Path) -> None:
    """Create the directory ``path``, or check that it is ours alone; it is 0700 afterwards.

    Raises:
        Invalid: it is not a directory, belongs to another user or others may write to it.
        Unavailable: it cannot be created.
    """
    with _explained(path):
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise Invalid(f"{path} is not a directory; move it away or set PILLION_HOME")
        _check_owner(path, found.st_uid)
        link = path.lstat().st_uid
        if link != 0:  # a link of another user's could point to any directory of ours
            _check_owner(path, link)
        if found.st_mode & 0o022:
            raise Invalid(
                f"other users may write to {path}; look at what is inside, "
                f"then run: chmod 700 {path}"
            )
        if found.st_mode & 0o777 != 0o700:
            path.chmod(0o700)


def write_private(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Put ``data`` in place of the file ``path``, whole or not at all.

    Args:
        path: its directory exists.
        data: the whole new content.
        durable: survive a power failure too; False for files that mean nothing after one.

    Raises:
        Unavailable: it cannot be written; what was there before is untouched.
    """
    new = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with _explained(path):
        try:
            with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            new.replace(path)
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise
        if durable:
            _sync_directory(path.parent)


def read_private(path: Path, limit: int) -> bytes:
    """Return the content of the file ``path``, at most ``limit`` bytes, and tighten its mode.

    Raises:
        NotFound: there is no such file.
        Invalid: it is too large, not a regular file or belongs to another user.
        Unavailable: it cannot be read.
    """
    # Without O_NONBLOCK a named pipe of this name would hang us here.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    with _explained(path):
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError as error:
            raise NotFound(f"there is no {path}") from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Invalid(f"{path} is not a regular file; move it away")
            _check_owner(path, found.st_uid)
            if found.st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
            if found.st_size > limit:
                raise Invalid(f"{path} is larger than {limit} bytes; move it away")
            return os.read(descriptor, limit)
        finally:
            os.close(descriptor)


@contextmanager
def locked(path: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock file ``path``; the kernel lets go of it when its holder is killed.

    Args:
        path: the lock file; it stays when the lock is released.
        timeout: seconds to wait for another holder.

    Raises:
        Unavailable: another process did not let go in time, or the file cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with _explained(path):
        descriptor = os.open(path, flags, 0o600)
    try:
        with _explained(path):
            os.fchmod(descriptor, 0o600)
        deadline = time.monotonic() + timeout
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"another process has held {path} for {timeout:g} seconds; "
                    "end that process or try again"
                )
            time.sleep(_POLL)
        yield
    finally:
        os.close(descriptor)


def sweep(directory: Path, older_than: float = ABANDONED) -> None:
    """Delete the temporary files that killed writers left in ``directory``.

    Args:
        directory: where :func:`write_private` was used.
        older_than: seconds; 0 only where a lock keeps every other writer out.
    """
    limit = time.time() - older_than
    for path in directory.glob(".*.tmp"):
        with suppress(OSError):
            if path.lstat().st_mtime <= limit:
                path.unlink()


def _check_owner(path: Path, owner: int) -> None:
    if owner != os.geteuid():
        raise Invalid(
            f"{path} belongs to the user with id {owner} and this process runs as "
            f"{os.geteuid()}; set PILLION_HOME to a folder of your own"
        )


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the system says about ``path`` into a failure that says what to do."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be used: {error.strerror or error}; make room or repair its "
            "permissions, or set PILLION_HOME to another folder"
        ) from error
