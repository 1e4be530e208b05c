"""One SQLite file that many processes open: made, checked, upgraded and, when damaged, replaced.

Opening and closing happen under an exclusive flock(2) on ``<file>.lock``. So only one process at a
time creates the tables, switches to WAL, or moves a damaged file aside; a process that is killed in
between lets go of the lock, and the next one finds either the old state or the new.
"""

from __future__ import annotations

import fcntl
import logging
import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pillion.errors import Unavailable
from pillion_components._folders import make_private

_log = logging.getLogger(__name__)

BUSY_TIMEOUT = 2.0
"""Seconds to wait for another process' lock before giving up."""

OPEN_TIMEOUT = 5.0
"""Seconds to wait while others open the file; each takes some milliseconds, one after the other."""

_READ_TIMEOUT = 0.02
"""Readers wait for nothing but a writer's recovery, and they run in the loop."""

_TURN = 0.0005
"""Seconds between two tries to begin a transaction. SQLite's own wait grows to 0.1 s, and a process
that writes all the time would leave the others no gap to find."""

_LOG_PAGES = 4000
"""Pages in the write-ahead log (16 MiB) before it is folded into the file. SQLite's 1000 would have
a busy store wait for the disk every few milliseconds."""

_KEPT_ASIDE = 3
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_ADVICE = {
    sqlite3.SQLITE_FULL: ("disk-full", "the disk is full; free some space"),
    sqlite3.SQLITE_READONLY: ("read-only", "it cannot be written; check its owner and mode"),
    sqlite3.SQLITE_CANTOPEN: ("cannot-open", "it cannot be opened; check its owner and mode"),
    sqlite3.SQLITE_PERM: ("cannot-open", "it cannot be opened; check its owner and mode"),
    sqlite3.SQLITE_AUTH: ("cannot-open", "it cannot be opened; check its owner and mode"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The tables of a file.

    Attributes:
        what: the file in words, for messages: ``registry``.
        application_id: marks the file as ours (``PRAGMA application_id``).
        steps: ``steps[n]`` are the statements that lead from version n to n + 1.
        synchronous: ``NORMAL`` (a power cut may lose the last commits) or ``FULL``.
        rebuildable: True when a damaged file may be set aside and started anew.
    """

    what: str
    application_id: int
    steps: tuple[tuple[str, ...], ...]
    synchronous: str = "FULL"
    rebuildable: bool = False


@dataclass(slots=True)
class Connections:
    """A writer and a reader of one file.

    Attributes:
        identity: device and inode of the file they have open.
    """

    writer: sqlite3.Connection
    reader: sqlite3.Connection
    identity: tuple[int, int]

    def close(self) -> None:
        """Close both."""
        with suppress(sqlite3.Error):
            self.reader.close()
        with suppress(sqlite3.Error):
            self.writer.close()


class DatabaseFile:
    """The path of a database and how to open it. All methods but :meth:`moved` may take seconds.

    Args:
        path: the file; its folder is made.
        schema: its tables.
        busy_timeout: seconds to wait for another process; None for :data:`BUSY_TIMEOUT`.
    """

    def __init__(self, path: Path, schema: Schema, busy_timeout: float | None = None) -> None:
        self.path = path
        self.schema = schema
        self._busy_timeout = busy_timeout
        self._lock_path = path.with_name(f"{path.name}.lock")

    def connect(self) -> Connections:
        """Open the file, 0600, with its tables at the newest version.

        Raises:
            Unavailable: it is locked, damaged and not rebuildable, of another program, or written
                by a newer version of Pillion.
        """
        make_private(self.path.parent)
        with self._locked():
            try:
                return self._open()
            except sqlite3.Error as error:
                if not (self.schema.rebuildable and damaged(error)):
                    raise self.failure(error) from error
            self._set_aside()
            try:
                return self._open()
            except sqlite3.Error as error:
                raise self.failure(error) from error

    def disconnect(self, connections: Connections) -> None:
        """Close the connections; the last one folds the write-ahead log into the file."""
        try:
            with self._locked():
                connections.close()
        except Unavailable:
            connections.close()

    def begin(self, writer: sqlite3.Connection) -> None:
        """Begin a transaction that writes, once no other process is in one.

        Raises:
            sqlite3.OperationalError: another process took longer than the busy timeout.
        """
        deadline = time.monotonic() + self._patience()
        while True:
            try:
                writer.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if primary(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            else:
                return
            # Jitter, not a secret.
            time.sleep(_TURN * (0.5 + random.random()))  # noqa: S311

    def scanner(self) -> sqlite3.Connection:
        """Open one more connection that only reads.

        Raises:
            sqlite3.Error: it cannot be opened.
        """
        scanner = self._connection(self._patience())
        scanner.execute("PRAGMA query_only = ON")
        return scanner

    def moved(self, identity: tuple[int, int]) -> bool:
        """Tell whether the path no longer names the file that was opened (about 2 µs)."""
        try:
            return _identity(self.path) != identity
        except OSError:
            return True

    def failure(self, error: sqlite3.Error) -> Unavailable:
        """Say in our words what SQLite's error means for this file."""
        code = primary(error)
        name = f"the {self.schema.what} {self.path}"
        if code in _LOCKED:
            return Unavailable(
                f"{name} is locked by another process for more than {self._patience():g} s; end "
                "the process that holds it",
                reason="locked",
            )
        if code in _DAMAGED:
            return Unavailable(
                f"{name} is damaged ({error}); restore it from a copy, or move it away to start "
                "with an empty one",
                reason="corrupt",
            )
        reason, advice = _ADVICE.get(code, ("store-failed", str(error)))
        return Unavailable(f"{name}: {advice}", reason=reason)

    def _patience(self) -> float:
        return BUSY_TIMEOUT if self._busy_timeout is None else self._busy_timeout

    def _open(self) -> Connections:
        # Never open an existing file but through SQLite: closing any other descriptor of it would
        # drop this process' locks (fcntl(2), "advisory record locking").
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        identity = _identity(self.path)
        writer = self._connection(self._patience())
        try:
            self._prepare(writer)
            writer.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            writer.execute("PRAGMA busy_timeout = 0")  # begin() waits
            reader = self._connection(_READ_TIMEOUT)
            reader.execute("PRAGMA query_only = ON")
            reader.execute("SELECT 1 FROM sqlite_master").fetchall()
        except BaseException:
            writer.close()
            raise
        return Connections(writer, reader, identity)

    def _connection(self, timeout: float) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
        )

    def _prepare(self, writer: sqlite3.Connection) -> None:
        version = self._version(writer)
        if writer.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise Unavailable(
                f"the {self.schema.what} {self.path} is on a file system that cannot share memory "
                "between processes; set PILLION_HOME to a local folder",
                reason="no-wal",
            )
        writer.execute(f"PRAGMA synchronous = {self.schema.synchronous}")
        if self.schema.rebuildable:
            _check(writer)
        newest = len(self.schema.steps)
        if version < newest:
            writer.execute("BEGIN IMMEDIATE")
            for step in self.schema.steps[version:]:
                for statement in step:
                    writer.execute(statement)
            writer.execute(f"PRAGMA application_id = {self.schema.application_id}")
            writer.execute(f"PRAGMA user_version = {newest}")
            writer.execute("COMMIT")

    def _version(self, writer: sqlite3.Connection) -> int:
        application = writer.execute("PRAGMA application_id").fetchone()[0]
        version: int = writer.execute("PRAGMA user_version").fetchone()[0]
        tables = writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if (tables or version) and application != self.schema.application_id:
            raise Unavailable(
                f"{self.path} is an SQLite file of another program, not Pillion's "
                f"{self.schema.what}; move it away",
                reason="foreign-file",
            )
        newest = len(self.schema.steps)
        if version > newest:
            raise Unavailable(
                f"the {self.schema.what} {self.path} was written by a newer Pillion (format "
                f"{version}, this one knows {newest}); upgrade this Pillion or use another "
                "PILLION_HOME",
                reason="newer-format",
            )
        return version

    def _set_aside(self) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = self.path.with_name(f"{self.path.name}.corrupt-{stamp}-{os.urandom(2).hex()}")
        # The log and its index must leave with the file, or SQLite would apply them to the new one.
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").rename(f"{aside}{suffix}")
        _log.warning(
            "the %s %s was damaged; it is kept as %s and a new one is started",
            self.schema.what,
            self.path,
            aside.name,
        )
        kept = sorted(self.path.parent.glob(f"{self.path.name}.corrupt-*Z-????"))
        for old in kept[:-_KEPT_ASIDE]:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{old}{suffix}").unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = time.monotonic() + self._patience()
        while (descriptor := self._try_lock()) is None:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"the {self.schema.what} {self.path} is being opened or closed by another "
                    f"process for more than {self._patience():g} s; end the process that "
                    f"holds {self._lock_path.name}",
                    reason="locked",
                )
            time.sleep(0.002)
        try:
            yield
        finally:
            os.close(descriptor)

    def _try_lock(self) -> int | None:
        try:
            descriptor = os.open(self._lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(
                f"cannot open {self._lock_path}: {error.strerror}; check its owner and mode",
                reason="cannot-open",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(descriptor)
            if _identity(self._lock_path) == (status.st_dev, status.st_ino):
                return descriptor
        except (BlockingIOError, FileNotFoundError):
            pass  # held by another process, or deleted between the two calls
        os.close(descriptor)
        return None


def primary(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, 0 when it did not come from SQLite."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def damaged(error: sqlite3.Error) -> bool:
    """Tell whether the error says that the file's content is broken."""
    return primary(error) in _DAMAGED


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _check(connection: sqlite3.Connection) -> None:
    with closing(connection.execute("PRAGMA quick_check(1)")) as cursor:
        verdict = cursor.fetchone()[0]
    if verdict != "ok":
        error = sqlite3.DatabaseError(verdict)
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


__all__ = [
    "BUSY_TIMEOUT",
    "OPEN_TIMEOUT",
    "Connections",
    "DatabaseFile",
    "Schema",
    "damaged",
    "primary",
]
