"""Why a measurement ends without figures."""

from __future__ import annotations


class BenchError(Exception):
    """The run cannot go on; the message says what to do."""


class MissingProgramError(BenchError):
    """A program this measurement needs is not installed; the message says which."""


class VoidRunError(BenchError):
    """Requests failed, so the figures would compare different work."""
