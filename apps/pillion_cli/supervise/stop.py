"""The wish to stop, and how urgent it is."""

from __future__ import annotations

import signal
import time

from pillion_cli.supervise.changes import Changes

ECHO = 0.25
"""Seconds in which a second Ctrl-C is the same one: terminals send it to a whole group of
processes, and some of them pass it on."""


class Stop:
    """Who was asked to stop, with what.

    Attributes:
        level: 0 to go on, 1 to stop in order, 2 to stop at once.
        signum: the signal that asked; apps get the same one.
    """

    def __init__(self) -> None:
        self.level = 0
        self.signum = int(signal.SIGTERM)
        self._since = 0.0
        self._listeners: list[Changes] = []

    def subscribe(self, changes: Changes) -> None:
        """Tell ``changes`` of every change."""
        self._listeners.append(changes)

    def ask(self, signum: int) -> bool:
        """Take a signal; return True when it changed something."""
        now = time.monotonic()
        if self.level == 0:
            self.level, self.signum, self._since = 1, signum, now
        elif self.level == 1 and signum == signal.SIGINT and now - self._since > ECHO:
            self.level = 2
        else:
            return False
        for changes in self._listeners:
            changes.notify()
        return True
