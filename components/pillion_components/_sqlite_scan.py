"""Long reads of an SQLite file, made in threads and ended when nobody waits any more."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TypeVar

from pillion_components._sqlite_file import DatabaseFile

T = TypeVar("T")

_STEPS = 2000
"""Steps of SQLite's machine, some 100 µs, between two looks at whether to go on."""


class Scan:
    """One long read, in a thread, that another thread can interrupt."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file = file
        self._interrupted = False

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Open a connection, work on it, close it.

        Raises:
            sqlite3.Error: what SQLite says; ``SQLITE_INTERRUPT`` after an interrupt.
        """
        with closing(self._file.scanner()) as connection:
            # sqlite3_interrupt() is lost between two statements; a flag is not.
            connection.set_progress_handler(lambda: self._interrupted, _STEPS)
            return work(connection)

    def interrupt(self) -> None:
        """End it soon, from any thread."""
        self._interrupted = True


__all__ = ["Scan"]
