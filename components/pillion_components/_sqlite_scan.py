"""Long reads of an SQLite file, made in threads and ended when nobody waits any more."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from pillion_components._sqlite_file import DatabaseFile

T = TypeVar("T")


class Scan:
    """One long read, in a thread, that another thread can interrupt."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._ended = False

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Open a connection, work on it, close it.

        Raises:
            sqlite3.Error: what SQLite says; ``SQLITE_INTERRUPT`` after an interrupt.
        """
        with closing(self._file.scanner()) as connection:
            with self._lock:
                self._connection = connection
                if self._ended:
                    raise sqlite3.OperationalError("interrupted before it began")
            try:
                return work(connection)
            finally:
                with self._lock:
                    self._connection = None

    def interrupt(self) -> None:
        """End it soon, from any thread."""
        with self._lock:
            self._ended = True
            if self._connection is not None:
                self._connection.interrupt()


__all__ = ["Scan"]
